#!/usr/bin/env bash
# Times gocp/conformal beside TorchCP, MAPIE and refits (bench/conformal_speed.py), in the virtual
# environment of conformal_peers.sh. GOCP_PEER_PYTHON names another Python that has them already;
# GOCP names the gocp binary (default: bin/gocp).
set -euo pipefail
cd "$(dirname "$0")"
go build -o ../bin/conformalspeed ./conformalspeed
script=conformal_speed.py exec ./conformal_peers.sh --speed ../bin/conformalspeed "$@"
