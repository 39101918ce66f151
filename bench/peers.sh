#!/usr/bin/env bash
# gocp beside PyTorch (bench/peers.py), in a virtual environment of its own under bench/.venv.
# GOCP_PEER_PYTHON names another Python that has PyTorch already. pip's own variables work as
# always; PIP_INDEX_URL can point it at PyTorch's CPU builds, which are much smaller.
set -euo pipefail
cd "$(dirname "$0")"
python=$(./python.sh)
exec "$python" "${script:-peers.py}" "$@"
