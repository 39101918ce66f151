#!/usr/bin/env bash
# Files of logits, probabilities and labels as numpy, torch, JAX, safetensors, pandas, pyarrow, polars, duckdb
# and R write them (bench/files.py), each held against numpy's threshold and sets, or against the sentence
# that refuses it; where that has a line that converts the file, the line is run. In a virtual environment of its own under bench/.venv-files. GOCP_PEER_PYTHON names
# another Python that has the libraries already; GOCP names the gocp binary (default: bin/gocp). R's files
# are made if there is an Rscript (Debian: r-base-core).
set -euo pipefail
cd "$(dirname "$0")"
python=${GOCP_PEER_PYTHON:-}
if [ -z "$python" ]; then
  venv=.venv-files
  want=$(sha256sum files-requirements.txt)
  if [ "$(cat $venv/installed 2>/dev/null)" != "$want" ]; then
    echo "installing writers of files into bench/$venv (bench/files-requirements.txt)" >&2
    rm -rf $venv
    python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check -r files-requirements.txt
    echo "$want" >$venv/installed
  fi
  python=$venv/bin/python
fi
exec "$python" files.py --gocp "${GOCP:-../bin/gocp}" "$@"
