package attack

// DefaultCount is how many labels underconfidence adds where nothing is said.
const DefaultCount = 4

// underconfidence grows sets: A_v = the m labels of least score outside C_v, R_v = ∅. Poisons
// come from the labels A_v, the budget split among them: one label alone becomes a
// misclassification, several at once gain a little each and none wins.
type underconfidence struct {
	size, count int
	reckless    bool
}

func newUnderconfidence(c GoalConfig) (Goal, error) {
	g := underconfidence{c.Size, c.Count, c.Reckless}
	if g.size == 0 {
		g.size = 1
	}
	if g.count == 0 {
		g.count = DefaultCount
	}
	return g, nil
}

// Eligible asks for the size on every surrogate, not on most: |C| = 1 is where sets have room
// to grow and where clean retraining changes least.
func (g underconfidence) Eligible(b Belief) bool {
	for _, s := range b.Sets {
		if len(s) != g.size {
			return false
		}
	}
	return b.Predicted == b.Label && len(b.Union()) < len(b.Prob)
}

func (g underconfidence) Aim(b Belief) (Aim, error) {
	a := Aim{Add: without(plausible(b, b.Union(), g.count), b.Predicted)}
	if a.Empty() {
		return a, errNothing("underconfidence", b)
	}
	return stealth(a, b, g.reckless), nil
}

func (g underconfidence) Classes(_ Belief, a Aim) []int { return a.Add }

func (g underconfidence) Sources(label, k int) ([]int, int) {
	return others(k, label), max(0, min(g.count, k-g.size))
}

func (g underconfidence) Grows() bool { return true }
