# gocp. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# A Go toolchain that set-up fetched stands before the system's.
export PATH := $(CURDIR)/build/toolchain/go/bin:$(PATH)

# gorgonia.org/cu includes <cuda.h> and links -lcuda; both are ours (.envrc says the same to
# plain go commands and to editors).
export CGO_CFLAGS := -O2 -I$(CURDIR)/csrc
export CGO_LDFLAGS := -L$(CURDIR)/csrc/lib

JOBS ?= $(shell nproc 2>/dev/null || echo 2)
REVISION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO_LDFLAGS := -X main.revision=$(REVISION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What the main job runs: DEMO_FLAGS are put after the demo's own settings.
DEMO_FLAGS ?=
TEST_FLAGS ?=
FUZZ_TIME ?= 20s

CXX_FILES = $(shell git ls-files --cached --others --exclude-standard -- 'csrc/*.cc' 'csrc/*.h' 'csrc/*.cpp' 'kernels/*.cu' 'kernels/*.cuh' 'csrc/*.c' ':!csrc/cuda.h' ':!csrc/third_party/**')

.PHONY: build setup lib gpu gpu-kit test-ptx test-slurm sass run test lint bench bench-peers check check-full fmt clean help

build: setup bin  ## build bin/gocp (this is what plain `make` does)

.PHONY: bin
bin: lib
	go build -ldflags '$(GO_LDFLAGS)' -o bin/gocp ./cmd/gocp

setup:  ## install what the build needs; does nothing the second time
	@scripts/setup.sh

lib:  ## build the C++ half by CMake
	@cmake -S . -B build/cpp -DCMAKE_BUILD_TYPE=Release -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >build/cmake.log 2>&1 || { cat build/cmake.log >&2; exit 1; }
	@cmake --build build/cpp --parallel $(JOBS) | { grep -vE "Built target|Consolidate compiler" || true; }
lib: | build-dir
.PHONY: build-dir
build-dir:
	@mkdir -p build

gpu: setup  ## compile the GPU kernels (fetches nvcc if there is none) and put them into bin/gocp
	@scripts/gpu.sh >/dev/null
	@$(MAKE) bin

test-ptx: gpu  ## run the GPU kernels: on a GPU if there is one, else on the emulator
	@scripts/test-ptx.sh

gpu-kit: gpu  ## what checks and times a GPU on a machine that has none of ours, in build/gpu-kit
	@scripts/gpu-kit.sh

test-slurm: build  ## an audit on a Slurm of its own, two nodes on this machine (installs Debian's Slurm)
	@scripts/test-slurm.sh

sass: setup  ## read the kernels' machine code: registers, spills, occupancy, into bench/sass.csv
	@scripts/sass.sh

run: build  ## the main job: audit a model on real images, into runs/demo
	@scripts/demo.sh $(DEMO_FLAGS)

test: build  ## set up, build, vet and run the tests
	go vet ./...
	go test -timeout 30m $(TEST_FLAGS) ./...

lint: lib  ## gofmt, vet, staticcheck, clang-format, clang-tidy
	@scripts/setup.sh lint
	@files=$$(gofmt -l cmd gocp csrc bench examples 2>/dev/null); [ -z "$$files" ] || { echo "gofmt would change: $$files" >&2; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	clang-format --dry-run -Werror $(CXX_FILES)
	@scripts/tidy.sh

fmt:  ## lay out all Go and C++ files
	gofmt -w cmd gocp csrc bench examples
	clang-format -i $(CXX_FILES)

bench: build  ## time kernels and passes
	bin/gocp bench kernels
	bin/gocp bench passes

bench-peers: build  ## time gocp beside PyTorch, alternately (installs PyTorch under bench/)
	@scripts/setup.sh python
	bench/peers.sh

check: lint test  ## lint and test: what a change must pass

check-full: check  ## also the race detector, sanitizers, checked mode, fuzzing and longer audits
	FUZZ_TIME=$(FUZZ_TIME) scripts/check-full.sh

clean:  ## remove what was built (fetched tools and runs/ stay)
	rm -rf bin build/cpp build/asan build/gpu build/ptxemu build/cmake.log csrc/stamp.h csrc/stamp_asan.h

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)$$/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'
