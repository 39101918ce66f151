package conformalio

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/progress"
)

// sums checks rows of probabilities. Those that a type or a printed number of few digits kept from the
// sum 1 are divided by their sum.
type sums struct {
	exact bool
	worst atomic.Uint64 // the largest distance of a sum from 1 that was taken for rounding, as bits
}

// mostOff bounds what is taken for rounding, whatever the digits are.
const mostOff = 0.1

// row checks one row and divides it by its sum where that is called for.
func (s *sums) row(p []float64) error {
	sum := 0.0
	for _, v := range p {
		sum += v
	}
	off := math.Abs(sum - 1)
	if math.Abs(sum-100) < 1 {
		return fmt.Errorf("they sum to %v, not 1: are they percentages? divide them by 100", sum)
	}
	if !(off > conformal.SumTolerance) || s.exact || sum <= 0 || off > mostOff {
		return conformal.ProbabilityRow(p, p)
	}
	if room := rounding(p); off > room {
		return fmt.Errorf("they sum to %v, not 1, and their digits explain %.2g of that: are they logits, or not of all labels?", sum, room)
	}
	for y := range p {
		p[y] /= sum
	}
	for old := s.worst.Load(); math.Float64frombits(old) < off; old = s.worst.Load() {
		if s.worst.CompareAndSwap(old, math.Float64bits(off)) {
			break
		}
	}
	return conformal.ProbabilityRow(p, p)
}

// rounding bounds how far the sum of p may be from 1 because its entries have few digits: two or three
// after the point, 8 bits (bfloat16) or 11 (float16); at most 1e-3 for each label.
func rounding(p []float64) float64 {
	k, most := float64(len(p)), 1e-3*float64(len(p))
	for _, unit := range []float64{1e-2, 1e-3, 1e-4} {
		if every(p, func(v float64) bool { return math.Abs(v/unit-math.Round(v/unit)) < 1e-4 }) {
			return min(most, k*unit/2) + 1e-9
		}
	}
	for _, bits := range []int{8, 11} {
		if every(p, func(v float64) bool {
			m, _ := math.Frexp(v)
			m = math.Ldexp(m, bits)
			return m == math.Trunc(m)
		}) {
			return min(most, math.Ldexp(1.1, -bits)) // each is off by half a unit, and so is their sum
		}
	}
	return conformal.SumTolerance
}

func every(p []float64, f func(v float64) bool) bool {
	for _, v := range p {
		if !f(v) {
			return false
		}
	}
	return true
}

// say tells of the rows that were divided by their sums.
func (s *sums) say(r progress.Reporter, name string) string {
	worst := math.Float64frombits(s.worst.Load())
	if worst == 0 {
		return ""
	}
	text := fmt.Sprintf("%s: rows of probabilities of few digits, with sums off by up to %.2g, were divided by their sums", name, worst)
	progress.Or(r).Note("%s", text)
	return text
}
