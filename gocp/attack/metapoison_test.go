package attack

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// metaTask is task with a way to train surrogates, of two kinds in turn.
func metaTask(t *testing.T) *Problem {
	p := task(t, false)
	other := task(t, true).Surrogates[0].Model.Spec
	p.Training = func(i int) (nn.Spec, train.Config) {
		spec := p.Surrogates[0].Model.Spec
		if i%2 == 1 {
			spec = other
		}
		return spec, train.Config{Epochs: 3, Batch: 16, LR: 0.05}
	}
	return p
}

var metaConfig = Config{Method: MethodMetaPoison, Steps: 5, Shift: 1, Flip: true, Meta: MetaPoison{Ages: 4, Unroll: 2}}

// Batches hold the poisons and other images of the pool, augmented, and what the unrolled steps say of the batches' images, which is
// held against PyTorch elsewhere, reaches δ by the augmentation's adjoint. (The objective jumps where a ReLU changes its side, so
// differences tell nothing.)
func TestLookaheadReachesPoisons(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		p := metaTask(t)
		v, err := NewSolver(s, p, metaConfig)
		if err != nil {
			return err
		}
		bases, err := v.Bases()
		if err != nil {
			return err
		}
		m, err := v.newMeta(bases, p.Pool.Select(bases))
		if err != nil {
			return err
		}
		m.start(0)
		e := &ensemble{v: v, pixels: slices.Clone(p.Pool.Pixels)}
		if err := e.stagger(nil); err != nil {
			return err
		}
		for i, want := range []int{0, 1, 2, 3} {
			if got := e.all[i].state.Epoch; got != want {
				t.Errorf("surrogate %d is %d epochs old, want %d", i, got, want)
			}
		}
		if m.share != 3 || m.batch != 16 {
			t.Errorf("%d poisons in a batch of %d", m.share, m.batch)
		}
		if _, err := m.look(e, 1, true); err != nil {
			return err
		}
		n, side := m.delta.Len(), p.Pool.H
		size := side * side
		got, delta := downloaded(t, s, m.grad, n), downloaded(t, s, m.delta.P, n)
		want, touched := make([]float32, n), make([]int, m.n)
		order := rng.New(p.Seed, rng.Stream("poisons ahead", 1)).Perm(m.n)
		for _, a := range e.all {
			looks, poisons, augs := m.looks(order, a.number, 16, 1)
			// source is where pixel (y, u) of image i of batch k comes from, −1 if from outside.
			draws := make([][]int32, len(looks))
			source := func(k, i, y, u int) int {
				d := draws[k][3*i:]
				if d[2] != 0 {
					u = side - 1 - u
				}
				if y, u = y+int(d[1]), u+int(d[0]); min(y, u) < 0 || max(y, u) >= side {
					return -1
				}
				return y*side + u
			}
			for k, b := range looks {
				draws[k] = make([]int32, 3*16)
				if err := device.Download(s, draws[k], augs[k].Draws); err != nil {
					return err
				}
				x, labels := downloaded(t, s, b.x.P, 16*size), make([]int32, 16)
				if err := device.Download(s, labels, b.labels); err != nil {
					return err
				}
				for i, j := range poisons[k] {
					touched[j]++
					if labels[i] != p.Pool.Labels[bases[j]] {
						t.Errorf("poison %d has label %d", j, labels[i])
					}
					for at := range size {
						var pixel float32
						if from := source(k, i, at/side, at%side); from >= 0 {
							pixel = float32(p.Pool.At(bases[j])[from])/255 + delta[j*size+from]
						}
						if math.Abs(float64(x[i*size+at]-pixel)) > 1e-6 {
							t.Fatalf("pixel %d of poison %d is %g, want %g", at, j, x[i*size+at], pixel)
						}
					}
				}
			}
			ahead := newLookahead(s, a.model.Spec, 2, 16, 2, nn.Options{})
			ahead.begin(a.model.Theta, a.state.Momentum, a.model.Running)
			outer := m.losses[fmt.Sprint(a.model.Spec)]
			outer.running = ahead.running
			closing := outer.open()
			_, err := ahead.run(looks, descent{lr: 0.05, momentum: 0.9, decay: 5e-4}, func(theta device.Ptr, grad tensor.Tensor) (float64, error) {
				value, _, err := outer.gradient(theta, grad)
				return value, err
			}, func(k int, dx tensor.Tensor) {
				d := downloaded(t, s, dx.P, 16*size)
				for i, j := range poisons[k] {
					for at := range size {
						if from := source(k, i, at/side, at%side); from >= 0 {
							want[j*size+from] += d[i*size+at]
						}
					}
				}
			})
			if closing(); err != nil {
				return err
			}
		}
		if e := testkit.Relative(got, want); !(e <= 1e-6) {
			t.Errorf("the gradient of δ is %.2g from that of the images", e)
		}
		if slices.Min(touched) < 3 {
			t.Errorf("the poisons were in %v of 8 batches", touched)
		}
		// Surrogates age, and start afresh after the last epoch.
		old := slices.Clone(e.all[3].model.Theta)
		if err := e.age(); err != nil {
			return err
		}
		for i, want := range []int{1, 2, 3, 0} {
			if got := e.all[i].state.Epoch; got != want {
				t.Errorf("a step later surrogate %d is %d epochs old, want %d", i, got, want)
			}
		}
		if e.all[3].births != 2 || slices.Equal(old, e.all[3].model.Theta) {
			t.Error("the oldest surrogate did not start afresh")
		}
		return nil
	})
}

