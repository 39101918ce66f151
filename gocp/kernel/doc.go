// Package kernel has one typed launcher for each kernel of kernels/*.cu and each oneDNN function:
// it checks shapes, picks the grid and launches. A launcher never synchronises and, except for
// NewWorkspace, never allocates on the device, so every launch may be recorded in a graph.
//
// A tensor with a tangent plane makes a launcher run the kernel's dual export; an output with
// only a tangent plane asks for a replay, in which primals are read but not stored. A launch with
// nothing to do (no rows, no channels, nothing to write) is no launch. Errors are sticky on the
// stream and name the kernel and the shape.
package kernel
