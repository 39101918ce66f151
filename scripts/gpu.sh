#!/usr/bin/env bash
# Compiles kernels/*.cu for GPUs: build/gpu/HASH.image, which CMake puts into the binary. HASH is of
# everything that the image depends on, so an image of other sources is never taken for this one,
# and what has not changed is not compiled again. Prints the image's path.
#
# The image is a text header and one compressed fatbin for each kernel file:
#
#	gocp-gpu-image 1
#	base BYTES             where the first fatbin begins
#	nvcc RELEASE
#	sm NN NN …             architectures with code of their own
#	ptx NN                 what later ones (NN and up) are translated from
#	module NAME OFFSET BYTES
#	kernel NAME            of the module above
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C

# sm_89 runs sm_86's code: its own would be the same to the byte (nvcc 13.2).
architectures=(80 86 90 100 120)
ptx=80
# As on the host, a product and a sum are fused only where the source says so (block::fused).
fused=-fmad=false
# One translation to PTX, which is in the image too and which the emulator runs: every machine code is
# made of that very text. A driver translates no PTX of a version later than its own, so the text says
# the first version with compute_80: the same code comes of it.
translate=(-std=c++17 -O3 $fused --Werror all-warnings -arch "compute_$ptx" --ptx)
version=7.0
codes=$(printf 'sm_%s,' "${architectures[@]}")
assemble=($fused --Werror all-warnings --compress-mode=size --fatbin -gencode "arch=compute_$ptx,code=[${codes}compute_$ptx]")

hash_of() { sha256sum "$@" | awk '{ print $2, $1 }' | sort | sha256sum | cut -c 1-16; }
image=build/gpu/$(hash_of kernels/*.cu kernels/*.cuh scripts/gpu.sh scripts/cuda.txt).image # as in CMakeLists.txt
if [ -e "$image" ]; then
	echo "$image"
	exit
fi

nvcc=$(scripts/nvcc.sh)
tools=$(dirname "$nvcc")
release=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')
mkdir -p build/gpu

# compile FILE: its fatbin and the names of its kernels.
compile() {
	local file=$1 name out
	name=$(basename "$file" .cu)
	out=build/gpu/$name-$release-$(hash_of "$file" kernels/*.cuh scripts/gpu.sh scripts/cuda.txt)
	if ! [ -e "$out.names" ]; then
		echo "gpu: $file" >&2
		"$nvcc" "${translate[@]}" "$file" -o "$out.whole.ptx"
		sed "s/^\.version .*/.version $version/" "$out.whole.ptx" >"$out.ptx"
		"$nvcc" "${assemble[@]}" "$out.ptx" -o "$out.part"
		mv "$out.part" "$out.fatbin"
		rm "$out.whole.ptx" "$out.ptx"
		"$tools/cuobjdump" -res-usage -arch "sm_$ptx" "$out.fatbin" 2>&1 |
			sed -n 's/^ *Function \([A-Za-z0-9_]*\):.*/\1/p' | sort >"$out.names.part"
		[ -s "$out.names.part" ] || { echo "gpu: $file has no kernels" >&2; return 1; }
		mv "$out.names.part" "$out.names"
	fi
	echo "$out"
}

# Two at a time.
began=$SECONDS
files=(kernels/*.cu)
half() { for ((i = $1; i < ${#files[@]}; i += 2)); do compile "${files[i]}" >/dev/null || return 1; done; }
half 1 &
other=$!
half 0
wait "$other"

header="nvcc $release"$'\n'"sm ${architectures[*]}"$'\n'"ptx $ptx"$'\n'
offset=0
: >"$image.part"
for file in "${files[@]}"; do
	out=$(compile "$file")
	bytes=$(stat -c %s "$out.fatbin")
	header+="module $(basename "$file" .cu) $offset $bytes"$'\n'
	header+=$(sed 's/^/kernel /' "$out.names")$'\n'
	cat "$out.fatbin" >>"$image.part"
	pad=$(((64 - bytes % 64) % 64))
	head -c "$pad" /dev/zero >>"$image.part"
	offset=$((offset + bytes + pad))
done
first='gocp-gpu-image 1'
base=$(((${#first} + ${#header} + 16 + 63) / 64 * 64))
{
	printf '%s\nbase %08d\n%s' "$first" "$base" "$header"
	head -c "$((base - ${#first} - 1 - 14 - ${#header}))" /dev/zero | tr '\0' '\n'
	cat "$image.part"
} >"$image.new"
rm "$image.part"
mv "$image.new" "$image"
echo "gpu: $image: $(grep -ac '^kernel ' "$image") kernels, $(stat -c %s "$image") bytes, in $((SECONDS - began)) s" >&2
echo "$image"
