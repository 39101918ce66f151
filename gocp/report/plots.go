package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"

	"github.com/gocp/gocp/gocp/result"
)

// Width of a drawing in its own units: half a page and a whole page.
const (
	half = 520.0
	full = 1064.0
)

// strip is one line of a strips drawing: the repeats as faint marks, mean and standard error.
type strip struct {
	cond   result.Condition
	name   string
	values []float64
	titles []string
	est    result.Estimate
}

// strips draws conditions one below the other over a common axis: every repeat as a faint mark,
// the mean as a strong one with its standard error, and the numbers at the right.
type strips struct {
	label    string // for those who cannot see it
	axis     string
	decimals int
	rows     []strip
	zero     bool     // the axis starts at 0
	marks    []rule   // vertical reference lines
	band     *[2]rule // a shaded interval
	lo, hi   *float64 // forced ends
}

type rule struct {
	at   float64
	text string
}

func (p strips) draw(width float64) template.HTML {
	const left, top = 128.0, 26.0
	rowH := 46.0
	if len(p.rows) <= 2 {
		rowH = 92
	}
	wide := width > half // room for mean and standard error on one line
	right := 70.0
	if wide {
		right = 112
	}
	bottom := top + rowH*float64(len(p.rows))
	s := newSVG(width, bottom+42, p.label)
	var e extent
	for _, r := range p.rows {
		e.add(r.values...)
		e.estimate(r.est)
	}
	for _, m := range p.marks {
		e.add(m.at)
	}
	if p.band != nil {
		e.add(p.band[0].at, p.band[1].at)
	}
	lo, hi := e.padded(0.05)
	if p.zero {
		lo = 0
	}
	if p.lo != nil {
		lo = *p.lo
	}
	if p.hi != nil {
		hi = *p.hi
	}
	x := scale{lo, hi, left, width - right}
	if p.band != nil {
		a, b := x.at(p.band[0].at), x.at(p.band[1].at)
		s.rect("band", a, top-6, b-a, bottom-top+6, 2)
	}
	s.axisX(x, top-6, bottom, 6, p.axis)
	for _, m := range p.marks {
		at := x.at(m.at)
		s.line("ref", at, top-6, at, bottom)
		if m.text != "" {
			s.text("reft", "middle", at, top-12, m.text)
		}
	}
	for i, r := range p.rows {
		y := top + rowH*(float64(i)+0.5)
		s.text("rowl "+string(r.cond), "end", left-14, y+4, r.name)
		for j, v := range r.values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			title := ""
			if j < len(r.titles) {
				title = r.titles[j]
			}
			// A fixed small stagger keeps equal values apart.
			s.mark(r.cond, "faint", x.at(v), y+float64(j%5-2)*3.4, 3.2, title)
		}
		m, se := r.est.Mean.Float(), r.est.SE.Float()
		if !r.est.Mean.Finite() {
			s.text("val", "start", width-right+14, y+4, num(r.est.Mean, 2))
			continue
		}
		if r.est.SE.Finite() {
			a, b := x.at(math.Max(lo, m-se)), x.at(math.Min(hi, m+se))
			s.line("whisk "+string(r.cond), a, y, b, y)
		}
		s.mark(r.cond, "", x.at(m), y, 6, "")
		switch at := width - right + 14; {
		case !r.est.SE.Finite():
			s.text("val", "start", at, y+4, num(r.est.Mean, p.decimals))
		case wide:
			s.text("val", "start", at, y+4, num(r.est.Mean, p.decimals))
			s.text("se", "end", width, y+4, "± "+num(r.est.SE, p.decimals))
		default:
			s.text("val", "start", at, y-2, num(r.est.Mean, p.decimals))
			s.text("se", "start", at, y+12, "± "+num(r.est.SE, p.decimals))
		}
	}
	return s.html()
}

// repeatMean averages f over the outcomes of one repeat under one condition; NaN over nothing.
func repeatMean(r *result.Repeat, c result.Condition, f func(t *result.Target, o *result.Outcome) float64) float64 {
	sum, n := 0.0, 0
	for v := range r.Victims {
		if r.Victims[v].Condition != c {
			continue
		}
		for t := range r.Victims[v].Outcomes {
			if x := f(&r.Targets[t], &r.Victims[v].Outcomes[t]); !math.IsNaN(x) {
				sum += x
				n++
			}
		}
	}
	return sum / float64(n)
}

