package experiment

import (
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
)

// TestLabelsByName: a run's labels are numbers, whatever they were given as, and what was taken is said.
func TestLabelsByName(t *testing.T) {
	d := tinyData(t)
	train := *d.Train
	train.Classes = []string{"10", "2", "33", "4"}
	d.Train = &train
	c := tiny()
	c.Goal = attack.GoalConfig{Name: "add", Words: []string{"2", "4"}}
	r, err := prepare(c, d)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.cfg.Goal.Labels, []int{1, 3}) || r.cfg.Goal.Words != nil {
		t.Errorf("%+v", r.cfg.Goal)
	}
	if len(r.notes) == 0 || !strings.Contains(r.notes[0], `label 2 is taken as a name: that of class number 1; class number 2 is named "33"`) {
		t.Errorf("%q", r.notes)
	}
}
