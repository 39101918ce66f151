package attack

import (
	"slices"

	"github.com/gocp/gocp/gocp/usage"
)

// add brings given labels into the set: A_v = labels, R_v = ∅. Poisons come from the labels.
type add struct {
	labels   []int
	size     int
	reckless bool
}

func newAdd(c GoalConfig) (Goal, error) {
	if len(c.Labels)+len(c.Words) == 0 {
		return nil, usage.Errorf("goal add: no labels to add were given")
	}
	labels := slices.Clone(c.Labels)
	slices.Sort(labels)
	return add{slices.Compact(labels), c.Size, c.Reckless}, nil
}

func (g add) Eligible(b Belief) bool {
	return b.Predicted == b.Label && b.twoThirds(func(s []int) bool {
		return (g.size == 0 || len(s) == g.size) && len(without(g.labels, s...)) > 0
	}) && len(without(g.labels, b.Label)) > 0
}

func (g add) Aim(b Belief) (Aim, error) {
	if err := checkLabels("add", g.labels, len(b.Prob)); err != nil {
		return Aim{}, err
	}
	a := Aim{Add: without(g.labels, b.Predicted)}
	if a.Empty() {
		return a, errNothing("add", b)
	}
	return stealth(a, b, g.reckless), nil
}

func (g add) Classes(_ Belief, a Aim) []int { return a.Add }

func (g add) Sources(label, k int) ([]int, int) {
	if g.size >= k { // there is nothing left to add
		return nil, 0
	}
	from := without(g.labels, label)
	return from, len(from)
}

func (g add) Grows() bool { return true }