// victimMean averages f over the victims of one repeat under one condition.
func victimMean(r *result.Repeat, c result.Condition, f func(v *result.Victim) float64) float64 {
	sum, n := 0.0, 0
	for v := range r.Victims {
		if r.Victims[v].Condition == c {
			sum += f(&r.Victims[v])
			n++
		}
	}
	return sum / float64(n)
}

// benignMean is the mean set size of a repeat's targets under the reference models.
func benignMean(r *result.Repeat) float64 {
	sum, n := 0.0, 0
	for t := range r.Targets {
		for _, k := range r.Targets[t].Benign {
			sum += float64(k)
			n++
		}
	}
	return sum / float64(n)
}

// shown is the order of conditions in figures: from nothing done to the attack.
var shown = [...]result.Condition{result.Clean, result.RandGa, result.RandUn, result.Attack}

// stripRows makes a strip per condition that was run.
func (v *view) stripRows(f func(*result.Repeat, result.Condition) float64, est func(*result.Row) result.Estimate, d int) []strip {
	var rows []strip
	for _, c := range shown {
		row := v.Sum.Row(c)
		if row == nil {
			continue
		}
		st := strip{cond: c, name: conditionName(c), est: est(row)}
		for i := range v.R.Repeats {
			r := &v.R.Repeats[i]
			x := f(r, c)
			st.values = append(st.values, x)
			st.titles = append(st.titles, fmt.Sprintf("repeat %d: %s", r.ID, num(result.Number(x), d)))
		}
		rows = append(rows, st)
	}
	return rows
}

func (v *view) sizePlot() template.HTML {
	ref := strip{cond: benign, name: "Benign models", est: v.Sum.Benign.SetSize}
	for i := range v.R.Repeats {
		ref.values = append(ref.values, benignMean(&v.R.Repeats[i]))
	}
	rows := v.stripRows(func(r *result.Repeat, c result.Condition) float64 {
		return repeatMean(r, c, func(_ *result.Target, o *result.Outcome) float64 { return float64(len(o.Set)) })
	}, func(r *result.Row) result.Estimate { return r.SetSize }, 2)
	return strips{
		label: "Set size of the targets by condition", axis: "labels in the target’s prediction set", decimals: 2,
		rows: append([]strip{ref}, rows...), zero: true,
	}.draw(full)
}

func (v *view) probPlot() template.HTML {
	lo, hi := 0.0, 1.0
	return strips{
		label: "Probability of the benign predicted label by condition", axis: "probability of the benign predicted label", decimals: 2, lo: &lo, hi: &hi,
		rows: v.stripRows(func(r *result.Repeat, c result.Condition) float64 {
			return repeatMean(r, c, func(_ *result.Target, o *result.Outcome) float64 { return o.Prob.Float() })
		}, func(r *result.Row) result.Estimate { return r.Prob }, 2),
	}.draw(half)
}

func (v *view) marginPlot() template.HTML {
	return strips{
		label: "Score minus threshold of the attacked labels by condition", axis: "← inside\u2003\u2003S − τ\u2003\u2003outside →", decimals: 2,
		marks: []rule{{0, "τ"}},
		rows: v.stripRows(func(r *result.Repeat, c result.Condition) float64 {
			return repeatMean(r, c, func(_ *result.Target, o *result.Outcome) float64 {
				sum := 0.0
				for _, m := range o.Margins {
					sum += m.Float()
				}
				return sum / float64(len(o.Margins))
			})
		}, func(r *result.Row) result.Estimate { return r.Margin }, 2),
	}.draw(half)
}

func (v *view) coveragePlot() template.HTML {
	p := strips{
		label: "Test coverage by condition", axis: "test coverage", decimals: 3,
		rows: v.stripRows(func(r *result.Repeat, c result.Condition) float64 {
			return victimMean(r, c, func(x *result.Victim) float64 { return x.Test.Coverage.Float() })
		}, func(r *result.Row) result.Estimate { return r.Coverage }, 3),
		marks: []rule{{1 - v.Level.Float(), "promised " + v.R.Config.Coverage}},
	}
	if b := v.Band; b != nil {
		p.band = &[2]rule{{at: b.Low}, {at: b.High}}
	}
	return p.draw(half)
}

