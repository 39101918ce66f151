#!/usr/bin/env bash
# Checks and times gocp on this machine's GPU. Wants a driver, and PyTorch for the phases that compare;
# builds and fetches nothing.
#
#	run.sh OUT [--minutes M] [--from PHASE] [--until PHASE] [--only PHASE]… [--mini]
#
# Every phase has a time limit, writes what it found at once, and never stops the next. The limits of the
# phases that were asked for sum to at most the minutes (default 13): what is too much is taken from all in
# the same proportion, and what one leaves over goes to those after it. Another call with the same OUT goes
# on: its table has the phases of both. Unpacking takes up to 20 s beside the minutes.
#
# OUT gets at most eight files: summary.txt, ceilings.json, kernels.txt, peers.json and peers.md (or
# passes.json), convtiles.csv, scale.json, and logs.tar.gz with all else. The last lines are the table and
# what is there. The exit status is 0 if all phases that ran passed, 1 if one did not, 2 if nothing could run.
#
# GOCP_KIT_CIFAR10 names an archive of CIFAR-10 for the last phase. For rehearsals: --mini takes shapes
# that an emulator can run, GOCP_KIT_TORCH=cpu PyTorch without a GPU; GOCP_KIT_SECONDS is every phase's limit.
#
# Clocks, power, MIG and persistence are left as they are; only processes started here are ended.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# name, seconds at most, what it is
phases='
doctor   60  driver, image, card; a large copy and large products by PyTorch
cases    150 every kernel against float64
passes   120 networks in every precision against vectors of the host engine
audit    210 the miniature audit; the demo in bf16 and f32
speed    240 passes beside PyTorch, alternately; kernels
tune     120 the table of tiles: convtiles.csv
memory   120 compute-sanitizer, where it is installed
profile  90  what bounds the five kernels with the most time: ncu
scale    300 the setting of Li et al.: 250 steps for one target, then victims
'
usage='run.sh OUT [--minutes M] [--from PHASE] [--until PHASE] [--only PHASE]… [--mini]'
names=$(awk 'NF { print $1 }' <<<"$phases")
die() {
	printf 'run.sh: %s\n' "$*" >&2
	exit 2
}
known() { grep -qx -- "$1" <<<"$names" || die "there is no phase \"$1\"; known are $(tr '\n' ' ' <<<"$names")"; }

# --- one phase, in a process of its own: run.sh --phase NAME -----------------------------------
#
# phase_NAME does it within LEFT seconds; what it prints goes to LOGS/NAME.log. line_NAME, after it, prints
# its line of the table from the files that are there, however the phase ended.

