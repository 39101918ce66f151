#!/usr/bin/env bash
# The main job of `make run`: an audit with the demo's settings, in runs/demo. A folder that was
# interrupted is finished; a finished one is kept and the next free name is taken.
#
#	scripts/demo.sh [flags of gocp audit…]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# gocp audit takes 20 epochs at rate 0.01: twice as long; README.md compares them.
settings=(--precision auto --recipe demo)
out=${DEMO_OUT:-runs/demo}
if [ -e "$out/result.json" ]; then
	n=2
	while [ -e "$out-$n/result.json" ]; do n=$((n + 1)); done
	echo "$out is finished (report: $out/report.html); this run goes to $out-$n. To start over: rm -r $out*"
	out=$out-$n
fi
if [ -e "$out/config.json" ]; then
	echo "$out was interrupted; finishing it."
	settings=(--resume)
fi
exec bin/gocp audit --out "$out" "${settings[@]}" "$@"
