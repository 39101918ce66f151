#!/usr/bin/env bash
# Runs the GPU image's kernels through the same Go code as everything else: on the GPU where there
# is one, else on the emulator (csrc/ptxemu), which checks every access: the cases of every kernel,
# the networks' passes, training, crafting, and a miniature audit from end to end, against the host
# engine and float64. Prints what ran; every kernel of the image must have. `make test-ptx` builds
# the image first.
#
#	GOCP_TEST_LIBCUDA=FILE   on this libcuda.so.1, whatever there is; "emulator" for the emulator
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
step() { printf '\n=== %s\n' "$*"; }
out=build/test-ptx
rm -rf "$out"
mkdir -p "$out"
unset GOCP_IMAGE GOCP_CHECK GOCP_CALLS

# What runs beyond the cases.
networks=(./gocp/tensor ./gocp/device ./gocp/nn)
steps=(./gocp/train ./gocp/attack) # whole on a GPU; on the emulator what is made for it
audit=./gocp/experiment
miniature='^TestMiniatureAudit$'

step 'the machine code: local memory, registers (bench/sass.csv)'
scripts/sass.sh check

export GOCP_DEVICE=cuda
library=${GOCP_TEST_LIBCUDA:-}
if [ -z "$library" ] && GOCP_LIBCUDA= bin/gocp doctor >"$out/doctor" 2>&1; then
	grep -E '^(GPU code|computes on|because)' "$out/doctor"
	export GOCP_LIBCUDA=
	step 'on the GPU: every case; passes, training, crafting; a miniature audit'
	go test -count=1 -p 1 -timeout 30m ./gocp/kernel/... "${networks[@]}" "${steps[@]}"
	go test -count=1 -v -timeout 30m -run "$miniature" "$audit" | grep -vE '^=== '
	if ! command -v compute-sanitizer >/dev/null; then
		echo 'compute-sanitizer is not installed: going on without'
		exit
	fi
	# Its subject is the test's own process; those that it starts compute on the host engine.
	for tool in memcheck racecheck synccheck; do
		step "the same under compute-sanitizer's $tool"
		checked=(-exec "compute-sanitizer --tool $tool --error-exitcode 9 --target-processes application-only")
		go test -count=1 -p 1 -timeout 60m "${checked[@]}" ./gocp/kernel/... ./gocp/nn
		[ "$tool" = memcheck ] || continue
		go test -count=1 -p 1 -timeout 60m "${checked[@]}" -run 'AgainstHost' ./gocp/train ./gocp/attack
		go test -count=1 -timeout 60m "${checked[@]}" -run "$miniature" "$audit"
	done
	exit
fi

emulator=
if [ -z "$library" ] || [ "$library" = emulator ]; then
	emulator=yes
	library=$PWD/build/ptxemu/libcuda.so.1
	step 'the emulator'
	cmake --build build/cpp --target ptxemu --parallel "${JOBS:-2}" | grep -v 'Built target' || true
fi
export GOCP_LIBCUDA=$library
bin/gocp doctor | grep -E '^(GPU code|computes on|because)'

# tests NAME ORDER PATTERN PACKAGE…: tests with the emulator's blocks and warps in that order; what
# ran goes to $out/NAME.ran, what was said to $out/NAME.log.
tests() {
	local name=$1 order=$2 pattern=$3
	shift 3
	PTXEMU_ORDER=$order PTXEMU_RAN=$PWD/$out/$name.ran go test -count=1 -v -timeout 20m -run "$pattern" "$@" >"$out/$name.log" 2>&1 || {
		grep -vE '^ *(=== |--- PASS)' "$out/$name.log" >&2
		return 1
	}
	grep -E '^ +--- SKIP|no kernel for a GPU' "$out/$name.log" || true
	grep -E '^(--- (PASS|FAIL)|ok) ' "$out/$name.log"
}
cases() {
	step "the cases against float64: gradients, duals, symmetry, guards; blocks and warps in order $1"
	tests "cases$1" "$1" "$2" ./gocp/kernel ./gocp/kernel/cases
}

