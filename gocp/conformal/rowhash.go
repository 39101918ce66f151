package conformal

import "math"

// A rowHash turns a row of probabilities into 64 bits, quickly enough to stand beside the vector loops of
// fast.go: sums of the probabilities under fixed weights w_y in [1, 2),
//
//	l_i = Σ_{y ≡ i mod 32} w_y·p_y   by fused multiply-adds in ascending order of y
//	L_j = (l_j + l_{j+8}) + (l_{j+16} + l_{j+24})   j = 0 … 7
//
// whose bits are mixed by SplitMix64. Rows with the same probabilities have the same hash on every machine;
// rows that differ share one by chance only, or where what differs is lost in the rounding of those sums.
type rowHash []float64 // w

func newRowHash(k int) rowHash {
	w := make(rowHash, k)
	for y := range w {
		w[y] = 1 + float64(mix64(uint64(y+1)*golden)>>12)*0x1p-52
	}
	return w
}

// of is the hash of the row factor·e.
func (w rowHash) of(e []float64, factor float64) uint64 {
	var l [32]float64
	done := 0
	if vector && len(w) >= len(l) {
		done = len(w) &^ (len(l) - 1)
		weigh64(&e[0], &w[0], done, factor, &l)
	}
	for y := done; y < len(w); y++ {
		p := float64(e[y] * factor) // rounded before it is weighed
		l[y%len(l)] = math.FMA(p, w[y], l[y%len(l)])
	}
	h := uint64(len(w))
	for j := range uint64(8) {
		h += mix64(math.Float64bits((l[j]+l[j+8])+(l[j+16]+l[j+24])) + j*golden)
	}
	return h
}
