#!/usr/bin/env bash
# clang-tidy over the C++ files of csrc that CMake compiles, once each, with .clang-tidy's checks.
# Not over host/kernels.cc: it is every kernel at once, and takes longer than all else together.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t files < <(sed -n "s|.*\"file\": *\"$PWD/\(csrc/[^\"]*\)\".*|\1|p" build/cpp/compile_commands.json | sort -u | grep -v "^csrc/host/kernels.cc$")
[ ${#files[@]} -gt 0 ] || {
	echo 'clang-tidy: build/cpp/compile_commands.json names no file of csrc' >&2
	exit 1
}
# It counts the warnings of system headers even where it finds nothing: speak only of failures.
if ! out=$(printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p build/cpp --quiet --warnings-as-errors='*' 2>&1); then
	printf '%s\n' "$out" | grep -vE '^[0-9]+ warnings? generated\.$' >&2
	exit 1
fi
