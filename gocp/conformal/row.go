package conformal

import "slices"

// Row is one sample as a Score sees it: its probabilities, its u, and the order of its labels,
// which is computed once and shared by every score that asks.
type Row struct {
	// P holds the K probabilities.
	P []float64
	// U holds u: nothing (u = 1), one value for the sample, or one for each label.
	U []float64

	order   []int
	ordered bool
}

// Reset points r at another sample and keeps its buffers.
func (r *Row) Reset(p, u []float64) { r.P, r.U, r.ordered = p, u, false }

// Order returns the labels by falling probability, ties by label index. The slice belongs to r.
func (r *Row) Order() []int {
	if r.ordered {
		return r.order
	}
	r.order = r.order[:0]
	for y := range r.P {
		r.order = append(r.order, y)
	}
	slices.SortFunc(r.order, func(a, b int) int {
		switch {
		case r.P[a] > r.P[b]:
			return -1
		case r.P[a] < r.P[b]:
			return 1
		}
		return a - b
	})
	r.ordered = true
	return r.order
}

// Draw returns the u of label y.
func (r *Row) Draw(y int) float64 {
	switch len(r.U) {
	case 0:
		return 1
	case 1:
		return r.U[0]
	}
	return r.U[y]
}

// Top returns the label of greatest probability, the first one if several tie.
func Top(p []float64) int {
	top := 0
	for y, v := range p {
		if v > p[top] {
			top = y
		}
	}
	return top
}
