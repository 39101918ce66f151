#!/usr/bin/env bash
# Rehearses build/gpu-kit (`make gpu-kit`) where there is no GPU: the emulator is its libcuda.so.1.
#
#	scripts/gpu-kit-rehearse.sh          two minutes: no GPU; doctor, some cases and a network's passes in
#	                                     an empty environment; a phase made to fail, one made to hang
#	scripts/gpu-kit-rehearse.sh chroot   the same in a bare Debian 13 without Go, oneDNN, compilers and
#	                                     network, and the miniature audit (wants root and debootstrap)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
die() {
	printf 'gpu-kit-rehearse: %s\n' "$*" >&2
	exit 1
}
kit=$PWD/build/gpu-kit
[ -e "$kit/kit.tar.xz" ] || die 'there is no build/gpu-kit: make gpu-kit'
emulator=$PWD/build/ptxemu/libcuda.so.1
cmake --build build/cpp --target ptxemu --parallel "${JOBS:-2}" | grep -v 'Built target' || true

root=$(mktemp -d)
clean() {
	umount "$root/bare/proc" 2>/dev/null || true
	rm -rf "$root"
}
trap clean EXIT

# bare COMMAND…: in an environment with nothing of ours; paths are those that the command sees.
if [ "${1:-}" = chroot ]; then
	[ "$(id -u)" = 0 ] || die 'chroot wants root'
	command -v debootstrap >/dev/null || die 'debootstrap is not installed: apt-get install debootstrap'
	debootstrap --variant=minbase --include=python3 trixie "$root/bare" >"$root/debootstrap.log" 2>&1 || {
		tail -n 5 "$root/debootstrap.log" >&2
		die 'the bare system could not be made'
	}
	for tool in go gcc c++ cc make; do
		[ ! -e "$root/bare/usr/bin/$tool" ] || die "the bare system has $tool"
	done
	mount -t proc none "$root/bare/proc"
	at=$root/bare
	bare() { env -i PATH=/usr/bin:/bin unshare --net chroot "$at" env "$@"; }
else
	at=
	bare() { env -i PATH=/usr/bin:/bin env "$@"; }
fi
kit_at=${at:+/kit} out_at=${at:+/out}
[ -n "$at" ] || kit_at=$root/kit out_at=$root/out
mkdir -p "$at$kit_at" "$at$out_at"
cp "$kit"/* "$at$kit_at/"
cp "$emulator" "$at$kit_at/libcuda.so.1"
run() { bare GOCP_LIBCUDA="$kit_at/libcuda.so.1" "$@"; }

echo '--- without a GPU'
rc=0
said=$(bare GOCP_LIBCUDA=/nowhere/libcuda.so.1 bash "$kit_at/run.sh" "$out_at/none" --minutes 8 2>&1) || rc=$?
[ "$rc" = 2 ] && [ "$(wc -l <<<"$said")" = 1 ] || die "exit $rc, want 2 and one sentence: $said"
echo "$said"

echo '--- on the emulator'
phases=(--only doctor --only cases --only passes --only memory)
[ -z "$at" ] || phases+=(--only audit)
run bash "$kit_at/run.sh" "$out_at/mini" --mini --minutes 20 "${phases[@]}" || die 'a phase did not pass'

echo '--- a phase made to fail and one made to hang'
mkdir "$at$kit_at/unpacked"
tar -xJf "$kit/kit.tar.xz" -C "$at$kit_at/unpacked"
printf '#!/bin/sh\necho "--- FAIL: TestMade"; exit 1\n' >"$at$kit_at/unpacked/tests/cases/cases.test"
printf '#!/bin/sh\nexec sleep 1000\n' >"$at$kit_at/unpacked/tests/nn/nn.test"
rc=0
run GOCP_KIT_SECONDS=10 bash "$kit_at/run.sh" "$out_at/broken" --mini --only doctor --only cases --only passes --only memory >"$root/broken" || rc=$?
cat "$at$out_at/broken/summary.txt"
[ "$rc" = 1 ] || die "exit $rc, want 1"
for want in 'doctor *passed' 'cases *FAILED' 'passes *timed out' 'memory *passed'; do
	grep -qE "^$want" "$at$out_at/broken/summary.txt" || die "the table lacks \"$want\""
done
if pgrep -f "$kit_at/unpacked" >/dev/null; then die 'a process of a phase that hung goes on'; fi
echo 'rehearsed'
