package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/conformalio"
	"github.com/gocp/gocp/gocp/result"
)

//go:embed conformal.html.tmpl
var conformalPage string

var conformalTemplate = template.Must(template.New("conformal").Parse(conformalPage))

// About is what a conformal report says of its origin.
type About struct {
	Version string
	Sources []conformalio.Source
	Seed    uint64
}

type figure struct {
	Title, Caption string
	Plot           template.HTML
}

type tableGroup struct {
	Name string
	Rows [][]string
}

type conformalView struct {
	About
	Style                  template.CSS
	Title, Lead            string
	Class, Badge, Headline string
	Tiles                  []tile
	Points                 []point
	FiguresTitle           string
	Figures                []figure
	Columns                []string
	Groups                 []tableGroup
	TableNote, Provenance  string
}

func (v *conformalView) write(w io.Writer) error {
	v.Style = style
	v.Title = strings.ReplaceAll(v.Title, " = ", "\u00a0=\u00a0")
	var b bytes.Buffer
	if err := conformalTemplate.Execute(&b, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// mostStrata bounds the classes or groups that a drawing shows: those farthest below the promise.
const mostStrata = 20

// WriteEvaluation writes a page on the sets that a threshold gives on labelled samples.
func WriteEvaluation(w io.Writer, e *conformalio.Evaluation, about About) error {
	promised := 1 - e.Miscoverage.Float()
	n := func(x float64, d int) string { return num(result.Number(x), d) }
	share := func(k int) string { return percent(result.Number(float64(k) / math.Max(1, float64(e.N)))) }
	v := &conformalView{About: about, Title: "Prediction sets: " + e.Score.String(),
		Lead:  fmt.Sprintf("%s, %d labels, miscoverage %s: the sets should hold the true label in %s of cases.", plural(e.N, "sample"), len(e.Classes), e.Miscoverage, fractionPercent(e.Miscoverage.Coverage())),
		Badge: "no band", Headline: "Coverage of " + percent(result.Number(e.Coverage.Rate)),
		FiguresTitle: "Sizes and coverage", Columns: []string{"Samples", "Number", "Coverage", "95 % interval", "Mean size"},
		TableNote:  "Intervals are Clopper and Pearson’s. Sizes and ranks are known only after the fact: coverage by them describes, it is not promised.",
		Provenance: fmt.Sprintf("Seed %d. Every number is in the output of --json; the same command gives the same bytes.", about.Seed)}
	if x := e.Expected; x != nil {
		v.Badge, v.Headline = "as promised", fmt.Sprintf("Coverage of %s lies in the band of exchangeable data", n(e.Coverage.Rate, 4))
		if !x.Inside {
			v.Class, v.Badge, v.Headline = "weak", "outside the band", fmt.Sprintf("Coverage of %s lies outside the band of exchangeable data", n(e.Coverage.Rate, 4))
		}
		v.Points = append(v.Points, point{"Band", fmt.Sprintf("%s to %s holds 95 %% of exchangeable data, mean %s, both the calibration part and these samples being drawn.", n(x.Low, 4), n(x.High, 4), n(x.Mean, 4))})
	}
	v.Points = append(v.Points, point{"Interval", fmt.Sprintf("%s to %s for the coverage of this threshold.", n(e.Coverage.Low, 4), n(e.Coverage.High, 4))})
	if len(e.SizeQuantiles) == 6 {
		v.Points = append(v.Points, point{"Sizes", fmt.Sprintf("median %d, nine in ten sets have up to %d labels, the largest %d.", e.SizeQuantiles[2], e.SizeQuantiles[4], e.SizeQuantiles[5])})
	}
	if s := e.WorstSlice; s != nil {
		v.Points = append(v.Points, point{"Worst slice", fmt.Sprintf("coverage %s of %d samples, sought on half of the samples and measured on the other.", n(s.Coverage.Rate, 4), s.Coverage.N)})
	}
	v.Tiles = []tile{
		{Value: n(e.Coverage.Rate, 4), Name: "coverage", Note: fmt.Sprintf("%d of %d", e.Coverage.K, e.Coverage.N)},
		{Value: n(e.MeanSize, 3), Name: "labels in a set, mean", Note: fmt.Sprintf("accuracy %s", n(e.Accuracy, 4))},
		{Value: share(e.Singleton), Name: "sets with one label", Note: plural(e.Singleton, "set")},
		{Value: share(e.Empty), Name: "empty sets", Note: fmt.Sprintf("%s filled with the top label", plural(e.Filled, "set"))},
	}
	v.Figures = append(v.Figures, figure{"Set sizes", "Share of samples by the number of labels in their set. The tick below the axis is the mean.", sizeBars(e.Sizes, e.MeanSize)})
	var drawn []interval
	group := func(name string, list []conformal.Stratum) {
		g := tableGroup{Name: name}
		for _, s := range list {
			label := fmt.Sprint(s.Low)
			switch {
			case s.High > 1<<40:
				label += " and more"
			case s.High != s.Low:
				label += " to " + fmt.Sprint(s.High)
			}
			p := s.Coverage
			g.Rows = append(g.Rows, []string{label, thousands(p.N), n(p.Rate, 4), n(p.Low, 4) + " – " + n(p.High, 4), n(s.MeanSize, 3)})
			drawn = append(drawn, interval{name + " " + label, p})
		}
		if len(g.Rows) > 0 {
			v.Groups = append(v.Groups, g)
		}
	}
	v.Groups = append(v.Groups, tableGroup{Rows: [][]string{{"All", thousands(e.N), n(e.Coverage.Rate, 4), n(e.Coverage.Low, 4) + " – " + n(e.Coverage.High, 4), n(e.MeanSize, 3)}}})
	group("Size", e.BySize)
	group("Rank", e.ByDifficulty)
	caption := "Marks are coverage, lines 95 % intervals, the dashed line what was promised for all samples together. Sets of one size and samples of one difficulty (the rank of their true label) need not reach it."
	if len(drawn) > 0 {
		v.Figures = append(v.Figures, figure{"Coverage by size of the set and rank of the true label", caption, intervals(drawn, promised)})
	}
	drawn = nil
	group("Group", e.ByGroup)
	if len(drawn) > 0 {
		v.Figures = append(v.Figures, figure{"Coverage by group", "As above.", intervals(farthest(drawn), promised)})
	}
	drawn = nil
	g := tableGroup{Name: "True label"}
	for y, p := range e.Classes {
		if p.N > 0 {
			drawn = append(drawn, interval{fmt.Sprintf("label %d", y), p})
		}
	}
	title := "Coverage by true label"
	if len(drawn) > mostStrata {
		title = fmt.Sprintf("Coverage by true label, the %d lowest of %d", mostStrata, len(drawn))
	}
	drawn = farthest(drawn)
	for _, d := range drawn {
		p := d.p
		g.Rows = append(g.Rows, []string{d.name, thousands(p.N), n(p.Rate, 4), n(p.Low, 4) + " – " + n(p.High, 4), dash})
	}
	if len(drawn) > 0 {
		v.Figures = append(v.Figures, figure{title, "As above. Of many labels some lie low by chance: look at the intervals.", intervals(drawn, promised)})
		v.Groups = append(v.Groups, g)
	}
	return v.write(w)
}

type interval struct {
	name string
	p    conformal.Proportion
}

// farthest keeps the lowest, in their order.
func farthest(list []interval) []interval {
	if len(list) <= mostStrata {
		return list
	}
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case list[a].p.Rate < list[b].p.Rate:
			return -1
		case list[a].p.Rate > list[b].p.Rate:
			return 1
		}
		return 0
	})
	order = order[:mostStrata]
	slices.Sort(order)
	out := make([]interval, len(order))
	for i, at := range order {
		out[i] = list[at]
	}
	return out
}

