#!/usr/bin/env bash
# Audits of one attack whose victims are trained by gocp, by PyTorch with and without augmentation, by
# scikit-learn and by JAX (bench/victims.py, docs/victims.md), in a virtual environment of their own under
# bench/.venv-victims. GOCP_PEER_PYTHON names another Python that has them already; GOCP names the gocp binary
# (default: bin/gocp).
#
#	bench/victims.sh runs/victims                    hours; begun again it goes on where it stopped
#	bench/victims.sh runs/small --epochs 1 -- --quick --repeats 2 --steps 5 --conditions attack,randun
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
python=$("$here/python.sh" victims)
exec "$python" "$here/victims.py" --gocp "${GOCP:-$here/../bin/gocp}" "$@"
