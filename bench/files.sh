#!/usr/bin/env bash
# Files of logits, probabilities and labels as numpy, torch, JAX, safetensors, pandas, pyarrow, polars, duckdb
# and R write them (bench/files.py), each held against numpy's threshold and sets, or against the sentence
# that refuses it; where that has a line that converts the file, the line is run. In a virtual environment of its own under bench/.venv-files. GOCP_PEER_PYTHON names
# another Python that has the libraries already; GOCP names the gocp binary (default: bin/gocp). R's files
# are made if there is an Rscript (Debian: r-base-core).
set -euo pipefail
cd "$(dirname "$0")"
python=$(./python.sh files)
exec "$python" files.py --gocp "${GOCP:-../bin/gocp}" "$@"
