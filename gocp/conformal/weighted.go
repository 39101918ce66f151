package conformal

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"sort"
)

// Weighted holds calibration scores with weights w_i, the likelihood ratio of the test law to the
// calibration law at x_i, up to a factor. For a test sample of weight w its threshold is
//
//	τ = min { s_(j) : Σ_{i: s_i ≤ s_(j)} w_i ≥ (1−ε)·(Σ_i w_i + w) },
//
// +∞ if there is none. With equal weights this is Calibrate's order statistic. Tibshirani, Foygel
// Barber, Candès, Ramdas, NeurIPS 2019.
//
// Sums of weights are kept to twice the precision of a float64 and compared with the rational ε
// exactly, so that a weight more or less is never a matter of rounding.
type Weighted struct {
	scores []float64 // ascending, without repetitions
	high   []float64 // Σ of weights up to each score, its leading part
	low    []float64 // and the rest
}

// NewWeighted sorts scores and sums weights. A NaN score, or a weight that is negative or not
// finite, is an error that names the row.
func NewWeighted(scores, weights []float64) (*Weighted, error) {
	if len(scores) != len(weights) {
		return nil, fmt.Errorf("%d weights for %d calibration scores", len(weights), len(scores))
	}
	order := make([]int, len(scores))
	for i, s := range scores {
		if math.IsNaN(s) {
			return nil, fmt.Errorf("calibration score of row %d is NaN", i)
		}
		if err := checkWeight(weights[i]); err != nil {
			return nil, fmt.Errorf("weight of calibration row %d: %w", i, err)
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case scores[a] < scores[b]:
			return -1
		case scores[a] > scores[b]:
			return 1
		}
		return 0
	})
	w := &Weighted{}
	var high, low float64
	for _, i := range order {
		high, low = addTo(high, low, weights[i])
		if !(high <= math.MaxFloat64) {
			return nil, fmt.Errorf("the weights sum to more than a float64 holds")
		}
		if n := len(w.scores); n > 0 && w.scores[n-1] == scores[i] {
			w.high[n-1], w.low[n-1] = high, low
			continue
		}
		w.scores = append(w.scores, scores[i])
		w.high = append(w.high, high)
		w.low = append(w.low, low)
	}
	return w, nil
}

func checkWeight(w float64) error {
	if !(w >= 0) || math.IsInf(w, 1) {
		return fmt.Errorf("%v: it must be finite and at least 0", w)
	}
	return nil
}

// addTo adds w to the unevaluated sum high + low, by Knuth's two-sum.
func addTo(high, low, w float64) (float64, float64) {
	s := high + w
	b := s - high
	low += (high - (s - b)) + (w - b)
	h := s + low
	return h, low - (h - s)
}

// sumPrecision holds two float64s and any sum of theirs that is not absurdly wide.
const sumPrecision = 400

// Tau returns the threshold of a test sample of weight w.
func (c *Weighted) Tau(w float64, level Level) (float64, error) {
	if level.eps == nil {
		return 0, fmt.Errorf("the miscoverage is not set")
	}
	if err := checkWeight(w); err != nil {
		return 0, fmt.Errorf("weight of the test sample: %w", err)
	}
	n := len(c.scores)
	if n == 0 {
		return math.Inf(1), nil
	}
	b := level.eps.Denom()
	num, den := new(big.Float).SetInt(new(big.Int).Sub(b, level.eps.Num())), new(big.Float).SetInt(b)
	exact := func(i int) *big.Float {
		x := new(big.Float).SetPrec(sumPrecision).SetFloat64(c.high[i])
		return x.Add(x, new(big.Float).SetFloat64(c.low[i]))
	}
	need := exact(n - 1)
	need.Add(need, new(big.Float).SetFloat64(w))
	if need.Sign() == 0 {
		return math.Inf(1), nil // no weight anywhere: nothing is known
	}
	need.Mul(need, num)
	j := sort.Search(n, func(i int) bool { x := exact(i); return x.Mul(x, den).Cmp(need) >= 0 })
	if j == n {
		return math.Inf(1), nil
	}
	return c.scores[j], nil
}

// PredictWeighted returns the sets of test samples with the given weights, each at its own
// threshold.
func (s *Scorer) PredictWeighted(p *Probs, u []float64, cal *Weighted, weights []float64, level Level) (*Sets, error) {
	if len(weights) != p.N {
		return nil, fmt.Errorf("%d weights for %d rows", len(weights), p.N)
	}
	taus := make([]float64, p.N)
	for i, w := range weights {
		var err error
		if taus[i], err = cal.Tau(w, level); err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
	}
	return s.predict(p, u, func(i int) limits { return limits{tau: taus[i]} })
}
