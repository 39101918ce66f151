#!/usr/bin/env bash
# gocp defend beside NumPy in float64, scikit-learn, ART and faiss (bench/filters.py), in a virtual
# environment of its own under bench/.venv-filters. GOCP_PEER_PYTHON names another Python that has them
# already; GOCP names the gocp binary (default: bin/gocp).
#
#	bench/filters.sh                     what they drop
#	bench/filters.sh --rows 50000        and how long the nearest neighbours of so many samples take
set -euo pipefail
cd "$(dirname "$0")"
python=$(./python.sh filters)
exec "$python" filters.py --gocp "${GOCP:-../bin/gocp}" "$@"
