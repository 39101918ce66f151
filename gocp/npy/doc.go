// Package npy reads and writes NumPy's array files: .npy (one array) and .npz (a
// zip archive of them), format versions 1, 2 and 3
// (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
//
// Read: bool, signed and unsigned integers of 1 to 8 bytes, float32 and float64
// and float16 in either byte order, C or Fortran order, and fixed-width Unicode
// strings; never pickled objects. The reader is strict and allocates no more
// than a constant times the bytes of the file; an array is no larger than its
// bytes, and a zip entry no larger than what deflate could have made of it.
// Written files are deterministic: no times, the order given.
package npy
