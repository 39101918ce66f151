package conformal

import (
	"fmt"
	"math"
	"math/big"

	"gonum.org/v1/gonum/stat/distuv"
)

// Correction says how RSCP accounts for having only n_s draws of the noise.
type Correction string

const (
	// CorrectNone is RSCP as published, which treats the mean over draws as the expectation.
	CorrectNone Correction = "none"
	// CorrectHoeffding is RSCP+ with Hoeffding's bound, b = √(ln(1/β)/(2 n_s)).
	CorrectHoeffding Correction = "hoeffding"
	// CorrectBernstein is RSCP+ with the empirical Bernstein bound of Maurer and Pontil,
	// b = √(2 V ln(2/β)/n_s) + 7 ln(2/β)/(3(n_s − 1)), V the draws' variance.
	CorrectBernstein Correction = "bernstein"
)

// RSCP is randomised-smoothing conformal prediction over a base score S in [0, 1]. With draws
// g_1 … g_m of standard Gaussian noise on the input and Ŝ(x, y) = mean_j S(x + σ g_j, y),
//
//	S̃(x, y) = Φ⁻¹(Ŝ(x, y))
//
// moves by at most δ/σ when x moves by δ in ℓ2, if Ŝ were the exact expectation. So calibrating
// on clean samples and accepting y where S̃(x, y) − δ/σ ≤ τ covers inputs moved by up to δ
// (Gendler, Weng, Daniel, Romano, ICLR 2022).
//
// With m draws that is a claim about Ŝ, not about the expectation. RSCP+ (Yan, Romano, Weng, ICLR
// 2024) makes it hold: calibrate Ŝ + b at miscoverage ε − 2β, and accept where
// Φ⁻¹(Ŝ(x, y) − b) − δ/σ ≤ Φ⁻¹(τ). Of the 2β, one β is for the clean true label's Ŝ, one for the
// moved one's; the bound b may be the sample's own, which Bernstein's is.
//
// A base score of another range, known by Bounded, is brought to [0, 1] by an affine map, which
// changes no order.
type RSCP struct {
	Base       Variant    `json:"base"`
	Sigma      float64    `json:"sigma"`      // scale of the noise, in the input's units
	Correction Correction `json:"correction"` // empty means none
	Beta       Level      `json:"beta"`       // failure probability of one bound, with a correction
}

func (r RSCP) corrected() bool { return r.Correction != "" && r.Correction != CorrectNone }

func (r RSCP) check() error {
	if !(r.Sigma > 0) || math.IsInf(r.Sigma, 1) {
		return fmt.Errorf("rscp: sigma is %v: it must be finite and above 0", r.Sigma)
	}
	switch r.Correction {
	case "", CorrectNone:
	case CorrectHoeffding, CorrectBernstein:
		if r.Beta.eps == nil {
			return fmt.Errorf("rscp: the correction %s needs a beta", r.Correction)
		}
	default:
		return fmt.Errorf("rscp: unknown correction %q: known are none, hoeffding, bernstein", clip(string(r.Correction)))
	}
	return nil
}

// Level is the miscoverage to calibrate at: ε, or ε − 2β.
func (r RSCP) Level(eps Level) (Level, error) {
	if eps.eps == nil || !r.corrected() {
		return eps, nil
	}
	left := new(big.Rat).Mul(r.Beta.eps, big.NewRat(2, 1))
	left.Sub(eps.eps, left)
	if left.Sign() <= 0 {
		return Level{}, fmt.Errorf("rscp: twice the beta %s leaves nothing of the miscoverage %s", r.Beta, eps)
	}
	return Level{text: left.RatString(), eps: left}, nil
}

// Smoothed holds the smoothed scores of n rows over k labels.
type Smoothed struct {
	N, K  int
	Draws int
	Mean  []float64 // Ŝ, in [0, 1]
	Bound []float64 // b of each entry, 0 without a correction
	sigma float64
}

