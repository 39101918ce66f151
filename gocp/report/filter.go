package report

import (
	"fmt"
	"html/template"
	"io"
	"math"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/gocp/gocp/gocp/result"
)

// mostSuspects bounds the samples that a page names, for each filter, and shows.
const mostSuspects = 48

// WriteFiltered writes a page on what filters drop. picture is a sample as PNG, or nothing where there is none.
func WriteFiltered(w io.Writer, f *result.Filtered, picture func(sample int) ([]byte, error), about About) error {
	v := &conformalView{About: about, Kicker: "filter report", Title: "Samples that look poisoned",
		Lead:         fmt.Sprintf("%s of %d features and %d classes; the filters reckon with %s.", plural(f.Samples, "sample"), f.Columns, len(f.Classes), plural(f.Poisons, "poison")),
		FiguresTitle: "Where the poisons are known", PicturesTitle: "The most suspicious", Badge: "to look at",
		TableNote:  "Ranks are by score among what a filter drops. Scores of different filters cannot be compared.",
		Provenance: "The same command gives the same bytes. Every flagged sample is in the file of --out and in the output of --json.",
		Caution:    template.HTML(`<b>What a filter knows.</b> It drops what is unusual, and most of what is unusual is not poisoned: on clean data these filters drop nearly as many. That a sample is dropped is a reason to look at it; that none is dropped is no proof that there is none. Poisons made with a filter in mind can pass it.`)}
	if f.Model != "" {
		v.Provenance += " Features come from the model with SHA-256 " + f.Model + "."
	}
	share := func(n int) string { return percent(result.Number(float64(n) / math.Max(1, float64(f.Samples)))) }
	known := false
	for i, by := range f.Methods {
		text := fmt.Sprintf("%s. It drops %s, %s of all.", upperFirst(by.Says), thousands(len(by.Flagged)), share(len(by.Flagged)))
		note := share(len(by.Flagged)) + " of all"
		if k := by.Known; k != nil {
			known = true
			text += fmt.Sprintf(" Of %s it finds %d; %d of what it drops are clean (precision %s, recall %s, area %s).", plural(k.Poisons, "poison"), k.PoisonsDropped, k.CleanDropped,
				num(result.Number(k.Precision), 3), num(result.Number(k.Recall), 3), num(result.Number(k.AUC), 3))
			note = fmt.Sprintf("%d of %s", k.PoisonsDropped, plural(k.Poisons, "poison"))
		}
		v.Points = append(v.Points, point{by.Method, text + " " + by.Source + "."})
		if i < 4 {
			v.Tiles = append(v.Tiles, tile{Value: thousands(len(by.Flagged)), Name: by.Method, Note: note})
		}
	}
	if len(f.Methods) > 0 {
		v.Headline = fmt.Sprintf("%s drops %d of %s", f.Methods[0].Method, len(f.Methods[0].Flagged), plural(f.Samples, "sample"))
		for _, s := range suspects(f.Methods[0]) {
			png, err := picture(s.Sample)
			if err != nil {
				return err
			}
			if png != nil {
				v.Pictures = append(v.Pictures, framed{dataURI(png), fmt.Sprintf("%s #%d", classOf(f, s.Label), s.Sample)})
			}
		}
	}
	if len(v.Pictures) > 0 {
		v.PicturesNote = fmt.Sprintf("By %s, the most suspicious first; %d of %d.", f.Methods[0].Method, len(v.Pictures), len(f.Methods[0].Flagged))
	}
	if known {
		v.Figures = append(v.Figures, figure{"Poisons dropped over clean samples dropped", "For every score that could be the limit: the share of the clean samples and of the poisons at or above it. The dashed line is chance; marks are what the filters drop.", rocPlot(f).html()})
	}
	v.Columns = []string{"Sample", "Class", "Rank", "Score", "Why"}
	for _, by := range f.Methods {
		g := tableGroup{Name: by.Method}
		for _, s := range suspects(by) {
			g.Rows = append(g.Rows, []string{fmt.Sprint(s.Sample), classOf(f, s.Label), fmt.Sprint(s.Rank), general(result.Number(s.Score)), s.Reason})
		}
		if rest := len(by.Flagged) - mostSuspects; rest > 0 {
			g.Rows = append(g.Rows, []string{"…", "", "", "", fmt.Sprintf("and %s more", thousands(rest))})
		}
		v.Groups = append(v.Groups, g)
	}
	counts := tableGroup{Name: "Dropped of each class"}
	for y, n := range f.Classes {
		text := ""
		for i, by := range f.Methods {
			if i > 0 {
				text += ", "
			}
			text += fmt.Sprintf("%s %d", by.Method, by.ByClass[y])
		}
		counts.Rows = append(counts.Rows, []string{"all", classOf(f, y), "", thousands(n), text})
	}
	v.Groups = append(v.Groups, counts)
	return v.write(w)
}

// suspects are the first that a page shows.
func suspects(by result.FilteredBy) []result.Flagged {
	return by.Flagged[:min(len(by.Flagged), mostSuspects)]
}

func classOf(f *result.Filtered, y int) string {
	if y >= 0 && y < len(f.Names) {
		return clip(f.Names[y], 24)
	}
	return fmt.Sprint(y)
}

// rocPlot draws the curves of all filters, one mark each for what it drops.
func rocPlot(f *result.Filtered) drawing {
	c := newChart("share of clean samples dropped")
	c.Add(&plotter.Grid{Vertical: stroke(theme["grid"], 1), Horizontal: stroke(theme["grid"], 1)})
	c.line(dashed(), plotter.XY{}, plotter.XY{X: 1, Y: 1})
	for i, by := range f.Methods {
		if by.Known == nil {
			continue
		}
		var curve []plotter.XY
		for _, p := range by.Known.ROC {
			curve = append(curve, plotter.XY{X: share(p.Clean), Y: share(p.Poisons)})
		}
		cond := [...]result.Condition{result.Attack, result.RandUn, result.RandGa, result.Clean}[i%4]
		c.line(stroke(faded(string(cond), 0.8), 1.6), curve...)
		clean := math.Max(1, float64(f.Samples-by.Known.Poisons))
		at := plotter.XY{X: share(float64(by.Known.CleanDropped) / clean), Y: share(by.Known.Recall)}
		c.marks(mark(cond, 4.5), at)
		c.write(at.X, at.Y, clip(by.Method, 24), lettering("ink", 12, draw.XLeft), 9, -vg.Length(4+15*i)) // several often lie in one corner
	}
	c.X.Min, c.X.Max, c.Y.Min, c.Y.Max = 0, 1, 0, 1
	c.tell()
	return drawing{"roc", "Share of the poisons over the share of the clean samples that would be dropped", full, 360, c.Draw}
}

// share is x if it is one, else the nearest.
func share(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return min(max(x, 0), 1)
}
