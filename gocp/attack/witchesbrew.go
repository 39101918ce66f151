package attack

import (
	"fmt"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// LossCrossEntropy is the loss of witchesbrew: the cross entropy of the targets' adversarial labels.
const LossCrossEntropy = "crossentropy"

// Choices of the adversarial label, which a target is to be taken for.
const (
	LabelPlausible = "plausible" // of the wrong labels the one whose score is least above the threshold, mean over surrogates
	LabelRandom    = "random"    // drawn by the seed and the image's number
)

// AdversarialLabels lists the choices.
func AdversarialLabels() []string { return []string{LabelPlausible, LabelRandom} }

// witchesBrew is gradient matching (Geiping et al. 2021, Witches' Brew): poisons of the adversarial class, whose gradient lies
// along that of the targets' cross entropy with the adversarial label. It knows nothing of sets, calibration or thresholds.
var witchesBrew = method{
	name: MethodWitchesBrew,
	defaults: func(c *Config) {
		orDefault(&c.Align, AlignPoison)
		orDefault(&c.Steps, 40)
		orDefault(&c.Loss, LossCrossEntropy)
		orDefault(&c.AdversarialLabel, LabelPlausible)
		c.Plain = true
	},
	validate: func(c Config) error {
		switch {
		case c.Order != 1:
			return usage.Errorf("crafting: witchesbrew is a first-order method; order %d goes with the method %s", c.Order, MethodAlignment)
		case c.Loss != LossCrossEntropy:
			return usage.Errorf(doesNothingWithout, "the loss "+c.Loss+" of prediction sets", c.Method)
		}
		return oneOf("choice of the adversarial label", c.AdversarialLabel, AdversarialLabels()...)
	},
	goal: func(g Goal, c Config, seed uint64) Goal { return misclassify{g, c.AdversarialLabel, seed} },
	loss: newCrossEntropy,
}

// misclassify has the targets of another goal, whose aim tells what is measured of their sets, and wants them taken for the
// adversarial label. Poisons come from that class. There are no stealth terms and no bystanders.
type misclassify struct {
	Goal
	choice string
	seed   uint64
}

func (g misclassify) Aim(b Belief) (Aim, error) {
	a, err := g.Goal.Aim(b)
	if err != nil {
		return a, err
	}
	wrong := plausible(b, []int{b.Label}, len(b.Excess))
	if len(wrong) == 0 {
		return a, fmt.Errorf("method %s: an image of class %d, and no other class to take it for", MethodWitchesBrew, b.Label)
	}
	label := wrong[0]
	if g.choice == LabelRandom {
		all := others(len(b.Excess), b.Label)
		label = all[rng.New(g.seed, rng.Stream("adversarial label", uint64(b.Image))).Intn(len(all))]
	}
	a.Keep, a.Inside, a.Adversarial = -1, -1, &label
	return a, nil
}

func (g misclassify) Classes(_ Belief, a Aim) []int { return []int{*a.Adversarial} }

func (g misclassify) Sources(label, k int) ([]int, int) {
	if _, n := g.Goal.Sources(label, k); n < 1 || k < 2 {
		return nil, 0
	}
	return others(k, label), 1
}

// newCrossEntropy is the summed cross entropy of the attacked targets with their adversarial labels.
func newCrossEntropy(s *device.Stream, p *Problem, cfg Config, sur Surrogate, running device.Ptr) (*loss, error) {
	m := sur.Model
	l := &loss{s: s, cfg: cfg, running: running, k: m.Classes, spec: m.Spec}
	var pixels []uint8
	var labels []int32
	for i, t := range p.Targets {
		switch y := t.Aim.Adversarial; {
		case t.Bystander:
		case y == nil || *y < 0 || *y >= m.Classes:
			return nil, fmt.Errorf("target %d has no adversarial label among %d classes", i, m.Classes)
		default:
			pixels, labels = append(pixels, t.Image...), append(labels, int32(*y))
		}
	}
	if l.rows = len(labels); l.rows == 0 {
		return nil, fmt.Errorf("no target is attacked")
	}
	batch := share(l.rows, (l.rows+lossBatch-1)/lossBatch)[0]
	l.options.Precision = p.Precision
	l.pixels, l.adversarial = uploaded(s, pixels), uploaded(s, labels)
	l.x = tensor.New(s, batch, m.H, m.W, m.C)
	l.logits, l.dz, l.keepLoss = tensor.New(s, l.rows, l.k), tensor.New(s, l.rows, l.k), tensor.New(s, l.rows)
	l.dot, l.work = s.Alloc(8), kernel.NewWorkspace(s, kernel.VectorBytes)
	return l, s.Err()
}

// crossEntropy is value, once the logits are there.
func (l *loss) crossEntropy() (float64, error) {
	kernel.SoftmaxXent(l.s, l.rows, l.k, l.logits, l.adversarial, l.keepLoss, l.dz)
	terms := make([]float32, l.rows)
	if err := device.Download(l.s, terms, l.keepLoss.P); err != nil {
		return 0, err
	}
	sum := 0.0
	for _, t := range terms {
		sum += float64(t)
	}
	return sum, l.s.Err()
}
