package attack

import (
	"slices"

	"github.com/gocp/gocp/gocp/usage"
)

// remove drives given labels out of the set: A_v = ∅, R_v = labels, or the true label, regardless
// of correctness. Poisons come from the predicted class, or, where that is itself to be removed,
// from the most plausible label that is not.
type remove struct {
	labels   []int
	truth    bool
	size     int
	reckless bool
}

func newRemove(c GoalConfig) (Goal, error) {
	if len(c.Labels)+len(c.Words) == 0 && !c.True {
		return nil, usage.Errorf("goal remove: neither labels to remove nor the true label were asked for")
	}
	labels := slices.Clone(c.Labels)
	slices.Sort(labels)
	return remove{slices.Compact(labels), c.True, c.Size, c.Reckless}, nil
}

func (g remove) wanted(b Belief) []int {
	if g.truth && !slices.Contains(g.labels, b.Label) {
		return append(slices.Clone(g.labels), b.Label)
	}
	return g.labels
}

func (g remove) Eligible(b Belief) bool {
	return b.Predicted == b.Label && b.twoThirds(func(s []int) bool {
		return (g.size == 0 || len(s) == g.size) && slices.ContainsFunc(g.wanted(b), func(y int) bool { return slices.Contains(s, y) })
	})
}

func (g remove) Aim(b Belief) (Aim, error) {
	if err := checkLabels("remove", g.labels, len(b.Prob)); err != nil {
		return Aim{}, err
	}
	a := Aim{Remove: g.wanted(b)}
	if a.Empty() {
		return a, errNothing("remove", b)
	}
	return stealth(a, b, g.reckless), nil
}

func (g remove) Classes(b Belief, a Aim) []int {
	if !slices.Contains(a.Remove, b.Predicted) {
		return []int{b.Predicted}
	}
	return plausible(b, a.Remove, 1)
}

func (g remove) Sources(label, k int) ([]int, int) {
	wanted := g.wanted(Belief{Label: label})
	from := others(k, wanted...)
	if slices.Contains(from, label) {
		from = []int{label}
	}
	if g.size > k || len(from) == 0 {
		return nil, 0
	}
	return from, 1
}

func (g remove) Grows() bool { return false }
