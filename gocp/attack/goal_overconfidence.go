package attack

// overconfidence shrinks sets to the predicted label: A_v = ∅, R_v = C_v \ {predicted}, where
// C_v is the union of the surrogates' sets. Poisons come from the predicted class.
type overconfidence struct {
	size     int
	reckless bool
}

func newOverconfidence(c GoalConfig) (Goal, error) {
	g := overconfidence{c.Size, c.Reckless}
	if g.size == 0 {
		g.size = 2
	}
	return g, nil
}

func (g overconfidence) Eligible(b Belief) bool {
	return b.Predicted == b.Label && b.twoThirds(func(s []int) bool { return len(s) == g.size }) &&
		len(without(b.Union(), b.Predicted)) > 0
}

func (g overconfidence) Aim(b Belief) (Aim, error) {
	a := Aim{Remove: without(b.Union(), b.Predicted)}
	if a.Empty() {
		return a, errNothing("overconfidence", b)
	}
	return stealth(a, b, g.reckless), nil
}

func (g overconfidence) Classes(b Belief, _ Aim) []int { return []int{b.Predicted} }

func (g overconfidence) Sources(label, k int) ([]int, int) {
	if g.size > k {
		return nil, 0
	}
	return []int{label}, 1
}

func (g overconfidence) Grows() bool { return false }
