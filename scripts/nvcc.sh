#!/usr/bin/env bash
# Prints the path of nvcc: the one on PATH, in CUDA_HOME or in /usr/local/cuda, if it is new enough
# for every architecture that gpu.sh compiles for; else one that this script fetches into build/cuda
# from PyPI, in pinned versions. Its neighbours ptxas, fatbinary, cuobjdump and nvdisasm come along.
#
#	GOCP_CUDA=fetch   fetch, whatever is installed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

least=12.8 # the first with sm_120
wheels=$PWD/build/cuda
fetched=$wheels/nvidia/cu13/bin/nvcc

release() { "$1" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p'; }
good() {
	local v
	[ -x "$1" ] && v=$(release "$1") && [ -n "$v" ] &&
		[ "$(printf '%s\n%s\n' "$least" "$v" | sort -V | head -n 1)" = "$least" ]
}

if [ "${GOCP_CUDA:-}" != fetch ]; then
	for nvcc in "$(command -v nvcc || true)" "${CUDA_HOME:-/nowhere}/bin/nvcc" /usr/local/cuda/bin/nvcc; do
		if [ -n "$nvcc" ] && good "$nvcc"; then
			echo "$nvcc"
			exit
		fi
	done
fi

if ! [ -e "$wheels/complete" ] || ! cmp -s scripts/cuda.txt "$wheels/complete"; then
	echo "gpu: no nvcc $least or later on PATH, in CUDA_HOME or /usr/local/cuda: fetching one into build/cuda (about 115 MB)" >&2
	python3 -m pip --version >/dev/null 2>&1 || scripts/setup.sh cuda >&2
	rm -rf "$wheels"
	mkdir -p "$wheels"
	python3 -m pip install -q --disable-pip-version-check --no-deps --only-binary :all: \
		--require-hashes --root-user-action=ignore --target "$wheels" -r scripts/cuda.txt >&2 || {
		echo 'gpu: the compiler could not be fetched: install the CUDA toolkit 12.8 or later and put its bin folder in PATH' >&2
		exit 1
	}
	# Wheels forget the run bits of what is not a script.
	chmod -R u+x "$wheels"/nvidia/cu13/bin "$wheels"/nvidia/cu13/nvvm/bin
	good "$fetched" || {
		echo 'gpu: the fetched compiler does not run here: install the CUDA toolkit 12.8 or later and put its bin folder in PATH' >&2
		exit 1
	}
	cp scripts/cuda.txt "$wheels/complete"
fi
echo "$fetched"
