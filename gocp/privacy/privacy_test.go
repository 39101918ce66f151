package privacy

import (
	"math"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

// Opacus 1.6.0's RDP accountant, with the same orders (spec of this project's peers: run with noise, rate, steps, δ = 1e-5).
func TestAgainstOpacus(t *testing.T) {
	for _, c := range []struct {
		sigma, q float64
		steps    int
		want     float64
	}{
		{1, .01, 1000, 2.1013652716430564}, {1, .01, 10000, 6.712738297403128}, {.8, .02, 5000, 16.61243571778624},
	} {
		got, order, err := Epsilon(c.q, c.sigma, c.steps, 1e-5)
		if err != nil || math.Abs(got-c.want) > 1e-6 {
			t.Errorf("noise %g, rate %g, %d steps: ε = %.10f at order %g, want %.10f (%v)", c.sigma, c.q, c.steps, got, order, c.want, err)
		}
	}
}

// The definition: the integral by the trapezoidal rule, which is exact but for rounding on such functions.
func TestAgainstTheIntegral(t *testing.T) {
	for _, sigma := range []float64{.7, 1, 2.5} {
		for _, q := range []float64{.001, .03, .4, .9} {
			for _, alpha := range []float64{1.1, 2, 2.5, 4.7, 9, 10.9} {
				const h = 1e-3
				sum := 0.0
				for z := -20 * sigma; z < 20*sigma+alpha+10; z += h {
					sum += h * math.Exp(-z*z/(2*sigma*sigma)+alpha*math.Log((1-q)+q*math.Exp((2*z-1)/(2*sigma*sigma)))) / (sigma * math.Sqrt(2*math.Pi))
				}
				want, got := math.Log(sum)/(alpha-1), RDP(alpha, q, sigma)
				if math.Abs(got-want) > 1e-7*(1+want) {
					t.Errorf("σ = %g, q = %g, α = %g: %.12g, the integral is %.12g", sigma, q, alpha, got, want)
				}
			}
		}
	}
}

// Without subsampling it is the Gaussian mechanism, and near that what is next to it; more noise, fewer steps and
// smaller batches spend less.
func TestMonotone(t *testing.T) {
	if got, want := RDP(3.5, 1, 2), 3.5/8; math.Abs(got-want) > 1e-12 {
		t.Errorf("the Gaussian mechanism spends %g, want %g", got, want)
	}
	if a, b := RDP(3.5, 1-1e-9, 2), RDP(3.5, 1, 2); math.Abs(a-b) > 1e-6 {
		t.Errorf("rate nearly 1: %g, rate 1: %g", a, b)
	}
	at := func(q, sigma float64, steps int, delta float64) float64 {
		e, _, err := Epsilon(q, sigma, steps, delta)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	base := at(.02, 1, 500, 1e-5)
	if !(at(.02, 1.1, 500, 1e-5) < base && at(.02, 1, 400, 1e-5) < base && at(.01, 1, 500, 1e-5) < base && base < at(.02, 1, 500, 1e-6)) {
		t.Error("ε does not fall with noise, or rise with steps, rate and 1/δ")
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		q, sigma, delta float64
		steps           int
		want            string
	}{{-.1, 1, .1, 1, "probability"}, {math.NaN(), 1, .1, 1, "probability"}, {.1, 0, .1, 1, "noise"}, {.1, math.Inf(1), .1, 1, "noise"}, {.1, 1, 0, 1, "δ"}, {.1, 1, 1, 1, "δ"}, {.1, 1, .1, -1, "steps"}} {
		if _, _, err := Epsilon(c.q, c.sigma, c.steps, c.delta); err == nil || !usage.Is(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