// Smooth averages the base score over draws: one table of probabilities for each draw of the
// noise, all of the same shape. u[j] are the draws of u for the rows of draws[j]; u is nil for a base
// that is not randomised. With Variant.RowUniforms the base is a function of the noisy input, as the
// smoothing wants it.
func (r RSCP) Smooth(draws []*Probs, u [][]float64) (*Smoothed, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	s, err := NewScorer(r.Base)
	if err != nil {
		return nil, err
	}
	b, ok := s.score.(Bounded)
	if !ok {
		return nil, fmt.Errorf("rscp: the base score %s has no known range", s.variant)
	}
	m := len(draws)
	if m == 0 || m < 2 && r.Correction == CorrectBernstein {
		return nil, fmt.Errorf("rscp: %d draws of the noise are too few", m)
	}
	if u == nil {
		u = make([][]float64, m)
	}
	if len(u) != m {
		return nil, fmt.Errorf("rscp: %d draws of the noise, and draws of u for %d", m, len(u))
	}
	n, k := draws[0].N, draws[0].K
	out := &Smoothed{N: n, K: k, Draws: m, Mean: make([]float64, n*k), Bound: make([]float64, n*k), sigma: r.Sigma}
	low, high := b.Bounds(k)
	spread := make([]float64, n*k) // Σ (S − mean)², by Welford
	for j, p := range draws {
		if p.N != n || p.K != k {
			return nil, fmt.Errorf("rscp: draw %d has %d rows of %d labels, the first has %d of %d", j, p.N, p.K, n, k)
		}
		err := s.each(p, u[j], func(i int, scores []float64) {
			for y, v := range scores {
				v = max(0, min(1, (v-low)/(high-low)))
				at := i*k + y
				d := v - out.Mean[at]
				out.Mean[at] += d / float64(j+1)
				spread[at] += d * (v - out.Mean[at])
			}
		})
		if err != nil {
			return nil, fmt.Errorf("rscp: draw %d: %w", j, err)
		}
	}
	switch r.Correction {
	case CorrectHoeffding:
		for i := range out.Bound {
			out.Bound[i] = math.Sqrt(math.Log(1/r.Beta.Float()) / (2 * float64(m)))
		}
	case CorrectBernstein:
		l := math.Log(2 / r.Beta.Float())
		for i := range out.Bound {
			v := spread[i] / float64(m-1)
			out.Bound[i] = math.Sqrt(2*v*l/float64(m)) + 7*l/(3*float64(m-1))
		}
	}
	return out, nil
}

var gauss = distuv.UnitNormal

// probit is Φ⁻¹, ±∞ at and beyond the ends.
func probit(p float64) float64 {
	switch {
	case p <= 0:
		return math.Inf(-1)
	case p >= 1:
		return math.Inf(1)
	}
	return gauss.Quantile(p)
}

// Score is S̃ of row i and label y: Φ⁻¹(Ŝ).
func (s *Smoothed) Score(i, y int) float64 { return probit(s.Mean[i*s.K+y]) }

// Calibrate returns τ in units of S̃ from clean calibration samples: that of Φ⁻¹(Ŝ + b) at
// miscoverage ε − 2β, or of Φ⁻¹(Ŝ) at ε without a correction.
func (r RSCP) Calibrate(s *Smoothed, labels []int, eps Level) (Threshold, error) {
	if err := r.check(); err != nil {
		return Threshold{}, err
	}
	if err := checkLabels(labels, s.N, s.K); err != nil {
		return Threshold{}, fmt.Errorf("rscp: %w", err)
	}
	level, err := r.Level(eps)
	if err != nil {
		return Threshold{}, err
	}
	scores := make([]float64, s.N)
	for i, y := range labels {
		scores[i] = probit(s.Mean[i*s.K+y] + s.Bound[i*s.K+y])
	}
	return Calibrate(scores, level)
}

// Predict returns the sets that cover inputs moved by up to delta in ℓ2: labels y with
// Φ⁻¹(Ŝ − b) − δ/σ ≤ τ.
func (r RSCP) Predict(s *Smoothed, t Threshold, delta float64) (*Sets, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if !(delta >= 0) {
		return nil, fmt.Errorf("rscp: the radius is %v: it must be at least 0", delta)
	}
	sets := NewSets(s.N, s.K)
	for i := range s.N {
		for y := range s.K {
			at := i*s.K + y
			if probit(s.Mean[at]-s.Bound[at])-delta/r.Sigma <= t.Tau {
				sets.Add(i, y)
			}
		}
	}
	return sets, nil
}

// Radius is how far in ℓ2 the input of row i can move before label y can enter or leave the set
// {S̃ ≤ τ}, and whether it is inside now: σ·|S̃ − τ|. It speaks of the exact expectation; with
// bounds in s it is lowered so that it holds for the expectation with probability 1−β for each
// label, and is 0 when the bound does not settle on which side the label is.
func (s *Smoothed) Radius(t Threshold, i, y int) (radius float64, in bool) {
	at := i*s.K + y
	in = probit(s.Mean[at]) <= t.Tau
	gap := probit(s.Mean[at]-s.Bound[at]) - t.Tau
	if in {
		gap = t.Tau - probit(s.Mean[at]+s.Bound[at])
	}
	if math.IsNaN(gap) { // both infinite: nothing can be said
		return 0, in
	}
	return max(0, gap*s.sigma), in
}
