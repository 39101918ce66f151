package experiment

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

// thinned keeps of class y every nth image.
func thinned(t *testing.T, d *data.Dataset, y int32, n int) *data.Dataset {
	t.Helper()
	var pixels []uint8
	var labels []int32
	seen := 0
	for i, l := range d.Labels {
		if l == y {
			if seen++; seen%n != 0 {
				continue
			}
		}
		pixels, labels = append(pixels, d.Image(i)...), append(labels, l)
	}
	out, err := data.New(d.Name, d.H, d.W, d.C, pixels, labels, d.Classes)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What configuration and data tell is said before anything is trained: prepare has no device.
func TestKnownBeforeTraining(t *testing.T) {
	plain := tinyData(t)
	goal := func(g attack.GoalConfig) func(*Config) { return func(c *Config) { c.Goal = g } }
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string // "": nothing is wrong
	}{
		{"nothing wrong", func(*Config) {}, ""},
		{"budget larger than any class", func(c *Config) { c.Budget = "0.5" }, "budget 0.5 is 80 poisons; victim and adversary have images of the classes that these come from for 43 at most; lower --budget to 0.2687, or raise --train-size"},
		{"the largest budget", func(c *Config) { c.Budget, c.Candidates, c.Repeats = "0.2687", 400, 1 }, ""},
		{"budget for labels that are added", func(c *Config) {
			c.Goal, c.Budget = attack.GoalConfig{Name: "add", Labels: []int{2}}, "0.9"
		}, "budget 0.9 is 144 poisons"},
		{"as many, of several classes", func(c *Config) {
			c.Goal, c.Budget = attack.GoalConfig{Name: "underconfidence", Count: 2}, "0.45"
		}, ""},
		{"fewer poisons than labels", func(c *Config) {
			c.Goal, c.Budget = attack.GoalConfig{Name: "underconfidence", Count: 3}, "0.013"
		}, "budget 0.013 of 160 training images is 2 poisons, and poisons come from 3 classes at least, one or more from each; raise --budget"},
		{"budget that rounds to nothing", func(c *Config) { c.Budget = "0.006" }, "budget 0.006 of 160 training images is less than one image; raise --budget"},
		{"budget that rounds to nothing, as the goal's default", func(c *Config) { c.Budget, c.TrainSize, c.CalSize = "", 20, 20 }, "budget 0.04 of 20 training images is less than one image"},
		{"ball below a level of 8 bits", func(c *Config) { c.Craft.Epsilon255 = 0.4 }, "epsilon is 0.4/255; it must be 1/255 to 255/255, so that the ball holds a step of the 8-bit grid"},
		{"label out of range", goal(attack.GoalConfig{Name: "add", Labels: []int{4}}), "goal add: label 4 is out of range, the data set has 4 classes (0 to 3)"},
		{"negative label", goal(attack.GoalConfig{Name: "remove", Labels: []int{-1}}), "label -1 is out of range"},
		{"sets larger than the classes", goal(attack.GoalConfig{Name: "overconfidence", Size: 5}), "goal overconfidence for sets of 5 labels has no targets: in 4 classes"},
		{"full sets that are to grow", goal(attack.GoalConfig{Name: "underconfidence", Size: 4}), "goal underconfidence for sets of 4 labels has no targets"},
		{"full sets to add to", goal(attack.GoalConfig{Name: "add", Labels: []int{1}, Size: 4}), "has no targets"},
		{"every label removed", goal(attack.GoalConfig{Name: "remove", Labels: []int{0, 1, 2, 3}}), "has no targets"},
		{"too few to calibrate on", func(c *Config) { c.CalSize, c.Miscoverage = 60, "0.01" }, "60 calibration images are too few for miscoverage 0.01, which needs at least 99"},
		{"too small a data set", func(c *Config) { c.TrainSize, c.CalSize = 300, 60 }, "the training part has 500 images; victim and adversary need 720 (300 to train and 60 to calibrate on, each); the most that they are enough for is --train-size 190 with --cal-size 60"},
		{"too small, with the default calibration", func(c *Config) { c.TrainSize, c.CalSize = 0, 0 }, "victim and adversary need 10000 (4500 to train and 500 to calibrate on, each); the most that they are enough for is --train-size 225 with --cal-size 25"},
		{"too small, and a ninth would not calibrate", func(c *Config) { c.TrainSize, c.CalSize, c.Miscoverage = 0, 0, "0.02" }, "--train-size 201 with --cal-size 49"},
		{"too small for any", func(c *Config) { c.CalSize, c.Miscoverage = 260, "0.004" }, "and 500 are too few for any"},
		{"too small for one", func(c *Config) { c.WhiteBox, c.TrainSize = true, 460 }, "the victim needs 520 (460 to train and 60 to calibrate on); the most that they are enough for is --train-size 440 with --cal-size 60"},
		{"more repeats than targets of one class", func(c *Config) { c.Repeats, c.Targets, c.Candidates = 3, 30, 100 }, "of 3 repeats of 30 targets of one class; lower --repeats or give more --candidates"},
		{"a condition twice", func(c *Config) { c.Conditions = []result.Condition{result.Attack, result.Attack} }, "condition attack is there twice"},
		{"shift out of sight", func(c *Config) { c.Craft.Shift = 12 }, "shifts of up to 12 pixels move images of 12x12 out of sight"},
		{"momentum", func(c *Config) { c.VictimTrain.Momentum = 1 }, "momentum 1; it must be in [0,1)"},
		{"network too wide", func(c *Config) { c.Victim.Width = 5000 }, "width is 5000"},
		{"score that can't be attacked", func(c *Config) { c.Score = conformal.Variant{Name: "margin"} }, "can't be attacked here"},
	} {
		cfg := tiny()
		c.change(&cfg)
		_, err := prepare(cfg, plain)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!usage.Is(err) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v\nwant %q", c.name, err, c.want)
		}
	}
}