// intervals draws proportions with their intervals, one below the other.
func intervals(list []interval, promised float64) template.HTML {
	const left, right, top, rowH = 190.0, 150.0, 26.0, 24.0
	bottom := top + rowH*float64(len(list))
	s := newSVG(full, bottom+42, "Coverage with 95 % intervals")
	var e extent
	e.add(promised, 1)
	for _, i := range list {
		e.add(i.p.Low, i.p.High)
	}
	lo, _ := e.padded(0.03)
	x := scale{math.Max(0, lo), 1, left, full - right}
	s.axisX(x, top-6, bottom, 8, "coverage")
	ref := x.at(promised)
	s.line("ref", ref, top-6, ref, bottom)
	s.text("reft", "middle", ref, top-12, "promised")
	for i, v := range list {
		y := top + rowH*(float64(i)+0.5)
		s.text("tick", "end", left-14, y+4, clip(v.name, 26))
		s.line("whisk thin randun", x.at(v.p.Low), y, x.at(v.p.High), y)
		s.mark(result.RandUn, "", x.at(v.p.Rate), y, 4.4, fmt.Sprintf("%d of %d", v.p.K, v.p.N))
		s.text("tick", "end", full, y+4, fmt.Sprintf("%s of %s", num(result.Number(v.p.Rate), 3), thousands(v.p.N)))
	}
	return s.html()
}

