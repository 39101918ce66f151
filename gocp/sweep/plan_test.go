package sweep

import (
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

var known = []string{"budget", "score", "plain", "seed", "conditions"}

func names(p *Plan) string {
	var out []string
	for _, pt := range p.Points {
		out = append(out, pt.Name())
	}
	return strings.Join(out, " | ")
}

func TestPoints(t *testing.T) {
	for _, c := range []struct{ plan, want, axes string }{
		{"base: {seed: 3}", "base", ""},
		{"axes: {budget: [.01, 0.02], score: [hps, aps]}", "budget=.01,score=hps | budget=.01,score=aps | budget=0.02,score=hps | budget=0.02,score=aps", "budget score"},
		{"axes: {budget: [.01, 0.02], score: [hps, aps]}\nexclude: [{budget: .01, score: aps}]", "budget=.01,score=hps | budget=0.02,score=hps | budget=0.02,score=aps", "budget score"},
		{"axes: {budget: [.01]}\npoints:\n- {budget: .02, plain: true}", "budget=.01 | budget=.02,plain=true", "budget plain"},
		{"points:\n- {budget: .02}\n- {plain: true}", "budget=.02 | plain=true", "budget plain"},
		{"base: {conditions: [attack, clean]}\naxes: {seed: [1, 2]}", "seed=1 | seed=2", "seed"},
	} {
		p, err := Parse("plan.yaml", []byte(c.plan), known)
		if err != nil {
			t.Errorf("%s: %v", c.plan, err)
			continue
		}
		if names(p) != c.want || strings.Join(p.Axes, " ") != c.axes {
			t.Errorf("%s: %s by %v", c.plan, names(p), p.Axes)
		}
	}
	p, err := Parse("plan.yaml", []byte("base: {conditions: [attack, clean]}\naxes: {seed: [1, 2]}"), known)
	if err != nil || p.Points[1].Fields[0].String() != "conditions=attack,clean" || p.Points[1].Line() != 2 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestBadPlans(t *testing.T) {
	for plan, want := range map[string]string{
		"":                                         "plan.yaml:1: the plan is empty",
		"base: {budgte: .1}":                       `plan.yaml:1: there is no field "budgte"; known: budget, score`,
		"bases: {budget: .1}":                      `plan.yaml:1: a plan has no "bases"; it has base, axes, points and exclude`,
		"axes:\n  budget: []":                      "plan.yaml:2: the axis budget is empty",
		"axes:\n  budget: 0.1":                     "plan.yaml:2: the axis budget is no list",
		"axes:\n  budget: [1, 1]":                  "plan.yaml:2: the axis budget has 1 twice",
		"axes: {}":                                 "plan.yaml:1: axes has no field",
		"axes:\n  budget: [.1, ~]":                 "plan.yaml:2: budget has no value",
		"base:\n  seed: 1\n  seed: 2":              "plan.yaml:3: base: seed is there twice, first in line 2",
		"base:\n  seed: {a: 1}":                    "plan.yaml:2: seed: this is no single value",
		"base:\n  seed: 1\naxes:\n  seed: [1, 2]":  "plan.yaml:4: seed is in the base already, in line 2",
		"points:\n- {seed: 1}\n- {seed: 1}":        "plan.yaml:3: the point seed=1 is there twice, first by line 2",
		"axes: {seed: [1]}\nexclude:\n- {seed: 2}": "plan.yaml:3: exclude: no point is like that",
		"axes: {seed: [1]}\nexclude:\n- {seed: 1}": "plan.yaml:1: no point is left",
		"points: []":                               "plan.yaml:1: points is no list",
		"points:\n- {}":                            "plan.yaml:2: points: an entry has no field",
		"- 1":                                      "plan.yaml:1: the plan is no mapping",
		"base: {seed: 1}\n---\nbase: {seed: 2}":    "there is a second document",
		"base: [":                                  "plan.yaml: ",
		"base: {seed: &a 1, budget: *a}":           "plan.yaml:1: budget: plans have no aliases",
	} {
		if _, err := Parse("plan.yaml", []byte(plan), known); !usage.Is(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", plan, err, want)
		}
	}
	many := "axes:\n"
	for _, f := range known {
		many += "  " + f + ": [1" + strings.Repeat(", 1", 0)
		for i := range 12 {
			many += ", a" + strings.Repeat("b", i)
		}
		many += "]\n"
	}
	if _, err := Parse("plan.yaml", []byte(many), known); !usage.Is(err) || !strings.Contains(err.Error(), "more than 16384 combinations") {
		t.Errorf("%v", err)
	}
	if _, err := Read("/nowhere/plan.yaml", known); !usage.Is(err) {
		t.Errorf("%v", err)
	}
}
