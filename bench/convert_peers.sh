#!/usr/bin/env bash
# gocp's conversions of weights beside torchvision, timm and transformers (bench/convert_peers.py), in a
# virtual environment of its own under bench/.venv-convert. GOCP_PEER_PYTHON names another Python that has
# them already; GOCP names the gocp binary (default: bin/gocp).
set -euo pipefail
cd "$(dirname "$0")"
python=$(./python.sh convert)
exec "$python" convert_peers.py --gocp "${GOCP:-../bin/gocp}" "$@"
