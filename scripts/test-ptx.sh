#!/usr/bin/env bash
# Runs the GPU image's kernels through the same Go code as everything else: on the GPU where there
# is one, else on the emulator (csrc/ptxemu), which checks every access. Prints what ran; every
# kernel of the image must have. `make test-ptx` builds the image first.
#
#	GOCP_TEST_LIBCUDA=FILE   on this libcuda.so.1, whatever there is; "emulator" for the emulator
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
step() { printf '\n=== %s\n' "$*"; }
out=build/test-ptx
mkdir -p "$out"
unset GOCP_IMAGE GOCP_CHECK

step 'the machine code: local memory, registers (bench/sass.csv)'
scripts/sass.sh check

export GOCP_DEVICE=cuda
library=${GOCP_TEST_LIBCUDA:-}
if [ -z "$library" ] && GOCP_LIBCUDA= bin/gocp doctor >"$out/doctor" 2>&1; then
	grep -E '^(GPU code|computes on|because)' "$out/doctor"
	run=()
	if command -v compute-sanitizer >/dev/null; then
		run=(-exec 'compute-sanitizer --error-exitcode 9 --target-processes all')
	else
		echo 'compute-sanitizer is not installed: going on without'
	fi
	step 'every case, on the GPU'
	go test -count=1 "${run[@]}" -timeout 30m ./gocp/kernel/... ./gocp/tensor
	exit
fi

emulator=
if [ -z "$library" ] || [ "$library" = emulator ]; then
	emulator=yes
	library=$PWD/build/ptxemu/libcuda.so.1
	step 'the emulator, and its own tests'
	cmake --build build/cpp --target ptxemu --parallel "${JOBS:-2}" | grep -v 'Built target' || true
	csrc/ptxemu/tests/run.sh
fi
export GOCP_LIBCUDA=$library
bin/gocp doctor | grep -E '^(GPU code|computes on|because)'

# cases ORDER PATTERN: the tests with the emulator's blocks and warps in that order.
cases() {
	local log=$out/order$1.log
	step "the cases against float64: gradients, duals, symmetry, guards; blocks and warps in order $1"
	PTXEMU_ORDER=$1 PTXEMU_RACE=1 PTXEMU_TRACE=1 go test -count=1 -v -timeout 10m -run "$2" \
		./gocp/kernel ./gocp/kernel/cases >"$log" 2>&1 || {
		grep -vE '^ptxemu: [a-z0-9_]+ grid|^ *(=== RUN|--- PASS)' "$log" >&2
		exit 1
	}
	grep -E '^ +--- SKIP|no kernel for a GPU' "$log" || true
	grep -E '^(---|ok) ' "$log"
}

cases 0 'Test'
if [ -n "$emulator" ]; then
	cases 1 'TestCases'
	cases 5 'TestCases'

	step 'what ran (all orders)'
	cat "$out"/order*.log | awk '$1 == "ptxemu:" && $3 == "grid" { n[$2]++; w[$2] += $7 }
		END { for (k in n) printf "%-36s %7d launches %12.4g warp instructions\n", k, n[k], w[k] }' | sort >"$out/ran"
	cat "$out/ran"
	image=$(scripts/gpu.sh)
	missed=$(comm -23 <(grep -a '^kernel ' "$image" | cut -d ' ' -f 2 | sort -u) <(cut -d ' ' -f 1 "$out/ran" | sort -u))
	if [ -n "$missed" ]; then
		echo "test-ptx: no case launched: $missed" >&2
		exit 1
	fi

	step 'seeded faults: deliberate mistakes in the kernels, and what the cases say to them'
	GOCP_FAULTS=1 go test -count=1 -v -timeout 10m -run 'TestSeededFaults' ./gocp/kernel/cases >"$out/faults.log" 2>&1 || {
		grep -vE '^ *(=== |--- PASS)' "$out/faults.log" >&2
		exit 1
	}
	grep -vE '^ *(=== |--- |PASS)|^ok ' "$out/faults.log"
fi
echo
echo "test-ptx: all passed, $SECONDS s"
