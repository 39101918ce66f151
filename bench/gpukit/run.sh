#!/usr/bin/env bash
# Checks and times gocp on this machine's GPU. Wants a driver, and PyTorch for the phases that compare;
# builds and fetches nothing.
#
#	run.sh OUT [--minutes M] [--from PHASE] [--only PHASE]… [--mini]
#
# Every phase has a time limit, writes OUT/PHASE.log and what it found at once, and never stops the
# next; phases that the minutes (default 13) do not reach are said to be left out. --mini takes
# shapes that an emulator can run. The last lines are a table, also in OUT/summary.txt. The exit
# status is 0 if all phases that ran passed, 1 if one did not, 2 if nothing could run.
#
# GOCP_KIT_SECONDS bounds every phase; GOCP_KIT_CIFAR10 names an archive of CIFAR-10 for the last.
#
# Clocks, power, MIG and persistence are left as they are; only processes started here are ended.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# name, seconds at most, what it is
phases='
doctor   60  driver, image, card; a large copy and large products by PyTorch
cases    150 every kernel against float64
passes   120 networks in every precision against vectors of the host engine
audit    240 the miniature audit; the demo in bf16 and f32
speed    240 passes and kernels beside PyTorch, alternately
tune     150 the table of tiles: OUT/convtiles.csv
memory   120 compute-sanitizer, where it is installed
profile  90  what bounds the five kernels with the most time: ncu
scale    300 the setting of Li et al.: 250 steps for one target, then victims
'
names=$(awk 'NF { print $1 }' <<<"$phases")
die() {
	printf 'run.sh: %s\n' "$*" >&2
	exit 2
}
known() { grep -qx -- "$1" <<<"$names" || die "there is no phase \"$1\"; known are $(tr '\n' ' ' <<<"$names")"; }

# --- one phase, in a process of its own: run.sh --phase NAME -----------------------------------