emulator_tests() {
	step "the emulator's own tests"
	csrc/ptxemu/tests/run.sh
}
passes() {
	step 'passes, training and crafting: against float64 and the host engine; driver calls counted'
	tests networks 0 'Test' "${networks[@]}"
	tests networks2 0 'TestAgainstHost|TestStepIsOneList' "${steps[@]}"
}
mini_audit() {
	step 'a miniature audit from end to end, on all devices (the emulator shows two), against the host engine'
	PTXEMU_DEVICES=2 tests audit 0 "$miniature" "$audit"
	sed -n 's/^ *gpu_test.go:[0-9]*: /  /p' "$out/audit.log"
}
command_line() {
	step 'the command line: the back end that auto takes; drivers, devices and kernels that fail'
	GOCP_TEST_EMULATOR=$library tests cli 0 'TestAutoPicksWhatIsThere|TestFailuresOfAGPU|TestFaultInAnAudit|TestSeveralDevices|TestSliceOfACard|TestDisturbedTimes' ./cmd/gocp
	sed -n 's/^ *failures_test.go:[0-9]*: /  /p' "$out/cli.log"
}
seeded_faults() {
	step 'seeded faults: deliberate mistakes in the kernels, and what the cases say to them'
	# Their files keep the version of PTX that nvcc 13.2 writes.
	PTXEMU_DRIVER=13020 GOCP_FAULTS=1 go test -count=1 -v -timeout 20m -run 'TestSeededFaults' ./gocp/kernel/cases >"$out/faults.log" 2>&1 || {
		grep -vE '^ *(=== |--- PASS)' "$out/faults.log" >&2
		return 1
	}
	grep -vE '^ *(=== |--- |PASS)|^ok ' "$out/faults.log"
}

# at_once COMMAND…: commands of one line each, as many at a time as there are processors (the emulator
# keeps one busy); what they print appears whole, in their order. The first that fails ends the script.
at_once() {
	local i started=0 done=0 pids=()
	for ((done = 0; done < $#; done++)); do
		for (( ; started < $# && started < done + $(nproc); started++)); do
			(eval "${*:started+1:1}") >"$out/$started.text" 2>&1 &
			pids+=($!)
		done
		wait "${pids[done]}" || {
			cat "$out/$done.text" >&2
			for ((i = done + 1; i < started; i++)); do kill "${pids[i]}" 2>/dev/null || true; done
			exit 1
		}
		cat "$out/$done.text"
	done
}

if [ -z "$emulator" ]; then
	cases 0 'Test'
	passes
	mini_audit
else
	# Three orders of blocks and warps: the first for every test, two for half of the precisions each.
	at_once mini_audit "cases 0 'Test'" emulator_tests command_line "cases 1 'TestCases/.*/^(f32)?$'" passes \
		"cases 5 'TestCases/.*/^(tf32|bf16)?$'" seeded_faults

	step 'what ran: launches of every kernel, and the warp instructions of all'
	image=$(scripts/gpu.sh)
	awk '
		FNR == 1 { part = FILENAME; sub(/.*\//, "", part); sub(/[0-9]*\.ran$/, "", part) }
		{ n[part, $1] += $2; w[$1] += $3 }
		END { for (k in w) printf "%-44s %8d %8d %8d %8d %10.3g\n", k, n["cases", k], n["networks", k], n["audit", k], n["cli", k], w[k] }' \
		"$out"/*.ran | sort >"$out/ran"
	printf '%-44s %8s %8s %8s %8s %10s\n' kernel cases networks audit cli warp-ins
	cat "$out/ran"

	step 'what ran: in float and in dual numbers; convolutions by precision and tile'
	# Exports of one kernel end in _f32 and _dual. Those of a convolution end in precision and tile:
	# "dual" has the primal and the tangent planes at once, the others one product of either.
	awk '
		{ total = $2 + $3 + $4 + $5; family = $1; form = "float" }
		match($1, /_(f32|tf32|bf16)_[a-z]+$/) {
			split(substr($1, RSTART + 1), part, "_")
			family = substr($1, 1, RSTART - 1) " " part[1]
			form = part[2]
		}
		form == "float" && $1 ~ /_(f32|dual)$/ {
			if ($1 ~ /_dual$/) form = "dual"
			sub(/_(f32|dual)$/, "", family)
		}
		{ row[family] = row[family] sprintf("  %-5s %8d", form, total) }
		END { for (f in row) printf "%-32s%s\n", f, row[f] }' "$out/ran" | sort
	missed=$(comm -23 <(grep -a '^kernel ' "$image" | cut -d ' ' -f 2 | sort -u) <(cut -d ' ' -f 1 "$out/ran" | sort -u))
	if [ -n "$missed" ]; then
		echo "test-ptx: no case launched: $missed" >&2
		exit 1
	fi
	echo "$(wc -l <"$out/ran") of the image's $(grep -ac '^kernel ' "$image") kernels ran"

	step 'what the emulator counts for gocp bench roofline; every tile of convolutions that --tune tries'
	go test -count=1 -run 'TestEmulated|TestTune' ./gocp/bench
fi
echo
echo "test-ptx: all passed, $SECONDS s"
