#!/usr/bin/env bash
# Runs every fuzz target for a while (the argument, 20 s if none), one after another.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

time=${1:-20s}
count=0
for pkg in $(go list ./cmd/... ./gocp/...); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "fuzz $pkg $target, $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
		count=$((count + 1))
	done
done
[ "$count" -gt 0 ] || {
	echo 'no fuzz target found' >&2
	exit 1
}
echo "$count fuzz targets ran clean"