say() { printf '%s\n' "$*" >>"$OUT/$phase.said"; } # a line of the table
gocp() { GOCP_DEVICE=cuda LD_LIBRARY_PATH=$KIT/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$KIT/bin/gocp" "$@"; }
# tests NAME PATTERN: the test binary of a package, in its folder.
tests() {
	local name=$1 pattern=$2 rc=0
	(cd "$KIT/tests/$name" && GOCP_DEVICE=cuda GOCP_TEST_TWINS=$KIT/twins LD_LIBRARY_PATH=$KIT/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
		"${CHECKED[@]}" "./$name.test" -test.count=1 -test.v -test.run "$pattern") >"$OUT/$phase-$name.log" 2>&1 || rc=$?
	grep -E '^ *--- (PASS|FAIL|SKIP)' "$OUT/$phase-$name.log" | awk -v name="$name" '
		{ r[substr($2, 1, 4)]++ } END { printf "%s: %d passed, %d failed, %d skipped\n", name, r["PASS"], r["FAIL"], r["SKIP"] }' >>"$OUT/$phase.said"
	grep -E '^ *--- FAIL' "$OUT/$phase-$name.log" | head -n 20
	# A pattern that finds nothing passes in silence.
	[[ $pattern != */* ]] || grep -q '^ \+--- PASS' "$OUT/$phase-$name.log" || rc=1
	[ "$rc" = 0 ] || tail -n 30 "$OUT/$phase-$name.log"
	return "$rc"
}
CHECKED=(env)
torch_here() { python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; }
without_torch() { say "no PyTorch that sees a GPU: $1"; }

phase_doctor() {
	gocp version && gocp doctor || return 1
	gocp doctor | sed -n 's/^because *//p' >>"$OUT/$phase.said"
	if command -v nvidia-smi >/dev/null; then
		nvidia-smi -q | grep -E 'Product Name|Driver Version|CUDA Version|MIG Mode|Current  *:|Persistence Mode|Pstate|Slowdown|Cap  *:|Graphics  *:|SM  *:|Memory  *:|Power Draw|GPU Current Temp|Total  *:|Process ID' | head -n 60
		nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv
	fi
	if torch_here; then
		timeout 50 python3 "$KIT/peers/ceilings.py" "$OUT/ceilings.json" && tail -n 1 "$OUT/ceilings.json" >/dev/null &&
			python3 -c 'import json, sys; c = json.load(open(sys.argv[1])); print("ceilings: copy %.2f TB/s, bf16 %.0f, tf32 %.0f TFLOP/s" % (c["copy_tb_s"], c["bf16_tflop_s"], c["tf32_tflop_s"]))' "$OUT/ceilings.json" >>"$OUT/$phase.said"
	else
		without_torch 'the ceilings were not measured'
	fi
}

phase_cases() {
	local pattern=Test
	[ -z "$MINI" ] || pattern='TestCases/^(Softmax|Dot|Gather|SignAdam|ActForward)$'
	tests cases "$pattern"
	local rc=$?
	[ -n "$MINI" ] || tests kernel Test || rc=1
	return $rc
}

phase_passes() {
	local rc=0
	if [ -n "$MINI" ]; then
		tests nn 'TestPasses/pool/^f32$' || rc=1
		return $rc
	fi
	tests nn Test || rc=1
	tests train 'TestAgainstHost|TestStepIsOneList' || rc=1
	tests attack 'TestAgainstHost|TestStepIsOneList' || rc=1
	return $rc
}

phase_audit() {
	local rc=0 p
	tests experiment '^TestMiniatureAudit$' || rc=1
	[ -z "$MINI" ] || return $rc
	for p in bf16 f32; do
		local began=$SECONDS
		if gocp audit --out "$WORK/audit-$p" --precision $p --recipe demo --quiet >"$OUT/audit-$p.txt" 2>&1; then
			cp "$WORK/audit-$p/result.json" "$OUT/audit-$p.json"
			cp "$WORK/audit-$p/telemetry.json" "$OUT/audit-$p-telemetry.json" 2>/dev/null
			say "demo, $p: $((SECONDS - began)) s; $(sed -n 's/^ *reduction ratio, mean of ratios *\(.*\)/reduction \1/p' "$OUT/audit-$p.txt")"
		else
			tail -n 5 "$OUT/audit-$p.txt"
			rc=1
		fi
	done
	return $rc
}

phase_speed() {
	local rc=0
	gocp bench kernels --json >"$OUT/kernels.json" || rc=1
	if torch_here; then
		python3 "$KIT/peers/gpu_peers.py" --gocp "$KIT/gocp.sh" --out "$OUT" --ceilings "$OUT/ceilings.json" --minutes "$(((LEFT - 20) / 60)).$((((LEFT - 20) % 60) * 10 / 60))" || rc=1
		[ ! -e "$OUT/peers.md" ] || say "$(grep -c '^| ' "$OUT/peers.md") rows in peers.md"
	else
		without_torch 'gocp alone was timed'
		gocp bench passes --json --seconds 0.3 --beside 1 --beside 4 --beside 16 >"$OUT/passes.json" || rc=1
	fi
	return $rc
}

phase_tune() {
	gocp bench kernels --tune "$OUT/convtiles.csv" | tail -n 40 || return 1
	say "$(grep -vc '^#' "$OUT/convtiles.csv") lines in convtiles.csv"
}

phase_memory() {
	local rc=0 tool
	if ! command -v compute-sanitizer >/dev/null; then
		say 'compute-sanitizer is not installed: not run'
		return 0
	fi
	for tool in memcheck racecheck; do
		CHECKED=(timeout 55 compute-sanitizer --tool $tool --error-exitcode 9 --target-processes application-only)
		tests cases 'TestCases/^(Conv|ConvPersampleSqNorm|Softmax|ActForward|ActBackward|Gather|BNStats)$' || rc=1
		mv "$OUT/$phase-cases.log" "$OUT/$phase-$tool.log"
		say "$tool: $(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$OUT/$phase-$tool.log" | tail -n 1)"
	done
	return $rc
}

phase_profile() {
	if ! command -v ncu >/dev/null; then
		say 'ncu is not installed: not run'
		return 0
	fi
	local ask=(gocp bench passes --shape 32x32x3-w64 --pass craft --precision bf16 --beside 1 --seconds 0.05)
	ncu_() { GOCP_DEVICE=cuda LD_LIBRARY_PATH=$KIT/lib ncu --clock-control none --graph-profiling node --target-processes all "$@" "$KIT/bin/gocp" "${ask[@]:1}"; }
	ncu_ --csv --metrics gpu__time_duration.sum -c 300 >"$OUT/ncu-times.csv" 2>"$OUT/ncu-times.err" || { tail -n 5 "$OUT/ncu-times.err" "$OUT/ncu-times.csv"; return 1; }
	awk -F '","' '/gpu__time_duration/ { v = $NF; gsub(/[",]/, "", v); t[$5] += v; n[$5]++ } END { for (k in t) printf "%14.0f %5d %s\n", t[k], n[k], k }' "$OUT/ncu-times.csv" |
		sort -rn >"$OUT/ncu-times.txt"
	head -n 12 "$OUT/ncu-times.txt"
	local k
	for k in $(head -n 5 "$OUT/ncu-times.txt" | awk '{ print $3 }' | sed 's/(.*//'); do
		ncu_ --section SpeedOfLight --section Occupancy --section MemoryWorkloadAnalysis --section WarpStateStats --section SchedulerStats \
			-k "$k" -s 2 -c 1 >"$OUT/ncu-$k.txt" 2>&1 || tail -n 3 "$OUT/ncu-$k.txt"
		say "$k: $(sed -n 's/^ *Compute (SM) Throughput *% *\([0-9.]*\)/compute \1 %/p; s/^ *Memory Throughput *% *\([0-9.]*\)/memory \1 %/p' "$OUT/ncu-$k.txt" | tr '\n' ' ')"
	done
}

phase_scale() {
	local began=$SECONDS arch=(--width 64)
	if gocp audit --help | grep -q -- '--stem'; then arch=(--arch resnet18 --width 64 --stem cifar); fi
	local data=()
	[ -z "${GOCP_KIT_CIFAR10:-}" ] || data=(--data "$GOCP_KIT_CIFAR10")
	[ -n "${GOCP_KIT_CIFAR10:-}" ] || say 'no CIFAR-10 archive (GOCP_KIT_CIFAR10): the sample in the binary, whose classes bound the poisons'
	gocp audit --out "$WORK/scale" "${data[@]}" "${arch[@]}" --precision bf16 --budget 0.02 --steps 250 --repeats 1 --victims 1 --json >"$OUT/scale.json" 2>"$OUT/scale.err" || {
		tail -n 3 "$OUT/scale.err"
		cp "$WORK/scale/clock.jsonl" "$OUT/scale-clock.jsonl" 2>/dev/null
		return 1
	}
	cp "$WORK/scale/clock.jsonl" "$OUT/scale-clock.jsonl"
	say "250 steps, 2 %, ${arch[*]}: whole audit $((SECONDS - began)) s; crafting: see scale-clock.jsonl; Li et al.: 19.26 minutes"
}

if [ "${1:-}" = --phase ]; then
	phase=$2
	"phase_$phase"
	exit
fi

# --- all phases --------------------------------------------------------------------------------

[ $# -gt 0 ] && [ "${1#-}" = "$1" ] || die 'usage: run.sh OUT [--minutes M] [--from PHASE] [--only PHASE]… [--mini]'
export OUT=$1 MINI= KIT WORK LEFT
shift
minutes=13 from= only=
while [ $# -gt 0 ]; do
	case $1 in
	--mini) MINI=yes ;;
	--minutes | --from | --only)
		[ $# -gt 1 ] || die "$1 wants a value"
		case $1 in
		--minutes) minutes=$2 ;;
		--from) known "$2" && from=$2 ;;
		--only) known "$2" && only+=" $2" ;;
		esac
		shift
		;;
	*) die "\"$1\" is not understood: run.sh OUT [--minutes M] [--from PHASE] [--only PHASE]… [--mini]" ;;
	esac
	shift
