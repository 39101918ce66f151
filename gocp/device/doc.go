// Package device runs kernels: it opens the device, and gives a function a stream to enqueue work
// on. It is the only user of gorgonia.org/cu, and the same code drives a GPU and the host engine
// of csrc, which GOCP_DEVICE chooses between (auto, cuda or cpu).
//
// All work happens inside [Device.Do], on one [Stream]: allocations, copies, launches. They are
// ordered, and asynchronous except for [Download] and [Stream.Sync]. A stream's first failure
// sticks: everything after it does nothing, and Err, Download and Do return it; so code enqueues
// without looking at every call.
package device