// sizeBars draws a histogram of set sizes.
func sizeBars(sizes []int, mean float64) template.HTML {
	last, total := 1, 0
	for k, n := range sizes {
		total += n
		if n > 0 {
			last = max(last, k)
		}
	}
	width := last/40 + 1
	shares := make([]float64, last/width+1)
	for k, n := range sizes[:last+1] {
		shares[k/width] += float64(n) / math.Max(1, float64(total))
	}
	const left, top, height, right = 20.0, 24.0, 150.0, 20.0
	base := top + height
	s := newSVG(full, base+46, "Histogram of set sizes")
	step := (full - left - right) / float64(len(shares))
	peak := math.Max(slices.Max(shares), 1e-9)
	for k, share := range shares {
		x := left + step*float64(k)
		if h := height * share / peak; share > 0 {
			s.rect("bar randun", x+step*0.12, base-h, step*0.76, h, 2)
			if step >= 34 {
				s.text("tick", "middle", x+step/2, base-h-5, percent(result.Number(share)))
			}
		}
		if every := (len(shares) + 19) / 20; k%every == 0 {
			t := fmt.Sprint(k * width)
			if width > 1 {
				t = fmt.Sprintf("%d–%d", k*width, k*width+width-1)
			}
			s.text("tick", "middle", x+step/2, base+20, t)
		}
	}
	s.line("axis", left, base, full-right, base)
	at := left + step*(mean/float64(width)+0.5/float64(width))
	s.line("meanline randun", at, base+1, at, base+7)
	s.text("axt", "middle", full/2, base+40, "labels in the set (0 = empty)")
	return s.html()
}

