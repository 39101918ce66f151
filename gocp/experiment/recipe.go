package experiment

import (
	"math"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// A recipe is a known way to train; docs/networks.md says where its numbers come from.
type recipe struct {
	name  string
	train Train
	// brittle is the learning rate of convnet, the VGGs and MobileNetV2, 0: as of the others.
	brittle float64
	// milestones are those of a training of so many epochs, nil: the rate stays.
	milestones func(epochs int) []int
}

// DefaultRecipe is what a Train without a name follows.
const DefaultRecipe = "li"

var recipes = []recipe{
	// make run's: as li, but over in minutes.
	{name: "demo", train: Train{Epochs: 10, Batch: 128, LR: 0.025, Momentum: 0.9, WeightDecay: 5e-4}},
	// Li et al. (2024), section 5: SGD, rate 0.01, batch 128. The paper says no more.
	{name: "li", train: Train{Epochs: 20, Batch: 128, LR: 0.01, Momentum: 0.9, WeightDecay: 5e-4}},
	// Geiping et al. (2021b), the "conservative" strategy of their public code.
	{
		name: "witchesbrew", brittle: 0.01, milestones: dropsOf40,
		train: Train{Epochs: 40, Batch: 128, LR: 0.1, Momentum: 0.9, Nesterov: new(true), WeightDecay: 5e-4, Shift: 4, Flip: new(true)},
	},
}

// Recipes names the known ones.
func Recipes() []string {
	names := make([]string, len(recipes))
	for i, r := range recipes {
		names[i] = r.name
	}
	return names
}

func recipeOf(name string) (recipe, bool) {
	i := slices.IndexFunc(recipes, func(r recipe) bool { return r.name == name })
	if i < 0 {
		return recipe{}, false
	}
	return recipes[i], true
}

func knownRecipe(name string) error {
	if _, ok := recipeOf(name); !ok {
		return usage.Errorf("unknown recipe %q (known: %s)", name, strings.Join(Recipes(), ", "))
	}
	return nil
}

// rate is the learning rate that r gives an architecture.
func (r recipe) rate(arch string) float64 {
	brittle := arch == "convnet" || arch == "mobilenet_v2" || strings.HasPrefix(arch, "vgg")
	if r.brittle > 0 && brittle {
		return r.brittle
	}
	return r.train.LR
}

// dropsOf40 are epochs // 2.667, epochs // 1.6 and epochs // 1.142 as Python divides floats: 14, 24
// (as 1.6 is a little more than that) and 35 of 40. Very short trainings have fewer.
func dropsOf40(epochs int) []int {
	var at []int
	for _, d := range []float64{2.667, 1.6, 1.142} {
		e := float64(epochs)
		at = append(at, int(math.Round((e-math.Mod(e, d))/d)))
	}
	return slices.DeleteFunc(slices.Compact(at), func(m int) bool { return m == 0 })
}

// withDefaults fills in what t leaves to its recipe, for networks of the given architectures. Where
// their rates differ the learning rate stays 0: of says what each has.
func (t Train) withDefaults(archs ...string) Train {
	orDefault(&t.Recipe, DefaultRecipe)
	r, ok := recipeOf(t.Recipe)
	if !ok {
		return t
	}
	d := r.train
	orDefault(&t.Epochs, d.Epochs)
	orDefault(&t.Batch, d.Batch)
	if t.LR == 0 && !slices.ContainsFunc(archs, func(a string) bool { return r.rate(a) != r.rate(archs[0]) }) {
		t.LR = r.rate(archs[0])
	}
	if t.Schedule == "" {
		t.Schedule = train.Constant
		if r.milestones != nil && len(r.milestones(t.Epochs)) > 0 {
			t.Schedule = train.Steps
		}
	}
	if t.Schedule == train.Steps {
		if t.Milestones == nil && r.milestones != nil {
			t.Milestones = r.milestones(t.Epochs)
		}
		orDefault(&t.Gamma, 0.1)
	}
	orDefault(&t.Momentum, d.Momentum)
	if t.Nesterov == nil {
		t.Nesterov = d.Nesterov
	}
	orDefault(&t.WeightDecay, d.WeightDecay)
	orDefault(&t.Shift, d.Shift)
	if t.Shift > 0 {
		orDefault(&t.Pad, train.PadZero)
	}
	if t.Flip == nil {
		t.Flip = d.Flip
	}
	return t
}

// of is t for networks of one architecture.
func (t Train) of(arch string) Train { return t.withDefaults(arch) }

// on tells whether a switch that may be left to a recipe is on.
func on(b *bool) bool { return b != nil && *b }

// augments tells whether images are shifted or flipped.
func (t Train) augments() bool { return t.Shift > 0 || on(t.Flip) }
