#!/usr/bin/env bash
# Rehearses build/gpu-kit (`make gpu-kit`) where there is no GPU: the emulator is its libcuda.so.1, and
# bench/gpukit/standins are its profilers.
#
#	scripts/gpu-kit-rehearse.sh          two minutes, ten at most: no GPU, or one that cannot be taken; doctor, some
#	                                     cases and a network's passes in an empty environment; a phase made to
#	                                     fail, one made to hang
#	scripts/gpu-kit-rehearse.sh all      an hour at most: every phase, with PyTorch without a GPU where
#	                                     GOCP_PEER_PYTHON or bench/.venv has one (bench/peers.sh makes it)
#	scripts/gpu-kit-rehearse.sh chroot   half an hour at most: in a bare Debian 13 without Go, oneDNN, compilers
#	                                     and network, with the miniature audit (wants root; debootstrap makes
#	                                     the system once, in build/bare, which takes minutes more)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
die() {
	printf 'gpu-kit-rehearse: %s\n' "$*" >&2
	exit 1
}
form=${1:-quick}
case $form in quick | all | chroot) ;; *) die "there is no form \"$form\"; known are all and chroot" ;; esac
kit=$PWD/build/gpu-kit
[ -e "$kit/kit.tar.xz" ] || die 'there is no build/gpu-kit: make gpu-kit'
emulator=$PWD/build/ptxemu
cmake --build build/cpp --target ptxemu --parallel "${JOBS:-2}" | grep -v 'Built target' || true

root=$(mktemp -d)
at= # the root of the file system that the kit sees
clean() {
	[ -z "$at" ] || umount "$at/proc" 2>/dev/null || true
	[ -z "$at" ] || rm -rf "$at/kit" "$at/out" "$at/tmp/"*
	rm -rf "$root"
}
trap clean EXIT

# bare COMMAND…: in an environment with nothing of ours; paths are those that the command sees.
if [ "$form" = chroot ]; then
	[ "$(id -u)" = 0 ] || die 'chroot wants root'
	if [ ! -e build/bare/usr/bin/python3 ]; then
		command -v debootstrap >/dev/null || die 'debootstrap is not installed: scripts/setup.sh chroot'
		rm -rf build/bare.part
		timeout 1800 debootstrap --variant=minbase --include=python3 trixie build/bare.part >"$root/debootstrap.log" 2>&1 || {
			tail -n 5 "$root/debootstrap.log" >&2
			die 'the bare system could not be made'
		}
		mv build/bare.part build/bare
	fi
	at=$PWD/build/bare
	for tool in go gcc c++ cc make nvcc; do
		[ ! -e "$at/usr/bin/$tool" ] || die "the bare system has $tool"
	done
	! find "$at/usr/lib" -name 'libdnnl*' | grep -q . || die 'the bare system has oneDNN'
	mountpoint -q "$at/proc" || mount -t proc none "$at/proc"
	chroot=$(command -v chroot)
	bare() { env -i PATH=/usr/bin:/bin unshare --net "$chroot" "$at" env "$@"; }
	[ "$(bare cat /proc/net/dev | sed -n 's/^ *\([a-z0-9]*\):.*/\1/p')" = lo ] || die 'the bare system has a network'
	kit_at=/kit out_at=/out
else
	bare() { env -i PATH=/usr/bin:/bin env "$@"; }
	kit_at=$root/kit out_at=$root/out
