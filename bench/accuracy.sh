#!/usr/bin/env bash
# Networks trained by gocp and by PyTorch with the same recipe (bench/accuracy_torch.py), in the virtual
# environment of peers.sh. GOCP_PEER_PYTHON names another Python that has PyTorch already; GOCP names the gocp
# binary (default: bin/gocp).
#
#	bench/accuracy.sh DATA [--seeds 5] [--train 2000] …
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
python=$("$here/python.sh")
exec "$python" "$here/accuracy_torch.py" --gocp "${GOCP:-$here/../bin/gocp}" "$@"