say() { printf '%s\n' "$*" >>"$LOGS/$phase.said"; } # for the line
gocp() { GOCP_DEVICE=cuda LD_LIBRARY_PATH=$LIBS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$KIT/bin/gocp" "$@"; }
left() { echo $((LEFT - SECONDS)); } # seconds of the phase
# within SECONDS COMMAND…: in the phase's process group, which ends with it.
within() { timeout --foreground -k 2 "$@"; }
# part NAME SECONDS COMMAND…: a part of a phase; time that runs out is no failure.
part() {
	local name=$1 rc=0
	within "${@:2}" || rc=$?
	case $rc in
	0) ;;
	124 | 137) say "$name: not all in $2 s" ;;
	*) return 1 ;;
	esac
}
# tests NAME PATTERN: the test binary of a package, in its folder.
tests() {
	local name=$1 pattern=$2 rc=0
	(cd "$KIT/tests/$name" && GOCP_DEVICE=cuda GOCP_TEST_TWINS=$KIT/twins LD_LIBRARY_PATH=$LIBS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
		"${CHECKED[@]}" "./$name.test" -test.count=1 -test.v -test.run "$pattern") >"$LOGS/$phase-$name.log" 2>&1 || rc=$?
	grep -E '^ *--- FAIL' "$LOGS/$phase-$name.log" | head -n 20
	# A pattern that finds nothing passes in silence.
	[[ $pattern != */* ]] || grep -q '^ \+--- PASS' "$LOGS/$phase-$name.log" || rc=1
	[ "$rc" = 0 ] || tail -n 30 "$LOGS/$phase-$name.log"
	return "$rc"
}
# tested FILE…: how many tests of logs passed.
tested() {
	local file
	for file in "$@"; do
		[ -e "$file" ] || continue
		awk -v name="$(basename "$file" .log)" '$1 == "---" { r[substr($2, 1, 4)]++ }
			END { printf "%s: %d passed, %d failed, %d skipped\n", name, r["PASS"], r["FAIL"], r["SKIP"] }' "$file"
	done
}
CHECKED=(env)
TORCH=${GOCP_KIT_TORCH:-cuda}
torch_here() {
	local see='torch.cuda.is_available()'
	[ "$TORCH" = cuda ] || see=True
	python3 -c "import torch; assert $see" 2>>"$LOGS/torch.err"
}
without_torch() { say "no PyTorch that sees a GPU: $1"; }
ceilings() { within "$1" python3 "$KIT/peers/ceilings.py" "$OUT/ceilings.json" --device "$TORCH"; }
# field FILE NAME: a number of a JSON file of one level.
field() { sed -n "s/.*\"$2\": *\([-+0-9.e]*\).*/\1/p" "$1" | head -n 1; }

phase_doctor() {
	gocp version && gocp doctor | tee "$LOGS/doctor.txt" || return 1
	if command -v nvidia-smi >/dev/null; then
		within 10 nvidia-smi -q >"$LOGS/nvidia-smi.txt"
		grep -E 'Product Name|Driver Version|CUDA Version|MIG Mode|Current  *:|Persistence Mode|Performance State|Slowdown|Cap  *:|Graphics  *:|SM  *:|Memory  *:|Power Draw|GPU Current Temp|Total  *:|Process ID' "$LOGS/nvidia-smi.txt" | head -n 60
		within 10 nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv
	fi
	nproc
	if torch_here; then
		ceilings $(($(left) - 2)) || say 'the ceilings could not be measured'
	else
		without_torch 'the ceilings were not measured'
	fi
	return 0
}
line_doctor() {
	sed -n 's/^computes on *cuda: *//p; s/^because *cuda: *//p; s/^and runs */runs /p' "$LOGS/doctor.txt"
	[ ! -e "$OUT/ceilings.json" ] ||
		printf 'copy %.2f TB/s, bf16 %.0f, tf32 %.0f TFLOP/s\n' "$(field "$OUT/ceilings.json" copy_tb_s)" "$(field "$OUT/ceilings.json" bf16_tflop_s)" "$(field "$OUT/ceilings.json" tf32_tflop_s)"
}

phase_cases() {
	local pattern=Test rc=0
	[ -z "$MINI" ] || pattern='TestCases/^(Softmax|Dot|Gather|SignAdam|ActForward)$'
	tests cases "$pattern" || rc=1
	[ -n "$MINI" ] || tests kernel Test || rc=1
	return $rc
}
line_cases() { tested "$LOGS"/cases-*.log; }

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
line_passes() { tested "$LOGS"/passes-*.log; }

phase_audit() {
	local rc=0 p
	tests experiment '^TestMiniatureAudit$' || rc=1
	[ -z "$MINI" ] || return $rc
	for p in bf16 f32; do
		if gocp audit --out "$WORK/audit-$p" --precision $p --recipe demo --quiet >"$LOGS/audit-$p.txt" 2>&1; then
			for f in result telemetry timings; do [ ! -e "$WORK/audit-$p/$f.json" ] || mv "$WORK/audit-$p/$f.json" "$LOGS/audit-$p-$f.json"; done
			say "demo, $p: $SECONDS s after the phase began; $(sed -n 's/^ *reduction ratio, mean of ratios *\(.*\)/reduction \1/p' "$LOGS/audit-$p.txt")"
		else
			tail -n 5 "$LOGS/audit-$p.txt"
			rc=1
		fi
	done
	return $rc
}
line_audit() { tested "$LOGS"/audit-experiment.log; }

# Rows beside PyTorch, then kernels, then what PyTorch compiles: each is worth less than the one before.
phase_speed() {
	local rc=0 kernels=() passes=(--seconds 0.3 --beside 1 --beside 4 --beside 16) rows=() peers
	if [ -n "$MINI" ]; then
		kernels=(AugmentDraw)
		passes=(--shape 32x32x3-w16-stride --pass hvp --precision bf16 --batch 1 --seconds 0.001 --beside 1)
		rows=(--plan craft:32x32x3-w16-stride:1 train:32x32x3-w16-stride:1 --seconds 0.001 --rounds 2 --beside 1 --backend eager)
	fi
	if torch_here; then
		[ -e "$OUT/ceilings.json" ] || ceilings 60
		peers=(python3 "$KIT/peers/gpu_peers.py" --gocp "$WORK/gocp.sh" --out "$OUT" --ceilings "$OUT/ceilings.json" --device "$TORCH" "${rows[@]}")
		part peers $((LEFT * 6 / 10)) "${peers[@]}" --for $((LEFT * 5 / 10)) || rc=1
	else
		without_torch 'gocp alone was timed'
		peers=()
		part passes $((LEFT * 6 / 10)) "$WORK/gocp.sh" bench passes --json "${passes[@]}" >"$OUT/passes.json" || rc=1
	fi
	part kernels $(($(left) * 6 / 10)) "$WORK/gocp.sh" bench kernels "${kernels[@]}" >"$OUT/kernels.txt" || rc=1
	[ ${#peers[@]} = 0 ] || ! [ -e "$OUT/peers.json" ] || [ "$(left)" -lt 10 ] || part compiled $(($(left) - 3)) "${peers[@]}" --compiled --for $(($(left) - 40)) || rc=1
	return $rc
}
line_speed() {
	[ ! -e "$OUT/peers.md" ] || awk -F ' *[|] *' '$4 == "crafting step" && !n++ { printf "%s crafting step %s: PyTorch/gocp %s\n", $2, $5, $9 } /^\|/ { rows++ }
		END { printf "%d rows beside PyTorch\n", rows - 2 }' "$OUT/peers.md"
	[ ! -s "$OUT/passes.json" ] || printf '%d rows of passes, %d wrong\n' "$(grep -c '"pass":' "$OUT/passes.json")" "$(grep -c '"wrong": *[1-9]' "$OUT/passes.json")"
	[ ! -s "$OUT/kernels.txt" ] || awk 'NR > 2 { n++; wrong += $NF != 0 } END { printf "%d rows of kernels, %d wrong\n", n, wrong }' "$OUT/kernels.txt"
}

phase_tune() {
	local mini=() seconds=$(($(left) - 4))
	[ -z "$MINI" ] || mini=(--batch 1) seconds=$((seconds < 90 ? seconds : 90))
	part tune $seconds "$WORK/gocp.sh" bench kernels --tune "$OUT/convtiles.csv" "${mini[@]}" >"$LOGS/tune.txt"
}
line_tune() {
	[ ! -e "$OUT/convtiles.csv" ] || printf '%d rows in convtiles.csv\n' "$(grep -vc -e '^#' -e '^sm,' "$OUT/convtiles.csv")"
	printf '%d products timed\n' "$(awk 'NR > 1 && NF > 7' "$LOGS/tune.txt" | wc -l)"
}

# sanitized: whether compute-sanitizer runs anything on this machine.
sanitized() {
	(cd "$KIT/tests/cases" && GOCP_DEVICE=cuda LD_LIBRARY_PATH=$LIBS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} within 30 compute-sanitizer --tool memcheck \
		./cases.test -test.count=1 -test.run 'TestCases/^Softmax$') >"$LOGS/memory-try.log" 2>&1
}
phase_memory() {
	local rc=0 tool pattern='TestCases/^(Softmax|ActForward|Gather|BNStats|PersampleSqNorm|ConvForward|ConvBackwardWeight)$'
	[ -z "$MINI" ] || pattern='TestCases/^(Softmax|Gather)$'
	if ! command -v compute-sanitizer >/dev/null; then
		say 'compute-sanitizer is not installed: not run'
		return 0
	fi
	if ! sanitized; then
		say "compute-sanitizer does not run here: $(grep -m 1 -iE 'not supported|error|fail' "$LOGS/memory-try.log")"
		return 0
	fi
	for tool in memcheck racecheck; do
		local seconds=$(($(left) - 4))
		[ $tool = racecheck ] || seconds=$((seconds / 2))
		CHECKED=(timeout --foreground -k 2 $seconds compute-sanitizer --tool $tool --error-exitcode 9 --target-processes application-only)
		tests cases "$pattern"
		case $? in
		0) ;;
		124 | 137) say "$tool: not all cases in $seconds s" ;; # it is slow; what it found stands in its log
		*) rc=1 ;;
		esac
		grep -q -m 1 -E '^=+ (Invalid|Race|Error:|Out-of-range|Misaligned|Program hit)' "$LOGS/$phase-cases.log" && rc=1
		mv "$LOGS/$phase-cases.log" "$LOGS/$phase-$tool.log"
	done
	return $rc
}
line_memory() {
	local tool
	for tool in memcheck racecheck; do
		[ ! -e "$LOGS/memory-$tool.log" ] || printf '%s: %s\n' $tool "$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$LOGS/memory-$tool.log" | tail -n 1 | sed 's/^=* *//')"
	done
	tested "$LOGS"/memory-memcheck.log "$LOGS"/memory-racecheck.log
}

