// Package rng draws random numbers by Philox4x32-10, a counter-based generator:
// a block of four 32-bit words is a pure function of a key and a counter, so a
// draw has an address (seed, stream, position) and needs no state.
//
// The seed is the key, the stream the upper half of the counter and the number
// of the block the lower half. Word i of a stream is word i mod 4 of block i/4.
// kernels/philox.cuh computes the same words on the device, and from them the
// same numbers, to the last bit:
//
//	uniform   u_i = (w_i >> 8)·2⁻²⁴                                in [0, 1)
//	normal    z_i = sqrt(−2 ln((a+1)·2⁻³²))·cos(2π b·2⁻³²),  a, b = w_2i, w_2i+1
//
// The logarithm and the cosine are polynomials in which every product is exact
// (two float32 factors, a float64 product), so that a compiler that fuses
// a·b + c and one that does not give the same bits.
//
// Source: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011; G. E. P. Box, M. E. Muller, 1958;
// bounded integers by D. Lemire, 2019.
package rng
