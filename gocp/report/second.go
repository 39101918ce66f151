package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/gocp/gocp/gocp/result"
)

// secondOrder says which system a second-order attack solved, and what the solves of all repeats and surrogates saw;
// nothing of first order.
func secondOrder(r *result.Result) string {
	o := r.Config.Craft.Second
	if o == nil {
		return ""
	}
	order := "second order"
	if o.Mode == "exact" {
		order += " (exact: a solve in every step, too)"
	}
	name := map[string]string{"ggn": "Gauss–Newton matrix", "hessian": "Hessian"}[o.Curvature]
	if name == "" {
		name = o.Curvature
	}
	var solves []result.Solve
	for i := range r.Repeats {
		solves = append(solves, r.Repeats[i].Poisons.Solves...)
	}
	if len(solves) == 0 {
		return fmt.Sprintf("%s, %s, λ %s, %s", order, name, o.Damping, o.Solver)
	}
	span := func(of func(s *result.Solve) result.Number) string {
		low, high := math.Inf(1), math.Inf(-1)
		for i := range solves {
			low, high = math.Min(low, of(&solves[i]).Float()), math.Max(high, of(&solves[i]).Float())
		}
		a, b := short(low), short(high)
		if a == b {
			return a
		}
		return a + " to " + b
	}
	whole := func(of func(s *result.Solve) int) string {
		return span(func(s *result.Solve) result.Number { return result.Number(of(s)) })
	}
	by := o.Solver
	if o.Precond != "" && o.Precond != "none" {
		by = o.Precond + "-preconditioned " + by
	}
	damping := span(func(s *result.Solve) result.Number { return s.Damping })
	if o.Damping == "auto" {
		damping += " (auto)"
	}
	t := fmt.Sprintf("%s, %s of %s images, λ %s; %s by %s: %s iterations, residual %s, curvature %s at least, cosine with ∇ℓ₃ %s",
		order, name, whole(func(s *result.Solve) int { return s.Images }), damping, plural(len(solves), "solve"), by,
		whole(func(s *result.Solve) int { return s.Iterations }), span(func(s *result.Solve) result.Number { return s.Residual }),
		span(func(s *result.Solve) result.Number { return s.Least }), span(func(s *result.Solve) result.Number { return s.Cosine }))
	for _, stopped := range []string{"negative curvature", "rounding"} {
		n := 0
		for _, s := range solves {
			if s.Stopped == stopped {
				n++
			}
		}
		if n > 0 {
			t += fmt.Sprintf("; %s ended %s", stopped, plural(n, "solve"))
		}
	}
	return t
}

// short is x with two significant digits.
func short(x float64) string { return general(result.Number(roundTo(x, 2))) }

// roundTo keeps so many significant digits, and all of a whole number's.
func roundTo(x float64, digits int) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) || x == math.Trunc(x) && math.Abs(x) < 1e6 {
		return x
	}
	scale := math.Pow(10, float64(digits-1)-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*scale) / scale
}

// wrapped breaks a line at spaces so that none is longer than width, as long as words allow it.
func wrapped(text string, width int) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n")
			at = 0
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
