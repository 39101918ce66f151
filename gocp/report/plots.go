package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/gocp/gocp/gocp/result"
)

// interval is an estimate under a condition; ends that are not finite are not drawn.
type interval struct {
	cond          result.Condition
	at, low, high float64
}

func intervalOf(c result.Condition, e result.Estimate) interval {
	return interval{c, e.Mean.Float(), (e.Mean - e.SE).Float(), (e.Mean + e.SE).Float()}
}

// row is one line of a drawing of rows.
type row struct {
	name, ink   string // ink is its colour in the theme, mute if empty
	faint       []float64
	marks       []interval
	join        string // colour of a line from the first mark to the second
	text, small string // at the right
}

// rows draws estimates one below the other over a common axis: single values as faint marks, the
// estimates as strong ones with their intervals, and numbers at the right.
type rows struct {
	name, label, axis string
	rows              []row
	w, h, radius      vg.Length // width of the drawing; height and size of marks of a row
	ends
	at     *float64 // reference line
	atText string
	band   *[2]float64
}

func (p rows) drawing() drawing {
	if len(p.rows) == 0 {
		return drawing{}
	}
	c := newRows(len(p.rows), p.axis)
	if p.band != nil {
		c.band(p.band[0], p.band[1])
	}
	if p.at != nil {
		c.reference(*p.at, p.atText)
	}
	value, small, second := bold(lettering("ink", 13, draw.XLeft)), lettering("mute", 12, draw.XLeft), vg.Length(14)
	for i, r := range p.rows {
		y := float64(-i)
		for j, x := range r.faint { // a fixed small stagger keeps equal values apart
			g := mark(r.marks[0].cond, 3.2)
			g.Color = faded(ink(r.marks[0].cond), 0.3)
			c.marks(g, plotter.XY{X: x, Y: y + float64(j%5-2)*3.4/float64(p.h)})
		}
		if r.join != "" {
			c.line(stroke(faded(r.join, 0.45), 2), plotter.XY{X: r.marks[0].at, Y: y}, plotter.XY{X: r.marks[1].at, Y: y})
		}
		for j, m := range r.marks {
			if dy := float64(len(r.marks)-1)/2 - float64(j); r.join == "" {
				c.interval(m, p.radius, y+dy*6/float64(p.h))
			} else {
				c.interval(m, p.radius, y)
			}
		}
		second = max(second, 27+value.Width(r.text))
	}
	fit(&c.X, p.ends)
	c.tell()
	for i, r := range p.rows {
		y := float64(-i)
		c.write(c.X.Min, y, r.name, lettering(cmp.Or(r.ink, "mute"), 12.5, draw.XRight), -14, 0)
		switch {
		case r.text == "":
			c.write(c.X.Max, y, r.small, small, 14, 0)
		case p.w == full || r.small == "": // room for both on one line
			c.write(c.X.Max, y, r.text, value, 14, 0)
			c.write(c.X.Max, y, r.small, small, second, 0)
		default:
			c.write(c.X.Max, y, r.text, value, 14, 7)
			c.write(c.X.Max, y, r.small, small, 14, -8)
		}
	}
	d := drawing{p.name, p.label, p.w, p.h*vg.Length(len(p.rows)) + 52, c.Draw}
	if p.atText != "" {
		d.h += 14
	}
	if marks := p.rows[0].marks; len(marks) > 1 {
		d.h += 22
		d.paint = func(to draw.Canvas) { c.drawBelow(marks, to) }
	}
	return d
}

// shown is the order of conditions in figures: from nothing done to the attack.
var shown = [...]result.Condition{result.Clean, result.RandGa, result.RandUn, result.RandLabel, result.Attack}

