#!/usr/bin/env bash
# Image files as gocp reads them beside Pillow and torchvision (bench/images_peers.py), in a virtual
# environment of its own under bench/.venv-images. GOCP_PEER_PYTHON names another Python that has
# them already; GOCP names the gocp binary (default: bin/gocp).
set -euo pipefail
cd "$(dirname "$0")"
python=$(./python.sh images)
exec "$python" images_peers.py --gocp "${GOCP:-../bin/gocp}" "$@"