phase_profile() {
	if ! command -v ncu >/dev/null; then
		say 'ncu is not installed: not run'
		return 0
	fi
	local work=(bench passes --shape 32x32x3-w64 --pass craft --precision bf16 --beside 1 --seconds 0.05) k name
	[ -z "$MINI" ] || work=(bench passes --shape 32x32x3-w16-stride --pass hvp --precision bf16 --batch 1 --beside 1 --seconds 0.001)
	ncu_() { GOCP_DEVICE=cuda LD_LIBRARY_PATH=$LIBS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} within "$1" ncu --clock-control none --graph-profiling node --target-processes all "${@:2}" "$KIT/bin/gocp" "${work[@]}"; }
	# --csv has a preamble of the program's and ncu's own words.
	ncu_ $(($(left) / 2)) --csv --metrics gpu__time_duration.sum --launch-count 300 >"$LOGS/ncu-times.csv" 2>"$LOGS/ncu-times.err" || {
		say "ncu does not run here: $(grep -hm 1 -E '==(ERROR|WARNING)==|rror' "$LOGS/ncu-times.csv" "$LOGS/ncu-times.err")"
		tail -n 5 "$LOGS/ncu-times.err" "$LOGS/ncu-times.csv"
		grep -q 'ERR_NVGPUCTRPERM\|LibraryNotLoaded\|not supported' "$LOGS/ncu-times.csv" "$LOGS/ncu-times.err" && return 0
		return 1
	}
	awk -F '","' '
		!kernel { for (i = 1; i <= NF; i++) { if ($i == "Kernel Name") kernel = i; if ($i ~ /^Metric Value/) value = i }; next }
		NF >= value { v = $value; gsub(/[",]/, "", v); t[$kernel] += v; n[$kernel]++ }
		END { for (k in t) printf "%14.0f %5d %s\n", t[k], n[k], k }' "$LOGS/ncu-times.csv" | sort -rn >"$LOGS/ncu-times.txt"
	head -n 12 "$LOGS/ncu-times.txt"
	for name in $(head -n 5 "$LOGS/ncu-times.txt" | awk '{ print $3 }' | sed 's/(.*//'); do
		[ "$(left)" -gt 8 ] || break
		ncu_ $(($(left) - 2)) --section SpeedOfLight --section Occupancy --section MemoryWorkloadAnalysis --section WarpStateStats --section SchedulerStats \
			--kernel-name "$name" --launch-skip 2 --launch-count 1 >"$LOGS/ncu-$name.txt" 2>&1 || tail -n 3 "$LOGS/ncu-$name.txt"
	done
	if command -v nsys >/dev/null && [ "$(left)" -gt 20 ]; then
		GOCP_DEVICE=cuda LD_LIBRARY_PATH=$LIBS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} within $(($(left) - 2)) nsys profile --trace=cuda,nvtx --cuda-graph-trace=node --force-overwrite=true --output="$WORK/craft" \
			"$KIT/bin/gocp" "${work[@]}" >"$LOGS/nsys.txt" 2>&1 &&
			nsys stats --report cuda_gpu_kern_sum,nvtx_sum "$WORK/craft.nsys-rep" >>"$LOGS/nsys.txt" 2>&1 || tail -n 3 "$LOGS/nsys.txt"
	fi
	return 0
}
line_profile() {
	local name
	[ -e "$LOGS/ncu-times.txt" ] || return 0
	for name in $(head -n 5 "$LOGS/ncu-times.txt" | awk '{ print $3 }' | sed 's/(.*//'); do
		[ ! -e "$LOGS/ncu-$name.txt" ] || printf '%s: %s\n' "$name" "$(sed -n 's/^ *Compute (SM) Throughput *% *\([0-9.]*\)/compute \1 %/p; s/^ *Memory Throughput *% *\([0-9.]*\)/memory \1 %/p' "$LOGS/ncu-$name.txt" | paste -sd ' ')"
	done
}

phase_scale() {
	local what=(--arch resnet18 --width 64 --stem cifar --precision bf16 --budget 0.02 --steps 250 --repeats 1 --victims 1) data=()
	[ -z "${GOCP_KIT_CIFAR10:-}" ] || data=(--data "$GOCP_KIT_CIFAR10")
	[ -n "${GOCP_KIT_CIFAR10:-}" ] || say 'no CIFAR-10 archive (GOCP_KIT_CIFAR10): the sample in the binary, whose classes bound the poisons'
	[ -z "$MINI" ] || what=(--width 4 --repeats 1 --victims 1 --surrogates 1 --attackers 1 --references 1 --conditions attack --train-size 64 --cal-size 30
		--candidates 60 --resize 12 --budget 0.05 --set-size 8 --epochs 1 --batch 16 --lr 0.05 --steps 2 --workers 1)
	gocp audit --out "$WORK/scale" "${data[@]}" "${what[@]}" --json >"$OUT/scale.json" 2>"$LOGS/scale.err"
	local rc=$?
	[ ! -e "$WORK/scale/clock.jsonl" ] || cp "$WORK/scale/clock.jsonl" "$LOGS/scale-clock.jsonl"
	[ $rc = 0 ] && say "${what[*]}: whole audit $SECONDS s" || tail -n 3 "$LOGS/scale.err"
	return $rc
}
line_scale() {
	[ ! -e "$LOGS/scale-clock.jsonl" ] || printf '%d jobs timed in scale-clock.jsonl; Li et al. craft in 19.26 minutes\n' "$(wc -l <"$LOGS/scale-clock.jsonl")"
}

if [ "${1:-}" = --phase ]; then
	phase=$2
	SECONDS=0
	# What is interrupted keeps what it wrote, clock.jsonl of the last phase too.
	trap '[ ! -e "$WORK/scale/clock.jsonl" ] || cp "$WORK/scale/clock.jsonl" "$LOGS/scale-clock.jsonl"; exit 124' TERM
	"phase_$phase"
	exit
fi

# --- all phases --------------------------------------------------------------------------------

[ $# -gt 0 ] && [ "${1#-}" = "$1" ] || die "usage: $usage"
export OUT=$1 MINI= KIT WORK LOGS LIBS LEFT
shift
minutes=13 from= until= only=
while [ $# -gt 0 ]; do
	case $1 in
	--mini) MINI=yes ;;
	--minutes | --from | --until | --only)
		[ $# -gt 1 ] || die "$1 wants a value"
		case $1 in
		--minutes) minutes=$2 ;;
		--from) known "$2" && from=$2 ;;
		--until) known "$2" && until=$2 ;;
		--only) known "$2" && only+=" $2" ;;
		esac
		shift
		;;
	*) die "\"$1\" is not understood: $usage" ;;
	esac
	shift