done
[[ $minutes =~ ^[0-9]+$ ]] && [ "$minutes" -gt 0 ] || die "--minutes $minutes: a whole number of at least 1"
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || die "$OUT cannot be made"

WORK=$(mktemp -d "${TMPDIR:-/tmp}/gocp-kit.XXXXXX") || die 'no temporary folder'
trap 'rm -rf "$WORK"' EXIT
KIT=$here/unpacked # for rehearsals
if ! [ -d "$KIT" ]; then
	KIT=$WORK/kit
	mkdir "$KIT"
	if command -v xz >/dev/null; then
		xz -dc --memlimit=max "$here/kit.tar.xz" | tar -xf - -C "$KIT"
	else
		python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1], "r:xz").extractall(sys.argv[2])' "$here/kit.tar.xz" "$KIT"
	fi || die "$here/kit.tar.xz could not be unpacked: this needs xz, or Python"
fi
said=$(gocp doctor 2>&1) || die "gocp does not start here: $(tail -n 1 <<<"$said")"
found=$(sed -n 's/^computes on *//p' <<<"$said")
case $found in
cuda:*) ;;
*) die "there is no GPU here that this kit can use (${found:-$(tail -n 1 <<<"$said")}); nothing was run" ;;
esac

deadline=$((SECONDS + 60 * minutes))
began=$SECONDS
failed=
: >"$OUT/summary.txt"
row() { printf '%-8s %-11s %5s s  %s\n' "$@" >>"$OUT/summary.txt"; }
while read -r name limit what; do
	[ -n "$name" ] || continue
	[ "$name" != "$from" ] || from=
	[ -z "$from" ] || continue
	[ -z "$only" ] || [[ " $only " == *" $name "* ]] || continue
	LEFT=$((deadline - SECONDS))
	if [ $LEFT -lt 10 ]; then
		row "$name" 'left out' 0 'no time was left'
		continue
	fi
	[ "$limit" -le "${GOCP_KIT_SECONDS:-$limit}" ] || limit=$GOCP_KIT_SECONDS
	[ $LEFT -lt "$limit" ] || LEFT=$limit
	printf '=== %s: %s (at most %d s)\n' "$name" "$what" "$LEFT"
	: >"$OUT/$name.said"
	start=$SECONDS
	timeout -k 5 "$LEFT" bash "${BASH_SOURCE[0]}" --phase "$name" >"$OUT/$name.log" 2>&1 </dev/null
	rc=$?
	case $rc in
	0) state=passed ;;
	124 | 137) state='timed out' ;;
	*) state=FAILED ;;
	esac
	[ "$rc" = 0 ] || failed=yes
	row "$name" "$state" $((SECONDS - start)) "$(paste -sd ';' "$OUT/$name.said" | cut -c 1-300)"
	[ "$rc" = 0 ] || tail -n 5 "$OUT/$name.log"
	rm -f "$OUT/$name.said"
done <<<"$phases"
printf '\n%d s in all; %s has everything\n' $((SECONDS - began)) "$OUT"
cat "$OUT/summary.txt"
[ -z "$failed" ]