// Poisons of metapoison lower the loss ahead, are the same each time and whatever the memory, and say what was seen.
func TestMetaPoisonCrafts(t *testing.T) {
	craft := func() (p *Poisons) {
		onDevice(t, func(s *device.Stream) error {
			problem := metaTask(t)
			cfg := metaConfig
			cfg.Steps, cfg.Meta.AgeEvery = 20, 100 // the same surrogates to the end
			v, err := NewSolver(s, problem, cfg)
			if err != nil {
				return err
			}
			bases, err := v.Bases()
			if err != nil {
				return err
			}
			steps := 0
			if p, err = v.Craft(bases, func() { steps++ }); err != nil {
				return err
			}
			if steps != v.cfg.Work() {
				t.Errorf("%d steps were told, %d expected", steps, v.cfg.Work())
			}
			return nil
		})
		return p
	}
	p := craft()
	r := p.Report
	if p.Method != MethodMetaPoison || len(r.Restarts[0].Loss) != 20 || r.Lookahead == nil || r.Restarts[0].Final != r.Lookahead.After || !(math.Abs(r.Phi) < 1) {
		t.Errorf("method %s, %+v", p.Method, r)
	}
	if x := r.Lookahead; !(x.After < x.Before) || x.Epochs != 3 || x.Batch != 16 || x.Share != 3 {
		t.Errorf("%+v", x)
	}
	if again := craft(); !slices.Equal(again.After, p.After) || !slices.Equal(again.Report.Restarts[0].Loss, r.Restarts[0].Loss) {
		t.Error("other bytes the second time")
	}
	onDevice(t, func(s *device.Stream) error {
		problem := metaTask(t)
		problem.Memory.Limit = 200 << 10
		v, err := NewSolver(s, problem, metaConfig)
		if err != nil {
			return err
		}
		bases, err := v.Bases()
		if err != nil {
			return err
		}
		if _, err = v.Craft(bases, nil); !usage.Is(err) || !strings.Contains(err.Error(), "looking ahead needs at least") {
			t.Errorf("in 200 KiB: %v", err)
		}
		return nil
	})
}

func TestMetaPoisonErrors(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		text string
	}{
		{Config{Method: MethodMetaPoison, Align: AlignSum}, "the alignment sum"},
		{Config{Method: MethodMetaPoison, Order: 2}, "metapoison unrolls training"},
		{Config{Method: MethodMetaPoison, AdversarialLabel: LabelRandom}, "adversarial label"},
		{Config{Method: MethodMetaPoison, Meta: MetaPoison{Unroll: -1}}, "-1 unrolled steps"},
		{Config{Meta: MetaPoison{Ages: 3}}, "ensemble of metapoison does nothing"},
	} {
		if err := c.cfg.WithDefaults().Validate(); !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v; want %q", c.cfg, err, c.text)
		}
	}
}
