#!/usr/bin/env bash
# Opens the pages of audits, of conformal prediction and of filters, with ordinary and with extreme results, in headless
# Chromium (scripts/pages.py), driven from a virtual environment under build/.
#
#	scripts/pages.sh [FOLDER]    leaves pages and pictures of them in FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh python browser
venv=build/venv-pages
want=$(sha256sum scripts/pages-requirements.txt)
if [ "$(cat $venv/installed 2>/dev/null)" != "$want" ]; then
	rm -rf $venv
	python3 -m venv $venv
	$venv/bin/pip install --quiet --disable-pip-version-check -r scripts/pages-requirements.txt
	echo "$want" >$venv/installed
fi
shots=()
if [ $# -gt 0 ]; then
	mkdir -p "$1"
	pages=$(realpath "$1")
	shots=(--shots "$pages")
else
	pages=$(mktemp -d)
	trap 'rm -rf "$pages"' EXIT
fi
go test -count=1 -run 'EveryShape|ConformalPages|FilterPages|ExtremePages' ./gocp/report -render "$pages"
$venv/bin/python scripts/pages.py "$pages" "${shots[@]}"
