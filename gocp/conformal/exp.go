package conformal

import "math"

// Exponentials here have a definition of their own, so that probabilities have the same bits on
// every machine, with or without vector instructions: for x ≤ 0
//
//	n = round(x/ln 2)   r = x − n·ln 2   e^x = 2ⁿ·(1 + r + r²·Q(r))
//
// with fused multiply-adds in a fixed order, Q of degree 9 through the Chebyshev nodes of
// |r| ≤ ½ ln 2 (relative error 1.7e-17 before rounding, below one ulp with it), and 0 below expLeast.
// Sums have eight lanes: lane i mod 8 takes element i.
const (
	expLeast = -708.0
	expMagic = 0x1.8p52
	log2E    = 0x1.71547652b82fep+0
	ln2High  = 0x1.62e42fefa39efp-1
	ln2Low   = 0x1.abc9e3b39803fp-56
)

var expQ = [10]float64{
	0x1.0000000000001p-1, 0x1.5555555555556p-3, 0x1.5555555553d63p-5, 0x1.11111111109b3p-7, 0x1.6c16c1788bd90p-10,
	0x1.a01a01a7c41d5p-13, 0x1.a019b90d2ae7ap-16, 0x1.71de0dae63bb3p-19, 0x1.289185613a3d6p-22, 0x1.af38a9b0ec855p-26,
}

// exp is e^x for x ≤ 0.
func exp(x float64) float64 {
	if !(x >= expLeast) {
		return 0
	}
	m := math.FMA(x, log2E, expMagic)
	n := m - expMagic
	r := math.FMA(-n, ln2Low, math.FMA(-n, ln2High, x))
	q := expQ[9]
	for i := 8; i >= 0; i-- {
		q = math.FMA(r, q, expQ[i])
	}
	q = 1 + math.FMA(r*r, q, r)
	return math.Float64frombits(math.Float64bits(q) + math.Float64bits(m)<<52)
}

// expSum writes exp(z_y − top) and returns their sum. dst may be z itself.
func expSum[T ~float32 | ~float64](dst []float64, z []T, top float64) float64 {
	var lanes [8]float64
	done := 0
	if vector && len(z) >= 8 {
		done = len(z) &^ 7
		switch z := any(z).(type) {
		case []float32:
			expSum32(&dst[0], &z[0], done, top, &lanes)
		case []float64:
			expSum64(&dst[0], &z[0], done, top, &lanes)
		default:
			done = 0
		}
	}
	for y := done; y < len(z); y++ {
		e := exp(float64(z[y]) - top)
		dst[y] = e
		lanes[y%8] += e
	}
	return (lanes[0] + lanes[4]) + (lanes[2] + lanes[6]) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
}
