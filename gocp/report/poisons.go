package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/result"
)

// poisonsSentence says what the poisons of a group are of the victim's training data: how many, of which
// share of their classes, split how, and how many lie where the image they were made from lay. "" for a
// result that does not tell.
func poisonsSentence(r *result.Result) string {
	var splits []string
	var shares []float64
	classes, counts, own, all := []int{}, []int{}, 0, 0
	for i := range r.Repeats {
		p := &r.Repeats[i].Poisons
		if len(p.Split) == 0 {
			return ""
		}
		var parts []string
		for _, c := range p.Split {
			parts = append(parts, strconv.Itoa(c.Count))
			if c.Of > 0 {
				shares = append(shares, float64(c.Count)/float64(c.Of))
			}
		}
		splits = append(splits, strings.Join(parts, " + "))
		classes, counts = append(classes, len(p.Split)), append(counts, p.Count)
		own, all = own+p.InOwnPlace, all+p.Count
	}
	if len(counts) == 0 || len(shares) == 0 {
		return ""
	}
	slices.Sort(splits)
	splits = slices.Compact(splits)
	t := "The poisons of a group are " + span(counts) + " images of "
	if r.Config.TurnsLabels() {
		t = "The poisons of a group are " + span(counts) + " images with another label than their own, of "
	}
	most := slices.Max(classes)
	if most == 1 {
		t += "one class"
	} else {
		t += span(classes) + " classes"
		if len(splits) == 1 {
			t += " (" + splits[0] + ")"
		}
	}
	t += ", " + shareSpan(shares) + " of the victim’s images of "
	if most == 1 {
		t += "it; "
	} else {
		t += "each; "
	}
	switch own {
	case 0:
		return t + "none lies where the image it was made from lay, they replace others of the same class."
	case all:
		return t + "each replaces the image it was made from."
	}
	return t + fmt.Sprintf("%s of %s replace the image they were made from, the rest others of the same class.", thousands(own), thousands(all))
}

// span is "12", or "11 to 12".
func span(n []int) string {
	a, b := slices.Min(n), slices.Max(n)
	if a == b {
		return thousands(a)
	}
	return thousands(a) + " to " + thousands(b)
}

func shareSpan(x []float64) string {
	a, b := percent(result.Number(slices.Min(x))), percent(result.Number(slices.Max(x)))
	if a == b {
		return a
	}
	return a + " to " + b
}

// splitText is the split of one group: "cat 12 of 455, dog 11 of 430".
func splitText(r *result.Result, p *result.Poisons) string {
	var parts []string
	for _, c := range p.Split {
		t := className(r, c.Label) + " " + thousands(c.Count)
		if c.Of > 0 {
			t += fmt.Sprintf(" of %s (%s)", thousands(c.Of), percent(result.Number(float64(c.Count)/float64(c.Of))))
		}
		parts = append(parts, t)
	}
	return strings.Join(parts, ", ")
}

// basesOf says how the images that become poisons were chosen.
func basesOf(c *result.Config) string {
	if c.Diverse {
		return c.Bases + ", those that lie apart"
	}
	return c.Bases
}

// poisonText says in the lead what poisons are.
func poisonText(c *result.Config) string {
	t := ""
	if c.MovesPixels() {
		t = fmt.Sprintf(" within %s/255 of the originals", general(c.Budget.Epsilon255))
	}
	switch {
	case !c.TurnsLabels():
		return t + ", labels unchanged"
	case c.MovesPixels():
		return t + " and with other labels"
	}
	return ", images unchanged and with other labels"
}

// changeText is the same for the text on a terminal.
func changeText(c *result.Config) string {
	t := "labels turned"
	if c.MovesPixels() {
		ball := fmt.Sprintf("ball %s/255", general(c.Budget.Epsilon255))
		if !c.TurnsLabels() {
			return ball
		}
		t += ", " + ball
	}
	return t
}

// turnedText says how labels were chosen, "" where they stay.
func turnedText(c *result.Config) string {
	if !c.TurnsLabels() {
		return ""
	}
	t := "turned, those that gain most"
	if c.Rounds > 1 {
		t += fmt.Sprintf(", in %d rounds", c.Rounds)
	}
	return t
}

// turnsShown is how many pairs of labels turnsText names.
const turnsShown = 3

// turnsText says into what the labels of one group were turned: "cat into dog 12, deer into dog 8".
func turnsText(r *result.Result, p *result.Poisons) string {
	var parts []string
	for i, t := range p.Turns {
		if i == turnsShown {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, fmt.Sprintf("%s into %s %d", className(r, t.From), className(r, t.To), t.Count))
	}
	return strings.Join(parts, ", ")
}
