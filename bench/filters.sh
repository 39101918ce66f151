#!/usr/bin/env bash
# gocp defend beside NumPy in float64, scikit-learn, ART and faiss (bench/filters.py), in a virtual
# environment of its own under bench/.venv-filters. GOCP_PEER_PYTHON names another Python that has them
# already; GOCP names the gocp binary (default: bin/gocp).
#
#	bench/filters.sh                     what they drop
#	bench/filters.sh --rows 50000        and how long the nearest neighbours of so many samples take
set -euo pipefail
cd "$(dirname "$0")"
python=${GOCP_PEER_PYTHON:-}
if [ -z "$python" ]; then
  venv=.venv-filters
  want=$(sha256sum filters-requirements.txt)
  if [ "$(cat $venv/installed 2>/dev/null)" != "$want" ]; then
    echo "installing peers into bench/$venv (bench/filters-requirements.txt)" >&2
    rm -rf $venv
    python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check -r filters-requirements.txt
    echo "$want" >$venv/installed
  fi
  python=$venv/bin/python
fi
exec "$python" filters.py --gocp "${GOCP:-../bin/gocp}" "$@"
