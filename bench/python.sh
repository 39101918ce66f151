#!/usr/bin/env bash
# Prints the Python that has what FILE-requirements.txt lists (requirements.txt without FILE): GOCP_PEER_PYTHON if it is set,
# else that of a virtual environment under bench/, bench/.venv-FILE, which is made anew when the list changes.
#
#	python=$(bench/python.sh [FILE [PACKAGE…]])    PACKAGE…: installed without what they ask for
set -euo pipefail
if [ -n "${GOCP_PEER_PYTHON:-}" ]; then
  echo "$GOCP_PEER_PYTHON"
  exit
fi
cd "$(dirname "$0")"
file=${1:-}
shift $(($# > 0))
venv=.venv${file:+-$file}
list=${file:+$file-}requirements.txt
want=$(sha256sum "$list")
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$want" ]; then
  echo "installing peers into bench/$venv (bench/$list)" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$list" >&2
  [ $# = 0 ] || "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "$@" >&2
  echo "$want" >"$venv/installed"
fi
echo "$PWD/$venv/bin/python"
