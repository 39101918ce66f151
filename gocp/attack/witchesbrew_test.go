package attack

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// brewing is task with adversarial labels.
func brewing(t *testing.T, batchNorm bool) *Problem {
	p := task(t, batchNorm)
	for i, y := range []int{2, 3} {
		p.Targets[i].Aim.Adversarial = &y
	}
	p.Classes = []int{2, 3}
	return p
}

// The cross entropy and its gradient are those of the logits in float64, and of the bystander nothing.
func TestWitchesBrewLoss(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		v, err := NewSolver(s, brewing(t, true), Config{Method: MethodWitchesBrew})
		if err != nil {
			return err
		}
		f := v.fields[0]
		defer f.loss.open()()
		theta := f.Model.Theta
		g, grad := make([]float32, len(theta)), tensor.New(s, len(theta))
		value, norm, err := f.loss.gradient(f.theta.P, grad)
		if err != nil {
			return err
		}
		if err := device.Download(s, g, grad.P); err != nil {
			return err
		}
		z := make([]float32, 2*f.loss.k)
		if err := device.Download(s, z, f.loss.logits.P); err != nil {
			return err
		}
		p, err := conformal.Softmax(2, f.loss.k, z)
		if err != nil {
			return err
		}
		if want := -math.Log(p.At(0, 2)) - math.Log(p.At(1, 3)); f.loss.rows != 2 || math.Abs(value-want) > 1e-5*want || value != f.l2 || f.l3 != f.l2 {
			t.Errorf("%d rows, loss %g, of the logits %g; recorded %g and %g", f.loss.rows, value, want, f.l2, f.l3)
		}
		at := func(h float64) float64 {
			moved := make([]float32, len(theta))
			for i := range moved {
				moved[i] = theta[i] + float32(h*float64(g[i])/norm)
			}
			device.Upload(s, f.theta.P, moved)
			l, err := f.loss.value(f.theta.P)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		const h = 2e-3
		if slope := (at(h) - at(-h)) / (2 * h); math.Abs(slope-norm) > 0.01*norm || norm == 0 {
			t.Errorf("along the gradient the loss rises by %g; its norm is %g", slope, norm)
		}
		return nil
	})
}

// Poisons of witchesbrew raise the alignment, are the same each time, lower the cross entropy by a training step, and say whose
// they are.
func TestWitchesBrewCrafts(t *testing.T) {
	craft := func() (p *Poisons, clean, after After) {
		onDevice(t, func(s *device.Stream) error {
			v, err := NewSolver(s, brewing(t, false), Config{Method: MethodWitchesBrew, Steps: 12})
			if err != nil {
				return err
			}
			bases, err := v.Bases()
			if err != nil {
				return err
			}
			if p, err = v.Craft(bases, nil); err != nil {
				return err
			}
			if clean, err = v.Step(p.Before, 1); err != nil {
				return err
			}
			after, err = v.Step(p.Images(), 1)
			return err
		})
		return p, clean, after
	}
	p, clean, after := craft()
	phi := p.Report.Restarts[0].Phi
	if p.Method != MethodWitchesBrew || len(phi) != 12 || !(p.Report.Phi > phi[0]) || p.Report.L2 != p.Report.L3 {
		t.Errorf("method %s, Φ %v, at last %g", p.Method, phi, p.Report.Phi)
	}
	for _, y := range p.Before.Labels {
		if y != 2 && y != 3 {
			t.Errorf("a poison of class %d", y)
		}
	}
	if !(after.L2 < clean.L2) {
		t.Errorf("a step on the poisons leaves a loss of %g, on their bases %g", after.L2, clean.L2)
	}
	if again, _, _ := craft(); !slices.Equal(again.After, p.After) {
		t.Error("other bytes the second time")
	}
}

// The targets and what is measured of them are the goal's; the adversarial label is a wrong one, the most plausible or drawn,
// and poisons come from it.
func TestAdversarialLabel(t *testing.T) {
	b := Belief{Label: 1, Predicted: 1, Prob: []float64{.1, .6, .15, .1, .05}, Excess: []float64{.1, -.3, -.1, .2, .3},
		Sets: [][]int{{1, 2}, {1, 2}, {1, 2}}}
	own, err := Config{}.WithDefaults().GoalOf(GoalConfig{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	want, err := own.Aim(b)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for image := range 40 {
		b.Image = image
		for choice, cfg := range map[string]Config{LabelPlausible: {Method: MethodWitchesBrew}, LabelRandom: {Method: MethodWitchesBrew, AdversarialLabel: LabelRandom}} {
			goal, err := cfg.WithDefaults().GoalOf(GoalConfig{}, 7)
			if err != nil {
				t.Fatal(err)
			}
			a, err := goal.Aim(b)
			if err != nil || !goal.Eligible(b) || a.Adversarial == nil || *a.Adversarial == b.Label {
				t.Fatalf("%s: %+v, %v", choice, a, err)
			}
			if again, _ := goal.Aim(b); *again.Adversarial != *a.Adversarial {
				t.Errorf("%s: another label the second time", choice)
			}
			if from, n := goal.Sources(1, 5); !slices.Equal(goal.Classes(b, a), []int{*a.Adversarial}) || !slices.Contains(from, *a.Adversarial) || n != 1 {
				t.Errorf("%s: poisons of %v, among %v", choice, goal.Classes(b, a), from)
			}
			if !slices.Equal(a.Remove, want.Remove) || a.Keep != -1 || a.Inside != -1 {
				t.Errorf("%s: %+v, the goal's own aim is %+v", choice, a, want)
			}
			if choice == LabelPlausible && *a.Adversarial != 2 {
				t.Errorf("the most plausible wrong label is %d", *a.Adversarial)
			}
			if choice == LabelRandom {
				seen[*a.Adversarial] = true
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("of 40 draws of 4 labels came %v", seen)
	}
}

func TestMethodErrors(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		text string
	}{
		{Config{Method: "poisonfrogs"}, `unknown method "poisonfrogs" (known: alignment, metapoison, witchesbrew`},
		{Config{Method: MethodWitchesBrew, Order: 2}, "first-order"},
		{Config{Method: MethodWitchesBrew, Loss: LossPairwise}, "the loss pairwise"},
		{Config{Method: MethodWitchesBrew, AdversarialLabel: "worst"}, "known: plausible, random"},
		{Config{AdversarialLabel: LabelRandom}, "adversarial label does nothing"},
		{Config{Loss: LossCrossEntropy}, "known: pairwise, softquantile"},
	} {
		if err := c.cfg.WithDefaults().Validate(); !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v; want %q", c.cfg, err, c.text)
		}
	}
}
