package experiment

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
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

// Victims of turned labels train on them, in the place of images of the clean class, and so do those of random ones; what is
// exported and recorded says so.
func TestPoisonedLabels(t *testing.T) {
	dev := testkit.Open(t)
	for _, poison := range []string{attack.PoisonLabels, attack.PoisonBoth} {
		c := tiny()
		c.Craft = attack.Config{Poison: poison}
		if poison == attack.PoisonBoth {
			c.Craft.Steps = 3
		}
		dir := filepath.Join(t.TempDir(), poison)
		res := audit(t, dev, c, dir)
		v, err := Export(dir, tinyData(t))
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Arms) != 2 || v.Arms[0].Name != string(result.Attack) || v.Arms[1].Name != string(result.RandLabel) {
			t.Fatalf("%s: arms %+v", poison, v.Arms)
		}
		for g, rep := range res.Repeats {
			b, err := attack.ReadBundle(filepath.Join(dir, rep.Poisons.Dir))
			if err != nil {
				t.Fatal(err)
			}
			same := slices.Equal(b.After, b.Before.Pixels)
			if same != (poison == attack.PoisonLabels) || same != (rep.Poisons.MaxAbs == 0) || len(b.Turned) != 16 || rep.Poisons.SHA256 != b.Hash() {
				t.Errorf("%s, group %d: pixels as they were: %v, |δ| ≤ %v, labels %v", poison, g, same, rep.Poisons.MaxAbs, b.Turned)
			}
			if s := rep.Poisons.Samples[0]; s.Label != int(b.Before.Labels[0]) || s.Turned == nil || *s.Turned != int(b.Turned[0]) {
				t.Errorf("%s, group %d: sample %+v", poison, g, s)
			}
			turns := 0
			for _, x := range rep.Poisons.Turns {
				turns += x.Count
				if x.From == x.To {
					t.Errorf("%s, group %d: %+v", poison, g, x)
				}
			}
			if turns != 16 || len(rep.Poisons.Rounds) != 1 || rep.Poisons.Phi <= 0 || rep.Poisons.StepAttack >= rep.Poisons.StepRandUn {
				t.Errorf("%s, group %d: %+v", poison, g, rep.Poisons)
			}
			for a, arm := range v.Arms {
				set := arm.Sets[g]
				poisoned, err := set.Apply(v.Train)
				if err != nil {
					t.Fatal(err)
				}
				for i, at := range set.Index {
					if v.Train.Labels[at] != b.Before.Labels[i] {
						t.Errorf("%s, group %d: poison %d of class %d takes the place of an image of class %d", poison, g, i, b.Before.Labels[i], v.Train.Labels[at])
					}
					if a == 0 && poisoned.Labels[at] != b.Turned[i] || poisoned.Labels[at] == v.Train.Labels[at] {
						t.Errorf("%s, %s, group %d: poison %d has the label %d, turned into %d", poison, arm.Name, g, i, poisoned.Labels[at], b.Turned[i])
					}
				}
			}
		}
		if s := res.Summary; s.Row(result.RandLabel) == nil || s.Row(result.Clean) == nil || s.Difference(result.QSize, result.Attack, result.RandLabel) == nil || s.Noise() != result.RandLabel {
			t.Errorf("%s: the summary has %+v", poison, s.Rows)
		}
	}
}

func TestNoiseOfAnotherPoison(t *testing.T) {
	for poison, cond := range map[string]result.Condition{attack.PoisonLabels: result.RandUn, attack.PoisonImages: result.RandLabel} {
		c := Config{Craft: attack.Config{Poison: poison}, Conditions: []result.Condition{result.Attack, cond}}
		if err := c.WithDefaults().Validate(); !usage.Is(err) || !strings.Contains(err.Error(), "does nothing here: with poison "+poison) {
			t.Errorf("%s with %s: %v", poison, cond, err)
		}
	}
}
