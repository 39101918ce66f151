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

architectures=(80 86 89 90 100 120)
ptx=80
# As on the host, a product and a sum are fused only where the source says so (block::fused).
flags=(-std=c++17 -O3 -fmad=false --Werror all-warnings -Xfatbin -compress-all)
# One translation to PTX, which is in the image too and which the emulator runs: every machine code is
# made of that very text.
codes=$(printf 'sm_%s,' "${architectures[@]}")
flags+=(-gencode "arch=compute_$ptx,code=[${codes}compute_$ptx]")

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
		"$nvcc" "${flags[@]}" --fatbin "$file" -o "$out.part"
		mv "$out.part" "$out.fatbin"
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
