#!/usr/bin/env bash
# Image files as gocp reads them beside Pillow and torchvision (bench/images_peers.py), in a virtual
# environment of its own under bench/.venv-images. GOCP_PEER_PYTHON names another Python that has
# them already; GOCP names the gocp binary (default: bin/gocp).
set -euo pipefail
cd "$(dirname "$0")"
python=${GOCP_PEER_PYTHON:-}
if [ -z "$python" ]; then
  venv=.venv-images
  want=$(sha256sum images-requirements.txt)
  if [ "$(cat $venv/installed 2>/dev/null)" != "$want" ]; then
    echo "installing peers into bench/$venv (bench/images-requirements.txt)" >&2
    rm -rf $venv
    python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check -r images-requirements.txt
    echo "$want" >$venv/installed
  fi
  python=$venv/bin/python
fi
exec "$python" images_peers.py --gocp "${GOCP:-../bin/gocp}" "$@"
