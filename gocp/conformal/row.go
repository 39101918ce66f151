package conformal

import (
	"math"
	"slices"
)

// Row is one sample as a Score sees it: its probabilities, its u, and the order of its labels,
// which is computed once and shared by every score that asks.
type Row struct {
	// P holds the K probabilities.
	P []float64
	// U holds u: nothing (u = 1), one value for the sample, or one for each label.
	U []float64

	// Labels are thrown into buckets by the leading bits of their probability, and a bucket is sorted
	// when its turn comes: most sets need the first few labels only.
	order   []int
	ends    [rowBuckets + 1]int // bucket b is order[ends[b]:ends[b+1]]
	buckets int
	thrown  bool
	sorted  int // buckets that are in order
}

// rowBuckets at eight buckets to the octave reach down to 2⁻³² of the top probability; the last one
// holds the rest.
const (
	rowBuckets = 257
	rowShift   = 52 - 3
	fewLabels  = 64 // so few are one bucket
)

// Reset points r at another sample and keeps its buffers.
func (r *Row) Reset(p, u []float64) { r.P, r.U, r.thrown = p, u, false }

// Order returns the labels by falling probability, ties by label index. The slice belongs to r.
func (r *Row) Order() []int { return r.leading(len(r.P)) }

// leading returns the order of which at least the first m labels are in place.
func (r *Row) leading(m int) []int {
	if !r.thrown {
		r.throw()
	}
	for r.sorted < r.buckets && r.ends[r.sorted] < m {
		r.sort(r.order[r.ends[r.sorted]:r.ends[r.sorted+1]])
		r.sorted++
	}
	return r.order
}

func (r *Row) throw() {
	r.thrown, r.sorted = true, 0
	if cap(r.order) < len(r.P) {
		r.order = make([]int, len(r.P))
	}
	r.order = r.order[:len(r.P)]
	if len(r.P) <= fewLabels {
		for y := range r.order {
			r.order[y] = y
		}
		r.buckets, r.ends[1] = 1, len(r.P)
		return
	}
	r.buckets, r.ends[1] = rowBuckets, 0
	top := 0.0
	for _, p := range r.P {
		top = max(top, p)
	}
	high := math.Float64bits(top) >> rowShift
	// Bits of positive floats are ordered as the floats are; zeros, and what is no probability at
	// all, go to the last bucket.
	bucket := func(p float64) int {
		if !(p > 0) {
			return rowBuckets - 1
		}
		return int(min(high-math.Float64bits(p)>>rowShift, rowBuckets-1))
	}
	clear(r.ends[:])
	for _, p := range r.P {
		r.ends[bucket(p)+1]++
	}
	for b := range rowBuckets {
		r.ends[b+1] += r.ends[b]
	}
	next := r.ends
	for y, p := range r.P {
		b := bucket(p)
		r.order[next[b]] = y
		next[b]++
	}
}

// sort orders one bucket, whose labels ascend.
func (r *Row) sort(labels []int) {
	if len(labels) < 2 {
		return
	}
	if len(labels) <= 24 {
		for i := 1; i < len(labels); i++ {
			y, j := labels[i], i
			for ; j > 0 && r.P[labels[j-1]] < r.P[y]; j-- { // stable: ties stay by index
				labels[j] = labels[j-1]
			}
			labels[j] = y
		}
		return
	}
	slices.SortStableFunc(labels, func(a, b int) int {
		switch {
		case r.P[a] > r.P[b]:
			return -1
		case r.P[a] < r.P[b]:
			return 1
		}
		return 0
	})
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
