#!/usr/bin/env bash
# Packs what a GPU must tell into build/gpu-kit, for a machine that has a driver and nothing of ours: no
# Go, no oneDNN, no network. There, `build/gpu-kit/run.sh OUT` checks and times (bench/gpukit/run.sh).
#
# In kit.tar.xz: bin/gocp with the GPU image; tests/NAME, the test binaries of the packages that compute
# (none of which reads files); twins, what the host engine gives for the tests that compare with it; lib, the shared
# libraries that other machines lack; peers, the scripts that compare with PyTorch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
most=$((34 << 20)) # bytes: it travels beside the sources
kit=build/gpu-kit
packages=(kernel/cases kernel nn train attack experiment)

stage=$kit.stage
rm -rf "$stage"
mkdir -p "$stage"/{bin,tests,twins,lib,peers}
revision=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
go build -ldflags "-s -w -X main.revision=$revision" -o "$stage/bin/gocp" ./cmd/gocp
"$stage/bin/gocp" version | grep -q 'PTX for' || {
	echo 'gpu-kit: bin/gocp carries no GPU code: make gpu' >&2
	exit 1
}
for package in "${packages[@]}"; do
	name=$(basename "$package")
	mkdir "$stage/tests/$name"
	go test -c -ldflags '-s -w' -o "$stage/tests/$name/$name.test" "./gocp/$package"
done

# Libraries beyond the C library's, as the loader finds them here.
ldd "$stage/bin/gocp" | awk '$2 == "=>" { print $1, $3 }' | while read -r name path; do
	case $name in libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.*) continue ;; esac
	cp -L "$path" "$stage/lib/$name"
	strip --strip-unneeded "$stage/lib/$name" 2>/dev/null || true
done

# What the host engine gives where a test holds a GPU against it.
twins() {
	local name=$1 pattern=$2
	(cd "$stage/tests/$name" && GOCP_DEVICE=cpu GOCP_TEST_TWIN=$twins/ "./$name.test" -test.count=1 -test.run "$pattern") >"$stage/twins.log" 2>&1 || {
		cat "$stage/twins.log" >&2
		return 1
	}
}
twins=$PWD/$stage/twins
twins nn 'TestPasses'
twins train 'TestAgainstHost'
twins attack 'TestAgainstHost'
twins experiment '^TestMiniatureAudit$'
rm -f "$stage/twins.log"

cp bench/peers_torch.py bench/convnet_torch.py bench/networks_torch.py bench/gpukit/*.py "$stage/peers/"
rm -rf "$kit"
mkdir -p "$kit"
# One dictionary over all binaries, which are the same code seven times.
tar -C "$stage" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - . | xz -T1 --lzma2=preset=6,dict=512MiB >"$kit/kit.tar.xz"
cp bench/gpukit/run.sh "$kit/run.sh"
rm -rf "$stage"
bytes=$(du -sb "$kit" | cut -f 1)
echo "gpu-kit: $kit, revision $revision, $((bytes >> 20)) MiB of at most $((most >> 20))"
[ "$bytes" -le "$most" ] || {
	echo "gpu-kit: $bytes bytes are too many" >&2
	exit 1
}
