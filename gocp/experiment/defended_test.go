package experiment

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// Under a defence all models but the adversary's are trained on what the filter leaves; poisons are those
// of the same audit without it, and the bytes do not depend on the order of work.
func TestDefendedAudit(t *testing.T) {
	dev := testkit.Open(t)
	root := t.TempDir()
	plain, one, two := filepath.Join(root, "plain"), filepath.Join(root, "one"), filepath.Join(root, "two")
	c := tiny()
	c.Repeats, c.VictimTrain.Epochs = 1, 12
	without := audit(t, dev, c, plain)
	c.Defense = "loss"
	c.Workers = 1
	r := audit(t, dev, c, one)
	c.Workers = 3
	audit(t, dev, c, two)
	if a, b := contents(t, one), contents(t, two); a != b {
		t.Errorf("one worker:\n%s\nthree workers:\n%s", a, b)
	}
	if a, b := without.Repeats[0].Poisons.SHA256, r.Repeats[0].Poisons.SHA256; a != b {
		t.Errorf("the defence changes the poisons: %s, %s", a, b)
	}
	if r.Config.Defense != "loss" || without.Config.Defense != "" {
		t.Errorf("the record has %q, and %q without", r.Config.Defense, without.Config.Defense)
	}
	for _, m := range r.Models {
		if adversary := m.Role == roleSurrogate; adversary != (m.Dropped == nil) || !adversary && (m.Dropped.Samples != 24 || m.Dropped.Poisons != 0) {
			t.Errorf("%s: dropped %+v", m.Role, m.Dropped)
		}
	}
	changed := false
	for i, v := range r.Repeats[0].Victims {
		if v.Dropped == nil || v.Dropped.Samples != 24 || v.Dropped.Poisons > 16 {
			t.Errorf("%s: dropped %+v", v.Condition, v.Dropped)
		}
		changed = changed || v.Threshold.Tau != without.Repeats[0].Victims[i].Threshold.Tau
	}
	if !changed {
		t.Error("no victim is another than without the defence")
	}
	for name, images := range map[string]string{"reference-0": "136", "surrogate-0": "160"} {
		m, err := nn.Load(filepath.Join(one, modelFile(name)))
		if err != nil {
			t.Fatal(err)
		}
		if m.Record["images"] != images {
			t.Errorf("%s was trained on %s images, want %s", name, m.Record["images"], images)
		}
	}
	c.Defense = "magic"
	if err := c.WithDefaults().Validate(); err == nil || !usage.Is(err) || !strings.Contains(err.Error(), `no defence "magic"`) {
		t.Error(err)
	}
}

// A defence of training is every model's but the adversary's, after a filter if there is one, and changes no poison.
func TestTrainingDefenseAudit(t *testing.T) {
	dev := testkit.Open(t)
	root := t.TempDir()
	plain, defended := filepath.Join(root, "plain"), filepath.Join(root, "defended")
	c := tiny()
	c.Repeats, c.VictimTrain.Epochs, c.Conditions = 1, 6, []result.Condition{result.Attack}
	without := audit(t, dev, c, plain)
	c.Defense, c.Training.Copies = "loss, maxup", 2
	r := audit(t, dev, c, defended)
	if a, b := without.Repeats[0].Poisons.SHA256, r.Repeats[0].Poisons.SHA256; a != b {
		t.Errorf("the defence changes the poisons: %s, %s", a, b)
	}
	if want := "maxup copies=2 vary=crop,flip,cutout"; r.Config.Training != want || without.Config.Training != "" {
		t.Errorf("the record has %q, and %q without", r.Config.Training, without.Config.Training)
	}
	for name, want := range map[string]string{"reference-0": r.Config.Training, "surrogate-0": ""} {
		m, err := nn.Load(filepath.Join(defended, modelFile(name)))
		if err != nil {
			t.Fatal(err)
		}
		if m.Record["defense"] != want {
			t.Errorf("%s was trained under %q, want %q", name, m.Record["defense"], want)
		}
	}
	for _, v := range r.Repeats[0].Victims {
		if v.Dropped == nil || v.Dropped.Samples != 24 {
			t.Errorf("%s: dropped %+v", v.Condition, v.Dropped)
		}
	}
	for _, bad := range []struct{ defense, want string }{{"maxup,sam", "take one"}, {"loss,loss", "twice"}, {"loss,", `no defence ""`}} {
		c := tiny()
		c.Defense = bad.defense
		if err := c.WithDefaults().Validate(); err == nil || !usage.Is(err) || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v", bad.defense, err)
		}
	}
}

// Numbers of what was dropped that are none are refused, not believed.
func TestDroppedIsANumber(t *testing.T) {
	for _, c := range []struct{ samples, poisons, want string }{{"24", "3", ""}, {"", "", ""}, {"x", "3", `"x" samples`}, {"24", "", `"" poisons`}} {
		d, err := dropped(&safetensors.File{Meta: map[string]string{metaDropped: c.samples, metaDroppedPoisons: c.poisons}}, "f")
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: error %v", c, err)
			}
		case err != nil || (d == nil) != (c.samples == "") || d != nil && (d.Samples != 24 || d.Poisons != 3):
			t.Errorf("%v: %+v, %v", c, d, err)
		}
	}
}
