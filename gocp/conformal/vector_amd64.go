package conformal

import "golang.org/x/sys/cpu"

// vector tells whether the functions of vector_amd64.s can run. Tests switch it off to hold them
// against plain Go.
var vector = cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW

// expSum32 and expSum64 are expSum for n rows' entries, n a multiple of 8, up to its sum of lanes.
//
//go:noescape
func expSum32(dst *float64, z *float32, n int, top float64, lanes *[8]float64)

//go:noescape
func expSum64(dst *float64, z *float64, n int, top float64, lanes *[8]float64)

// top32 is the largest of n ≥ 1 entries, and odd is not 0 if one is not finite.
//
//go:noescape
func top32(z *float32, n int) (top float32, odd int64)

// sum32 adds up exp(z − top) in single precision, in 16 lanes; within expError32 of the truth.
//
//go:noescape
func sum32(z *float32, n int, top float32, lanes *[16]float32)

// between32 sets bit y for z_y ≥ high and tells whether any lies in [low, high). bits has room for
// ⌈n/16⌉ uint16.
//
//go:noescape
func between32(z *float32, n int, low, high float32, bits *uint64) (any int64)

// above64 sums and counts the entries that are at least v ≥ 0; n is a multiple of 32.
//
//go:noescape
func above64(e *float64, n int, v float64) (sum, count float64)

// bits64 sets bit y for e_y ≥ v; n is a multiple of 32.
//
//go:noescape
func bits64(e *float64, n int, v float64, bits *uint64)
