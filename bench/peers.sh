#!/usr/bin/env bash
# gocp beside PyTorch (bench/peers.py), in a virtual environment of its own under bench/.venv.
# GOCP_PEER_PYTHON names another Python that has PyTorch already. pip's own variables work as
# always; PIP_INDEX_URL can point it at PyTorch's CPU builds, which are much smaller.
set -euo pipefail
cd "$(dirname "$0")"
python=${GOCP_PEER_PYTHON:-}
if [ -z "$python" ]; then
  want=$(sha256sum requirements.txt)
  if [ "$(cat .venv/installed 2>/dev/null)" != "$want" ]; then
    echo "installing PyTorch into bench/.venv (bench/requirements.txt)" >&2
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
    echo "$want" >.venv/installed
  fi
  python=.venv/bin/python
fi
exec "$python" "${script:-peers.py}" "$@"
