package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/result"
)

// defenceText says what victims and benign models were trained under. Empty without a defence.
func defenceText(r *result.Result) string {
	text := droppedText(r)
	if t := dropsText(r); text == "" && t != "" {
		text = "Dropped in the mean: " + t + "."
	}
	if t := r.Config.Training; t != "" {
		text = strings.TrimSpace(text + " Every victim and benign model was trained under " + t + "; the adversary's were not.")
	}
	return text
}

// droppedText says what the defence left out of training images, by condition: of the poisons (or the
// noisy images in their place), of the others, and of those of benign models. Empty without a filter.
func droppedText(r *result.Result) string {
	training, _, _ := strings.Cut(r.Config.Training, " ")
	filters := slices.DeleteFunc(strings.Split(r.Config.Defense, ","), func(name string) bool { return name == "" || name == training })
	if len(filters) == 0 {
		return ""
	}
	return fmt.Sprintf("Every victim and benign model was trained a second time, on what %s left of its images, told the number of poisons. Dropped in the mean: %s.", strings.Join(filters, " and then "), dropsText(r))
}

// dropsText counts what was dropped, empty if nothing drops.
func dropsText(r *result.Result) string {
	type sum struct{ models, samples, poisons, of int }
	sums := map[result.Condition]*sum{}
	add := func(c result.Condition, d *result.Dropped, of int) {
		if d == nil {
			return
		}
		if sums[c] == nil {
			sums[c] = &sum{}
		}
		s := sums[c]
		s.models++
		s.samples += d.Samples
		s.poisons += d.Poisons
		s.of += of
	}
	for _, m := range r.Models {
		add(benign, m.Dropped, 0)
	}
	for _, rep := range r.Repeats {
		for _, v := range rep.Victims {
			if v.Condition != result.Clean { // those are benign models, counted once
				add(v.Condition, v.Dropped, rep.Poisons.Count)
			}
		}
	}
	var parts []string
	for _, c := range []result.Condition{result.Attack, result.RandUn, result.RandGa, result.RandLabel, benign} {
		s := sums[c]
		if s == nil {
			continue
		}
		n := float64(s.models)
		if c == benign {
			parts = append(parts, fmt.Sprintf("of a benign model %s images", num(result.Number(float64(s.samples)/n), 1)))
			continue
		}
		parts = append(parts, fmt.Sprintf("under %s %s of %s poisons and %s other images", c, num(result.Number(float64(s.poisons)/n), 1), num(result.Number(float64(s.of)/n), 1),
			num(result.Number(float64(s.samples-s.poisons)/n), 1)))
	}
	return strings.Join(parts, "; ")
}
