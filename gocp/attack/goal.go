package attack

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// A Belief is what the surrogates together hold about one image.
type Belief struct {
	Label     int       // the true label
	Predicted int       // argmax of Prob
	Prob      []float64 // softmax, mean over the surrogates
	Excess    []float64 // S(x, label) − τ, mean over the surrogates: ≤ 0 is inside the set
	Sets      [][]int   // the prediction set of each surrogate, ascending
	Image     int       // the image's number: what is drawn for it depends on that
}

// Union returns the labels that are in the set of at least one surrogate, ascending. To leave
// every surrogate's set a label must leave this one.
func (b Belief) Union() []int {
	var u []int
	for _, s := range b.Sets {
		u = append(u, s...)
	}
	slices.Sort(u)
	return slices.Compact(u)
}

// share counts the surrogates whose set has property ok and holds the count against at least
// two thirds of them.
func (b Belief) twoThirds(ok func(set []int) bool) bool {
	n := 0
	for _, s := range b.Sets {
		if ok(s) {
			n++
		}
	}
	return 3*n >= 2*len(b.Sets)
}

// An Aim says what is wanted of the prediction set of one image.
type Aim struct {
	Add    []int `json:"add,omitempty"`    // A_v, labels to bring into the set
	Remove []int `json:"remove,omitempty"` // R_v, labels to drive out of it
	Keep   int   `json:"keep"`             // the predicted label, to stay predicted; −1: do not care
	Inside int   `json:"inside"`           // the true label, to stay in the set; −1: do not care

	// Adversarial is the label that the image is to be taken for, by a method that misclassifies; what is added and removed
	// is then what its set is measured by. Absent: there is none.
	Adversarial *int `json:"adversarial,omitempty"`
}

// Empty reports whether the Aim asks for no change.
func (a Aim) Empty() bool { return len(a.Add) == 0 && len(a.Remove) == 0 }

// Attacked returns the labels whose membership is to change.
func (a Aim) Attacked() []int { return append(slices.Clone(a.Add), a.Remove...) }

// A Goal turns what the surrogates believe of an image into what is wanted of it.
type Goal interface {
	// Eligible reports whether an image of this kind is a fair target: the surrogates predict it
	// right, and there is something to add or to remove.
	Eligible(b Belief) bool
	// Aim states A_v and R_v. An aim that asks for nothing is an error.
	Aim(b Belief) (Aim, error)
	// Classes are the classes that poisons come from; the budget is split evenly among them.
	Classes(b Belief, a Aim) []int
	// Sources says what is known of that before any model is asked: where there are k classes, poisons
	// for a target of class label come from n of the classes from. None: no such image is a fair target.
	Sources(label, k int) (from []int, n int)
	// Grows reports whether success makes sets larger.
	Grows() bool
}

// GoalConfig names a goal and its parameters.
type GoalConfig struct {
	Name   string `json:"name"`             // overconfidence (default), underconfidence, add, remove, unequal
	Size   int    `json:"size"`             // set size a target has to begin with: 2 for overconfidence, 1 for underconfidence, otherwise any
	Count  int    `json:"count,omitempty"`  // underconfidence: labels to add (default 4)
	Labels []int  `json:"labels,omitempty"` // add, remove: the labels given
	// Words are those labels by name or number, until Settle finds them among a data set's classes.
	Words    []string `json:"words,omitempty"`
	True     bool     `json:"true,omitempty"`     // remove: the true label
	Reckless bool     `json:"reckless,omitempty"` // drop the stealth terms: the prediction and the true label may change
}

type goalMaker struct {
	name string
	make func(GoalConfig) (Goal, error)
}

// goals is every goal by name. A new one is one file and one line here.
var goals = []goalMaker{
	{"overconfidence", newOverconfidence},
	{"underconfidence", newUnderconfidence},
	{"add", newAdd},
	{"remove", newRemove},
	{"unequal", newUnequal},
}

// GoalNames lists the goals.
func GoalNames() []string {
	names := make([]string, len(goals))
	for i, g := range goals {
		names[i] = g.name
	}
	return names
}

