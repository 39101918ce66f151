package report

import (
	"math"
	"strconv"

	"gonum.org/v1/plot"

	"github.com/gocp/gocp/gocp/result"
)

// Whatever is drawn to scale is scaled by the ends of an axis, and they come from data: from one point,
// from values that are all equal or differ by a rounding error, from infinity, or from nothing. All of
// that goes through this file.

// drawable bounds what is drawn; beyond it differences of values are not finite.
const drawable = 1e300

// An axis no wider than this share of its values shows one value: its ticks would want more digits
// than there is room for.
const narrowest = 1e-6

// finite tells whether all of x can be drawn.
func finite(x ...float64) bool {
	for _, v := range x {
		if !(math.Abs(v) <= drawable) {
			return false
		}
	}
	return true
}

// fromZero and toOne are ends of an axis, whatever the data; values beyond them move them.
type ends struct{ fromZero, toOne bool }

// span are the ends of an axis that shows values from low to high with a twentieth of room at each
// side. It is never empty: one value gets a tenth of itself, nothing gets 0 to 1.
func (e ends) span(low, high float64) (lo, hi float64) {
	switch {
	case !finite(low, high) || low > high:
		low, high, lo, hi = 0, 1, 0, 1
	case narrow(low, high):
		d := max(math.Abs(high)/10, 0.05)
		lo, hi = low-d, high+d
	default:
		d := (high - low) / 20
		lo, hi = low-d, high+d
	}
	if e.fromZero {
		lo = min(low, 0)
	}
	if e.toOne {
		hi = max(high, 1)
		if low >= 0 {
			lo = max(lo, 0)
		}
	}
	return lo, hi
}

// narrow tells whether two values are one as far as a drawing can show.
func narrow(low, high float64) bool {
	return high-low <= max(narrowest*max(math.Abs(low), math.Abs(high)), 1/drawable)
}

// fit sets the ends of an axis to the span of what it holds.
func fit(a *plot.Axis, e ends) { a.Min, a.Max = e.span(a.Min, a.Max) }

// ticker puts about six ticks at multiples of 1, 2, 2.5 or 5 times a power of ten, with equal
// decimals and a proper minus sign. The library's own are three whatever the room, at any multiple.
type ticker struct{}

const mostTicks = 12

func (ticker) Ticks(lo, hi float64) []plot.Tick {
	if !finite(lo/2, hi/2) || lo >= hi || narrow(lo, hi) { // half, for the room beside what can be drawn
		lo, hi = ends{}.span(lo, hi)
	}
	raw := (hi - lo) / 6
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, m := range []float64{5, 2.5, 2, 1} {
		if m*power >= raw*0.999 {
			step = m * power
		}
	}
	label := tickLabel(step, max(math.Abs(lo), math.Abs(hi)))
	var at []plot.Tick
	for i := math.Ceil(lo/step - 1e-9); i*step <= hi+1e-9*step && len(at) < mostTicks; i++ {
		at = append(at, plot.Tick{Value: i * step, Label: label(i * step)})
	}
	return at
}

// tickLabel writes multiples of step up to most, with powers of ten where there is no room for digits.
func tickLabel(step, most float64) func(float64) string {
	digits := func(unit float64) int { // decimals that a multiple of step needs, in units
		d := max(0, -int(math.Floor(math.Log10(step/unit)+1e-9)))
		if s := step / unit * math.Pow10(d); math.Abs(s-math.Round(s)) > 1e-6 {
			d++ // 2.5 and the like
		}
		return d
	}
	if most < longest/10 && step >= 1e-5 {
		d := digits(1)
		return func(v float64) string { return num(result.Number(v), d) }
	}
	exponent := int(math.Floor(math.Log10(most)))
	unit := math.Pow(10, float64(exponent))
	d := digits(unit)
	return func(v float64) string {
		if v == 0 {
			return "0"
		}
		return num(result.Number(v/unit), d) + "e" + minus(strconv.Itoa(exponent))
	}
}
