//go:build !asan

package csrc

/*
#cgo LDFLAGS: ${SRCDIR}/../build/cpp/libgocp.a
#cgo LDFLAGS: -ldnnl -lgomp -lstdc++ -ldl -lpthread
#cgo amd64 LDFLAGS: -lmvec
#cgo LDFLAGS: -lm
#include "stamp.h"
*/
import "C"

const buildHash = C.GOCP_BUILD_HASH
