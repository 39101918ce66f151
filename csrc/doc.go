// Package csrc links the C++ half of gocp, build/cpp/libgocp.a, into the program: the front of the
// CUDA driver interface that gorgonia.org/cu calls, the host engine behind it, the kernels compiled
// for the host, and oneDNN. `make lib` builds it, and writes stamp.h with the archive's hash, which
// is how go build notices that the archive changed.
//
// The headers are named by their full path: CGO_CFLAGS comes before a package's own flags, and may
// have the -I of another checkout.
//
// The functions here are what cuda.h has no name for (gocp.h). Only gocp/device imports them.
//
// With go build -asan the archive is build/asan/libgocp.a, made by
//
//	cmake -S . -B build/asan -DCMAKE_BUILD_TYPE=Debug -DGOCP_SANITIZE=address,undefined
//	cmake --build build/asan
package csrc
