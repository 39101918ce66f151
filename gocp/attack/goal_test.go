package attack

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

// seen is a belief over five classes in which label 1 is predicted and true.
func seen(sets ...[]int) Belief {
	return Belief{Label: 1, Predicted: 1, Prob: []float64{.1, .6, .15, .1, .05},
		Excess: []float64{-.02, -.5, -.1, .01, .04}, Sets: sets}
}

func TestGoals(t *testing.T) {
	for _, c := range []struct {
		name     string
		cfg      GoalConfig
		b        Belief
		eligible bool
		aim      Aim
		classes  []int
		grows    bool
	}{
		{"overconfidence", GoalConfig{}, seen([]int{1, 2}, []int{0, 1}, []int{1}), true,
			Aim{Remove: []int{0, 2}, Keep: 1, Inside: 1}, []int{1}, false},
		{"one set of the size is not enough", GoalConfig{}, seen([]int{1, 2}, []int{1}, []int{1}), false,
			Aim{Remove: []int{2}, Keep: 1, Inside: 1}, []int{1}, false},
		{"reckless", GoalConfig{Reckless: true}, seen([]int{1, 2}, []int{1, 2}), true,
			Aim{Remove: []int{2}, Keep: -1, Inside: -1}, []int{1}, false},
		{"underconfidence", GoalConfig{Name: "underconfidence", Count: 3}, seen([]int{1}, []int{1}, []int{1}), true,
			Aim{Add: []int{2, 0, 3}, Keep: 1, Inside: 1}, []int{2, 0, 3}, true},
		{"underconfidence wants every surrogate sure", GoalConfig{Name: "underconfidence"}, seen([]int{1}, []int{1, 2}, []int{1}), false,
			Aim{Add: []int{0, 3, 4}, Keep: 1, Inside: 1}, []int{0, 3, 4}, true},
		{"add", GoalConfig{Name: "add", Labels: []int{4, 3, 4}}, seen([]int{1, 3}, []int{1}), true,
			Aim{Add: []int{3, 4}, Keep: 1, Inside: 1}, []int{3, 4}, true},
		{"add what is there", GoalConfig{Name: "add", Labels: []int{2}}, seen([]int{1, 2}, []int{1, 2}), false,
			Aim{Add: []int{2}, Keep: 1, Inside: 1}, []int{2}, true},
		{"remove", GoalConfig{Name: "remove", Labels: []int{2}}, seen([]int{1, 2}, []int{1, 2}), true,
			Aim{Remove: []int{2}, Keep: 1, Inside: 1}, []int{1}, false},
		{"remove the truth", GoalConfig{Name: "remove", True: true}, seen([]int{1, 2}, []int{1}), true,
			Aim{Remove: []int{1}, Keep: -1, Inside: -1}, []int{2}, false},
		{"unequal", GoalConfig{Name: "unequal"}, seen([]int{1, 2}, []int{1}), true,
			Aim{Remove: []int{1}, Keep: -1, Inside: -1}, []int{2}, false},
	} {
		g, err := NewGoal(c.cfg)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := g.Eligible(c.b); got != c.eligible {
			t.Errorf("%s: eligible = %v", c.name, got)
		}
		a, err := g.Aim(c.b)
		if err != nil || !reflect.DeepEqual(a, c.aim) {
			t.Errorf("%s: aim %+v, %v; want %+v", c.name, a, err, c.aim)
		}
		if got := g.Classes(c.b, a); !reflect.DeepEqual(got, c.classes) || g.Grows() != c.grows {
			t.Errorf("%s: classes %v, grows %v; want %v, %v", c.name, got, g.Grows(), c.classes, c.grows)
		}
	}
}

func TestGoalErrors(t *testing.T) {
	for _, c := range []struct {
		cfg  GoalConfig
		text string
	}{
		{GoalConfig{Name: "fame"}, "known: overconfidence"},
		{GoalConfig{Name: "add"}, "no labels"},
		{GoalConfig{Name: "remove"}, "neither"},
		{GoalConfig{Size: -1}, "negative"},
	} {
		if _, err := NewGoal(c.cfg); !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
	g, _ := NewGoal(GoalConfig{Name: "add", Labels: []int{7}})
	if _, err := g.Aim(seen([]int{1})); !usage.Is(err) || !strings.Contains(err.Error(), "out of range") {
		t.Errorf("label 7 of 5: %v", err)
	}
	g, _ = NewGoal(GoalConfig{})
	if _, err := g.Aim(seen([]int{1}, []int{1})); err == nil || !strings.Contains(err.Error(), "nothing to do") {
		t.Errorf("sets that hold the prediction alone: %v", err)
	}
}

func TestUnequalSparesOthers(t *testing.T) {
	g, _ := NewGoal(GoalConfig{Name: "unequal"})
	want := Aim{Keep: 1, Inside: 1}
	if a := g.(Bystander).Others(seen([]int{1})); !reflect.DeepEqual(a, want) {
		t.Errorf("others: %+v", a)
	}
}

// What Sources says before any model is asked is what Classes may say later.
func TestSources(t *testing.T) {
	for _, c := range []struct {
		cfg  GoalConfig
		from []int
		n    int
	}{
		{GoalConfig{}, []int{1}, 1},
		{GoalConfig{Size: 6}, nil, 0},
		{GoalConfig{Name: "underconfidence"}, []int{0, 2, 3, 4}, 4},
		{GoalConfig{Name: "underconfidence", Size: 3}, []int{0, 2, 3, 4}, 2},
		{GoalConfig{Name: "underconfidence", Size: 5}, []int{0, 2, 3, 4}, 0},
		{GoalConfig{Name: "add", Labels: []int{4, 1, 3}}, []int{3, 4}, 2},
		{GoalConfig{Name: "add", Labels: []int{1}}, nil, 0},
		{GoalConfig{Name: "remove", Labels: []int{2}}, []int{1}, 1},
		{GoalConfig{Name: "remove", True: true}, []int{0, 2, 3, 4}, 1},
		{GoalConfig{Name: "remove", Labels: []int{0, 2, 3, 4}, True: true}, nil, 0},
		{GoalConfig{Name: "unequal"}, []int{0, 2, 3, 4}, 1},
	} {
		g, err := NewGoal(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		from, n := g.Sources(1, 5)
		if !slices.Equal(from, c.from) || n != c.n {
			t.Errorf("%+v: %d of %v, want %d of %v", c.cfg, n, from, c.n, c.from)
		}
		b := seen([]int{1, 2}, []int{1})
		if a, err := g.Aim(b); err == nil && n > 0 {
			for _, y := range g.Classes(b, a) {
				if !slices.Contains(from, y) {
					t.Errorf("%+v: poisons of class %d, which is not among %v", c.cfg, y, from)
				}
			}
		}
	}
	for _, c := range []struct {
		p       int
		classes []int
		want    bool
	}{{4, []int{0}, true}, {5, []int{0}, false}, {7, []int{0, 1}, true}, {8, []int{0, 1}, false}, {1, []int{0, 1}, false}, {3, nil, false}} {
		if got := Fits(c.p, c.classes, []int{4, 3}); got != c.want {
			t.Errorf("%d poisons of %v: %v", c.p, c.classes, got)
		}
	}
}
