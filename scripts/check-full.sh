#!/usr/bin/env bash
# The long checks, after `make check`: race detector, sanitizers, checked mode, fuzzing, audits
# that must show their effect, and a run that is killed and resumed to the same bytes. About an
# hour on two cores. Flags and paths are the Makefile's: run it as `make check-full`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh python
step() { printf '\n=== %s\n' "$*"; }
native=(./csrc/... ./gocp/device/... ./gocp/kernel/... ./gocp/nn/...)

step 'race detector'
go test -race -timeout 60m ./...

step 'AddressSanitizer and UndefinedBehaviorSanitizer, over the kernels and the host engine'
cmake -S . -B build/asan -DCMAKE_BUILD_TYPE=Debug -DGOCP_SANITIZE=address,undefined >/dev/null
cmake --build build/asan --parallel "$(nproc)"
# Go and the loader keep memory to the end, which is no leak of ours.
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 go test -asan -timeout 60m "${native[@]}"

step 'checked mode: guard zones, poisoned memory, checked launches'
GOCP_CHECK=1 go test -count=1 -timeout 60m "${native[@]}" ./gocp/train/... ./gocp/attack/...

step 'every build of the host kernels'
for isa in base v3 v4; do
	grep -q avx512bw /proc/cpuinfo || [ "$isa" != v4 ] || continue
	GOCP_ISA=$isa go test -count=1 -timeout 60m ./gocp/kernel/... ./gocp/nn/...
done

step 'coverage of conformal prediction over 10,000 splits for every method'
GOCP_LONG=1 go test -count=1 -timeout 60m -run ManySplits ./gocp/conformal

step 'the conformal half without cgo, and where there are no vectors'
CGO_ENABLED=0 go build ./gocp/conformal ./gocp/conformalio
CGO_ENABLED=0 GOARCH=arm64 go vet ./gocp/conformal

step 'thresholds and sets beside TorchCP, MAPIE, crepes and puncc'
bench/conformal_peers.sh
bench/conformal_peers.sh --cifar

step 'files as nine libraries write them, and the lines that convert those of others'
bench/files.sh

step 'image files beside Pillow and torchvision'
bench/images_peers.sh

step 'filters beside NumPy, scikit-learn and ART'
bench/filters.sh

step 'the GPU kit: every phase, and in a bare system, on the emulator'
make gpu-kit
scripts/gpu-kit-rehearse.sh all
if [ "$(id -u)" = 0 ]; then
	scripts/setup.sh chroot
	scripts/gpu-kit-rehearse.sh chroot
else
	echo 'not root: no bare system'
fi

step 'an audit on a Slurm of its own: kills, warnings, nodes that go down'
if command -v apt-get >/dev/null; then
	scripts/test-slurm.sh
else
	echo 'no apt-get: no Slurm'
fi

step 'every flag of every command does something'
GOCP_LONG=1 go test -count=1 -timeout 60m -run EveryFlag ./cmd/gocp

step 'pages in a browser: three widths, light and dark, extreme results'
scripts/pages.sh

step 'random drawings and command lines'
GOCP_DRAWINGS=${DRAWINGS:-50000} go test -count=1 -timeout 60m -run ManyDrawings ./gocp/report
GOCP_LINES=${LINES_TRIED:-20000} go test -count=1 -timeout 60m -run ManyCommandLines ./cmd/gocp

step 'the largest number beside every flag: no panic, no more than 16 GB'
(ulimit -v 16000000 && GOCP_LONG=1 go test -count=1 -timeout 60m -run HugeNumbers ./cmd/gocp)

step 'fuzzing'
scripts/fuzz.sh "${FUZZ_TIME:-20s}"

step 'audits that must show their effect'
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
bin/gocp audit --out "$out/over"
bin/gocp audit --out "$out/under" --goal underconfidence
# effect RUN QUANTITY LEAST: the paired difference attack - RandUn is at least LEAST and 3 standard
# errors above 0.
effect() {
	bin/gocp report --json "$1" | python3 -c '
import json, sys
q, least = sys.argv[1], float(sys.argv[2])
d = next(p for p in json.load(sys.stdin)["summary"]["paired"] if (p["quantity"], p["a"], p["b"]) == (q, "attack", "randun"))
print(q, "attack - randun:", d["mean"], "+-", d["se"], "z", d["z"])
sys.exit(not (d["mean"] >= least and float(d["z"]) >= 3))' "$2" "$3"
}
effect "$out/over" reduction 0.3
effect "$out/under" expansion 0

step 'the same bytes again, and after five kills'
settings=(--quick --quiet --repeats 2 --epochs 8 --train-size 2000 --cal-size 300 --steps 15)
same() { (cd "$1" && find . -type f ! -path "./shards/*" ! -path "./owners/*" ! -name clock.jsonl ! -name journal.jsonl ! -name timings.json ! -name telemetry.json ! -name report.html -print0 | sort -z | xargs -0 sha256sum); }
bin/gocp audit --out "$out/a" "${settings[@]}" >/dev/null
bin/gocp audit --out "$out/b" "${settings[@]}" >/dev/null
diff <(same "$out/a") <(same "$out/b")
resume=()
for _ in 1 2 3 4 5; do
	bin/gocp audit --out "$out/c" "${resume[@]}" "${settings[@]}" >/dev/null 2>&1 &
	sleep "$((RANDOM % 12 + 2))"
	kill -9 $! 2>/dev/null || true
	wait $! 2>/dev/null || true
	[ -e "$out/c/config.json" ] && resume=(--resume)
done
[ -e "$out/c/result.json" ] || bin/gocp audit --out "$out/c" "${resume[@]}" "${settings[@]}" >/dev/null
diff <(same "$out/a") <(same "$out/c")

step 'a hundred rounds of kills and damaged files: the same bytes, or a sentence'
GOCP_KILLS=${KILLS:-100} go test -count=1 -timeout 60m -run KillAndDamage -v ./cmd/gocp

printf '\nall long checks passed\n'
