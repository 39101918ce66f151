package experiment

import (
	"reflect"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/strictjson"
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
		{Config{Surrogates: 1 << 40}, "1099511627776 surrogates; there can be at most 65536"},
		{Config{Repeats: 1 << 15, Victims: 1 << 15}, "are 4294967296 trainings; there can be at most 1048576"},
		{Config{Craft: attack.Config{Align: "x"}}, "alignment"},
		{Config{VictimTrain: Train{LR: -1}}, "learning rate"},
		{Config{VictimTrain: Train{Recipe: "madry"}}, `unknown recipe "madry" (known: demo, li, witchesbrew)`},
		{Config{VictimTrain: Train{Schedule: "exp"}}, "(known: constant, steps, cosine)"},
		{Config{VictimTrain: Train{Schedule: "steps"}}, "no milestones"},
		{Config{VictimTrain: Train{Schedule: "steps", Milestones: []int{5, 30}}}, "within the 20 epochs"},
		{Config{VictimTrain: Train{Shift: 2, Pad: "edge"}}, "(known: zero, reflect)"},
	} {
		err := c.cfg.WithDefaults().Validate()
		if !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

// A recipe fills in what is not said, by the network where it depends on that, and says it the same twice.
func TestRecipes(t *testing.T) {
	li := Config{}.WithDefaults().VictimTrain
	if want := (Train{Recipe: "li", Epochs: 20, Batch: 128, LR: 0.01, Schedule: "constant", Momentum: 0.9, WeightDecay: 5e-4}); !reflect.DeepEqual(li, want) {
		t.Errorf("without a name: %+v", li)
	}
	for _, c := range []struct {
		arch  string
		given Train
		want  Train
	}{
		{"convnet", Train{Recipe: "demo"}, Train{Recipe: "demo", Epochs: 10, Batch: 128, LR: 0.025, Schedule: "constant", Momentum: 0.9, WeightDecay: 5e-4}},
		{"resnet18", Train{Recipe: "witchesbrew"}, Train{Recipe: "witchesbrew", Epochs: 40, Batch: 128, LR: 0.1, Schedule: "steps", Milestones: []int{14, 24, 35}, Gamma: 0.1,
			Momentum: 0.9, Nesterov: new(true), WeightDecay: 5e-4, Shift: 4, Pad: "zero", Flip: new(true)}},
		{"vgg16", Train{Recipe: "witchesbrew", Epochs: 16, Shift: -1, Flip: new(false), Nesterov: new(false), Momentum: -1}, Train{Recipe: "witchesbrew", Epochs: 16, Batch: 128, LR: 0.01,
			Schedule: "steps", Milestones: []int{5, 9, 14}, Gamma: 0.1, Momentum: -1, Nesterov: new(false), WeightDecay: 5e-4, Shift: -1, Flip: new(false)}},
		{"resnet18", Train{Recipe: "witchesbrew", Schedule: "cosine", Pad: "reflect", LR: 0.05}, Train{Recipe: "witchesbrew", Epochs: 40, Batch: 128, LR: 0.05, Schedule: "cosine",
			Momentum: 0.9, Nesterov: new(true), WeightDecay: 5e-4, Shift: 4, Pad: "reflect", Flip: new(true)}},
		{"resnet18", Train{Recipe: "witchesbrew", Epochs: 1}, Train{Recipe: "witchesbrew", Epochs: 1, Batch: 128, LR: 0.1, Schedule: "constant",
			Momentum: 0.9, Nesterov: new(true), WeightDecay: 5e-4, Shift: 4, Pad: "zero", Flip: new(true)}},
	} {
		got := Config{Victim: Model{Arch: c.arch}, VictimTrain: c.given}.WithDefaults()
		if !reflect.DeepEqual(got.VictimTrain, c.want) {
			t.Errorf("%s, %+v:\n got %+v\nwant %+v", c.arch, c.given, got.VictimTrain, c.want)
		}
		if !reflect.DeepEqual(got.WithDefaults(), got) {
			t.Errorf("%s, %+v: defaults of defaults are others", c.arch, c.given)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s, %+v: %v", c.arch, c.given, err)
		}
	}
}

// Several kinds of surrogates take turns; what one leaves out is the victims' where it is the same
// network, and a file says one as an object, several as a list.
func TestKinds(t *testing.T) {
	c := Config{Victim: Model{Arch: "resnet18", Width: 16}, Surrogate: Kinds{{Width: 8}, {Arch: "vgg11", BatchNorm: true}, {Arch: "convnet"}, {}}}.WithDefaults()
	want := Kinds{{Arch: "resnet18", Width: 8, Stem: "cifar", BatchNorm: true}, {Arch: "vgg11", Width: 64, Stem: "cifar", Head: "linear", BatchNorm: true},
		{Arch: "convnet", Width: 16, Stem: "stride"}, {Arch: "resnet18", Width: 16, Stem: "cifar", BatchNorm: true}}
	if !reflect.DeepEqual(c.Surrogate, want) || c.Surrogates != 4 || c.Attackers != 4 {
		t.Errorf("%d surrogates, %d attackers, %+v", c.Surrogates, c.Attackers, c.Surrogate)
	}
	c.Surrogates = 3
	if err := c.Validate(); !usage.Is(err) || !strings.Contains(err.Error(), "4 kinds of surrogates, but only 3 surrogates") {
		t.Error(err)
	}
	for _, kinds := range []Kinds{want, want[1:2]} {
		b, err := strictjson.Marshal(Config{Surrogate: kinds})
		if err != nil {
			t.Fatal(err)
		}
		if list := strings.Contains(string(b), `"surrogate":[`); list != (len(kinds) > 1) {
			t.Errorf("%d kinds: %s", len(kinds), b)
		}
		var back Config
		if err := strictjson.UnmarshalKnown(b, &back); err != nil || !reflect.DeepEqual(back.Surrogate, kinds) {
			t.Errorf("%d kinds came back as %+v, %v", len(kinds), back.Surrogate, err)
		}
	}
	for _, text := range []string{`{"surrogate": {"wdith": 3}}`, `{"surrogate": [{"width": 3}, {"wdith": 3}]}`, `{"surrogate": 3}`} {
		if err := strictjson.UnmarshalKnown([]byte(text), new(Config)); err == nil {
			t.Errorf("%s was read", text)
		}
	}
	// A recipe's rate depends on the network.
	c = Config{Surrogate: want[:2], VictimTrain: Train{Recipe: "witchesbrew"}}.WithDefaults()
	if c.SurrogateTrain.LR != 0 || c.SurrogateTrain.of("resnet18").LR != 0.1 || c.SurrogateTrain.of("vgg11").LR != 0.01 || c.VictimTrain.LR != 0.01 {
		t.Errorf("%+v, %+v", c.VictimTrain, c.SurrogateTrain)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// The configuration of a run before there were schedules, recipes and kinds is read as it was meant.
func TestOlderConfig(t *testing.T) {
	var c Config
	err := strictjson.UnmarshalKnown([]byte(`{"seed": 0, "victim": {"arch": "resnet18", "width": 16, "stem": "cifar", "batchnorm": true},
		"surrogate": {"arch": "convnet", "width": 16, "stem": "stride"},
		"victim_train": {"epochs": 6, "batch": 16, "lr": 0.08, "momentum": 0.9, "weight_decay": 0.0005, "shift": 1, "flip": true},
		"surrogate_train": {"epochs": 6, "batch": 16, "lr": 0.08, "momentum": -1, "weight_decay": 0.0005},
		"craft": {"shift": 1, "flip": true}}`), &c)
	if err != nil {
		t.Fatal(err)
	}
	c = c.WithDefaults()
	victim := Train{Recipe: "li", Epochs: 6, Batch: 16, LR: 0.08, Schedule: "constant", Momentum: 0.9, WeightDecay: 5e-4, Shift: 1, Pad: "zero", Flip: new(true)}
	surrogate := Train{Recipe: "li", Epochs: 6, Batch: 16, LR: 0.08, Schedule: "constant", Momentum: -1, WeightDecay: 5e-4}
	if !reflect.DeepEqual(c.VictimTrain, victim) || !reflect.DeepEqual(c.SurrogateTrain, surrogate) {
		t.Errorf("%+v, %+v", c.VictimTrain, c.SurrogateTrain)
	}
	if !reflect.DeepEqual(c.Surrogate, Kinds{{Arch: "convnet", Width: 16, Stem: "stride"}}) || c.Craft.Shift != 1 || c.Craft.Pad != "zero" || !c.Craft.Flip {
		t.Errorf("%+v, %+v", c.Surrogate, c.Craft)
	}
}

// Poisons are crafted under the surrogates' augmentation unless another is asked for.
func TestCraftedAsTrained(t *testing.T) {
	for _, c := range []struct {
		train Train
		craft attack.Config
		want  attack.Config
	}{
		{Train{Recipe: "witchesbrew"}, attack.Config{}, attack.Config{Shift: 4, Pad: "zero", Flip: true}},
		{Train{Shift: 2, Pad: "reflect"}, attack.Config{}, attack.Config{Shift: 2, Pad: "reflect"}},
		{Train{Shift: 2}, attack.Config{Shift: -1}, attack.Config{Shift: -1}},
		{Train{Shift: 2}, attack.Config{Flip: true}, attack.Config{Flip: true}},
		{Train{}, attack.Config{Shift: 1}, attack.Config{Shift: 1, Pad: "zero"}},
	} {
		got := Config{VictimTrain: c.train, Craft: c.craft}.WithDefaults().Craft
		if got.Shift != c.want.Shift || got.Pad != c.want.Pad || got.Flip != c.want.Flip {
			t.Errorf("%+v with %+v: shift %d, pad %q, flip %v", c.train, c.craft, got.Shift, got.Pad, got.Flip)
		}
	}
}
