package conformalio

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/conformal"
)

// Results say in words what their numbers alone would let one misread: too few samples, cells that
// calibration never saw, full sets and ties.

// tooFew says that n samples give no finite threshold.
func tooFew(n int, what string, level conformal.Level) string {
	return fmt.Sprintf("%d %s are too few for miscoverage %s: every set holds every label; at least %d are needed", n, what, level, level.MinCalibration())
}

// cells are n of what conditioning is by.
func cells(n int, by conformal.Condition) string {
	switch {
	case n == 1:
		return "1 " + string(by)
	case by == conformal.ByClass:
		return fmt.Sprintf("%d classes", n)
	}
	return fmt.Sprintf("%d %ss", n, by)
}

// oneOr chooses the form of a word.
func oneOr(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// belowMeans is what labels or samples of a cell get that has no threshold of its own.
var belowMeans = map[conformal.Below]string{
	conformal.BelowInfinite: "τ = +∞, so coverage holds but sets are of no use there",
	conformal.BelowMarginal: "the marginal threshold, so coverage is not promised there",
	conformal.BelowPool:     "the threshold of all small cells together",
}

// notes are those of the threshold alone.
func (c *Calibration) notes() []string {
	t := c.Thresholds
	if c.Method == MethodRisk {
		if t.All.TooFew() {
			return []string{strings.Replace(tooFew(c.N, "samples", c.Miscoverage), "miscoverage", "risk", 1)}
		}
		return nil
	}
	var notes []string
	by := t.Conditioning.By
	if by == conformal.Marginal || t.Conditioning.Below == conformal.BelowMarginal {
		if t.All.TooFew() {
			notes = append(notes, tooFew(t.All.N, "calibration samples", c.Miscoverage))
		}
	}
	if n := t.All.N; n > 1 && t.Ties == n {
		notes = append(notes, fmt.Sprintf("all %d calibration scores are equal, so τ tells nothing apart: look whether the file holds what it should (an array that was never filled is all zeros)", n))
	}
	never, small := 0, 0
	for _, cell := range t.Cells {
		switch {
		case cell.Fallback == "" || by == conformal.ByCluster && cell.Key == -1:
		case cell.N == 0:
			never++
		default:
			small++
		}
	}
	if never > 0 {
		notes = append(notes, fmt.Sprintf("%d of %s %s no calibration sample: %s %s", never, cells(len(t.Cells), by), oneOr(never, "has", "have"), oneOr(never, "it gets", "they get"), belowMeans[t.Conditioning.Below]))
	}
	if small > 0 {
		notes = append(notes, fmt.Sprintf("%d of %s %s fewer than %d calibration samples: %s %s", small, cells(len(t.Cells), by), oneOr(small, "has", "have"), t.Conditioning.MinCell, oneOr(small, "it gets", "they get"), belowMeans[t.Conditioning.Below]))
	}
	if t.Conditioning.Below == conformal.BelowPool && never+small > 0 && t.Absent.TooFew() {
		notes = append(notes, strings.Replace(tooFew(t.Absent.N, "calibration samples in small "+strings.TrimPrefix(cells(2, by), "2 ")+" together", c.Miscoverage), "every set holds every label", "their labels are in every set", 1))
	}
	return notes
}

// known are the notes of a threshold that was read from a file, whoever wrote it.
func (c *Calibration) known() []string {
	notes := c.notes()
	for _, n := range c.Notes {
		if !slices.Contains(notes, n) {
			notes = append(notes, n)
		}
	}
	return notes
}

// lastLabelNote tells of a threshold of APS or RAPS at which the least probable label of every row scores
// but for rounding, since its sum is over all probabilities.
func (c *Calibration) lastLabelNote() string {
	if c.Score.U != conformal.DrawOne || c.Score.Name != "aps" && c.Score.Name != "raps" {
		return ""
	}
	last := 1.0
	if c.Score.Name == "raps" {
		last += c.Score.Lambda * float64(max(0, c.Thresholds.K-c.Score.KReg))
	}
	if math.Abs(c.Thresholds.All.Tau-last) > 1e-12*last {
		return ""
	}
	return "τ is the score of a row's last label, the sum of all its probabilities: whether sets hold theirs is a matter of rounding (float32 and float64 logits can differ); u drawn for each sample has no such ties"
}

// certain counts calibration rows whose true label has a probability of exactly 0, and of exactly 1.
type certain struct{ zero, one int }

// mayBeFull tells whether τ is as large as the score of a label of probability 0, whatever u is.
func (c *Calibration) mayBeFull() bool {
	switch c.Score.Name {
	case "hps", "aps", "raps", "margin":
		return c.Thresholds.All.Tau >= 1-1e-12 && !c.Thresholds.All.Infinite()
	}
	return false
}

// countCertain goes through the calibration rows once more.
func (c *Calibration) countCertain(r Run, s *conformal.Scorer, t conformal.Table, labels []int) (certain, error) {
	var sum certain
	err := conformal.Each(s, t, conformal.Stream{Context: r.Context, Workers: r.Workers, Seed: r.Seed}, func(b conformal.Block) (certain, error) {
		var n certain
		for i := range b.P.N {
			switch b.P.At(i, labels[b.First+i]) {
			case 0:
				n.zero++
			case 1:
				n.one++
			}
		}
		return n, nil
	}, func(_ conformal.Block, n certain) error {
		sum.zero += n.zero
		sum.one += n.one
		return nil
	})
	return sum, err
}

// certainNote says why sets are full where probabilities are exactly 0 or 1; empty if they are not.
func (c *Calibration) certainNote(n certain) string {
	share := func(k int) string {
		return fmt.Sprintf("%d of %d calibration samples (%.3g %%)", k, c.N, 100*float64(k)/float64(c.N))
	}
	remedy := "give logits, or probabilities that were not rounded to 0"
	switch least := c.Thresholds.All.N - c.Thresholds.All.Rank + 1; {
	case n.zero >= least:
		return fmt.Sprintf("in %s the true label has a probability of exactly 0, more than miscoverage %s allows for: τ is the score of such a label, whatever u is, and sets hold labels of probability 0 too; %s", share(n.zero), c.Miscoverage, remedy)
	case c.Score.U == conformal.DrawOne && (c.Score.Name == "aps" || c.Score.Name == "raps") && n.zero+n.one >= least:
		return fmt.Sprintf("in %s the true label has a probability of exactly 1 and in %d of exactly 0: with u = 1 both score 1, as does every label of probability 0, so sets are full; draw u for each sample, or %s", share(n.one), n.zero, remedy)
	}
	return ""
}

// unseenGroups says how many rows are in groups that calibration never saw.
func (c *Calibration) unseenGroups(groups []int) []string {
	t := c.Thresholds
	if t.Conditioning.By != conformal.ByGroup {
		return nil
	}
	known := map[int]bool{}
	for _, cell := range t.Cells {
		known[cell.Key] = true
	}
	rows, which := 0, map[int]bool{}
	first := 0
	for _, g := range groups {
		if !known[g] {
			if rows == 0 {
				first = g
			}
			rows++
			which[g] = true
		}
	}
	if rows == 0 {
		return nil
	}
	such := fmt.Sprint(first)
	if len(which) > 1 {
		such = "such as " + such
	}
	return []string{fmt.Sprintf("%d of %d samples are in %s that calibration never saw (%s): they get %s", rows, len(groups), cells(len(which), conformal.ByGroup), such, belowMeans[t.Conditioning.Below])}
}

// unseenClasses says how many labelled rows are of classes that calibration never saw.
func (c *Calibration) unseenClasses(labels []int) []string {
	t := c.Thresholds
	if t.Conditioning.By != conformal.ByClass {
		return nil
	}
	never := map[int]bool{}
	for _, cell := range t.Cells {
		if cell.N == 0 {
			never[cell.Key] = true
		}
	}
	rows, which := 0, map[int]bool{}
	for _, y := range labels {
		if never[y] {
			rows++
			which[y] = true
		}
	}
	if rows == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d of %d samples are of %s that calibration never saw: these get %s", rows, len(labels), cells(len(which), conformal.ByClass), belowMeans[t.Conditioning.Below])}
}

// breakTies is what to do against ties.
func breakTies(v conformal.Variant) string {
	what := "scores with more digits break ties (logits, or probabilities that were not rounded)"
	if !v.Randomized() && (v.Name == "aps" || v.Name == "raps" || v.Name == "saps") {
		what += ", and so does u drawn for each sample"
	}
	return what
}

// tiesNote says that ties at τ make coverage lie above its band.
func tiesNote(where string, calibration, test float64, v conformal.Variant) string {
	return fmt.Sprintf("%s by ties: %.3g %% of the calibration scores and %.3g %% of the test scores are equal to τ, and all of those are inside; this is no sign against exchangeability; %s", where, 100*calibration, 100*test, breakTies(v))
}
