#!/usr/bin/env bash
# Builds the test programs and runs them on the emulator; prints failures and a final count.
set -euo pipefail
export PTXEMU_DRIVER=13020 # these files keep the version that nvcc 13.2 writes
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

nvcc=$(scripts/nvcc.sh)
cuda=$(dirname "$(dirname "$nvcc")")
library=$PWD/build/ptxemu
tests=csrc/ptxemu/tests
bin=build/ptxemu/tests
mkdir -p "$bin"
export LD_LIBRARY_PATH=$library
passed=0
failed=0

# check NAME COMMAND…: the command must succeed.
check() {
	local name=$1
	shift
	if timeout 120 "$@" >"$bin/log" 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL $name"
		grep -E 'FAIL|rror' "$bin/log" | head -n 3 || true
	fi
}

# newer FILE SOURCE…: it is there and no older than these.
newer() {
	local file=$1 source
	shift
	for source in "$@"; do [ "$file" -nt "$source" ] || return 1; done
}

g++ -std=c++17 -O1 -Wall -Wextra -Werror -isystem "$cuda/include" -c $tests/runtime.cc -o "$bin/runtime.o"
compile() { # a program of kernels, with its PTX alone
	newer "$bin/$1" "$tests/$1.cu" "$tests/worst.h" "$tests/runtime.cc" && return
	"$nvcc" -O3 -std=c++17 -arch=compute_80 -cudart none -I"$cuda/include/cccl" -L"$library" -lcuda \
		"$tests/$1.cu" "$bin/runtime.o" -o "$bin/$1"
}

# Kernels against references computed here, in three orders of blocks and warps.
for program in k1 k2 k3 k4 x1 x2; do
	compile $program
	for order in 0 1 5; do check "$program order $order" env PTXEMU_ORDER=$order "$bin/$program"; done
done

# Seeded bugs: each must be reported as an error, or show as NaN.
compile n1
for bug in 0 1 2 3 5 6 7 8 9; do check "seeded bug $bug" bash -c "'$bin/n1' $bug | grep CAUGHT"; done

# The driver interface alone, and every function of cuda.h present.
g++ -std=c++17 -O1 -Wall -Wextra -Werror -isystem "$cuda/include" $tests/driver_api.cc -o "$bin/driver_api" -L"$library" -lcuda
check driver_api "$bin/driver_api"
declared=$(grep -oE '^ *CUresult +CUDAAPI +cu[A-Z][A-Za-z0-9_]*' "$cuda/include/cuda.h" | grep -oE 'cu[A-Z]\w*' | sort -u)
exported=$(nm -D --defined-only "$library/libcuda.so.1" | awk '{ print $3 }' | sort -u)
missing=$(comm -23 <(echo "$declared") <(echo "$exported") | grep -vE '_pt[ds]z$' || true)
check "functions of cuda.h: missing $missing" test -z "$missing"

echo "ptxemu: $passed passed, $failed failed"
[ "$failed" = 0 ]