func (v *view) accuracyPlot() template.HTML {
	return strips{
		label: "Test accuracy by condition", axis: "test accuracy", decimals: 3,
		rows: v.stripRows(func(r *result.Repeat, c result.Condition) float64 {
			return victimMean(r, c, func(x *result.Victim) float64 { return x.Test.Accuracy.Float() })
		}, func(r *result.Row) result.Estimate { return r.Accuracy }, 3),
	}.draw(half)
}

func (v *view) stepPlot() template.HTML {
	att := strip{cond: result.Attack, name: "Crafted poisons", est: v.Sum.Crafting.StepAttack}
	run := strip{cond: result.RandUn, name: "Uniform noise", est: v.Sum.Crafting.StepRandUn}
	for i := range v.R.Repeats {
		p := &v.R.Repeats[i].Poisons
		att.values = append(att.values, p.StepAttack.Float())
		run.values = append(run.values, p.StepRandUn.Float())
	}
	d := places(append(slices.Clone(att.values), run.values...)...)
	return strips{
		label: "Change of the adversary's loss after one SGD step", axis: "← helps the adversary\u2003\u2003Δℓ₃\u2003\u2003hinders →", decimals: d,
		rows: []strip{run, att}, marks: []rule{{0, ""}},
	}.draw(half)
}

// histogramPlot draws the set sizes of the targets, benign first, one panel for each condition.
func (v *view) histogramPlot() template.HTML {
	type panel struct {
		cond result.Condition
		name string
		hist []int
		mean result.Number
	}
	panels := []panel{{benign, "Benign models", v.Sum.Benign.Histogram, v.Sum.Benign.SetSize.Mean}}
	for _, c := range shown {
		if row := v.Sum.Row(c); row != nil {
			panels = append(panels, panel{c, conditionName(c), row.Histogram, row.SetSize.Mean})
		}
	}
	last := 1
	for _, p := range panels {
		for k, n := range p.hist {
			if n > 0 {
				last = max(last, k)
			}
		}
	}
	width := last/25 + 1 // sizes per bar: at most 25 bars
	bars := last/width + 1
	peak := 0.0
	shares := make([][]float64, len(panels))
	for i, p := range panels {
		shares[i] = make([]float64, bars)
		total := 0
		for _, n := range p.hist {
			total += n
		}
		for k, n := range p.hist {
			if n > 0 {
				shares[i][k/width] += float64(n) / float64(total)
			}
		}
		peak = math.Max(peak, slices.Max(shares[i]))
	}
	const left, rowH, top, right = 128.0, 74.0, 8.0, 10.0
	bottom := top + rowH*float64(len(panels))
	s := newSVG(half, bottom+42, "Histograms of the targets' set sizes, one panel for each condition")
	step := (half - left - right) / float64(bars)
	for i, p := range panels {
		base := top + rowH*float64(i+1) - 8
		s.text("rowl "+string(p.cond), "end", left-14, base-22, p.name)
		s.text("tick", "end", left-14, base-6, "mean "+num(p.mean, 2))
		for k, share := range shares[i] {
			x := left + step*float64(k)
			if share > 0 {
				h := (rowH - 26) * share / math.Max(peak, 1e-9)
				s.rect("bar "+string(p.cond), x+step*0.12, base-h, step*0.76, h, 2)
				if step >= 30 {
					s.text("tick", "middle", x+step/2, base-h-4, percent(result.Number(share)))
				}
			}
		}
		s.line("axis", left, base, half-right, base)
		if at := p.mean.Float(); p.mean.Finite() {
			x := left + step*(at/float64(width)+0.5/float64(width))
			s.line("meanline "+string(p.cond), x, base+1, x, base+6)
		}
	}
	every := (bars + 12) / 13
	for k := 0; k < bars; k += every {
		t := fmt.Sprint(k * width)
		if width > 1 {
			t = fmt.Sprintf("%d–%d", k*width, k*width+width-1)
		}
		s.text("tick", "middle", left+step*(float64(k)+0.5), bottom+10, t)
	}
	s.text("axt", "middle", (left+half-right)/2, bottom+32, "labels in the set (0 = empty)")
	return s.html()
}