// strip is a row of an estimate and the repeats it was made from.
func (v *view) strip(c result.Condition, name string, e result.Estimate, decimals int, of func(*result.Repeat) float64) row {
	r := row{name: name, ink: ink(c), marks: []interval{intervalOf(c, e)}, text: num(e.Mean, decimals)}
	if e.SE.Finite() {
		r.small = "± " + num(e.SE, decimals)
	}
	for i := range v.R.Repeats {
		r.faint = append(r.faint, of(&v.R.Repeats[i]))
	}
	return r
}

// strips has a strip for each condition that was run.
func (v *view) strips(name, label, axis string, decimals int, of func(*result.Victim) float64, est func(*result.Row) result.Estimate) rows {
	p := rows{name: name, label: label + " by condition", axis: axis, w: half, h: 46, radius: 6}
	for _, c := range shown {
		if s := v.Sum.Row(c); s != nil {
			p.rows = append(p.rows, v.strip(c, conditionName(c), est(s), decimals, func(r *result.Repeat) float64 { return victimMean(r, c, of) }))
		}
	}
	return p
}

// drawings are the figures of the report, in its order.
func (v *view) drawings() []drawing {
	if len(v.Sum.Rows) == 0 {
		return nil
	}
	sizes := v.strips("set-sizes", "Set size of the targets", "labels in the target’s prediction set", 2,
		outcomes(func(o *result.Outcome) float64 { return float64(len(o.Set)) }), func(r *result.Row) result.Estimate { return r.SetSize })
	sizes.rows = slices.Insert(sizes.rows, 0, v.strip(benign, "Benign models", v.Sum.Benign.SetSize, 2, func(r *result.Repeat) float64 { return mean(r.Targets, benignSize) }))
	sizes.w, sizes.fromZero = full, true

	confidence := v.strips("confidence", "Probability of the benign predicted label", "probability of the benign predicted label", 2,
		outcomes(func(o *result.Outcome) float64 { return o.Prob.Float() }), func(r *result.Row) result.Estimate { return r.Prob })
	confidence.ends = ends{true, true}

	margins := v.strips("margins", "Score minus threshold of the attacked labels", "← inside\u00a0\u00a0\u00a0 S − τ\u00a0\u00a0\u00a0 outside →", 2,
		outcomes(func(o *result.Outcome) float64 { return mean(o.Margins, result.Number.Float) }), func(r *result.Row) result.Estimate { return r.Margin })
	margins.at, margins.atText = new(float64), "τ"

	coverage := v.strips("coverage", "Test coverage", "test coverage", 3,
		func(x *result.Victim) float64 { return x.Test.Coverage.Float() }, func(r *result.Row) result.Estimate { return r.Coverage })
	coverage.at, coverage.atText = v.promised()
	if b := v.Band; b != nil {
		coverage.band = &[2]float64{b.Low, b.High}
	}

	accuracy := v.strips("accuracy", "Test accuracy", "test accuracy", 3,
		func(x *result.Victim) float64 { return x.Test.Accuracy.Float() }, func(r *result.Row) result.Estimate { return r.Accuracy })

	list := []drawing{sizes.drawing(), v.histograms(), v.dumbbell().drawing(), confidence.drawing(), margins.drawing(),
		coverage.drawing(), accuracy.drawing(), v.subgroupPlot().drawing(), v.classPlot().drawing(), v.alignmentPlot(), v.stepPlot().drawing()}
	return slices.DeleteFunc(list, func(d drawing) bool { return d.paint == nil })
}

// promised is the reference line of coverage.
func (v *view) promised() (*float64, string) {
	at := 1 - v.Level.Float()
	return &at, "promised " + v.R.Config.Coverage
}