done
[[ $minutes =~ ^[0-9]+$ ]] && [ "$minutes" -gt 0 ] || die "--minutes $minutes: a whole number of at least 1"
asked=()
for name in $names; do
	[ "$name" != "$from" ] || from=
	if [ -z "$from" ] && { [ -z "$only" ] || [[ " $only " == *" $name "* ]]; }; then asked+=("$name"); fi
	[ "$name" != "$until" ] || break
done
[ ${#asked[@]} -gt 0 ] || die 'no phase is left: --from, --until and --only exclude each other'
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || die "$OUT cannot be made"

WORK=$(mktemp -d "${TMPDIR:-/tmp}/gocp-kit.XXXXXX") || die 'no temporary folder'
LOGS=$WORK/logs
mkdir "$LOGS"
[ ! -e "$OUT/logs.tar.gz" ] || tar -xzf "$OUT/logs.tar.gz" -C "$WORK" || die "$OUT/logs.tar.gz of an earlier call cannot be read: give another OUT"
pack() { tar -C "$WORK" -czf "$OUT/logs.tar.gz.part" logs && mv "$OUT/logs.tar.gz.part" "$OUT/logs.tar.gz"; }
child=
finish() {
	[ -z "$child" ] || kill "$child" 2>/dev/null
	[ -z "$(ls "$LOGS")" ] || pack
	rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 1' TERM INT
KIT=$here/unpacked # for rehearsals
if ! [ -d "$KIT" ]; then
	KIT=$WORK/kit
	mkdir "$KIT"
	if command -v xz >/dev/null; then
		xz -dc --memlimit=max "$here/kit.tar.xz" | tar -xf - -C "$KIT"
	else
		python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1], "r:xz").extractall(sys.argv[2], filter="data")' "$here/kit.tar.xz" "$KIT"
	fi || die "$here/kit.tar.xz could not be unpacked: this needs xz, or Python 3.12"
fi
# Libraries that this system lacks, and no others: profilers bring some of the same names. Where what it has
# is too old, the kit's.
LIBS=$WORK/lib
mkdir "$LIBS"
while missing=$(LD_LIBRARY_PATH=$LIBS ldd "$KIT/bin/gocp" 2>/dev/null | awk '/=> not found/ { print $1 }') && [ -n "$missing" ]; do
	for name in $missing; do ln -s "$KIT/lib/$name" "$LIBS/" 2>/dev/null || break 2; done
done
GOCP_DEVICE=cpu LD_LIBRARY_PATH=$LIBS "$KIT/bin/gocp" version >/dev/null 2>&1 || LIBS=$KIT/lib
printf '#!/usr/bin/env bash\nexport GOCP_DEVICE=cuda LD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\nexec %q "$@"\n' "$LIBS" "$KIT/bin/gocp" >"$WORK/gocp.sh"
chmod +x "$WORK/gocp.sh"
said=$(gocp doctor 2>&1) || die "gocp does not start here: $(tail -n 1 <<<"$said")"
found=$(sed -n 's/^computes on *//p' <<<"$said")
case $found in
cuda:*) ;;
*) die "there is no GPU here that this kit can use (${found:-$(tail -n 1 <<<"$said")}); nothing was run" ;;
esac