// change is what decides the verdict, for one target under one condition, victims averaged: the
// set size ratio in the goal's direction, or the share of attacked labels inside.
func (v *view) change(r *result.Repeat, t int, c result.Condition) float64 {
	tgt := &r.Targets[t]
	sum, n := 0.0, 0
	for i := range r.Victims {
		if r.Victims[i].Condition != c {
			continue
		}
		set := r.Victims[i].Outcomes[t].Set
		if v.Aim.quantity == result.QInside {
			in := 0
			for _, a := range tgt.Attacked {
				if slices.Contains(set, a.Label) {
					in++
				}
			}
			sum += float64(in) / float64(len(tgt.Attacked))
		} else {
			sum += float64(len(set))
		}
		n++
	}
	mean := sum / float64(n)
	if v.Aim.quantity == result.QInside {
		return mean
	}
	b := 0.0
	for _, k := range tgt.Benign {
		b += float64(k)
	}
	b /= float64(len(tgt.Benign))
	if v.Aim.Shrinks {
		return 1 - mean/b
	}
	return mean/b - 1
}

// dumbbell draws every target under attack and under uniform noise, joined.
func (v *view) dumbbell() template.HTML {
	type row struct {
		name     string
		att, run float64
	}
	var rows []row
	var e extent
	e.add(0)
	for i := range v.R.Repeats {
		r := &v.R.Repeats[i]
		for t := range r.Targets {
			w := row{fmt.Sprintf("%s #%d", className(v.R, r.Targets[t].Predicted), r.Targets[t].ID),
				v.change(r, t, result.Attack), v.change(r, t, result.RandUn)}
			if math.IsNaN(w.att+w.run) || math.IsInf(w.att+w.run, 0) {
				continue
			}
			e.add(w.att, w.run)
			rows = append(rows, w)
		}
	}
	if len(rows) == 0 {
		return ""
	}
	gain := func(w row) float64 { return v.Aim.sign * (w.att - w.run) }
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(gain(b), gain(a)) })
	const most = 200
	if len(rows) > most { // the two ends tell most
		rows = append(slices.Clone(rows[:most/2]), rows[len(rows)-most/2:]...)
	}
	const left, right, top, labelled = 128.0, 24.0, 30.0, 13.0
	rowH := min(22, max(5, 420/float64(len(rows)))) // many targets get thin lines without names
	radius := min(4.5, rowH*0.45)
	bottom := top + rowH*float64(len(rows))
	s := newSVG(half, bottom+42, upperFirst(v.Aim.name)+" of every target, attack and uniform noise")
	lo, hi := e.padded(0.05)
	x := scale{lo, hi, left, half - right}
	s.mark(result.RandUn, "", left+4, 10, 5, "")
	s.text("tick", "start", left+14, 14, "uniform noise")
	s.mark(result.Attack, "", left+110, 10, 5, "")
	s.text("tick", "start", left+120, 14, "attack")
	s.axisX(x, top-6, bottom, 6, v.Aim.name)
	s.line("ref", x.at(0), top-6, x.at(0), bottom)
	for i, w := range rows {
		y := top + rowH*(float64(i)+0.5)
		if rowH >= labelled {
			s.text("tick", "end", left-14, y+4, clip(w.name, 18))
		}
		class := "join good"
		if gain(w) < 0 {
			class = "join bad"
		}
		s.line(class, x.at(w.run), y, x.at(w.att), y)
		s.mark(result.RandUn, "", x.at(w.run), y, radius, fmt.Sprintf("%s: uniform noise %s", w.name, num(result.Number(w.run), 2)))
		s.mark(result.Attack, "", x.at(w.att), y, radius, fmt.Sprintf("%s: attack %s", w.name, num(result.Number(w.att), 2)))
	}
	if rowH < labelled {
		s.text("tick", "end", left-14, (top+bottom)/2+4, plural(len(rows), "target"))
	}
	return s.html()
}

