package conformal

import (
	"fmt"
	"math"
	"slices"
)

// Lambdas is the grid that TuneRAPS and TuneSAPS search, from weak to strong.
var Lambdas = []float64{0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1}

// Tuning records how a parameter was chosen.
type Tuning struct {
	N        int       `json:"n"` // samples of the held-out part
	Lambdas  []float64 `json:"lambdas"`
	MeanSize []float64 `json:"mean_size"` // of the sets at each λ, on the held-out part
}

// TuneRAPS fills in the λ and k_reg of a variant (RAPS's "auto"). k_reg is the rank that the true
// label does not exceed at the level asked for: the ⌈(n+1)(1−ε)⌉-th smallest rank of a true label,
// K when n is too small. λ is that of Lambdas whose sets are the smallest on average, the weaker
// of equals. The part must be disjoint from the one that calibrates: calibrating on scores that
// were tuned on the same samples voids the guarantee. Angelopoulos et al., ICLR 2021, appendix E.
func TuneRAPS(v Variant, p *Probs, labels []int, u []float64, level Level) (Variant, Tuning, error) {
	if v.Name != "raps" {
		return v, Tuning{}, fmt.Errorf("tuning λ and k_reg: the score is %q, not raps", clip(v.Name))
	}
	if err := checkLabels(labels, p.N, p.K); err != nil {
		return v, Tuning{}, fmt.Errorf("tuning: %w", err)
	}
	r, err := level.Rank(p.N)
	if err != nil {
		return v, Tuning{}, fmt.Errorf("tuning: %w", err)
	}
	v.KReg = p.K
	if r <= p.N {
		ranks := make([]int, p.N)
		for i, y := range labels {
			ranks[i] = RankOf(p.Row(i), y)
		}
		slices.Sort(ranks)
		v.KReg = ranks[r-1]
	}
	return tuneLambda(v, p, labels, u, level)
}

// TuneSAPS fills in the λ of SAPS in the same way.
func TuneSAPS(v Variant, p *Probs, labels []int, u []float64, level Level) (Variant, Tuning, error) {
	if v.Name != "saps" {
		return v, Tuning{}, fmt.Errorf("tuning λ: the score is %q, not saps", clip(v.Name))
	}
	return tuneLambda(v, p, labels, u, level)
}

func tuneLambda(v Variant, p *Probs, labels []int, u []float64, level Level) (Variant, Tuning, error) {
	t := Tuning{N: p.N, Lambdas: slices.Clone(Lambdas)}
	best := math.Inf(1)
	chosen := v
	for _, lambda := range Lambdas {
		try := v
		try.Lambda = lambda
		s, err := NewScorer(try)
		if err != nil {
			return v, t, err
		}
		th, err := s.Calibrate(p, labels, u, level)
		if err != nil {
			return v, t, fmt.Errorf("tuning: %w", err)
		}
		sets, err := s.Predict(p, u, th)
		if err != nil {
			return v, t, fmt.Errorf("tuning: %w", err)
		}
		total := 0
		for _, size := range sets.Sizes() {
			total += size
		}
		mean := float64(total) / float64(max(1, p.N))
		t.MeanSize = append(t.MeanSize, mean)
		if mean < best {
			best, chosen = mean, try
		}
	}
	return chosen, t, nil
}

// RankOf is the rank of label y, from 1, in the order of Row.
func RankOf(p []float64, y int) int {
	rank := 1
	for j, v := range p {
		if before(v, j, p[y], y) {
			rank++
		}
	}
	return rank
}
