#!/usr/bin/env bash
# clang-tidy over the C++ files of csrc, once each, with .clang-tidy's checks. `make lib` first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The emulator's instructions use _Float16, which clang has on x86 from 15 on.
mapfile -t files < <(git ls-files --cached --others --exclude-standard -- 'csrc/*.cc' ':!csrc/testdata/**' ':!csrc/ptxemu/isa/**' ':!csrc/ptxemu/tests/**')
# The flags of one of the builds that CMake makes.
flags=(-std=c++17 -Icsrc -isystem csrc/third_party -Icsrc/ptxemu -Ikernels -Ibuild/cpp/gen -fopenmp -DGOCP_ISA=v3)
if [ "$(uname -m)" = x86_64 ]; then flags+=(-march=x86-64-v3); fi
# It counts the warnings of system headers even where it finds nothing: speak only of failures.
if ! out=$(printf '%s\0' "${files[@]}" |
	xargs -0 -P "$(nproc)" -I {} clang-tidy --quiet --warnings-as-errors='*' {} -- "${flags[@]}" 2>&1); then
	printf '%s\n' "$out" | grep -vE '^[0-9]+ warnings? generated\.$' >&2
	exit 1
fi
