package attack

import (
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// The methods of crafting.
const (
	MethodAlignment    = "alignment"   // the poisons' gradient along that of the adversary's loss on prediction sets
	MethodWitchesBrew  = "witchesbrew" // along that of a cross entropy: misclassification, to compare with
	MethodMetaPoison   = "metapoison"  // a loss on prediction sets after a few unrolled steps of training
	MethodFirstOrder   = "firstorder"  // what a record says of alignment with ∇ℓ3
	MethodSecondOrder  = "secondorder" // and with (C + λI)⁻¹∇ℓ3
	MethodLabels       = "labels"      // and of labels alone
	defaultMethod      = MethodAlignment
	doesNothingWithout = "crafting: %s does nothing with the method %s; leave it out"
)

// A method is a way to make poisons of bases. All have the same budget, ball, grid and report.
type method struct {
	name string
	// defaults fills what c leaves open.
	defaults func(c *Config)
	// validate refuses what makes no sense with the method.
	validate func(c Config) error
	// goal is the goal that targets are chosen and bases are taken by; nil: the adversary's own.
	goal func(g Goal, c Config, seed uint64) Goal
	// loss is what a surrogate's gradient is of.
	loss lossMaker
	// craft makes the poisons; nil: the alignment loop.
	craft func(v *Solver, bases []int, step func()) (*Poisons, error)
}

// methods is every method by name. A new one is one file and one line here.
var methods = []method{
	alignment,
	metaPoison,
	witchesBrew,
}

// MethodNames lists the methods.
func MethodNames() []string {
	var names []string
	for _, m := range methods {
		names = append(names, m.name)
	}
	return names
}

// method is c's own.
func (c Config) method() (method, error) {
	for _, m := range methods {
		if m.name == c.Method {
			return m, nil
		}
	}
	return method{}, usage.Errorf("crafting: unknown method %q (known: %s)", c.Method, strings.Join(MethodNames(), ", "))
}

// Misclassifies reports whether the method wants a prediction changed and not a set.
func (c Config) Misclassifies() bool { return c.Method == MethodWitchesBrew }

// GoalOf is the goal that g names, as c's method goes after it: who is a fair target and what is measured of its set is the
// goal's, where poisons come from may be the method's. Seed is of what it draws.
func (c Config) GoalOf(g GoalConfig, seed uint64) (Goal, error) {
	m, err := c.method()
	if err != nil {
		return nil, err
	}
	goal, err := NewGoal(g)
	if err != nil || m.goal == nil {
		return goal, err
	}
	return m.goal(goal, c, seed), nil
}

// alignment is the method of Li et al. 2024: ℓ2 or ℓ3 of prediction sets (docs/math.md §6).
var alignment = method{
	name: MethodAlignment,
	defaults: func(c *Config) {
		orDefault(&c.Align, AlignSum)
		orDefault(&c.Steps, 40)
		orDefault(&c.Loss, LossPairwise)
	},
	validate: func(c Config) error {
		if c.AdversarialLabel != "" {
			return usage.Errorf(doesNothingWithout, "the adversarial label", c.Method)
		}
		return oneOf("loss", c.Loss, LossPairwise, LossSoftQuantile)
	},
	loss: newLoss,
}

// record is what the poisons' record says of the method.
func (c Config) record() string {
	switch {
	case c.Method != MethodAlignment:
		return c.Method
	case !c.MovesPixels():
		return MethodLabels
	case c.Order == 2:
		return MethodSecondOrder
	}
	return MethodFirstOrder
}
