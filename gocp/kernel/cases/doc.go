// Package cases holds one case for every launcher of package kernel: the shapes to test and to time
// it on, its inputs, a reference in float64, tolerances with their reasons, bytes and operations.
// The tests and `gocp bench kernels` are driven by the same cases; a kernel without one fails the
// tests.
//
// A check of a case on a shape is, in one pass over its modes:
//
//  1. every output against the float64 reference; an element that was not written is a NaN and
//     so is wrong; a rerun, a rerun on another number of threads, and one with every buffer
//     shifted by an element give the same bits;
//  2. each gradient that the case names against central differences of the float64 scalar it is
//     the gradient of, in a random direction;
//  3. in dual numbers, every tangent against central differences of the reference along the
//     tangents of the inputs, with all of them, with each one absent in turn, and replayed
//     with the primals known; and uᵀHv = vᵀHu for each named gradient;
//  4. guard zones around every buffer, and inputs left as they were.
//
// Where a difference of the reference depends on its step the function has a kink there, and
// the element is skipped; a few may be.
//
// The GPU half of the kernels passes the same checks wherever a driver or an emulator of one runs:
// build every kernels/*.cu into one image and set GOCP_DEVICE=cuda and GOCP_IMAGE to it.
package cases
