// Package device runs kernels: it opens the device, and gives a function a stream to enqueue work
// on. It is the only user of gorgonia.org/cu, and the same code drives a GPU and the host engine
// of csrc, which GOCP_DEVICE chooses between (auto, cuda or cpu).
//
// All work happens inside [Device.Do], on one [Stream]: allocations, copies, launches. They are
// ordered, and asynchronous except for [Download] and [Stream.Sync]. A stream's first failure
// sticks: everything after it does nothing, and Err, Download and Do return it; so code enqueues
// without looking at every call.
//
// The environment, read before main:
//
//	GOCP_DEVICE   auto (the default), cuda, or cpu
//	GOCP_THREADS  a stream's width by default, instead of the cores this process may use
//	GOCP_CHECK    1 guards the host engine's memory and checks every launch's pointers; on a GPU it
//	              waits for every launch, so that a kernel's fault is found where it is
//	GOCP_ISA      base, v3 or v4: which build of the host kernels, instead of the best that runs
//	GOCP_LIBCUDA  the driver's library, instead of libcuda.so.1
//	GOCP_CALLS    a file to which the name of every driver call is appended
//	GOCP_IMAGE    a file of GPU code (cubin, fatbin or PTX), instead of this build's
package device
