//go:build !asan

package csrc

/*
#cgo LDFLAGS: ${SRCDIR}/../build/cpp/libgocp.a
#include "stamp.h"
*/
import "C"

const buildHash = C.GOCP_BUILD_HASH
