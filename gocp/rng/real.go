package rng

import (
	"math"
	"math/bits"
)

// step is one step of Horner's rule, acc·t + c. The product of two float32 is
// exact in float64, so fusing it into the sum changes nothing.
func step(acc, t float32, c float64) float32 {
	return float32(float64(acc)*float64(t) + c)
}

// Uniform maps a word to [0, 1) on a grid of 2⁻²⁴.
func Uniform(w uint32) float32 { return float32(w>>8) * 0x1p-24 }

// Normal maps two words to a standard normal number, |z| < 6.67.
func Normal(a, b uint32) float32 {
	r := float32(math.Sqrt(2 * float64(minusLog(a))))
	return r * cosTurn(b)
}

// minusLog is −ln((a+1)·2⁻³²) = (32 − e) ln 2 − ln m, with a+1 = m·2^e and
// m in [√½, √2]; ln m = 2 atanh s, s = (m−1)/(m+1).
func minusLog(a uint32) float32 {
	v := uint64(a) + 1
	e := bits.Len64(v) - 1
	m := float32(float64(v) / float64(uint64(1)<<e))
	if m > 1.41421354 {
		m *= 0.5
		e++
	}
	s := (m - 1) / (m + 1)
	t := s * s
	p := step(2.0/9, t, 2.0/7)
	p = step(p, t, 2.0/5)
	p = step(p, t, 2.0/3)
	p = step(p, t, 2)
	// ln 2 as a float32: its product with a small integer is exact too.
	const ln2 = float32(math.Ln2)
	return max(step(p, -s, float64(32-e)*float64(ln2)), 0)
}

// cosTurn is cos(2π b·2⁻³²): q is the nearest quarter turn, x in [−½, ½] the
// rest in quarters.
func cosTurn(b uint32) float32 {
	q := (b + 1<<29) >> 30 & 3
	x := float32(int32(b-q<<30)) * 0x1p-30
	y := x * x
	var f float32
	if q&1 == 0 { // ±cos(πx/2)
		f = step(-2.5202042e-05, y, 9.192602748e-04)
		f = step(f, y, -2.0863480763e-02)
		f = step(f, y, 2.53669507901e-01)
		f = step(f, y, -1.23370055013617)
		f = step(f, y, 1)
	} else { // ∓sin(πx/2)
		f = step(1.60441185e-04, y, -4.6817541353e-03)
		f = step(f, y, 7.9692626246e-02)
		f = step(f, y, -6.45964097506246e-01)
		f = x * step(f, y, 1.5707963267949)
	}
	if q == 1 || q == 2 {
		return -f
	}
	return f
}
