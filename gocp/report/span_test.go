package report

import (
	"fmt"
	"math"
	"testing"

	"gonum.org/v1/plot"
)

var inf, nan = math.Inf(1), math.NaN()

// Right values of the one way in which a range is made from data.
func TestSpan(t *testing.T) {
	free, size, share, both := ends{}, ends{fromZero: true}, ends{toOne: true}, ends{true, true}
	ulp := math.Nextafter(2.5, 3)
	for _, c := range []struct {
		e         ends
		low, high float64
		lo, hi    float64
	}{
		{free, 0, 20, -1, 21},
		{free, 2.5, 2.5, 2.25, 2.75},       // one point
		{free, 2.5, ulp, 2.25, ulp + 0.25}, // a rounding error
		{free, 0, 0, -0.05, 0.05},          // nothing but zeros
		{free, 0, 5e-324, -0.05, 0.05},     // denormal
		{free, -1e300, 1e300, -1.1e300, 1.1e300},
		{free, 0, math.MaxFloat64, 0, 1}, // not drawable
		{free, inf, -inf, 0, 1},          // empty, as the library begins
		{free, -inf, 3, 0, 1},
		{free, nan, nan, 0, 1},
		{size, 1, 1, 0, 1.1},
		{size, 0, 0, 0, 0.05},
		{size, -2, -2, -2, -1.8},
		{share, 0.9, 1, 0.895, 1},
		{share, 1, 1, 0.9, 1},
		{share, 0, 0, 0, 1},
		{share, 3, 3, 2.7, 3},
		{both, 0.5, 0.6, 0, 1},
		{both, inf, -inf, 0, 1},
	} {
		lo, hi := c.e.span(c.low, c.high)
		if math.Abs(lo-c.lo) > 1e-12*math.Abs(c.lo) || math.Abs(hi-c.hi) > 1e-12*math.Abs(c.hi) {
			t.Errorf("%+v of %g to %g: %g to %g, want %g to %g", c.e, c.low, c.high, lo, hi, c.lo, c.hi)
		}
	}
}

// extremes are what an axis may be made from.
var extremes = []float64{0, math.Copysign(0, -1), 5e-324, 1e-310, 1e-300, 1e-9, 0.1, 1 / 3., 0.9, 1, math.Nextafter(1, 2), 1 + 1e-12, 1 + 1e-7, 2, 1e6, 1e7 + 1, 1e15, 1e300,
	math.Nextafter(1e300, inf), math.MaxFloat64, inf, nan}

// Whatever the data, an axis holds it, is wide enough to draw on, and has few ticks that differ.
func TestEverySpanIsDrawable(t *testing.T) {
	signs := []float64{-1, 1}
	for _, e := range []ends{{}, {fromZero: true}, {toOne: true}, {true, true}} {
		for _, a := range extremes {
			for _, b := range extremes {
				for _, s := range signs {
					for _, u := range signs {
						checkSpan(t, e, s*a, u*b)
					}
				}
			}
		}
	}
}

func checkSpan(t *testing.T, e ends, low, high float64) {
	t.Helper()
	what := fmt.Sprintf("%+v of %g to %g", e, low, high)
	lo, hi := e.span(low, high)
	switch {
	case !(hi > lo) || narrow(lo, hi) || math.IsInf(hi-lo, 0):
		t.Fatalf("%s: %g to %g is nothing to draw on", what, lo, hi)
	case finite(low, high) && low <= high && (lo > low || hi < high):
		t.Fatalf("%s: %g to %g leaves some out", what, lo, hi)
	}
	checkTicks(t, what, ticker{}.Ticks(lo, hi), lo, hi)
	checkTicks(t, what, ticker{}.Ticks(low, high), -inf, inf) // the library asks for whatever it holds
}

func checkTicks(t *testing.T, what string, at []plot.Tick, lo, hi float64) {
	t.Helper()
	if len(at) < 2 || len(at) > mostTicks {
		t.Fatalf("%s: %d ticks from %g to %g", what, len(at), lo, hi)
	}
	slack := (hi - lo) * 1e-6
	for i, k := range at {
		if k.Value < lo-slack || k.Value > hi+slack || len([]rune(k.Label)) > 16 || k.Label == "" {
			t.Fatalf("%s: tick %+v on an axis from %g to %g", what, k, lo, hi)
		}
		if i > 0 && k.Label == at[i-1].Label {
			t.Fatalf("%s: two ticks are called %s", what, k.Label)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   string
	}{
		{0, 1, "[0.0 0.2 0.4 0.6 0.8 1.0]"},
		{-0.03, 0.004, "[−0.03 −0.02 −0.01 0.00]"},
		{0.88, 0.92, "[0.88 0.89 0.90 0.91 0.92]"},
		{0, 100, "[0 20 40 60 80 100]"},
		{0, 0.06, "[0.00 0.01 0.02 0.03 0.04 0.05 0.06]"},
		{0, 15, "[0.0 2.5 5.0 7.5 10.0 12.5 15.0]"},
		{-5, 1e6, "[0 200000 400000 600000 800000 1000000]"},
		{1e-7, 2e-7, "[1.0e−7 1.2e−7 1.4e−7 1.6e−7 1.8e−7 2.0e−7]"},
		{-1e300, 1e300, "[−1.0e300 −0.5e300 0 0.5e300 1.0e300]"},
		{1e9, 1e9 + 3e3, "[1.0000000e9 1.0000005e9 1.0000010e9 1.0000015e9 1.0000020e9 1.0000025e9 1.0000030e9]"},
	} {
		var labels []string
		for _, k := range (ticker{}).Ticks(c.lo, c.hi) {
			labels = append(labels, k.Label)
		}
		if got := fmt.Sprint(labels); got != c.want {
			t.Errorf("%g to %g: %s, want %s", c.lo, c.hi, got, c.want)
		}
	}
}
