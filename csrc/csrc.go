package csrc

/*
#cgo CFLAGS: -O2 -include ${SRCDIR}/gocp.h
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// BuildHash is the SHA-256 of the archive this program was linked with.
func BuildHash() string { return buildHash }

// Backend is "cuda" or "host".
func Backend() string { return C.GoString(C.gocp_backend()) }

// Why says in one line which back end was taken and why.
func Why() string { return C.GoString(C.gocp_why()) }

// ISA names the build of the host kernels in use: base, v3 or v4; "" on cuda.
func ISA() string { return C.GoString(C.gocp_isa()) }

// OneDNN says which oneDNN the host engine has and what it makes of this processor; "" on cuda.
func OneDNN() string { return C.GoString(C.gocp_onednn()) }

// Checked reports whether GOCP_CHECK=1 asks for checks of memory and launches.
func Checked() bool { return C.gocp_checked() != 0 }

// Cores is how many threads a launch may use by default.
func Cores() int { return int(C.gocp_cores()) }

// Image is the GPU code that this build carries, as scripts/gpu.sh laid it out; empty if none. It must
// not be written.
func Image() []byte {
	var n C.size_t
	p := C.gocp_image(&n)
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), n)
}

// IsSlice reports whether a device is a MIG slice of a card.
func IsSlice(device int) bool { return C.gocp_is_slice(C.CUdevice(device)) != 0 }

// MemInUse is the number of bytes allocated on the device.
func MemInUse() int64 { return int64(C.gocp_mem_in_use()) }

// LastError is the calling OS thread's last failure in words, or "".
func LastError() string { return C.GoString(C.gocp_last_error()) }

// ErrorText is what the driver says of a code, or "".
func ErrorText(c Code) string { return C.GoString(C.gocp_error_text(C.CUresult(c))) }

// Kernels lists the host kernels and the kinds of their parameters, one letter each: i (int32),
// l (int64), f (float32), s (any of these), p (pointer). It is empty on cuda.
func Kernels() map[string]string {
	kernels := map[string]string{}
	for i := C.int(0); ; i++ {
		name := C.gocp_kernel_name(i)
		if name == nil {
			return kernels
		}
		var kinds *C.char
		n := C.gocp_kernel_params(i, &kinds)
		kernels[C.GoString(name)] = C.GoStringN(kinds, n)
	}
}

// A Code is a driver's result other than success.
type Code int

// The codes that gocp/device has its own errors for.
const (
	OutOfMemory    Code = C.CUDA_ERROR_OUT_OF_MEMORY
	IllegalAddress Code = C.CUDA_ERROR_ILLEGAL_ADDRESS
	UnsupportedPTX Code = 222 // CUDA_ERROR_UNSUPPORTED_PTX_VERSION, of later headers than ours
)

func (c Code) Error() string { return fmt.Sprintf("driver error %d", int(c)) }

func result(r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	return Code(r)
}

// A Stream is a CUstream.
type Stream unsafe.Pointer

// SetWidth sets how many threads share a launch on the stream.
func SetWidth(s Stream, width int) error {
	return result(C.gocp_stream_set_width(C.CUstream(s), C.int(width)))
}

// MemFree frees device memory once the work enqueued on the stream is done with it.
func MemFree(p uint64, s Stream) error {
	return result(C.gocp_mem_free(C.CUdeviceptr(p), C.CUstream(s)))
}

// MemAllocHost allocates page-locked memory, which cu.MemFreeHost frees.
func MemAllocHost(bytes int) (unsafe.Pointer, error) {
	var p unsafe.Pointer
	err := result(C.gocp_mem_alloc_host(&p, C.size_t(bytes)))
	return p, err
}

// A Graph is a recorded list of commands.
type Graph struct{ g *C.gocp_graph }

// CaptureBegin starts recording what is enqueued on the stream, instead of running it.
func CaptureBegin(s Stream) error { return result(C.gocp_capture_begin(C.CUstream(s))) }

// CaptureEnd ends the recording.
func CaptureEnd(s Stream) (Graph, error) {
	var g Graph
	err := result(C.gocp_capture_end(C.CUstream(s), &g.g))
	return g, err
}

// Launch enqueues the recorded list as one command.
func (g Graph) Launch(s Stream) error {
	return result(C.gocp_graph_launch(g.g, C.CUstream(s)))
}

// Destroy frees the list, once launches of it are done.
func (g Graph) Destroy() error { return result(C.gocp_graph_destroy(g.g)) }

// Profiled reports whether a profiler listens to ranges. It is so from the first call on or never.
func Profiled() bool { return C.gocp_profiled() != 0 }

// RangePush begins a range of the calling OS thread, inside those that began before.
func RangePush(name string) {
	c := C.CString(name)
	C.gocp_range_push(c)
	C.free(unsafe.Pointer(c))
}

// RangePop ends the thread's last range.
func RangePop() { C.gocp_range_pop() }

// RangeStart begins a range of the process.
func RangeStart(name string) uint64 {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return uint64(C.gocp_range_start(c))
}

// RangeEnd ends a range of the process.
func RangeEnd(id uint64) { C.gocp_range_end(C.uint64_t(id)) }
