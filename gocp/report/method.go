package report

import (
	"fmt"
	"strings"

	"github.com/gocp/gocp/gocp/result"
)

// methodNames are what the methods are called, but for the default.
var methodNames = map[string]string{"witchesbrew": "gradient matching to misclassify (Witches' Brew)"}

// unrolled says from what metapoison looks ahead, and what became of the adversary's loss there; nothing of others.
func unrolled(r *result.Result) string {
	k := r.Config.Craft.Meta
	if k == nil {
		return ""
	}
	every := "step"
	if k.AgeEvery > 1 {
		every = plural(k.AgeEvery, "step")
	}
	t := fmt.Sprintf("metapoison: %s of SGD ahead of %s, which age by an epoch every %s", plural(k.Unroll, "step"), plural(k.Ages, "surrogate"), every)
	var before, after float64
	n, epochs := 0, 0
	for i := range r.Repeats {
		if x := r.Repeats[i].Poisons.Lookahead; x != nil {
			before, after, epochs, n = before+x.Before.Float(), after+x.After.Float(), x.Epochs, n+1
		}
	}
	if n == 0 {
		return t
	}
	return fmt.Sprintf("%s, from 0 to %d; ℓ₂ there %s at the first step, %s with the poisons", t, epochs, short(before/float64(n)), short(after/float64(n)))
}

// misclassified says that a run's method wants predictions changed, and how often they were; nothing of others.
func misclassified(r *result.Result) string {
	k := &r.Config.Craft
	if k.AdversarialLabel == "" {
		return ""
	}
	name := methodNames[k.Method]
	if name == "" {
		name = k.Method
	}
	var told []string
	for _, cond := range result.Conditions {
		taken, n := 0, 0
		for i := range r.Repeats {
			rep := &r.Repeats[i]
			for _, v := range rep.Victims {
				if v.Condition != cond {
					continue
				}
				for t, o := range v.Outcomes {
					y := rep.Targets[t].Adversarial
					if y == nil {
						continue
					}
					if n++; o.Predicted == *y {
						taken++
					}
				}
			}
		}
		if n > 0 {
			told = append(told, fmt.Sprintf("%d of %d under %s", taken, n, cond))
		}
	}
	return fmt.Sprintf("%s, adversarial label %s, which victims predict of targets %s", name, k.AdversarialLabel, strings.Join(told, ", "))
}