# sum NAME…: of the limits.
limit_of() { awk -v name="$1" -v all="${GOCP_KIT_SECONDS:-}" '$1 == name { print all == "" ? $2 : all }' <<<"$phases"; }
sum() {
	local all=0 name
	for name in "$@"; do all=$((all + $(limit_of "$name"))); done
	echo $all
}
# A phase's row is a file, so that a later call keeps it.
mkdir -p "$LOGS/rows"
table() {
	local name
	for name in $names; do [ ! -e "$LOGS/rows/$name" ] || cat "$LOGS/rows/$name"; done >"$OUT/summary.txt"
}
row() { printf '%-8s %-9s %5s s  %s\n' "$@" >"$LOGS/rows/$1" && table && pack; }

deadline=$((SECONDS + 60 * minutes))
began=$SECONDS
failed=
for ((i = 0; i < ${#asked[@]}; i++)); do
	name=${asked[i]} limit=$(limit_of "${asked[i]}") rest=$(sum "${asked[@]:i}") LEFT=$((deadline - SECONDS - 2))
	[ $LEFT -ge "$rest" ] || limit=$((LEFT * limit / rest))
	LEFT=$limit
	if [ $LEFT -lt 5 ]; then
		row "$name" 'left out' 0 'no time was left'
		continue
	fi
	printf '=== %s: %s (at most %d s)\n' "$name" "$(awk -v name="$name" '$1 == name { $1 = $2 = ""; print substr($0, 3) }' <<<"$phases")" "$LEFT"
	rm -f "$LOGS/$name.said"
	start=$SECONDS
	timeout -k 3 "$LEFT" bash "${BASH_SOURCE[0]}" --phase "$name" >"$LOGS/$name.log" 2>&1 </dev/null &
	child=$!
	wait "$child"
	rc=$?
	kill -KILL -- "-$child" 2>/dev/null # what a tool left behind in the phase's group
	child=
	case $rc in
	0) state=passed ;;
	124 | 137) state='timed out' ;;
	*) state=FAILED ;;
	esac
	[ "$rc" = 0 ] || failed=yes
	row "$name" "$state" $((SECONDS - start)) "$({ "line_$name"; cat "$LOGS/$name.said"; } 2>/dev/null | paste -sd ';' | sed 's/;/; /g' | cut -c 1-400)"
	[ "$rc" = 0 ] || tail -n 5 "$LOGS/$name.log"
	cat "$LOGS/rows/$name"
done
printf '\n%d s in all\n' $((SECONDS - began))
cat "$OUT/summary.txt"
printf '\nwhat matters, in %s:\n' "$OUT"
while read -r file what; do
	[ ! -s "$OUT/$file" ] || printf '  %-15s %s\n' "$file" "$what"
done <<'FILES'
summary.txt this table
ceilings.json the measured ceilings
peers.md passes beside PyTorch: for docs/gpu.md
peers.json the same with every form that was tried
passes.json passes of gocp alone
kernels.txt every kernel: time, rate, error
convtiles.csv the table of tiles: copy it to gocp/kernel/convtiles.csv
scale.json the audit in the setting of Li et al.
logs.tar.gz all else: logs, audits, profiles
FILES
[ -z "$failed" ]