func (v *view) stepPlot() rows {
	attack := func(r *result.Repeat) float64 { return r.Poisons.StepAttack.Float() }
	noise := func(r *result.Repeat) float64 { return r.Poisons.StepRandUn.Float() }
	var all []float64
	for i := range v.R.Repeats {
		all = append(all, attack(&v.R.Repeats[i]), noise(&v.R.Repeats[i]))
	}
	d := places(all...)
	return rows{name: "sgd-step", label: "Change of the adversary's loss after one SGD step", axis: "← helps the adversary\u00a0\u00a0\u00a0 Δℓ₃\u00a0\u00a0\u00a0 hinders →",
		w: half, h: 92, radius: 6, at: new(float64), rows: []row{v.strip(v.Sum.Noise(), conditionName(v.Sum.Noise()), v.Sum.Crafting.StepRandUn, d, noise),
			v.strip(result.Attack, "Crafted poisons", v.Sum.Crafting.StepAttack, d, attack)}}
}

// mean averages f over a list, without those that are not a number; NaN over nothing.
func mean[T any](list []T, f func(T) float64) float64 {
	sum, n := 0.0, 0
	for _, e := range list {
		if x := f(e); !math.IsNaN(x) {
			sum += x
			n++
		}
	}
	return sum / float64(n)
}

// victimMean averages f over the victims of one repeat under one condition.
func victimMean(r *result.Repeat, c result.Condition, f func(v *result.Victim) float64) float64 {
	return mean(r.Victims, func(v result.Victim) float64 {
		if v.Condition != c {
			return math.NaN()
		}
		return f(&v)
	})
}

// outcomes averages f over the targets of a victim.
func outcomes(f func(o *result.Outcome) float64) func(*result.Victim) float64 {
	return func(v *result.Victim) float64 {
		return mean(v.Outcomes, func(o result.Outcome) float64 { return f(&o) })
	}
}

// benignSize is the mean set size of a target under the reference models.
func benignSize(t result.Target) float64 {
	return mean(t.Benign, func(k int) float64 { return float64(k) })
}

// change is what decides the verdict, for one target under one condition, victims averaged: the
// set size ratio in the goal's direction, or the share of attacked labels inside.
func (v *view) change(r *result.Repeat, t int, c result.Condition) float64 {
	if v.Aim.quantity == result.QInside || v.Aim.quantity == result.QMembers {
		return victimMean(r, c, func(x *result.Victim) float64 {
			in := 0
			for _, a := range r.Targets[t].Attacked {
				if slices.Contains(x.Outcomes[t].Set, a.Label) {
					in++
				}
			}
			return float64(in) / float64(len(r.Targets[t].Attacked))
		})
	}
	ratio := victimMean(r, c, func(x *result.Victim) float64 { return float64(len(x.Outcomes[t].Set)) }) / benignSize(r.Targets[t])
	if v.Aim.Shrinks {
		return 1 - ratio
	}
	return ratio - 1
}

// panel is a histogram of set sizes.
type panel struct {
	cond  result.Condition
	name  string
	sizes []int
	mean  result.Number
}

