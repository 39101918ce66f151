#!/usr/bin/env bash
# Counts on the emulator (csrc/ptxemu) what kernels do, into gocp/bench/counts.csv, which `gocp bench
# roofline` prints: launches, warp instructions, bytes of global memory that threads asked for, and
# of the distinct sectors among them. Needs `make gpu`; takes ten minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
table=gocp/bench/counts.csv

cmake --build build/cpp --target ptxemu --parallel "${JOBS:-2}" | grep -v 'Built target' >&2 || true
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
GOCP_LIBCUDA=$PWD/build/ptxemu/libcuda.so.1 PTXEMU_RACE=0 PTXEMU_COUNTS=$scratch/counts \
	bin/gocp bench roofline --count --device cuda >"$scratch/table"
{
	echo '# made by scripts/counts.sh on the emulator: counts, no times'
	cat "$scratch/table"
} >"$table"
echo "counts: $table, $(($(wc -l <"$table") - 2)) rows"