// Settle turns Words into Labels. A word is the name of a class if there is one, and otherwise a number;
// a note says which was taken where the two differ.
func (c *GoalConfig) Settle(classes []string) (notes []string, err error) {
	if len(c.Words) == 0 {
		return nil, nil
	}
	c.Labels = nil
	for _, word := range c.Words {
		named := slices.Index(classes, word)
		number, err := strconv.Atoi(word)
		numbered := err == nil && number >= 0 && number < len(classes)
		switch {
		case named < 0 && !numbered:
			return nil, usage.Errorf("goal %s: label %s is neither the name nor the number of a class; these are %s", c.Name, word, listed(classes))
		case named < 0:
			named = number
		case numbered && named != number:
			notes = append(notes, fmt.Sprintf("label %s is taken as a name: that of class number %d; class number %d is named %q", word, named, number, classes[number]))
		}
		c.Labels = append(c.Labels, named)
	}
	c.Words = nil
	return notes, nil
}

// listed are the first classes with their numbers.
func listed(classes []string) string {
	const most = 20
	var words []string
	for i, name := range classes[:min(most, len(classes))] {
		words = append(words, fmt.Sprintf("%d %s", i, name))
	}
	if len(classes) > most {
		words = append(words, "…")
	}
	return strings.Join(words, ", ")
}

// NewGoal returns the goal that c names; the empty name is overconfidence.
func NewGoal(c GoalConfig) (Goal, error) {
	if c.Name == "" {
		c.Name = goals[0].name
	}
	if c.Size < 0 || c.Count < 0 {
		return nil, usage.Errorf("goal %s: set size %d and label count %d must not be negative", c.Name, c.Size, c.Count)
	}
	for _, g := range goals {
		if g.name == c.Name {
			return g.make(c)
		}
	}
	return nil, usage.Errorf("unknown goal %q (known: %s)", c.Name, strings.Join(GoalNames(), ", "))
}

// stealth fills the terms that hide the attack, unless the goal contradicts them.
func stealth(a Aim, b Belief, reckless bool) Aim {
	a.Keep, a.Inside = -1, -1
	if reckless {
		return a
	}
	if !slices.Contains(a.Remove, b.Predicted) {
		a.Keep = b.Predicted
	}
	if !slices.Contains(a.Remove, b.Label) && !slices.Contains(a.Add, b.Label) {
		a.Inside = b.Label
	}
	return a
}

// without returns set less the labels in drop.
func without(set []int, drop ...int) []int {
	var out []int
	for _, y := range set {
		if !slices.Contains(drop, y) {
			out = append(out, y)
		}
	}
	return out
}

// plausible returns the m labels of least mean excess score outside set.
func plausible(b Belief, set []int, m int) []int {
	var out []int
	for y := range b.Excess {
		if !slices.Contains(set, y) {
			out = append(out, y)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return b.Excess[out[i]] < b.Excess[out[j]] })
	if len(out) > m {
		out = out[:m]
	}
	return out
}

// others lists the classes 0 to k−1 but for those in drop.
func others(k int, drop ...int) []int {
	all := make([]int, k)
	for y := range all {
		all[y] = y
	}
	return without(all, drop...)
}

// Fits reports whether p poisons, split evenly among the classes, are to be had where class y has
// room[y] images.
func Fits(p int, classes, room []int) bool {
	if len(classes) == 0 || p < len(classes) {
		return false
	}
	for i, n := range share(p, len(classes)) {
		if n > room[classes[i]] {
			return false
		}
	}
	return true
}

func checkLabels(goal string, labels []int, k int) error {
	for _, y := range labels {
		if y < 0 || y >= k {
			return usage.Errorf("goal %s: label %d is out of range, the model has %d classes (0 to %d)", goal, y, k, k-1)
		}
	}
	return nil
}

func errNothing(goal string, b Belief) error {
	return fmt.Errorf("goal %s: nothing to do for an image of class %d, predicted %d, with sets %v on the surrogates", goal, b.Label, b.Predicted, b.Sets)
}