// histograms draws panels one below the other over a common axis of at most about most bars, the
// means as ticks below it. Bars that are wide enough say their share.
func histograms(d drawing, most int, panels ...panel) drawing {
	last := 1
	for _, p := range panels {
		for k, n := range p.sizes {
			if n > 0 {
				last = max(last, k)
			}
		}
	}
	width := last/most + 1 // sizes in a bar
	bars, peak := last/width+1, 1e-9
	shares := make([][]float64, len(panels))
	for i, p := range panels {
		shares[i] = make([]float64, bars)
		total := 0
		for _, n := range p.sizes {
			total += max(n, 0)
		}
		for k, n := range p.sizes {
			if n > 0 {
				shares[i][k/width] += float64(n) / float64(total)
			}
		}
		peak = max(peak, slices.Max(shares[i]))
	}
	step := (d.w - 140) / vg.Length(bars)
	grid := make([][]*plot.Plot, len(panels))
	for i, p := range panels {
		c := newChart("")
		c.HideY()
		c.X.Tick.Marker, c.X.Tick.Length = plot.ConstantTicks(nil), 7
		if i == len(panels)-1 {
			var names plot.ConstantTicks
			for k := 0; k < bars; k += 1 + int(32/step) {
				t := fmt.Sprint(k * width)
				if width > 1 {
					t = fmt.Sprintf("%d–%d", k*width, k*width+width-1)
				}
				names = append(names, plot.Tick{Value: float64(k), Label: t})
			}
			c.X.Tick.Marker, c.X.Label.Text = names, "labels in the set (0 = empty)"
		}
		h := &plotter.Histogram{FillColor: faded(ink(p.cond), 0.82)}
		for k, share := range shares[i] {
			if share > 0 {
				h.Bins = append(h.Bins, plotter.HistogramBin{Min: float64(k) - 0.38, Max: float64(k) + 0.38, Weight: share})
				if step >= 30 {
					above := lettering("mute", 12, draw.XCenter)
					above.YAlign = draw.YBottom
					c.write(float64(k), share, percent(result.Number(share)), above, 0, 1)
				}
			}
		}
		c.Add(h)
		c.X.Min, c.X.Max, c.Y.Min, c.Y.Max = -0.5, float64(bars)-0.5, 0, peak
		if at := (p.mean.Float()+0.5)/float64(width) - 0.5; at >= c.X.Min && at <= c.X.Max {
			c.marks(draw.GlyphStyle{Color: theme[ink(p.cond)], Radius: 1, Shape: meanTick}, plotter.XY{X: at})
		}
		if p.name != "" {
			c.write(c.X.Min, peak*0.55, p.name, lettering(ink(p.cond), 12.5, draw.XRight), -14, 0)
			c.write(c.X.Min, peak*0.2, "mean "+num(p.mean, 2), lettering("mute", 12, draw.XRight), -14, 0)
		}
		grid[i] = []*plot.Plot{c.Plot}
	}
	d.paint = func(to draw.Canvas) {
		for i, tile := range plot.Align(grid, draw.Tiles{Cols: 1, Rows: len(grid), PadY: 12}, to) {
			grid[i][0].Draw(tile[0])
		}
	}
	return d
}

func (v *view) histograms() drawing {
	list := []panel{{benign, "Benign models", v.Sum.Benign.Histogram, v.Sum.Benign.SetSize.Mean}}
	for _, c := range shown {
		if r := v.Sum.Row(c); r != nil {
			list = append(list, panel{c, conditionName(c), r.Histogram, r.SetSize.Mean})
		}
	}
	return histograms(drawing{name: "size-histograms", label: "Histograms of the targets' set sizes, one panel for each condition", w: half, h: 78*vg.Length(len(list)) + 44}, 25, list...)
}

// dumbbell draws every target under attack and under noise, joined.
func (v *view) dumbbell() rows {
	what := v.Aim.name
	if v.Aim.quantity == result.QMembers {
		what = "share of attacked labels in the set" // of the images that the adversary saw
	}
	p := rows{name: "targets", label: upperFirst(what) + " of every target, attack and " + noiseName(&v.Sum), axis: what, w: half, at: new(float64)}
	for i := range v.R.Repeats {
		r := &v.R.Repeats[i]
		for t := range r.Targets {
			name := fmt.Sprintf("%s #%d", className(v.R, r.Targets[t].Predicted), r.Targets[t].ID)
			att, run := v.change(r, t, result.Attack), v.change(r, t, v.Sum.Noise())
			if w := (row{name: clip(name, 18), marks: []interval{{cond: v.Sum.Noise(), at: run}, {cond: result.Attack, at: att}}, join: "attack"}); finite(att, run) {
				if v.Aim.sign*(att-run) < 0 {
					w.join = "mute"
				}
				p.rows = append(p.rows, w)
			}
		}
	}
	gain := func(r row) float64 { return v.Aim.sign * (r.marks[1].at - r.marks[0].at) }
	slices.SortStableFunc(p.rows, func(a, b row) int { return cmp.Compare(gain(b), gain(a)) })
	if n, most := len(p.rows), 200; n > most { // the two ends tell most
		p.rows = slices.Delete(p.rows, most/2, n-most/2)
	}
	n := len(p.rows)
	p.h = min(22, max(5, 420/vg.Length(max(1, n)))) // many targets get thin lines without names
	p.radius = min(4.5, p.h*0.45)
	if p.h < 13 {
		for i := range p.rows {
			p.rows[i].name = ""
		}
		p.rows[n/2].name = plural(n, "target")
	}
	return p
}

