package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/gocp/gocp/gocp/result"
)

// Text writes the compact table that `gocp audit` prints at the end: the conditions with standard
// errors, the paired differences from noise, the verdict. Plain text of at most 100
// columns, no colours.
func Text(w io.Writer, r *result.Result) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	s := result.Summarise(r.Repeats, len(r.Dataset.Classes))
	var b strings.Builder
	c := &r.Config
	fmt.Fprintf(&b, "%s, %s, %s, budget %s (%s), %s, %s, coverage %s\n",
		c.Goal, r.Dataset.Name, c.Access, fractionPercent(c.Budget.Fraction), plural(c.Budget.Count, "poison"), changeText(c), c.Score, c.Coverage)
	fmt.Fprintf(&b, "%s × %s × %s; mean ± standard error over repeats\n",
		plural(len(r.Repeats), "repeat"), plural(max(1, c.Targets), "target"), plural(c.Victims, "victim"))
	if t := unrolled(r); t != "" {
		fmt.Fprintln(&b, wrapped(t, 100))
	}
	if t := misclassified(r); t != "" {
		fmt.Fprintln(&b, wrapped(t, 100))
	}
	if t := secondOrder(r); t != "" {
		fmt.Fprintln(&b, wrapped(t, 100))
	}
	if t := trainedBy(c); t != "" {
		fmt.Fprintln(&b, wrapped(t, 100))
	}
	if t := defenceText(r); t != "" {
		fmt.Fprintln(&b, wrapped(t, 100))
	}
	if n := r.Dataset.Copies; n > 0 {
		fmt.Fprintf(&b, "%s left out as exact copies of images that models train or calibrate on\n", plural(n, "candidate"))
	}
	b.WriteString("\n")

	a := aimOf(c)
	word := "reduction"
	if !a.Shrinks {
		word = "expansion"
	}
	head := []string{"", "set size", word, "p(pred)", "S−τ", "kept", "empty", "coverage", "accuracy"}
	rows := [][]string{head, {"benign", plusMinus(s.Benign.SetSize, 2)}}
	for _, cond := range result.Conditions {
		row := s.Row(cond)
		if row == nil {
			continue
		}
		ratio := row.Reduction.Mean
		if !a.Shrinks {
			ratio = row.Expansion.Mean
		}
		rows = append(rows, []string{string(cond), plusMinus(row.SetSize, 2), plusMinus(ratio, 2), num(row.Prob.Mean, 2), signed(row.Margin.Mean, 3),
			num(row.Kept.Mean, 2), num(row.Empty.Mean, 2), num(row.Coverage.Mean, 3), num(row.Accuracy.Mean, 3)})
	}
	align(&b, rows)

	subgroupLines(&b, r, &s)
	if d := s.Difference(result.QSize, result.Attack, s.Noise()); d != nil {
		fmt.Fprintf(&b, "\nattack − %s, paired over repeats\n", d.B)
		rows = [][]string{}
		for _, q := range []struct {
			key, name string
			d         int
		}{
			{result.QSize, "set size", 2},
			{result.QReduction, "reduction ratio, mean of ratios", 2},
			{result.QReductionOfM, "reduction ratio, ratio of means", 2},
			{result.QReduction1, "reduction ratio with max(1, size)", 2},
			{result.QExpansion, "expansion ratio, mean of ratios", 2},
			{result.QExpansionOfM, "expansion ratio, ratio of means", 2},
			{result.QExpansion1, "expansion ratio with max(1, size)", 2},
			{result.QInside, "attacked labels in the set", 2},
			{result.QProb, "p of the benign prediction", 2},
			{result.QKept, "prediction kept", 2},
			{result.QMembers, "coverage of the subgroup's other members", 3},
			{result.QMembersA, "accuracy of those", 3},
			{result.QRest, "coverage outside of the subgroup", 3},
			{result.QRestA, "accuracy there", 3},
			{result.QCoverage, "test coverage", 3},
			{result.QAccuracy, "test accuracy", 3},
		} {
			if a.Shrinks && strings.HasPrefix(q.key, "expansion") || !a.Shrinks && strings.HasPrefix(q.key, "reduction") {
				continue
			}
			if d := s.Difference(q.key, result.Attack, s.Noise()); d != nil {
				row := []string{q.name, signed(d.Mean, q.d), "± " + num(d.SE, q.d), "z = " + num(d.Z, 1), pValue(d.P)}
				if q.key == a.quantity {
					row = append(row, "← decides")
				}
				rows = append(rows, row)
			}
		}
		align(&b, rows)
	}
	v := newVerdict(r, &s)
	fmt.Fprintf(&b, "\n%s: %s\n", v.Label, v.Headline)
	for _, p := range v.Points {
		if p.Title == "Poisons" || p.Title == "The subgroup" || p.Title == "Stealth" || p.Title == "Empty sets" {
			fmt.Fprintln(&b, p.Text)
		}
	}
	if t := telemetryText(r.Telemetry); t != "" {
		fmt.Fprintf(&b, "\n%s\n", t)
	}
	_, err := io.WriteString(w, strings.ReplaceAll(b.String(), "\u00a0", " ")) // a terminal breaks where it must
	return err
}

// align writes rows with the first column to the left and the others to the right.
func align(b *strings.Builder, rows [][]string) {
	var width []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range rows {
		var line strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 0 {
				line.WriteString("  " + c + pad)
			} else {
				line.WriteString("  " + pad + c)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}
