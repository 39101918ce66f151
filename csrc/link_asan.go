//go:build asan

package csrc

/*
#cgo LDFLAGS: ${SRCDIR}/../build/asan/libgocp.a -fsanitize=address -fsanitize=undefined
#include "stamp_asan.h"
*/
import "C"

const buildHash = C.GOCP_BUILD_HASH