// alignmentPlot draws Φ over the crafting steps: the kept restart of every repeat, and their mean.
func (v *view) alignmentPlot() drawing {
	c := newChart("crafting step")
	c.Add(&plotter.Grid{Vertical: stroke(theme["grid"], 1), Horizontal: stroke(theme["grid"], 1)})
	var curves [][]plotter.XY
	steps := 0
	for i := range v.R.Repeats {
		p := &v.R.Repeats[i].Poisons
		if len(p.Restarts) == 0 || len(p.Restarts[p.Best].Phi) == 0 {
			continue
		}
		var curve []plotter.XY
		for k, f := range p.Restarts[p.Best].Phi {
			curve = append(curve, plotter.XY{X: float64(k), Y: f.Float()})
		}
		curves, steps = append(curves, curve), max(steps, len(curve))
		c.line(stroke(faded("attack", 0.28), 1), curve...)
	}
	if steps == 0 {
		return drawing{}
	}
	average := make([]plotter.XY, steps)
	for k := range average {
		average[k] = plotter.XY{X: float64(k), Y: mean(curves, func(curve []plotter.XY) float64 {
			if k >= len(curve) || !finite(curve[k].Y) {
				return math.NaN()
			}
			return curve[k].Y
		})}
	}
	c.line(stroke(theme["attack"], 2.4), average...)
	c.X.Min, c.X.Max = 0, math.Max(1, float64(steps-1))
	c.line(dashed(), plotter.XY{}, plotter.XY{X: c.X.Max})
	fit(&c.Y, ends{})
	c.tell()
	for end := steps - 1; end >= 0; end-- {
		if p := average[end]; finite(p.Y) {
			c.marks(mark(result.Attack, 4.5), p)
			c.write(p.X, p.Y, num(result.Number(p.Y), 2), bold(lettering("ink", 13, draw.XLeft)), 10, 0)
			break
		}
	}
	return drawing{"alignment", "Alignment of the poisons' gradient with the adversary's, over crafting steps", half, 306, c.Draw}
}

// classPlot draws test coverage by true class under attack, noise and clean retraining.
func (v *view) classPlot() rows {
	p := rows{name: "coverage-by-class", label: "Test coverage by true class", axis: "test coverage, mean ± standard error over repeats", w: full, h: 26, radius: 3.6}
	p.at, p.atText = v.promised()
	att, run := v.Sum.Row(result.Attack), v.Sum.Row(v.Sum.Noise())
	if att == nil {
		return p
	}
	var classes []int
	for k := range att.Classes {
		if att.Classes[k].Mean.Finite() {
			classes = append(classes, k)
		}
	}
	if most := 20; len(classes) > most && run != nil { // keep those that moved most
		moved := func(k int) float64 { return math.Abs((att.Classes[k].Mean - run.Classes[k].Mean).Float()) }
		slices.SortStableFunc(classes, func(a, b int) int { return cmp.Compare(moved(b), moved(a)) })
		slices.Sort(classes[:most])
	}
	for _, k := range classes[:min(20, len(classes))] {
		r := row{name: clip(className(v.R, k), 18)}
		for _, c := range []result.Condition{result.Clean, v.Sum.Noise(), result.Attack} {
			if s := v.Sum.Row(c); s != nil {
				r.marks = append(r.marks, intervalOf(c, s.Classes[k]))
			}
		}
		p.rows = append(p.rows, r)
	}
	return p
}
