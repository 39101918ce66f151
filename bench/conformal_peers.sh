#!/usr/bin/env bash
# gocp conformal beside TorchCP, MAPIE, crepes and puncc (bench/conformal_peers.py), in a virtual
# environment of its own under bench/.venv-conformal. GOCP_PEER_PYTHON names another Python that
# has them already; GOCP names the gocp binary (default: bin/gocp).
set -euo pipefail
cd "$(dirname "$0")"
python=${GOCP_PEER_PYTHON:-}
if [ -z "$python" ]; then
  venv=.venv-conformal
  want=$(sha256sum conformal-requirements.txt)
  if [ "$(cat $venv/installed 2>/dev/null)" != "$want" ]; then
    echo "installing peers into bench/$venv (bench/conformal-requirements.txt)" >&2
    rm -rf $venv
    python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check -r conformal-requirements.txt
    $venv/bin/pip install --quiet --disable-pip-version-check --no-deps puncc==0.9.3 nonconformist==2.1.0
    echo "$want" >$venv/installed
  fi
  python=$venv/bin/python
fi
exec "$python" "${script:-conformal_peers.py}" --gocp "${GOCP:-../bin/gocp}" "$@"
