package report

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/result"
)

// svg is a drawing under construction. Colours and fonts come from the page's CSS by class, so
// that one drawing serves light, dark and print.
type svg struct {
	b    strings.Builder
	w, h float64
}

func newSVG(w, h float64, label string) *svg {
	s := &svg{w: w, h: h}
	fmt.Fprintf(&s.b, `<svg viewBox="0 0 %s %s" role="img" aria-label="%s">`, co(w), co(h), template.HTMLEscapeString(label))
	return s
}

func (s *svg) html() template.HTML { return template.HTML(s.b.String() + "</svg>") }

// co writes a coordinate with at most two decimals.
func co(x float64) string {
	return strconv.FormatFloat(math.Round(x*100)/100+0, 'f', -1, 64) // +0 removes −0
}

func (s *svg) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&s.b, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, co(x1), co(y1), co(x2), co(y2))
}

func (s *svg) rect(class string, x, y, w, h, r float64) {
	fmt.Fprintf(&s.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="%s"/>`, class, co(x), co(y), co(math.Max(0, w)), co(math.Max(0, h)), co(r))
}

// text writes t at (x, y); anchor is start, middle or end.
func (s *svg) text(class, anchor string, x, y float64, t string) {
	fmt.Fprintf(&s.b, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, co(x), co(y), template.HTMLEscapeString(t))
}

func (s *svg) polyline(class string, x, y []float64) {
	fmt.Fprintf(&s.b, `<polyline class="%s" points="`, class)
	for i := range x {
		if i > 0 {
			s.b.WriteByte(' ')
		}
		s.b.WriteString(co(x[i]) + "," + co(y[i]))
	}
	s.b.WriteString(`"/>`)
}

// benign stands for the reference models where a condition is drawn.
const benign result.Condition = "benign"

// mark draws the symbol of a condition, of radius r: shape and colour both tell them apart. title
// is what a pointer shows.
func (s *svg) mark(c result.Condition, extra string, x, y, r float64, title string) {
	class := "m " + string(c)
	if extra != "" {
		class += " " + extra
	}
	tag := func(format string, args ...any) {
		if title == "" {
			fmt.Fprintf(&s.b, format+"/>", args...)
			return
		}
		name, _, _ := strings.Cut(format[1:], " ")
		fmt.Fprintf(&s.b, format+"><title>"+strings.ReplaceAll(template.HTMLEscapeString(title), "%", "%%")+"</title></"+name+">", args...)
	}
	switch c {
	case result.RandUn:
		d := r * 0.88
		tag(`<rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="1"`, class, co(x-d), co(y-d), co(2*d), co(2*d))
	case result.RandGa:
		d := r * 1.25
		tag(`<path class="%s" d="M%s %sL%s %sL%s %sL%s %sZ"`, class, co(x), co(y-d), co(x+d), co(y), co(x), co(y+d), co(x-d), co(y))
	case result.Clean:
		d := r * 1.2
		tag(`<path class="%s" d="M%s %sL%s %sL%s %sZ"`, class, co(x), co(y-d), co(x+d), co(y+d*0.8), co(x-d), co(y+d*0.8))
	case benign:
		tag(`<rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="1"`, class, co(x-r*0.4), co(y-r*1.35), co(r*0.8), co(r*2.7))
	default:
		tag(`<circle class="%s" cx="%s" cy="%s" r="%s"`, class, co(x), co(y), co(r))
	}
}

// scale maps data to pixels, linearly.
type scale struct{ lo, hi, a, b float64 }

func (s scale) at(v float64) float64 {
	if s.hi == s.lo {
		return (s.a + s.b) / 2
	}
	return s.a + (v-s.lo)/(s.hi-s.lo)*(s.b-s.a)
}

// extent is the range of the finite values given.
type extent struct {
	lo, hi float64
	any    bool
}

func (e *extent) add(vs ...float64) {
	for _, v := range vs {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		if !e.any {
			e.lo, e.hi, e.any = v, v, true
		}
		e.lo, e.hi = math.Min(e.lo, v), math.Max(e.hi, v)
	}
}

func (e *extent) estimate(x result.Estimate) {
	e.add(x.Mean.Float(), (x.Mean - x.SE).Float(), (x.Mean + x.SE).Float())
}

// padded widens the range by a share of itself; a single value gets some room too.
func (e *extent) padded(share float64) (lo, hi float64) {
	if !e.any {
		return 0, 1
	}
	d := (e.hi - e.lo) * share
	if d == 0 {
		d = math.Max(math.Abs(e.hi)*0.1, 0.05)
	}
	return e.lo - d, e.hi + d
}

// ticks returns about n round values in [lo, hi] and the decimals they need.
func ticks(lo, hi float64, n int) (at []float64, decimals int) {
	if !(hi > lo) || math.IsInf(hi-lo, 0) {
		return []float64{lo}, 2
	}
	raw := (hi - lo) / float64(n)
	mag := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * mag
	for _, m := range []float64{1, 2, 2.5, 5} {
		if m*mag >= raw*0.999 {
			step = m * mag
			break
		}
	}
	decimals = max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	if s := step * math.Pow(10, float64(decimals)); math.Abs(s-math.Round(s)) > 1e-6 {
		decimals++ // 2.5 and the like
	}
	for i := math.Ceil(lo/step - 1e-9); i*step <= hi+1e-9*step; i++ {
		at = append(at, i*step)
	}
	return at, decimals
}

// axisX draws a horizontal axis below y with grid lines up to top.
func (s *svg) axisX(sc scale, top, y float64, n int, title string) {
	at, d := ticks(sc.lo, sc.hi, n)
	for _, v := range at {
		x := sc.at(v)
		s.line("grid", x, top, x, y)
		s.text("tick", "middle", x, y+16, num(result.Number(v), d))
	}
	s.line("axis", sc.a, y, sc.b, y)
	if title != "" {
		s.text("axt", "middle", (sc.a+sc.b)/2, y+34, title)
	}
}

// axisY draws grid lines and labels to the left of x; sc maps up, so sc.a is the bottom.
func (s *svg) axisY(sc scale, x, right float64, n int) {
	at, d := ticks(sc.lo, sc.hi, n)
	for _, v := range at {
		y := sc.at(v)
		s.line("grid", x, y, right, y)
		s.text("tick", "end", x-7, y+4, num(result.Number(v), d))
	}
}
