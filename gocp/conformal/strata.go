package conformal

import (
	"fmt"
	"math"
	"slices"
)

// Stratum is what the sets of one part of the samples show.
type Stratum struct {
	// Low and High bound the key, inclusive: a group, a range of sizes or of ranks.
	Low      int        `json:"low"`
	High     int        `json:"high"`
	Coverage Proportion `json:"coverage"`
	MeanSize float64    `json:"mean_size"`
}

// Range is an interval of whole numbers, both ends in.
type Range struct{ Low, High int }

// SizeRanges are the strata of Angelopoulos et al. (RAPS, appendix E): 0–1, 2–3, 4–10, 11–100 and
// above.
var SizeRanges = []Range{{0, 1}, {2, 3}, {4, 10}, {11, 100}, {101, math.MaxInt}}

// EvaluateGroups is coverage and size within each group of samples, in ascending order of groups.
func EvaluateGroups(sets *Sets, labels, groups []int) ([]Stratum, error) {
	if len(groups) != sets.N {
		return nil, fmt.Errorf("%d groups for %d sets", len(groups), sets.N)
	}
	keys := slices.Clone(groups)
	slices.Sort(keys)
	var ranges []Range
	for _, g := range slices.Compact(keys) {
		ranges = append(ranges, Range{g, g})
	}
	return stratify(sets, labels, groups, ranges)
}

// EvaluateSizes is coverage by the size of the set. Strata without samples are left out.
func EvaluateSizes(sets *Sets, labels []int, ranges []Range) ([]Stratum, error) {
	return stratify(sets, labels, sets.Sizes(), ranges)
}

// EvaluateDifficulty is coverage by the rank of the true label in the model's order: the stratum
// of rank 1 are the samples the model gets right.
func EvaluateDifficulty(sets *Sets, p *Probs, labels []int, ranges []Range) ([]Stratum, error) {
	if p.N != sets.N || p.K != sets.K {
		return nil, fmt.Errorf("probabilities of %d rows of %d labels for %d sets over %d", p.N, p.K, sets.N, sets.K)
	}
	if err := checkLabels(labels, sets.N, sets.K); err != nil {
		return nil, err
	}
	ranks := make([]int, p.N)
	for i, y := range labels {
		ranks[i] = RankOf(p.Row(i), y)
	}
	return stratify(sets, labels, ranks, ranges)
}

func stratify(sets *Sets, labels, keys []int, ranges []Range) ([]Stratum, error) {
	if err := checkLabels(labels, sets.N, sets.K); err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	var out []Stratum
	for _, r := range ranges {
		n, in, total := 0, 0, 0
		for i, key := range keys {
			if key < r.Low || key > r.High {
				continue
			}
			n++
			total += sets.Size(i)
			if sets.Has(i, labels[i]) {
				in++
			}
		}
		if n > 0 {
			out = append(out, Stratum{Low: r.Low, High: r.High, Coverage: NewProportion(in, n, Confidence),
				MeanSize: float64(total) / float64(n)})
		}
	}
	return out, nil
}

// Violation is the largest gap |coverage − (1−ε)| over strata with at least least samples; over
// EvaluateSizes it is the size-stratified coverage violation (SSCV).
func Violation(strata []Stratum, level Level, least int) float64 {
	worst := 0.0
	for _, s := range strata {
		if s.Coverage.N >= max(1, least) {
			worst = max(worst, math.Abs(s.Coverage.Rate-(1-level.Float())))
		}
	}
	return worst
}

// SizeQuantile is the smallest size that at least the share q of the sets do not exceed; 0 for no
// sets.
func SizeQuantile(sets *Sets, q float64) int {
	sizes := sets.Sizes()
	if len(sizes) == 0 || math.IsNaN(q) {
		return 0
	}
	slices.Sort(sizes)
	at := int(math.Ceil(q*float64(len(sizes)))) - 1
	return sizes[max(0, min(len(sizes)-1, at))]
}
