//go:build !asan

package csrc

/*
#cgo CFLAGS: -include ${SRCDIR}/stamp.h
#cgo LDFLAGS: ${SRCDIR}/../build/cpp/libgocp.a
#cgo LDFLAGS: -ldnnl -lgomp -lstdc++ -ldl -lpthread
#cgo amd64 LDFLAGS: -lmvec
#cgo LDFLAGS: -lm
*/
import "C"

const buildHash = C.GOCP_BUILD_HASH
