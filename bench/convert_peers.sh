#!/usr/bin/env bash
# gocp's conversions of weights beside torchvision, timm and transformers (bench/convert_peers.py), in a
# virtual environment of its own under bench/.venv-convert. GOCP_PEER_PYTHON names another Python that has
# them already; GOCP names the gocp binary (default: bin/gocp).
set -euo pipefail
cd "$(dirname "$0")"
python=${GOCP_PEER_PYTHON:-}
if [ -z "$python" ]; then
  venv=.venv-convert
  want=$(sha256sum convert-requirements.txt)
  if [ "$(cat $venv/installed 2>/dev/null)" != "$want" ]; then
    echo "installing peers into bench/$venv (bench/convert-requirements.txt)" >&2
    rm -rf $venv
    python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check -r convert-requirements.txt
    echo "$want" >$venv/installed
  fi
  python=$venv/bin/python
fi
exec "$python" convert_peers.py --gocp "${GOCP:-../bin/gocp}" "$@"