// alignmentPlot draws Φ over the crafting steps: the kept restart of every repeat, and their mean.
func (v *view) alignmentPlot() template.HTML {
	var curves [][]result.Number
	longest := 0
	var e extent
	e.add(0)
	for i := range v.R.Repeats {
		p := &v.R.Repeats[i].Poisons
		if len(p.Restarts) == 0 || len(p.Restarts[p.Best].Phi) == 0 {
			continue
		}
		c := p.Restarts[p.Best].Phi
		curves = append(curves, c)
		longest = max(longest, len(c))
		for _, f := range c {
			e.add(f.Float())
		}
	}
	if len(curves) == 0 {
		return ""
	}
	const left, right, top, h = 52.0, 56.0, 14.0, 250.0
	s := newSVG(half, top+h+42, "Alignment of the poisons' gradient with the adversary's, over crafting steps")
	lo, hi := e.padded(0.05)
	x := scale{0, math.Max(1, float64(longest-1)), left, half - right}
	y := scale{lo, hi, top + h, top}
	s.axisY(y, left, half-right, 5)
	s.axisX(x, top+h, top+h, 6, "crafting step")
	s.line("ref", left, y.at(0), half-right, y.at(0))
	sum, n := make([]float64, longest), make([]float64, longest)
	for _, c := range curves {
		var px, py []float64
		for k, f := range c {
			if !f.Finite() {
				continue
			}
			px, py = append(px, x.at(float64(k))), append(py, y.at(f.Float()))
			sum[k] += f.Float()
			n[k]++
		}
		s.polyline("curve faint", px, py)
	}
	var px, py []float64
	end := math.NaN()
	for k := range sum {
		if n[k] > 0 {
			end = sum[k] / n[k]
			px, py = append(px, x.at(float64(k))), append(py, y.at(end))
		}
	}
	s.polyline("curve", px, py)
	if len(px) > 0 {
		s.mark(result.Attack, "", px[len(px)-1], py[len(py)-1], 4.5, "")
		s.text("val", "start", half-right+10, py[len(py)-1]+4, num(result.Number(end), 2))
	}
	return s.html()
}

// classPlot draws test coverage by true class under attack, uniform noise and clean retraining.
func (v *view) classPlot() template.HTML {
	att := v.Sum.Row(result.Attack)
	var rows []*result.Row
	for _, c := range []result.Condition{result.Clean, result.RandUn, result.Attack} {
		if r := v.Sum.Row(c); r != nil {
			rows = append(rows, r)
		}
	}
	if att == nil || len(att.Classes) == 0 {
		return ""
	}
	var classes []int
	for k := range att.Classes {
		if att.Classes[k].Mean.Finite() {
			classes = append(classes, k)
		}
	}
	const most = 20
	if run := v.Sum.Row(result.RandUn); len(classes) > most { // keep those that moved most
		moved := func(k int) float64 {
			if run == nil {
				return 0
			}
			return math.Abs((att.Classes[k].Mean - run.Classes[k].Mean).Float())
		}
		slices.SortStableFunc(classes, func(a, b int) int { return cmp.Compare(moved(b), moved(a)) })
		classes = classes[:most]
		slices.Sort(classes)
	}
	if len(classes) == 0 {
		return ""
	}
	var e extent
	e.add(1 - v.Level.Float())
	for _, r := range rows {
		for _, k := range classes {
			e.estimate(r.Classes[k])
		}
	}
	const left, right, top, rowH = 128.0, 24.0, 34.0, 26.0
	bottom := top + rowH*float64(len(classes))
	s := newSVG(full, bottom+42, "Test coverage by true class")
	lo, hi := e.padded(0.05)
	x := scale{lo, math.Min(hi, 1.005), left, full - right}
	at := left + 4
	for _, r := range rows {
		s.mark(r.Condition, "", at, 10, 5, "")
		s.text("tick", "start", at+10, 14, conditionName(r.Condition))
		at += 126
	}
	s.axisX(x, top-6, bottom, 10, "test coverage, mean ± standard error over repeats")
	ref := x.at(1 - v.Level.Float())
	s.line("ref", ref, top-6, ref, bottom)
	s.text("reft", "middle", ref, top-12, "promised "+v.R.Config.Coverage)
	for i, k := range classes {
		y := top + rowH*(float64(i)+0.5)
		s.text("tick", "end", left-14, y+4, clip(className(v.R, k), 18))
		for j, r := range rows {
			est := r.Classes[k]
			if !est.Mean.Finite() {
				continue
			}
			dy := (float64(j) - float64(len(rows)-1)/2) * 6
			if est.SE.Finite() {
				s.line("whisk thin "+string(r.Condition), x.at((est.Mean - est.SE).Float()), y+dy, x.at(math.Min((est.Mean+est.SE).Float(), x.hi)), y+dy)
			}
			s.mark(r.Condition, "", x.at(est.Mean.Float()), y+dy, 3.6, fmt.Sprintf("%s, %s: %s", className(v.R, k), conditionName(r.Condition), plusMinus(est, 3)))
		}
	}
	return s.html()
}
