package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/result"
)

// subgroupName is the name of the subgroup that a repeat attacks.
func subgroupName(r *result.Result, rep *result.Repeat) string {
	return r.Config.Subgroups.Names[*rep.Subgroup]
}

// subgroupCoverage is the coverage of the members that a repeat's victims were tested on under a condition: mean over victims,
// with the Clopper–Pearson interval that one victim's share of n has.
func subgroupCoverage(rep *result.Repeat, c result.Condition) (mark interval, n int) {
	share := victimMean(rep, c, func(v *result.Victim) float64 {
		g := v.Test.Groups[*rep.Subgroup]
		n = g.N
		return float64(g.Covered) / float64(g.N)
	})
	if math.IsNaN(share) {
		return interval{cond: c, at: share}, n
	}
	low, high := conformal.ClopperPearson(int(math.Round(share*float64(n))), n, 0.95)
	return interval{c, share, low, high}, n
}

// subgroupPlot draws coverage of the attacked subgroups.
func (v *view) subgroupPlot() rows {
	p := rows{name: "coverage-by-subgroup", label: "Coverage of the attacked subgroups", axis: "test coverage, 95 % interval", w: full, h: 30, radius: 3.6}
	if v.R.Config.Subgroups == nil {
		return p
	}
	p.at, p.atText = v.promised()
	for i := range v.R.Repeats {
		rep := &v.R.Repeats[i]
		r := row{}
		for _, c := range []result.Condition{result.Clean, v.Sum.Noise(), result.Attack} {
			mark, n := subgroupCoverage(rep, c)
			if finite(mark.at) {
				r.marks = append(r.marks, mark)
				r.name = clip(fmt.Sprintf("%s (%d)", subgroupName(v.R, rep), n), 40)
			}
		}
		if len(r.marks) > 0 {
			p.rows = append(p.rows, r)
		}
	}
	return p
}

// subgroupQuantities are lines of the main table.
func (v *view) subgroupQuantities() []quantity {
	if v.R.Config.Subgroups == nil {
		return nil
	}
	of := func(f func(*result.Divided) result.Estimate) func(*result.Row) result.Estimate {
		return func(r *result.Row) result.Estimate {
			if r.Subgroup == nil {
				return result.Estimate{Mean: result.Number(math.NaN()), SE: result.Number(math.NaN())}
			}
			return f(r.Subgroup)
		}
	}
	return []quantity{
		{name: "Coverage of the attacked subgroup", hint: "members that are no targets", key: result.QMembers, decimals: 3, of: of(func(d *result.Divided) result.Estimate { return d.Coverage })},
		{name: "Accuracy there", key: result.QMembersA, decimals: 3, of: of(func(d *result.Divided) result.Estimate { return d.Accuracy })},
		{name: "Mean set size there", decimals: 2, of: of(func(d *result.Divided) result.Estimate { return d.Size })},
		{name: "Coverage outside of it", key: result.QRest, decimals: 3, of: of(func(d *result.Divided) result.Estimate { return d.RestCoverage })},
		{name: "Accuracy outside of it", key: result.QRestA, decimals: 3, of: of(func(d *result.Divided) result.Estimate { return d.RestAccuracy })},
	}
}

// subgroupSentence says what the attack did to the subgroups.
func subgroupSentence(r *result.Result, s *result.Summary, att, run, clean *result.Row) string {
	t := fmt.Sprintf("Of the test images in the attacked subgroup that the adversary did not see, %s are covered under the attack, %s under %s",
		plusMinus(att.Subgroup.Coverage, 3), plusMinus(run.Subgroup.Coverage, 3), noiseName(s))
	if clean != nil && clean.Subgroup != nil {
		t += fmt.Sprintf(" and %s after clean retraining", plusMinus(clean.Subgroup.Coverage, 3))
	}
	return t + fmt.Sprintf(" (promised on average: %s); outside of it %s and %s. Their accuracy is %s and %s, outside of the subgroup %s and %s.",
		r.Config.Coverage, plusMinus(att.Subgroup.RestCoverage, 3), plusMinus(run.Subgroup.RestCoverage, 3),
		num(att.Subgroup.Accuracy.Mean, 3), num(run.Subgroup.Accuracy.Mean, 3), num(att.Subgroup.RestAccuracy.Mean, 3), num(run.Subgroup.RestAccuracy.Mean, 3))
}

// subgroupLines writes the attacked subgroups one by one.
func subgroupLines(b *strings.Builder, r *result.Result, s *result.Summary) {
	if r.Config.Subgroups == nil {
		return
	}
	b.WriteString("\ncoverage of the attacked subgroups, 95 % intervals: test images that are no targets\n")
	rows := [][]string{{"", "images", string(result.Attack), string(s.Noise()), string(result.Clean)}}
	for i := range r.Repeats {
		rep := &r.Repeats[i]
		line := []string{subgroupName(r, rep), ""}
		for _, c := range []result.Condition{result.Attack, s.Noise(), result.Clean} {
			mark, n := subgroupCoverage(rep, c)
			if !finite(mark.at) {
				line = append(line, "")
				continue
			}
			line[1] = thousands(n)
			line = append(line, fmt.Sprintf("%.3f (%.3f–%.3f)", mark.at, mark.low, mark.high))
		}
		rows = append(rows, line)
	}
	align(b, rows)
}
