package experiment

import (
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

func TestDefaultsAreTheDemo(t *testing.T) {
	c := Config{}.WithDefaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if n, _ := c.poisonCount(); n != 180 || c.CalSize != 500 || c.Repeats != 12 || c.Victims != 2 || c.Goal.Name != "overconfidence" {
		t.Errorf("%d poisons, %+v", n, c)
	}
	c = Config{Goal: attack.GoalConfig{Name: "underconfidence"}}.WithDefaults()
	if n, _ := c.poisonCount(); n != 45 {
		t.Errorf("underconfidence has %d poisons, want 45", n)
	}
}

func TestBudgetIsExact(t *testing.T) {
	for _, c := range []struct {
		budget string
		size   int
		want   int
	}{{"0.29", 100, 29}, {"0.57", 100, 57}, {"0.1", 10, 1}, {"1", 7, 7}, {".005", 4500, 22}} {
		got, err := Config{Budget: c.budget, TrainSize: c.size}.WithDefaults().poisonCount()
		if err != nil || got != c.want {
			t.Errorf("%s of %d: %d, %v; want %d", c.budget, c.size, got, err, c.want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		text string
	}{
		{Config{Budget: "4%"}, `budget "4%"`},
		{Config{Budget: "1.5"}, "at most 1"},
		{Config{Budget: "0.0001"}, "less than one image"},
		{Config{Goal: attack.GoalConfig{Name: "x"}}, "unknown goal"},
		{Config{Miscoverage: "2"}, "miscoverage"},
		{Config{Miscoverage: "0.001"}, "at least 999"},
		{Config{Conditions: []result.Condition{"rain"}}, "unknown condition"},
		{Config{Attackers: 4}, "4 attackers"},
		{Config{Precision: "f8"}, "known: f32, bf16, tf32, auto"},
		{Config{Repeats: -1}, "-1 repeats"},
		{Config{Craft: attack.Config{Align: "x"}}, "alignment"},
		{Config{VictimTrain: Train{LR: -1}}, "learning rate"},
	} {
		err := c.cfg.WithDefaults().Validate()
		if !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}
