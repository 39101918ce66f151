// Package tensor names arrays on a device: a shape, a primal plane and an optional tangent plane.
//
// A tensor in dual numbers a + κb (κ² = 0) is two planes of float32 of the same shape. An absent
// tangent (T == 0) is zero and costs nothing; a tensor with only a tangent (P == 0) is what a
// replayed pass computes when its primals are known already. Images are NHWC.
package tensor
