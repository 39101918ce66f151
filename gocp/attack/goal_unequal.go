package attack

// unequal makes coverage unequal: for the members of a subgroup, R_v = {true label}; for everyone
// else the true label is kept inside (Others). Poisons come from the most plausible label other
// than the true one: what gains at the subgroup's images is what the true label loses.
type unequal struct {
	size int
}

func newUnequal(c GoalConfig) (Goal, error) { return unequal{c.Size}, nil }

func (g unequal) Eligible(b Belief) bool {
	return b.Predicted == b.Label && (g.size == 0 || b.twoThirds(func(s []int) bool { return len(s) == g.size }))
}

func (g unequal) Aim(b Belief) (Aim, error) {
	return Aim{Remove: []int{b.Label}, Keep: -1, Inside: -1}, nil
}

// Others is the aim for images outside the subgroup.
func (g unequal) Others(b Belief) Aim { return Aim{Keep: b.Predicted, Inside: b.Label} }

func (g unequal) Classes(b Belief, a Aim) []int { return plausible(b, a.Remove, 1) }

func (g unequal) Sources(label, k int) ([]int, int) {
	if g.size > k || k < 2 {
		return nil, 0
	}
	return others(k, label), 1
}

func (g unequal) Grows() bool { return false }

// A Bystander is a Goal that also wants something of images that are not attacked.
type Bystander interface {
	Others(b Belief) Aim
}

var _ Bystander = unequal{}
