package report

import (
	"bytes"
	"cmp"
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
	Kicker                 string // conformal report if empty
	Style                  template.CSS
	Title, Lead            string
	Class, Badge, Headline string
	Tiles                  []tile
	Points                 []point
	PicturesTitle          string
	Pictures               []framed
	PicturesNote           string
	FiguresTitle           string
	Figures                []figure
	Columns                []string
	Groups                 []tableGroup
	TableNote, Provenance  string
	Caution                template.HTML // what the guarantee is if empty
}

const guarantee = `<b>What the guarantee is.</b> If calibration and test samples are exchangeable and nothing was tuned on the samples that calibrate, the probability that a set holds the true label is at least 1 − ε, over the calibration part as well as the test sample. It says nothing about single classes, groups or sizes unless thresholds were made for them, and nothing under shift.`

// framed is one picture of a gallery.
type framed struct {
	Src  template.URL
	Name string
}

func (v *conformalView) write(w io.Writer) error {
	v.Style = style
	if v.Kicker == "" {
		v.Kicker = "conformal report"
	}
	if v.Caution == "" {
		v.Caution = guarantee
	}
	v.Title = strings.ReplaceAll(v.Title, " = ", "\u00a0=\u00a0")
	var b bytes.Buffer
	if err := conformalTemplate.Execute(&b, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// notes adds what a result says of itself.
func (v *conformalView) notes(notes []string) {
	for _, n := range notes {
		v.Points = append(v.Points, point{"Note", n + "."})
	}
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
		switch {
		case x.ByTies:
			v.Badge, v.Headline = "ties", fmt.Sprintf("Coverage of %s lies above the band of exchangeable data, by ties", n(e.Coverage.Rate, 4))
		case !x.Inside:
			v.Class, v.Badge, v.Headline = "weak", "outside the band", fmt.Sprintf("Coverage of %s lies outside the band of exchangeable data", n(e.Coverage.Rate, 4))
		}
		v.Points = append(v.Points, point{"Band", fmt.Sprintf("%s to %s holds 95 %% of exchangeable data, mean %s, both the calibration part and these samples being drawn.", n(x.Low, 4), n(x.High, 4), n(x.Mean, 4))})
	}
	v.Points = append(v.Points, point{"Interval", fmt.Sprintf("%s to %s for the coverage of this threshold.", n(e.Coverage.Low, 4), n(e.Coverage.High, 4))})
	if len(e.SizeQuantiles) == 6 {
		v.Points = append(v.Points, point{"Sizes", fmt.Sprintf("median %d, nine in ten sets have up to %d labels, the largest %d.", e.SizeQuantiles[2], e.SizeQuantiles[4], e.SizeQuantiles[5])})
	}
	v.notes(e.Notes)
	if s := e.WorstSlice; s != nil {
		v.Points = append(v.Points, point{"Worst slice", fmt.Sprintf("coverage %s of %d samples, sought on half of the samples and measured on the other.", n(s.Coverage.Rate, 4), s.Coverage.N)})
	}
	v.Tiles = []tile{
		{Value: n(e.Coverage.Rate, 4), Name: "coverage", Note: fmt.Sprintf("%d of %d", e.Coverage.K, e.Coverage.N)},
		{Value: n(e.MeanSize, 3), Name: "labels in a set, mean", Note: fmt.Sprintf("accuracy %s", n(e.Accuracy, 4))},
		{Value: share(e.Singleton), Name: "sets with one label", Note: plural(e.Singleton, "set")},
		{Value: share(e.Empty), Name: "empty sets", Note: fmt.Sprintf("%s filled with the top label", plural(e.Filled, "set"))},
	}
	v.Figures = append(v.Figures, figure{"Set sizes", "Share of samples by the number of labels in their set. The tick below the axis is the mean.",
		histograms(drawing{label: "Histogram of set sizes", w: full, h: 220}, 40, panel{cond: result.RandUn, sizes: e.Sizes, mean: result.Number(e.MeanSize)}).html()})
	var drawn []stratum
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
			drawn = append(drawn, stratum{name + " " + label, p})
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
			drawn = append(drawn, stratum{fmt.Sprintf("label %d", y), p})
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

type stratum struct {
	name string
	p    conformal.Proportion
}

// farthest keeps the lowest, in their order.
func farthest(list []stratum) []stratum {
	if len(list) <= mostStrata {
		return list
	}
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(list[a].p.Rate, list[b].p.Rate) })
	out := make([]stratum, mostStrata)
	slices.Sort(order[:mostStrata])
	for i := range out {
		out[i] = list[order[i]]
	}
	return out
}

// intervals draws proportions with their intervals, one below the other.
func intervals(list []stratum, promised float64) template.HTML {
	p := rows{label: "Coverage with 95 % intervals", axis: "coverage", w: full, h: 24, radius: 4.4, ends: ends{toOne: true}, at: &promised, atText: "promised"}
	for _, s := range list {
		p.rows = append(p.rows, row{name: clip(s.name, 26), marks: []interval{{result.RandUn, s.p.Rate, s.p.Low, s.p.High}},
			small: fmt.Sprintf("%s of %s", num(result.Number(s.p.Rate), 3), thousands(s.p.N))})
	}
	return p.drawing().html()
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
	g := tableGroup{}
	for _, s := range list {
		v.notes(s.Notes)
		name := s.Score.String()
		pm := func(x conformalio.Spread, d int) string { return n(x.Mean, d) + "\u00a0±\u00a0" + n(x.SD, d) }
		g.Rows = append(g.Rows, []string{name, pm(s.Coverage, 4), percent(result.Number(s.Outside)), pm(s.MeanSize, 3),
			percent(result.Number(s.Empty.Mean)), percent(result.Number(s.Singleton.Mean)), n(s.Violation.Mean, 3), pm(s.Tau, 5)})
	}
	v.Groups = []tableGroup{g}
	v.Figures = []figure{
		{"Coverage", "Mean and standard deviation over splits; the band is the law’s mean and standard deviation.",
			spreads(list, "coverage", func(s conformalio.SplitsResult) conformalio.Spread { return s.Coverage }, 4, &[2]float64{r.Expected - r.ExpectedSD, r.Expected + r.ExpectedSD})},
		{"Mean set size", "Mean and standard deviation over splits.",
			spreads(list, "labels in a set, mean", func(s conformalio.SplitsResult) conformalio.Spread { return s.MeanSize }, 3, nil)},
	}
	return v.write(w)
}

// spreads draws means and standard deviations, one below the other.
func spreads(list []conformalio.SplitsResult, axis string, of func(conformalio.SplitsResult) conformalio.Spread, decimals int, band *[2]float64) template.HTML {
	p := rows{label: axis, axis: axis, w: full, h: 30, radius: 5, band: band}
	for _, s := range list {
		x := of(s)
		p.rows = append(p.rows, row{name: clip(s.Score.String(), 40), ink: "randun", marks: []interval{{result.RandUn, x.Mean, x.Mean - x.SD, x.Mean + x.SD}},
			text: num(result.Number(x.Mean), decimals), small: "± " + num(result.Number(x.SD), decimals)})
	}
	return p.drawing().html()
}
