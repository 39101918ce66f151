#!/usr/bin/env bash
# Peak memory of gocp beside PyTorch's (bench/memory_peers.py), in the virtual environment of peers.sh.
# GOCP_PEER_PYTHON names another Python that has PyTorch already.
set -euo pipefail
cd "$(dirname "$0")"
. ../.envrc
go build -o ../bin/memory ./memory
script=memory_peers.py exec ./peers.sh "$@"
