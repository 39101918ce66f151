package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/result"
)

func textOf(t *testing.T, r *result.Result) string {
	t.Helper()
	var b strings.Builder
	if err := Text(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Where set sizes did not move and something else did, the verdict says so.
func TestNoEffectBesideOneThatIs(t *testing.T) {
	for _, c := range []struct {
		name string
		goal string
		move func(v *result.Victim)
		want string // "": nothing moved
	}{
		{"nothing", "overconfidence", func(*result.Victim) {}, ""},
		{"the probability", "overconfidence", func(v *result.Victim) { v.Outcomes[0].Prob = 0.93 }, "No effect on sets: No effect beyond that of noise on the set size reduction ratio was found, but the probability of the predicted label rose by "},
		{"the probability, down", "underconfidence", func(v *result.Victim) { v.Outcomes[0].Prob = 0.11 }, "on the set size expansion ratio was found, but the probability of the predicted label fell by "},
		{"accuracy too", "overconfidence", func(v *result.Victim) { v.Outcomes[0].Prob, v.Test.Accuracy = 0.93, 0.3 }, "standard errors and test accuracy fell by "},
	} {
		r, _ := made(c.goal, 12, 10, 0.1) // as far as noise
		for i := range r.Repeats {
			for k := range r.Repeats[i].Victims {
				if v := &r.Repeats[i].Victims[k]; v.Condition == result.Attack {
					c.move(v)
				}
			}
		}
		text := textOf(t, r)
		switch {
		case c.want == "" && !strings.Contains(text, "No effect found: No effect beyond that of noise was found."):
			t.Errorf("%s:\n%s", c.name, text)
		case !strings.Contains(text, c.want):
			t.Errorf("%s: want %q in\n%s", c.name, c.want, text)
		}
		s := result.Summarise(r.Repeats, 10)
		v := newVerdict(r, &s)
		if last := v.Points[len(v.Points)-1].Text; strings.Contains(last, "no sign that the poisons are harmless") != (c.want != "") {
			t.Errorf("%s: %s", c.name, last)
		}
	}
}

func TestPoisonsAreDescribed(t *testing.T) {
	set := func(own int, splits ...[]result.PoisonedClass) func(p *result.Poisons, i int) {
		return func(p *result.Poisons, i int) {
			p.Split, p.InOwnPlace, p.Count = splits[i%len(splits)], own, 0
			for _, c := range p.Split {
				p.Count += c.Count
			}
		}
	}
	for _, c := range []struct {
		name string
		set  func(p *result.Poisons, i int)
		want string
	}{
		{"an older result", func(*result.Poisons, int) {}, ""},
		{"one class", set(0, []result.PoisonedClass{{Label: 3, Count: 180, Of: 450}}, []result.PoisonedClass{{Label: 5, Count: 180, Of: 400}}),
			"The poisons of a group are 180 images of one class, 40 % to 45 % of the victim’s images of it; none lies where the image it was made from lay, they replace others of the same class."},
		{"white box", set(180, []result.PoisonedClass{{Label: 3, Count: 180, Of: 450}}), "40 % of the victim’s images of it; each replaces the image it was made from."},
		{"split", set(0, []result.PoisonedClass{{Label: 1, Count: 23, Of: 460}, {Label: 2, Count: 22, Of: 440}}),
			"The poisons of a group are 45 images of 2 classes (23 + 22), 5 % of the victim’s images of each; none lies"},
		{"some in their own place", set(11, []result.PoisonedClass{{Label: 1, Count: 22, Of: 440}}), "44 of 88 replace the image they were made from, the rest others of the same class."},
	} {
		r, files := made("overconfidence", 4, 10, 1)
		for i := range r.Repeats {
			c.set(&r.Repeats[i].Poisons, i)
		}
		text := textOf(t, r)
		if c.want == "" {
			if strings.Contains(text, "poisons of a group") {
				t.Errorf("%s:\n%s", c.name, text)
			}
			continue
		}
		if !strings.Contains(text, c.want) {
			t.Errorf("%s: want %q in\n%s", c.name, c.want, text)
		}
		var page strings.Builder
		if err := Write(&page, r, files); err != nil {
			t.Fatal(err)
		}
		if plain := strings.ReplaceAll(page.String(), "\u00a0", " "); !strings.Contains(plain, c.want[:40]) || !strings.Contains(plain, " of 4") {
			t.Errorf("%s: the page does not say it", c.name)
		}
	}
}

// What differs from noise and not from a clean retraining is no clear effect: the noise may have moved the other way.
func TestBeyondNoiseAlone(t *testing.T) {
	r, _ := made("overconfidence", 12, 10, 1.6)
	if text := textOf(t, r); !strings.Contains(text, "Clear effect: ") || strings.Contains(text, "Against clean retraining") {
		t.Errorf("clear of both:\n%s", text)
	}
	for i := range r.Repeats {
		victims := r.Repeats[i].Victims
		of := map[result.Condition][]result.Outcome{}
		for _, v := range victims {
			of[v.Condition] = append(of[v.Condition], v.Outcomes...)
		}
		seen := 0
		for k := range victims {
			if v := &victims[k]; v.Condition == result.Clean {
				v.Outcomes = []result.Outcome{of[result.Attack][seen]}
				seen++
			}
		}
	}
	r.Summary = result.Summarise(r.Repeats, 10)
	if text, want := textOf(t, r), "Weak evidence: The poisons shrink the targets’ prediction sets compared with noise, but not clearly compared with clean retraining."; !strings.Contains(text, want) {
		t.Errorf("want %q in\n%s", want, text)
	}
	v := newVerdict(r, &r.Summary)
	if i := slices.IndexFunc(v.Points, func(p point) bool { return p.Title == "Against clean retraining" }); i < 0 || !strings.Contains(v.Points[i].Text, "differs from that under clean retraining by ") {
		t.Errorf("the points are %+v", v.Points)
	}
}
