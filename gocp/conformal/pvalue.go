package conformal

import (
	"fmt"
	"math"
	"slices"
)

// PValues turns scores into conformal p-values against n calibration scores.
type PValues struct{ sorted []float64 }

// NewPValues keeps a sorted copy of the calibration scores. NaN is an error that names the row.
func NewPValues(scores []float64) (*PValues, error) {
	for i, s := range scores {
		if math.IsNaN(s) {
			return nil, fmt.Errorf("calibration score of row %d is NaN", i)
		}
	}
	return &PValues{sorted: slices.Sorted(slices.Values(scores))}, nil
}

// N is the number of calibration scores.
func (v *PValues) N() int { return len(v.sorted) }

// Counts returns how many calibration scores are above s, and how many equal it.
func (v *PValues) Counts(s float64) (above, equal int) {
	low, found := slices.BinarySearch(v.sorted, s)
	if !found {
		return len(v.sorted) - low, 0
	}
	high, _ := slices.BinarySearchFunc(v.sorted, s, func(a, b float64) int {
		if a <= b {
			return -1
		}
		return 1
	})
	return len(v.sorted) - high, high - low
}

// P is the plain p-value (1 + #{s_i ≥ s})/(n+1): P(p ≤ ε) ≤ ε for an exchangeable s.
func (v *PValues) P(s float64) float64 {
	above, equal := v.Counts(s)
	return float64(1+above+equal) / float64(len(v.sorted)+1)
}

// Smoothed is (#{s_i > s} + u·(1 + #{s_i = s}))/(n+1): uniform for an exchangeable s and u ~ U[0,1],
// ties or not.
func (v *PValues) Smoothed(s, u float64) float64 {
	above, equal := v.Counts(s)
	return (float64(above) + u*float64(1+equal)) / float64(len(v.sorted)+1)
}

// Inside tells whether P(s) > ε, in exact integers: the same as s ≤ τ of Calibrate.
func (v *PValues) Inside(s float64, level Level) bool {
	above, equal := v.Counts(s)
	return level.below(1+above+equal, len(v.sorted)+1)
}

// PValues returns the plain p-value of every label of every row, N·K values row after row.
func (s *Scorer) PValues(p *Probs, u []float64, cal *PValues) ([]float64, error) {
	out := make([]float64, p.N*p.K)
	err := s.each(p, u, func(i int, scores []float64) {
		for y, v := range scores {
			out[i*p.K+y] = cal.P(v)
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
