package conformal

import "golang.org/x/sys/cpu"

// vector tells whether the functions here can run, and wide whether they do by AVX-512, not AVX2. Tests
// switch them off to hold the ways against each other.
var (
	wide   = cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW
	vector = wide || cpu.X86.HasAVX2 && cpu.X86.HasFMA
)

// expSum32 and expSum64 are expSum for n rows' entries, n a multiple of 8, up to its sum of lanes.
func expSum32(dst *float64, z *float32, n int, top float64, lanes *[8]float64) {
	if wide {
		expSum32AVX512(dst, z, n, top, lanes)
	} else {
		expSum32AVX2(dst, z, n, top, lanes)
	}
}

func expSum64(dst *float64, z *float64, n int, top float64, lanes *[8]float64) {
	if wide {
		expSum64AVX512(dst, z, n, top, lanes)
	} else {
		expSum64AVX2(dst, z, n, top, lanes)
	}
}

// weigh64 adds the entries times factor, rounded, times their weights to the lanes of rowHash; n is a
// multiple of 32.
func weigh64(e, w *float64, n int, factor float64, lanes *[32]float64) {
	if wide {
		weigh64AVX512(e, w, n, factor, lanes)
	} else {
		weigh64AVX2(e, w, n, factor, lanes)
	}
}

// top32 is the largest of n ≥ 1 entries, and odd is not 0 if one is not finite.
func top32(z *float32, n int) (top float32, odd int64) {
	if wide {
		return top32AVX512(z, n)
	}
	return top32AVX2(z, n)
}

// sum32 adds up exp(z − top) in single precision, in 16 lanes; within expError32 of the truth.
func sum32(z *float32, n int, top float32, lanes *[16]float32) {
	if wide {
		sum32AVX512(z, n, top, lanes)
	} else {
		sum32AVX2(z, n, top, lanes)
	}
}

// between32 sets bit y for z_y ≥ high and tells whether any lies in [low, high). bits has room for
// ⌈n/16⌉ uint16.
func between32(z *float32, n int, low, high float32, bits *uint64) (any int64) {
	if wide {
		return between32AVX512(z, n, low, high, bits)
	}
	return between32AVX2(z, n, low, high, bits)
}

// above64 sums and counts the entries that are at least v ≥ 0; n is a multiple of 32.
func above64(e *float64, n int, v float64) (sum, count float64) {
	if wide {
		return above64AVX512(e, n, v)
	}
	return above64AVX2(e, n, v)
}

// bits64 sets bit y for e_y ≥ v; n is a multiple of 32.
func bits64(e *float64, n int, v float64, bits *uint64) {
	if wide {
		bits64AVX512(e, n, v, bits)
	} else {
		bits64AVX2(e, n, v, bits)
	}
}

//go:noescape
func expSum32AVX512(dst *float64, z *float32, n int, top float64, lanes *[8]float64)

//go:noescape
func expSum64AVX512(dst *float64, z *float64, n int, top float64, lanes *[8]float64)

//go:noescape
func weigh64AVX512(e, w *float64, n int, factor float64, lanes *[32]float64)

//go:noescape
func top32AVX512(z *float32, n int) (top float32, odd int64)

//go:noescape
func sum32AVX512(z *float32, n int, top float32, lanes *[16]float32)

//go:noescape
func between32AVX512(z *float32, n int, low, high float32, bits *uint64) (any int64)

//go:noescape
func above64AVX512(e *float64, n int, v float64) (sum, count float64)

//go:noescape
func bits64AVX512(e *float64, n int, v float64, bits *uint64)

//go:noescape
func expSum32AVX2(dst *float64, z *float32, n int, top float64, lanes *[8]float64)

//go:noescape
func expSum64AVX2(dst *float64, z *float64, n int, top float64, lanes *[8]float64)

//go:noescape
func weigh64AVX2(e, w *float64, n int, factor float64, lanes *[32]float64)

//go:noescape
func top32AVX2(z *float32, n int) (top float32, odd int64)

//go:noescape
func sum32AVX2(z *float32, n int, top float32, lanes *[16]float32)

//go:noescape
func between32AVX2(z *float32, n int, low, high float32, bits *uint64) (any int64)

//go:noescape
func above64AVX2(e *float64, n int, v float64) (sum, count float64)

//go:noescape
func bits64AVX2(e *float64, n int, v float64, bits *uint64)
