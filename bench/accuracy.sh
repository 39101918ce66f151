#!/usr/bin/env bash
# Networks trained by gocp and by PyTorch with the same recipe (bench/accuracy_torch.py), in the virtual
# environment of peers.sh. GOCP_PEER_PYTHON names another Python that has PyTorch already; GOCP names the gocp
# binary (default: bin/gocp).
#
#	bench/accuracy.sh DATA [--seeds 5] [--train 2000] …
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
python=${GOCP_PEER_PYTHON:-}
if [ -z "$python" ]; then
  venv=$here/.venv
  want=$(cd "$here" && sha256sum requirements.txt)
  if [ "$(cat "$venv/installed" 2>/dev/null)" != "$want" ]; then
    echo "installing PyTorch into bench/.venv (bench/requirements.txt)" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    echo "$want" >"$venv/installed"
  fi
  python=$venv/bin/python
fi
exec "$python" "$here/accuracy_torch.py" --gocp "${GOCP:-$here/../bin/gocp}" "$@"