// What is refused for its budget can't be, and the largest that is offered can.
func TestOfferedBudgetFits(t *testing.T) {
	d := tinyData(t)
	d.Train = thinned(t, d.Train, 1, 3)
	for _, g := range []attack.GoalConfig{{}, {Name: "underconfidence", Count: 1}, {Name: "underconfidence", Count: 3}, {Name: "add", Labels: []int{1, 2}},
		{Name: "remove", True: true}, {Name: "unequal"}} {
		c := tiny()
		c.Goal, c.Budget, c.Repeats, c.TrainSize, c.CalSize = g, "1", 1, 100, 60
		_, err := prepare(c, d)
		if !usage.Is(err) {
			t.Fatalf("%s: %v", g.Name, err)
		}
		_, after, ok := strings.Cut(err.Error(), "lower --budget to ")
		offered, _, _ := strings.Cut(after, ",")
		if !ok {
			t.Fatalf("%s: %v", g.Name, err)
		}
		c.Budget = offered
		if _, err := prepare(c, d); err != nil {
			t.Errorf("%s: %s was offered: %v", g.Name, offered, err)
		}
		n, err := c.WithDefaults().poisonCount()
		if err != nil {
			t.Fatal(err)
		}
		c.Budget = share(n+1, c.TrainSize)
		if _, err := prepare(c, d); err == nil {
			t.Errorf("%s: %s passes, and %s was said to be the largest", g.Name, c.Budget, offered)
		}
	}
}

// A class with too few images for the budget has no targets, which is said; the run does not fail.
func TestPoorClass(t *testing.T) {
	dev := testkit.Open(t)
	c := tiny()
	c.Repeats, c.Victims, c.GaussVictims, c.References, c.Conditions, c.TrainSize, c.CalSize = 6, 1, 1, 1, []result.Condition{result.Attack}, 140, 40
	d := tinyData(t)
	d.Train = thinned(t, d.Train, 2, 5)
	n := &notes{Reporter: progress.Discard}
	r, err := Audit(context.Background(), dev, c, d, Options{Dir: filepath.Join(t.TempDir(), "run"), Version: "test", Progress: n})
	if err != nil {
		t.Fatal(err)
	}
	want := "no target is of class 2 ("
	if !slices.ContainsFunc(n.lines, func(s string) bool { return strings.HasPrefix(s, want) }) {
		t.Errorf("said %q", n.lines)
	}
	for _, rep := range r.Repeats {
		for _, x := range rep.Targets {
			if x.Predicted == 2 {
				t.Errorf("group %d has a target of class 2", rep.ID)
			}
		}
	}
}