// WriteComparison writes a page on one or more scores over many splits of the same samples.
func WriteComparison(w io.Writer, list []conformalio.SplitsResult, about About) error {
	if len(list) == 0 {
		return fmt.Errorf("report: there are no scores to compare")
	}
	r := list[0]
	n := func(x float64, d int) string { return num(result.Number(x), d) }
	v := &conformalView{About: about, Title: "Scores side by side",
		Lead: fmt.Sprintf("%s of the same samples into %s that calibrate and %s that test, miscoverage %s. All scores see the same splits.",
			plural(r.Splits, "random split"), thousands(r.Calibration), thousands(r.Test), r.Miscoverage),
		Badge: "as promised", FiguresTitle: "Coverage and size", Columns: []string{"Score", "Coverage", "Outside", "Mean size", "Empty", "One label", "Gap by size", "τ"},
		TableNote:  "± is the standard deviation over splits. Outside is the share of splits beyond the law’s central 95 %: about 5 % or less is as it should be, ties aside. Gap by size is how far the coverage of sets of one size is from the promise, above or below, at most (SSCV).",
		Provenance: fmt.Sprintf("Seed %d. Every number is in the output of --json; the same command gives the same bytes.", about.Seed)}
	if len(list) == 1 {
		v.Title = "Many splits: " + r.Score.String()
	}
	least, low := r, false
	for _, s := range list {
		if s.MeanSize.Mean < least.MeanSize.Mean {
			least = s
		}
		low = low || s.Coverage.Mean < s.Expected-4*s.ExpectedSD/math.Sqrt(float64(max(1, s.Splits)))-1e-9 && s.Outside > 0.2
	}
	v.Headline = fmt.Sprintf("Smallest sets: %s, %s labels on average", least.Score, n(least.MeanSize.Mean, 3))
	if low {
		v.Class, v.Badge = "weak", "coverage below the law"
	}
	v.Tiles = []tile{
		{Value: n(r.Expected, 4), Name: "coverage expected", Note: "± " + n(r.ExpectedSD, 4) + " over splits"},
		{Value: n(least.Coverage.Mean, 4), Name: "coverage of the smallest sets", Note: "± " + n(least.Coverage.SD, 4)},
		{Value: n(least.MeanSize.Mean, 3), Name: "their mean size", Note: "± " + n(least.MeanSize.SD, 3)},
		{Value: percent(result.Number(least.Empty.Mean)), Name: "of them empty", Note: percent(result.Number(least.Singleton.Mean)) + " with one label"},
	}
	v.Points = []point{{"Small is not all", "The score with the smallest sets often covers hard samples least: compare the gap by size."},
		{"Splits overlap", "They share their samples, so their spread is not that of new data."}}
	var coverage, size []spreadRow
	g := tableGroup{}
	for _, s := range list {
		name := s.Score.String()
		coverage = append(coverage, spreadRow{name, s.Coverage, 4})
		size = append(size, spreadRow{name, s.MeanSize, 3})
		pm := func(x conformalio.Spread, d int) string { return n(x.Mean, d) + "\u00a0±\u00a0" + n(x.SD, d) }
		g.Rows = append(g.Rows, []string{name, pm(s.Coverage, 4), percent(result.Number(s.Outside)), pm(s.MeanSize, 3),
			percent(result.Number(s.Empty.Mean)), percent(result.Number(s.Singleton.Mean)), n(s.Violation.Mean, 3), pm(s.Tau, 5)})
	}
	v.Groups = []tableGroup{g}
	v.Figures = []figure{
		{"Coverage", "Mean and standard deviation over splits; the band is the law’s mean and standard deviation.", spreads(coverage, "coverage", &[2]float64{r.Expected - r.ExpectedSD, r.Expected + r.ExpectedSD})},
		{"Mean set size", "Mean and standard deviation over splits.", spreads(size, "labels in a set, mean", nil)},
	}
	return v.write(w)
}

type spreadRow struct {
	name     string
	value    conformalio.Spread
	decimals int
}

// spreads draws means and standard deviations, one below the other.
func spreads(list []spreadRow, axis string, band *[2]float64) template.HTML {
	const left, right, top, rowH = 270.0, 150.0, 12.0, 30.0
	bottom := top + rowH*float64(len(list))
	s := newSVG(full, bottom+42, axis)
	var e extent
	for _, r := range list {
		e.add(r.value.Mean-r.value.SD, r.value.Mean+r.value.SD)
	}
	if band != nil {
		e.add(band[0], band[1])
	}
	lo, hi := e.padded(0.05)
	x := scale{lo, hi, left, full - right}
	if band != nil {
		s.rect("band", x.at(band[0]), top-6, x.at(band[1])-x.at(band[0]), bottom-top+6, 2)
	}
	s.axisX(x, top-6, bottom, 8, axis)
	for i, r := range list {
		y := top + rowH*(float64(i)+0.5)
		s.text("rowl randun", "end", left-14, y+4, clip(r.name, 40))
		s.line("whisk randun", x.at(r.value.Mean-r.value.SD), y, x.at(r.value.Mean+r.value.SD), y)
		s.mark(result.RandUn, "", x.at(r.value.Mean), y, 5, "")
		s.text("tick", "end", full, y+4, num(result.Number(r.value.Mean), r.decimals)+" ± "+num(result.Number(r.value.SD), r.decimals))
	}
	return s.html()
}
