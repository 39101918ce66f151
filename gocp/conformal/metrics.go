package conformal

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Proportion is k of n with its exact confidence interval.
type Proportion struct {
	K    int     `json:"k"`
	N    int     `json:"n"`
	Rate float64 `json:"rate"` // k/n, 0 for n = 0
	Low  float64 `json:"low"`  // Clopper–Pearson, at the confidence asked for
	High float64 `json:"high"`
}

// NewProportion returns k/n with its Clopper–Pearson interval at the given confidence.
func NewProportion(k, n int, confidence float64) Proportion {
	p := Proportion{K: k, N: n}
	if n > 0 {
		p.Rate = float64(k) / float64(n)
	}
	p.Low, p.High = ClopperPearson(k, n, confidence)
	return p
}

// ClopperPearson is the exact confidence interval of a binomial proportion after k of n:
// the quantiles α/2 of Beta(k, n−k+1) and 1−α/2 of Beta(k+1, n−k), α = 1 − confidence. Its
// coverage is never below the confidence. Arguments outside 0 ≤ k ≤ n, 0 < confidence < 1 give
// the interval that says nothing, [0, 1].
func ClopperPearson(k, n int, confidence float64) (low, high float64) {
	low, high = 0, 1
	if k < 0 || n < 1 || k > n || !(confidence > 0 && confidence < 1) {
		return low, high
	}
	a := (1 - confidence) / 2
	if k > 0 {
		low = distuv.Beta{Alpha: float64(k), Beta: float64(n - k + 1)}.Quantile(a)
	}
	if k < n {
		high = distuv.Beta{Alpha: float64(k + 1), Beta: float64(n - k)}.Quantile(1 - a)
	}
	return low, high
}

// CoverageLaw is the exact law of test coverage under exchangeability. With n calibration scores
// without ties and rank r, coverage given the calibration part is Beta(r, n+1−r) distributed, and
// the number of M test samples covered is Beta–binomial(M, r, n+1−r) (Vovk 2012). Ties only raise
// coverage. With r = n+1 everything is covered.
type CoverageLaw struct {
	N    int // calibration scores
	Rank int // r = ⌈(n+1)(1−ε)⌉
	M    int // test samples
}

// Mean is the expected coverage, r/(n+1).
func (l CoverageLaw) Mean() float64 { return float64(l.Rank) / float64(l.N+1) }

// StdDev is the standard deviation of the share of the M test samples that is covered.
func (l CoverageLaw) StdDev() float64 {
	if l.M == 0 || l.Rank > l.N {
		return 0
	}
	a, b := float64(l.Rank), float64(l.N+1-l.Rank)
	m := float64(l.M)
	return math.Sqrt(a * b * (a + b + m) / ((a + b) * (a + b) * (a + b + 1) * m))
}

// Prob is P(exactly k of M are covered).
func (l CoverageLaw) Prob(k int) float64 {
	if k < 0 || k > l.M {
		return 0
	}
	if l.Rank > l.N {
		if k == l.M {
			return 1
		}
		return 0
	}
	a, b := float64(l.Rank), float64(l.N+1-l.Rank)
	kf, m := float64(k), float64(l.M)
	return math.Exp(lchoose(m, kf) + lbeta(kf+a, m-kf+b) - lbeta(a, b))
}

// Band is the central interval of counts [low, high] that holds at least the given mass: at most
// (1−mass)/2 lies below low, and as much above high.
func (l CoverageLaw) Band(mass float64) (low, high int) {
	tail := (1 - mass) / 2
	low, high = 0, l.M
	below := l.Prob(0)
	for low < l.M && below <= tail {
		low++
		below += l.Prob(low)
	}
	above := l.Prob(l.M)
	for high > low && above <= tail {
		high--
		above += l.Prob(high)
	}
	return low, high
}

func lgamma(x float64) float64     { v, _ := math.Lgamma(x); return v }
func lbeta(a, b float64) float64   { return lgamma(a) + lgamma(b) - lgamma(a+b) }
func lchoose(n, k float64) float64 { return lgamma(n+1) - lgamma(k+1) - lgamma(n-k+1) }

// Metrics is what test sets show.
type Metrics struct {
	N         int          `json:"n"`
	Coverage  Proportion   `json:"coverage"`
	MeanSize  float64      `json:"mean_size"`
	Sizes     []int        `json:"sizes"`   // number of sets of size 0 … K
	Classes   []Proportion `json:"classes"` // coverage by true label
	Empty     int          `json:"empty"`
	Singleton int          `json:"singleton"`
	Filled    int          `json:"filled"` // empty sets that got the top label
}

// Confidence of the intervals in Metrics.
const Confidence = 0.95

// Evaluate holds sets against the true labels.
func Evaluate(sets *Sets, labels []int) (Metrics, error) {
	if err := checkLabels(labels, sets.N, sets.K); err != nil {
		return Metrics{}, fmt.Errorf("evaluate: %w", err)
	}
	m := Metrics{N: sets.N, Sizes: make([]int, sets.K+1), Filled: sets.Filled}
	in, all := make([]int, sets.K), make([]int, sets.K)
	covered, total := 0, 0
	for i, y := range labels {
		size := sets.Size(i)
		m.Sizes[size]++
		total += size
		all[y]++
		if sets.Has(i, y) {
			in[y]++
			covered++
		}
	}
	m.Empty = m.Sizes[0]
	m.Singleton = m.Sizes[1]
	if m.N > 0 {
		m.MeanSize = float64(total) / float64(m.N)
	}
	m.Coverage = NewProportion(covered, m.N, Confidence)
	for y := range all {
		m.Classes = append(m.Classes, NewProportion(in[y], all[y], Confidence))
	}
	return m, nil
}
