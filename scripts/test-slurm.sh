#!/usr/bin/env bash
# Starts a Slurm of its own on loopback, a controller and two nodes with fake GPUs, as an ordinary user, and
# does small audits on it (cmd/gocp/slurm_test.go): the bytes are those of one process, also after tasks were
# killed, warned and cancelled, and a node went down. Run it as `make test-slurm`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh slurm
. ./.envrc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go test -c -o "$work/gocp.test" ./cmd/gocp
mkdir "$work/tmp"
test=(env "HOME=$work/tmp" "TMPDIR=$work/tmp" GOCP_SLURM=1 "$work/gocp.test" -test.v -test.timeout 30m -test.run "${1:-TestSlurm}")
if [ "$(id -u)" != 0 ]; then
	cd "$work/tmp"
	"${test[@]}"
	exit
fi
# Slurm is not run by root.
chmod 711 "$work"
chown nobody "$work/tmp"
cd "$work/tmp"
setpriv --reuid=nobody --regid=nogroup --clear-groups "${test[@]}"
