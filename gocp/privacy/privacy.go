// Package privacy says how much privacy training by noisy gradients spends: the accountant of the subsampled
// Gaussian mechanism in Rényi differential privacy.
//
// A step that takes each sample with probability q, sums their gradients cut to norm C and adds normal noise of
// standard deviation σC spends, at order α > 1,
//
//	RDP(α) = log A_α / (α−1),  A_α = E_{z ~ N(0, σ²)} [((1−q) + q exp((2z−1)/2σ²))^α]
//
// of neighbours that differ by one added or removed sample. Steps add up, and RDP(α) means (ε, δ) with
// ε = RDP(α) + log((α−1)/α) − (log δ + log α)/(α−1); the least over the orders is what was spent.
//
// Sources: Mironov, Talwar and Zhang, "Rényi Differential Privacy of the Sampled Gaussian Mechanism", 2019, section 3.3;
// Balle et al., "Hypothesis Testing Interpretations and Rényi Differential Privacy", AISTATS 2020, theorem 21.
package privacy

import (
	"math"

	"github.com/gocp/gocp/gocp/usage"
)

// Orders are those at which privacy is reckoned: 1.1 to 10.9 in tenths, and 12 to 63.
func Orders() []float64 {
	var out []float64
	for tenth := 11; tenth < 110; tenth++ {
		out = append(out, float64(tenth)/10)
	}
	for a := 12; a < 64; a++ {
		out = append(out, float64(a))
	}
	return out
}

// Epsilon is ε at δ after so many steps that take each sample with probability q and add noise of sigma times the
// clipping norm, with the order at which it is least.
func Epsilon(q, sigma float64, steps int, delta float64) (epsilon, order float64, err error) {
	switch {
	case !(q >= 0 && q <= 1):
		return 0, 0, usage.Errorf("privacy: samples are taken with probability %g; it must be 0 to 1", q)
	case !(sigma > 0) || math.IsInf(sigma, 1):
		return 0, 0, usage.Errorf("privacy: noise of %g times the clipping norm; it must be above 0 for any privacy", sigma)
	case !(delta > 0 && delta < 1):
		return 0, 0, usage.Errorf("privacy: δ is %g; it must be above 0 and below 1", delta)
	case steps < 0:
		return 0, 0, usage.Errorf("privacy: %d steps; it must be 0 or more", steps)
	}
	epsilon = math.Inf(1)
	for _, a := range Orders() {
		e := float64(steps)*RDP(a, q, sigma) + math.Log((a-1)/a) - (math.Log(delta)+math.Log(a))/(a-1)
		if e < epsilon {
			epsilon, order = e, a
		}
	}
	return max(epsilon, 0), order, nil
}

// RDP is what one step spends at order alpha > 1.
func RDP(alpha, q, sigma float64) float64 {
	switch {
	case q == 0:
		return 0
	case q == 1: // the plain Gaussian mechanism
		return alpha / (2 * sigma * sigma)
	case alpha == math.Floor(alpha):
		return whole(int(alpha), q, sigma) / (alpha - 1)
	}
	return fractional(alpha, q, sigma) / (alpha - 1)
}

// whole is log A_α of a whole order: Σ_k binom(α,k) (1−q)^(α−k) q^k exp((k²−k)/2σ²).
func whole(alpha int, q, sigma float64) float64 {
	sum, a := math.Inf(-1), float64(alpha)
	for k := range alpha + 1 {
		i := float64(k)
		sum = logAdd(sum, logBinomial(a, i)+i*math.Log(q)+(a-i)*math.Log1p(-q)+(i*i-i)/(2*sigma*sigma))
	}
	return sum
}

// fractional is log A_α of any order: the integral is cut at z₀, where both terms of the bracket are equal, and on
// either side the power is expanded in the smaller one. Terms of the series have signs.
func fractional(alpha, q, sigma float64) float64 {
	z0 := sigma*sigma*math.Log(1/q-1) + 0.5
	root := math.Sqrt2 * sigma
	left, right := logSum{}, logSum{}
	for i := 0.0; ; i++ {
		j := alpha - i
		log, sign := logAbsBinomial(alpha, i)
		l := log + i*math.Log(q) + j*math.Log1p(-q) + (i*i-i)/(2*sigma*sigma) + logErfc((i-z0)/root) - math.Ln2
		r := log + j*math.Log(q) + i*math.Log1p(-q) + (j*j-j)/(2*sigma*sigma) + logErfc((z0-j)/root) - math.Ln2
		left.add(l, sign)
		right.add(r, sign)
		if max(l, r) < -40 && i > alpha { // from there on terms alternate and fall
			break
		}
	}
	return logAdd(left.value(), right.value())
}

// A logSum is a sum of signed terms that are given by their logarithms.
type logSum struct{ plus, minus []float64 }

func (s *logSum) add(log float64, sign int) {
	if sign > 0 {
		s.plus = append(s.plus, log)
	} else if sign < 0 {
		s.minus = append(s.minus, log)
	}
}

func (s *logSum) value() float64 {
	all := func(v []float64) float64 {
		sum := math.Inf(-1)
		for _, x := range v {
			sum = logAdd(sum, x)
		}
		return sum
	}
	a, b := all(s.plus), all(s.minus)
	if b >= a {
		return math.Inf(-1)
	}
	return a + math.Log1p(-math.Exp(b-a))
}

func logAdd(a, b float64) float64 {
	if b > a {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

func logBinomial(a, k float64) float64 {
	log, _ := logAbsBinomial(a, k)
	return log
}

// logAbsBinomial is the logarithm of |binom(a,k)| of a real a and a whole k, and its sign.
func logAbsBinomial(a, k float64) (float64, int) {
	x, sx := math.Lgamma(a + 1)
	y, _ := math.Lgamma(k + 1)
	z, sz := math.Lgamma(a - k + 1)
	return x - y - z, sx * sz
}

// logErfc is log erfc(x); far out by its asymptotic series (DLMF 7.12.1).
func logErfc(x float64) float64 {
	if x < 20 {
		return math.Log(math.Erfc(x))
	}
	t := 1 / (2 * x * x)
	return -x*x - math.Log(x) - math.Log(math.Pi)/2 + math.Log(1-t+3*t*t-15*t*t*t)
}
