package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/result"
)

// A SweepRow is one audit of a sweep.
type SweepRow struct {
	Values []string       // of the axes; "" where the base says it
	Result *result.Result // nil: it has not been finished
}

// SweepText writes the audits of a sweep as a table.
func SweepText(w io.Writer, axes []string, rows []SweepRow) error {
	table := [][]string{append(append([]string{}, axes...), "benign", "attack", "randun", "attack − randun", "p", "coverage", "accuracy")}
	for _, row := range rows {
		line := append([]string{}, row.Values...)
		if row.Result == nil {
			table = append(table, append(line, "not finished"))
			continue
		}
		s := result.Summarise(row.Result.Repeats, len(row.Result.Dataset.Classes))
		size := func(c result.Condition) string {
			if r := s.Row(c); r != nil {
				return plusMinus(r.SetSize, 2)
			}
			return "–"
		}
		line = append(line, plusMinus(s.Benign.SetSize, 2), size(result.Attack), size(result.RandUn))
		if d := s.Difference(result.QSize, result.Attack, result.RandUn); d != nil {
			line = append(line, signed(d.Mean, 2)+" ± "+num(d.SE, 2), num(d.P, 4))
		} else {
			line = append(line, "–", "–")
		}
		if r := s.Row(result.Attack); r != nil {
			line = append(line, num(r.Coverage.Mean, 3), num(r.Accuracy.Mean, 3))
		} else {
			line = append(line, "–", "–")
		}
		table = append(table, line)
	}
	var b strings.Builder
	b.WriteString("set sizes of the targets, mean ± standard error over repeats; the difference is paired\n\n")
	align(&b, table)
	_, err := io.WriteString(w, b.String())
	return err
}

// SweepCSV writes them for other programs: one line a condition, empty fields where nothing was measured.
func SweepCSV(w io.Writer, axes []string, rows []SweepRow) error {
	c := csv.NewWriter(w)
	head := append(append([]string{}, axes...), "condition", "repeats", "set_size", "set_size_se", "reduction", "reduction_se", "expansion", "expansion_se",
		"kept", "empty", "coverage", "accuracy", "minus_randun", "minus_randun_se", "minus_randun_p")
	if err := c.Write(head); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	full := func(x result.Number) string { return strconv.FormatFloat(float64(x), 'g', -1, 64) }
	for _, row := range rows {
		if row.Result == nil {
			continue
		}
		s := result.Summarise(row.Result.Repeats, len(row.Result.Dataset.Classes))
		n := strconv.Itoa(len(row.Result.Repeats))
		empty := make([]string, len(head)-len(axes)-4)
		lines := [][]string{append([]string{"benign", n, full(s.Benign.SetSize.Mean), full(s.Benign.SetSize.SE)}, empty...)}
		for _, r := range s.Rows {
			line := []string{string(r.Condition), n, full(r.SetSize.Mean), full(r.SetSize.SE), full(r.Reduction.Mean.Mean), full(r.Reduction.Mean.SE),
				full(r.Expansion.Mean.Mean), full(r.Expansion.Mean.SE), full(r.Kept.Mean), full(r.Empty.Mean), full(r.Coverage.Mean), full(r.Accuracy.Mean)}
			if d := s.Difference(result.QSize, r.Condition, result.RandUn); d != nil {
				line = append(line, full(d.Mean), full(d.SE), full(d.P))
			} else {
				line = append(line, "", "", "")
			}
			lines = append(lines, line)
		}
		for _, line := range lines {
			if err := c.Write(append(append([]string{}, row.Values...), line...)); err != nil {
				return fmt.Errorf("report: %w", err)
			}
		}
	}
	c.Flush()
	return c.Error()
}
