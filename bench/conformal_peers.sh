#!/usr/bin/env bash
# gocp conformal beside TorchCP, MAPIE, crepes and puncc (bench/conformal_peers.py), in a virtual
# environment of its own under bench/.venv-conformal. GOCP_PEER_PYTHON names another Python that
# has them already; GOCP names the gocp binary (default: bin/gocp).
set -euo pipefail
cd "$(dirname "$0")"
python=$(./python.sh conformal puncc==0.9.3 nonconformist==2.1.0)
exec "$python" "${script:-conformal_peers.py}" --gocp "${GOCP:-../bin/gocp}" "$@"
