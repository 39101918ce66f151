package conformal

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"sort"
)

// ControlRisk is conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster, ICLR 2024) for
// any loss that never grows along a grid of settings λ_0 < … < λ_{G−1} (of thresholds, say, with
// the sets growing). losses holds L_i(λ_g) of n calibration samples, n·G values row after row, at
// most bound. It returns the first g with
//
//	(Σ_i L_i(λ_g) + bound)/(n+1) ≤ ε,
//
// at which the expected loss of a new exchangeable sample is at most ε, and G when there is none.
// Sums and the comparison are exact.
func ControlRisk(losses []float64, n, grid int, bound float64, level Level) (int, error) {
	if level.eps == nil {
		return 0, fmt.Errorf("risk control: the level is not set")
	}
	if n < 0 || grid < 1 || len(losses) != n*grid {
		return 0, fmt.Errorf("risk control: %d losses are not %d rows of %d settings", len(losses), n, grid)
	}
	if math.IsNaN(bound) || math.IsInf(bound, 0) {
		return 0, fmt.Errorf("risk control: the bound is %v", bound)
	}
	for i := range n {
		row := losses[i*grid : (i+1)*grid]
		for g, l := range row {
			switch {
			case math.IsNaN(l) || math.IsInf(l, 0):
				return 0, fmt.Errorf("risk control: loss of row %d at setting %d is %v", i, g, l)
			case l > bound:
				return 0, fmt.Errorf("risk control: loss of row %d at setting %d is %v, above the bound %v", i, g, l, bound)
			case g > 0 && l > row[g-1]:
				return 0, fmt.Errorf("risk control: the loss of row %d grows from setting %d to %d", i, g-1, g)
			}
		}
	}
	limit := new(big.Rat).Mul(level.eps, big.NewRat(int64(n)+1, 1))
	return sort.Search(grid, func(g int) bool {
		sum := new(big.Rat).SetFloat64(bound)
		for i := range n {
			sum.Add(sum, new(big.Rat).SetFloat64(losses[i*grid+g]))
		}
		return sum.Cmp(limit) <= 0
	}), nil
}

// ControlMissed finds the threshold at which the expected share of a sample's true labels that its
// set misses (the false negative rate) is at most ε, for samples that can have several:
//
//	τ = min { t : (Σ_i |Y_i ∖ C_t(x_i)|/|Y_i| + 1)/(n+1) ≤ ε },   C_t(x) = {y : S(x, y) ≤ t}
//
// scores has N·K values, as Scorer.All returns; truth holds the sets Y_i, none empty. With one
// label each this is Calibrate. Rank counts the true labels with scores up to τ.
func ControlMissed(scores []float64, truth *Sets, level Level) (Threshold, error) {
	if level.eps == nil {
		return Threshold{}, fmt.Errorf("risk control: the level is not set")
	}
	if len(scores) != truth.N*truth.K {
		return Threshold{}, fmt.Errorf("risk control: %d scores for %d rows of %d labels", len(scores), truth.N, truth.K)
	}
	type pair struct {
		score float64
		size  int
	}
	var pairs []pair
	for i := range truth.N {
		labels := truth.Labels(i)
		if len(labels) == 0 {
			return Threshold{}, fmt.Errorf("risk control: row %d has no true label", i)
		}
		for _, y := range labels {
			s := scores[i*truth.K+y]
			if math.IsNaN(s) {
				return Threshold{}, fmt.Errorf("risk control: score of row %d, label %d is NaN", i, y)
			}
			pairs = append(pairs, pair{s, len(labels)})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		switch {
		case a.score < b.score:
			return -1
		case a.score > b.score:
			return 1
		}
		return 0
	})
	limit := new(big.Rat).Mul(level.eps, big.NewRat(int64(truth.N)+1, 1))
	limit.Sub(limit, big.NewRat(1, 1))
	// With the first j pairs inside, the loss is the sum of 1/size over the others: counted by size.
	fits := func(j int) bool {
		counts := map[int]int64{}
		for _, p := range pairs[j:] {
			counts[p.size]++
		}
		sum := new(big.Rat)
		for size, c := range counts {
			sum.Add(sum, big.NewRat(c, int64(size)))
		}
		return sum.Cmp(limit) <= 0
	}
	t := Threshold{Tau: math.Inf(1), N: len(pairs), Rank: len(pairs) + 1}
	if limit.Sign() < 0 {
		return t, nil // even a loss of nothing is too much for so few samples
	}
	// At least one label must be inside: missing all of them is a loss of n > ε(n+1) − 1.
	t.Rank = sort.Search(len(pairs), fits)
	t.Tau = pairs[t.Rank-1].score
	return t, nil
}
