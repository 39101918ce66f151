package conformal

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Attack is what an adversary can do to k calibration points.
type Attack string

const (
	// Replace puts any k points, with any labels, in place of k of the n.
	Replace Attack = "replace"
	// Insert adds up to k points.
	Insert Attack = "insert"
	// Delete takes up to k points away.
	Delete Attack = "delete"
)

// Interval holds every threshold that an adversary can bring about: low ≤ τ ≤ high, both reached
// (for labels, in the limit of scores as extreme as it likes).
type Interval struct{ Low, High float64 }

// PoisonedThreshold returns the exact range of τ when up to k calibration points are under attack,
// their scores anything. With r(n) = ⌈(n+1)(1−ε)⌉ and s_(j) = −∞ for j < 1, +∞ for j > n:
//
//	replace  s_(r(n)−k) … s_(r(n)+k)
//	insert   min_j s_(r(n+j)−j) … max_j s_(r(n+j)),      j ≤ k
//	delete   min_j s_(r(n−j)) … max_j s_(r(n−j)+j)       (+∞ for r(n−j) > n−j)
//
// A replaced point moves the order statistic by one at most, and the extremes are reached by
// taking the largest points down or the smallest up. A label y of a test sample whose own score S
// is clean stays inside for S ≤ Low, and outside for S > High, whatever the adversary does.
func PoisonedThreshold(scores []float64, level Level, attack Attack, k int) (Interval, error) {
	sorted, err := sortedScores(scores)
	if err != nil {
		return Interval{}, err
	}
	if k < 0 {
		return Interval{}, fmt.Errorf("poisoned threshold: %d points: there must be at least 0", k)
	}
	if level.eps == nil {
		return Interval{}, errors.New("the miscoverage is not set")
	}
	n := len(sorted)
	order := func(j int) float64 {
		switch {
		case j < 1:
			return math.Inf(-1)
		case j > n:
			return math.Inf(1)
		}
		return sorted[j-1]
	}
	rank := func(n int) int { r, _ := level.Rank(n); return r } // n ≥ 0 and a level: no error
	switch attack {
	case Replace:
		k = min(k, n)
		r := rank(n)
		if r > n {
			return Interval{math.Inf(1), math.Inf(1)}, nil // the rank, not the scores, says so
		}
		return Interval{order(r - k), order(r + k)}, nil
	case Insert:
		out := Interval{math.Inf(1), math.Inf(-1)}
		for j := range k + 1 {
			low, high := math.Inf(1), math.Inf(1)
			if r := rank(n + j); r <= n+j {
				low, high = order(r-j), order(r)
			}
			out = Interval{min(out.Low, low), max(out.High, high)}
		}
		return out, nil
	case Delete:
		out := Interval{math.Inf(1), math.Inf(-1)}
		for j := range min(k, n) + 1 {
			low, high := math.Inf(1), math.Inf(1)
			if r := rank(n - j); r <= n-j {
				low, high = order(r), order(r+j)
			}
			out = Interval{min(out.Low, low), max(out.High, high)}
		}
		return out, nil
	}
	return Interval{}, fmt.Errorf("unknown attack %q: known are replace, insert, delete", clip(string(attack)))
}

func sortedScores(scores []float64) ([]float64, error) {
	for i, s := range scores {
		if math.IsNaN(s) {
			return nil, fmt.Errorf("calibration score of row %d is NaN", i)
		}
	}
	return slices.Sorted(slices.Values(scores)), nil
}

// FlippedThreshold returns the exact range of the marginal τ when up to k calibration labels are
// changed to any others, inputs staying as they are. scores has N·K values, as Scorer.All returns.
//
// A flip chooses another of the K scores of its row, independently of other rows, so no integer
// program is needed: τ ≤ t can be forced when
//
//	#{i : s_i ≤ t} + min(k, #{i : s_i > t, min_y S(x_i, y) ≤ t}) ≥ r,
//
// and τ > t when #{i : s_i ≤ t} − min(k, #{i : s_i ≤ t, max_y S(x_i, y) > t}) < r. FlippedCells does
// the same for conditioned thresholds.
func FlippedThreshold(scores []float64, labels []int, k int, level Level, flips int) (Interval, error) {
	c, err := FlippedCells(scores, labels, nil, k, level, Conditioning{}, flips)
	if err != nil {
		return Interval{}, err
	}
	return c.All, nil
}

// PoisonRadius returns how many calibration points can be replaced before label with clean test
// score s can enter or leave the set, and whether it is inside now: the largest k at which it is
// certain. With a threshold that is infinite because n is too small nothing can move it, and the
// radius is n.
func PoisonRadius(scores []float64, level Level, s float64) (radius int, in bool, err error) {
	if math.IsNaN(s) {
		return 0, false, errors.New("the test score is NaN")
	}
	sorted, err := sortedScores(scores)
	if err != nil {
		return 0, false, err
	}
	n := len(sorted)
	r, err := level.Rank(n)
	if err != nil {
		return 0, false, err
	}
	if r > n {
		return n, true, nil
	}
	if in = s <= sorted[r-1]; in {
		// The least j with s ≤ s_(j); k is certain while r − k ≥ j.
		j, _ := slices.BinarySearch(sorted, s)
		return r - (j + 1), true, nil
	}
	// Outside while s > s_(r+k): r + k at most the number of scores below s.
	j, _ := slices.BinarySearch(sorted, s)
	return j - r, false, nil
}