fi
mkdir -p "$at$kit_at/tools" "$at$out_at" "$at$kit_at/bin"
cp "$kit"/* "$at$kit_at/" 2>/dev/null || true
cp -L "$emulator/libcuda.so.1" "$emulator/libnvidia-ml.so.1" "$at$kit_at/"
cp -P bench/gpukit/standins/* "$at$kit_at/tools/"
# run COMMAND…: on the emulator, with the tools.
run() { bare PATH="$kit_at/bin:$kit_at/tools:/usr/bin:/bin" GOCP_LIBCUDA="$kit_at/libcuda.so.1" LD_LIBRARY_PATH="$kit_at" "$@"; }

# refused WANT VARIABLE…: run.sh says so in one sentence, exit 2.
refused() {
	local want=$1 rc=0 said
	shift
	said=$(run "$@" bash "$kit_at/run.sh" "$out_at/none" --minutes 8 2>&1) || rc=$?
	[ "$rc" = 2 ] && [ "$(wc -l <<<"$said")" = 1 ] || die "exit $rc, want 2 and one sentence: $said"
	[[ $said == *"$want"* ]] || die "does not say \"$want\": $said"
	echo "$said"
}
echo '--- without a GPU, and with one that cannot be taken'
refused 'does not start here' GOCP_LIBCUDA=/nowhere/libcuda.so.1
refused 'wants CUDA 13.0 or later' PTXEMU_DRIVER=12080
refused 'begins at 8.0' PTXEMU_SM=75

mkdir "$at$kit_at/unpacked"
tar -xJf "$kit/kit.tar.xz" -C "$at$kit_at/unpacked"

echo '--- another architecture; eight cards; a MIG slice'
# told WANT VARIABLE…: the table's line of doctor.
told() {
	local want=$1
	shift
	run "$@" bash "$kit_at/run.sh" "$out_at/told" --only doctor >"$root/told" || die "$(cat "$root/told")"
	grep -qF -- "$want" "$at$out_at/told/summary.txt" || die "does not say \"$want\": $(cat "$at$out_at/told/summary.txt")"
	cat "$at$out_at/told/summary.txt"
}
told 'what the driver translates from PTX' PTXEMU_SM=110
told '8 devices' PTXEMU_DEVICES=8
told 'MIG' PTXEMU_MIG=3

echo '--- on the emulator'
phases=(--only doctor --only cases --only passes --only memory)
minutes=10
if [ "$form" = all ]; then
	python=${GOCP_PEER_PYTHON:-}
	[ -n "$python" ] || [ ! -x bench/.venv/bin/python ] || python=$PWD/bench/.venv/bin/python
	[ -z "$python" ] || printf '#!/bin/sh\nexec %s "$@"\n' "$python" >"$kit_at/bin/python3"
	[ -z "$python" ] || chmod +x "$kit_at/bin/python3"
	phases=() minutes=60
fi
[ "$form" != chroot ] || { phases+=(--only audit) minutes=25 && rm -rf "$at$kit_at/unpacked"; } # unpacks by Python
began=$SECONDS
run GOCP_KIT_SECONDS=900 GOCP_KIT_TORCH=cpu PTXEMU_NAME=stand-in PTXEMU_RACE=0 bash "$kit_at/run.sh" "$out_at/mini" --mini --minutes $minutes "${phases[@]}" || die 'a phase did not pass'
[ $((SECONDS - began)) -le $((60 * minutes + 30)) ] || die "$((SECONDS - began)) s are more than $minutes minutes and what unpacking takes"
[ "$(find "$at$out_at/mini" -type f | wc -l)" -le 8 ] || die "more than eight files: $(ls "$at$out_at/mini")"
if [ "$form" = all ]; then
	for file in kernels.txt convtiles.csv scale.json $([ -z "$python" ] && echo passes.json || echo ceilings.json peers.json peers.md); do
		[ -s "$out_at/mini/$file" ] || die "there is no $file"
	done
	echo '--- the table of tiles is read back, and more is added to it'
	rows=$(wc -l <"$out_at/mini/convtiles.csv")
	run GOCP_KIT_SECONDS=60 PTXEMU_NAME=stand-in PTXEMU_SM=90 PTXEMU_RACE=0 bash "$kit_at/run.sh" "$out_at/mini" --mini --only tune || [ $? = 1 ]
	grep -q '^80,' "$out_at/mini/convtiles.csv" && [ "$(wc -l <"$out_at/mini/convtiles.csv")" -ge "$rows" ] || die 'rows were lost'
	grep -q '^doctor' "$out_at/mini/summary.txt" || die 'the table of the call before was lost'
fi

echo '--- a phase made to fail and one made to hang'
[ -d "$at$kit_at/unpacked" ] || { mkdir "$at$kit_at/unpacked" && tar -xJf "$kit/kit.tar.xz" -C "$at$kit_at/unpacked"; }
printf '#!/bin/sh\necho "--- FAIL: TestMade"; exit 1\n' >"$at$kit_at/unpacked/tests/cases/cases.test"
printf '#!/bin/sh\n(sleep 86399) &\nexec sleep 86399\n' >"$at$kit_at/unpacked/tests/nn/nn.test"
rc=0
run GOCP_KIT_SECONDS=12 bash "$kit_at/run.sh" "$out_at/broken" --mini --only doctor --only cases --only passes --only memory >"$root/broken" || rc=$?
cat "$at$out_at/broken/summary.txt"
[ "$rc" = 1 ] || die "exit $rc, want 1"
for want in 'doctor *passed' 'cases *FAILED' 'passes *timed out' 'memory *passed'; do
	grep -qE "^$want" "$at$out_at/broken/summary.txt" || die "the table lacks \"$want\""
done
if pgrep -f "$kit_at/unpacked" >/dev/null || pgrep -fx 'sleep 86399' >/dev/null; then die 'a process of a phase that hung goes on'; fi
echo "rehearsed, $SECONDS s"
