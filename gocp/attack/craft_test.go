package attack

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/train"
)

func onDevice(t *testing.T, f func(s *device.Stream) error) {
	t.Helper()
	d := testkit.Open(t)
	if err := d.Do(context.Background(), 1, f); err != nil {
		t.Fatal(err)
	}
}

// task is a small problem: two surrogates that are not trained, one target of each kind.
func task(t *testing.T, batchNorm bool) *Problem {
	t.Helper()
	const side, classes = 12, 4
	p := &Problem{Score: conformal.Variant{Name: "hps"}, Level: conformal.MustLevel("0.1"),
		Pool: randomImages(40, side, side, 1, classes, 2), Classes: []int{1, 2}, Count: 7, Seed: 11}
	cal := randomImages(30, side, side, 1, classes, 3)
	victims := randomImages(3, side, side, 1, classes, 4)
	for i := range 2 {
		m, err := nn.New(nn.Spec{Arch: "convnet", Width: 4, Classes: classes, C: 1, H: side, W: side, BatchNorm: batchNorm,
			Stem: nn.StemStride, Mean: []float64{.5}, Std: []float64{.25}}, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		src := rng.New(uint64(i), 7)
		for j := range m.Theta { // larger weights than fresh ones, so that classes differ
			m.Theta[j] = m.Theta[j]*2.5 + 0.02*src.Normal()
		}
		p.Surrogates = append(p.Surrogates, Surrogate{Name: string(rune('a' + i)), Model: m, Calibration: cal})
	}
	p.Targets = []Target{
		{Image: victims.At(0), Aim: Aim{Add: []int{2, 3}, Keep: 1, Inside: 1}},
		{Image: victims.At(1), Aim: Aim{Remove: []int{0}, Keep: -1, Inside: -1}},
		{Image: victims.At(2), Aim: Aim{Keep: 0, Inside: 0}, Bystander: true},
	}
	return p
}

// The gradient of ℓ2 against central differences in a random direction, for every score and form.
func TestLossGradient(t *testing.T) {
	for _, c := range []struct {
		name  string
		score conformal.Variant
		cfg   Config
	}{
		{"hps", conformal.Variant{Name: "hps"}, Config{}},
		{"hps, window", conformal.Variant{Name: "hps"}, Config{Window: 5}},
		{"hps, soft quantile", conformal.Variant{Name: "hps"}, Config{Loss: LossSoftQuantile, Bandwidth: .1}},
		{"aps", conformal.Variant{Name: "aps"}, Config{}},
		{"raps", conformal.Variant{Name: "raps", Lambda: .1, KReg: 1, U: conformal.DrawSample}, Config{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onDevice(t, func(s *device.Stream) error {
				p := task(t, false)
				p.Score = c.score
				c.cfg.Threshold = ThresholdMoving // differences see the scores move
				v, err := NewSolver(s, p, c.cfg)
				if err != nil {
					return err
				}
				f := v.fields[0]
				defer f.loss.open()()
				theta := f.Model.Theta
				g := make([]float32, len(theta))
				grad := tensor.New(s, len(theta))
				if _, _, err := f.loss.gradient(f.theta.P, grad); err != nil {
					return err
				}
				if err := device.Download(s, g, grad.P); err != nil {
					return err
				}
				// Along the gradient the loss is steep, so float32 differences are well above rounding.
				var norm float64
				for _, x := range g {
					norm += float64(x) * float64(x)
				}
				norm = math.Sqrt(norm)
				at := func(h float64) float64 {
					moved := make([]float32, len(theta))
					for i := range moved {
						moved[i] = theta[i] + float32(h*float64(g[i])/norm)
					}
					q := tensor.New(s, len(theta))
					device.Upload(s, q.P, moved)
					value, err := f.loss.value(q.P)
					if err != nil {
						t.Fatal(err)
					}
					return value
				}
				const h = 2e-3
				got := (at(h) - at(-h)) / (2 * h)
				// Kinks of ReLU, pooling and hinges that lie within h leave a few per cent.
				if math.Abs(got-norm) > 0.05*norm {
					t.Errorf("slope along the gradient %v, norm of the gradient %v", got, norm)
				}
				return nil
			})
		})
	}
}

// gradients is −∇_δ ΣΦ of all poisons.
func (l *loop) gradients() device.Ptr {
	all := l.s.Alloc(4 * l.delta.Len())
	l.align(func(i int, grad device.Ptr) { l.s.Copy(all.Add(l.off(i)), grad, 4*l.of(i, l.x).Len()) })
	return all
}

// The gradient of Φ with respect to δ against central differences, for every alignment, with and
// without augmentation.
func TestCraftingGradient(t *testing.T) {
	for name, c := range map[string]struct {
		cfg       Config
		batchNorm bool
	}{
		"poison":           {Config{Align: AlignPoison}, false},
		"sum":              {Config{Align: AlignSum}, false},
		"batch":            {Config{Align: AlignBatch, Batch: 3}, false},
		"poison, shifted":  {Config{Align: AlignPoison, Shift: 2, Flip: true}, false},
		"sum, reflected":   {Config{Align: AlignSum, Shift: 3, Pad: train.PadReflect, Flip: true}, false},
		"poison, bn":       {Config{Align: AlignPoison}, true},
		"second order":     {Config{Align: AlignPoison, Order: 2}, false},
		"exact, by batch":  {Config{Align: AlignBatch, Batch: 3, Order: 2, Second: SecondOrder{Mode: SecondExact, Damping: "5", Iterations: 200, Tolerance: 1e-4}}, true},
		"exact, factors":   {Config{Align: AlignSum, Order: 2, Second: SecondOrder{Mode: SecondExact, Solver: curvature.Kron}}, false},
		"poison, p = 1.5":  {Config{Align: AlignPoison, SAMP: result.Number(1.5), SAMSteps: 2}, false},
		"poison, p = +Inf": {Config{Align: AlignPoison, SAMP: result.Number(math.Inf(1)), SAMRho: .001}, false},
	} {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(s *device.Stream) error {
				v, err := NewSolver(s, task(t, c.batchNorm), c.cfg)
				if err != nil {
					return err
				}
				bases, err := v.Bases()
				if err != nil {
					return err
				}
				l, err := v.newLoop(v.p.Pool.Select(bases))
				if err != nil {
					return err
				}
				l.sumClean()
				l.start(0)
				l.drawAugmentation()
				n := l.delta.Len()
				delta, g := make([]float32, n), make([]float32, n)
				if err := device.Download(s, g, l.gradients()); err != nil {
					return err
				}
				if err := device.Download(s, delta, l.delta.P); err != nil {
					return err
				}
				var norm float64
				for _, x := range g {
					norm += float64(x) * float64(x)
				}
				norm = math.Sqrt(norm)
				at := func(h float64) float64 {
					moved := make([]float32, n)
					for i := range moved {
						moved[i] = delta[i] + float32(h*float64(g[i])/norm)
					}
					device.Upload(s, l.delta.P, moved)
					l.align(nil)
					phi, err := l.mean()
					if err != nil {
						t.Fatal(err)
					}
					return phi * float64(len(v.fields)*l.cosines)
				}
				const h = 3e-4 // kinks of ReLU and pooling are dense
				got := -(at(h) - at(-h)) / (2 * h)
				if norm == 0 || math.Abs(got-norm) > 0.08*norm {
					t.Errorf("slope along the gradient %v, norm of the gradient %v", got, norm)
				}
				return nil
			})
		})
	}
}

// Surrogates of several kinds and sizes: each has the alignment that it has alone, and the gradients add.
func TestEnsembleOfKinds(t *testing.T) {
	other := func(t *testing.T, spec nn.Spec) *nn.Model {
		spec.Classes, spec.C, spec.H, spec.W, spec.Mean, spec.Std = 4, 1, 12, 12, []float64{.5}, []float64{.25}
		m, err := nn.New(spec.WithDefaults(), 5)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, cfg := range map[string]Config{"sum": {Align: AlignSum}, "poison": {Align: AlignPoison}, "batch": {Align: AlignBatch, Batch: 3},
		"second order": {Align: AlignSum, Order: 2, Second: SecondOrder{Iterations: 3, Images: 16}}} {
		t.Run(name, func(t *testing.T) {
			p := task(t, false)
			p.Surrogates = append(p.Surrogates,
				Surrogate{Name: "wider", Model: other(t, nn.Spec{Arch: "convnet", Width: 6, Stem: nn.StemPool, BatchNorm: true}), Calibration: p.Surrogates[0].Calibration},
				Surrogate{Name: "resnet", Model: other(t, nn.Spec{Arch: "resnet18", Width: 2}), Calibration: p.Surrogates[0].Calibration},
				Surrogate{Name: "mobilenet", Model: other(t, nn.Spec{Arch: "mobilenet_v2", Width: 4}), Calibration: p.Surrogates[0].Calibration})
			cfg.Bases, cfg.Shift, cfg.Flip = BasesRandom, 1, true
			gradient := func(of []Surrogate) (phi []float64, g []float32) {
				one := *p
				one.Surrogates = of
				onDevice(t, func(s *device.Stream) error {
					v, err := NewSolver(s, &one, cfg)
					if err != nil {
						return err
					}
					bases, err := v.Bases()
					if err != nil {
						return err
					}
					l, err := v.newLoop(p.Pool.Select(bases))
					if err != nil {
						return err
					}
					l.sumClean()
					l.start(0)
					l.drawAugmentation()
					grad := l.gradients()
					phi, g = make([]float64, len(of)*l.cosines), make([]float32, l.delta.Len())
					return errors.Join(device.Download(s, phi, l.phi), device.Download(s, g, grad))
				})
				return phi, g
			}
			phi, g := gradient(p.Surrogates)
			sum, apart := make([]float64, len(g)), []float64(nil)
			for _, s := range p.Surrogates {
				alone, h := gradient([]Surrogate{s})
				apart = append(apart, alone...)
				for i, x := range h {
					sum[i] += float64(x)
				}
			}
			if !slices.Equal(phi, apart) {
				t.Errorf("Φ %v, alone %v", phi, apart)
			}
			var off, norm float64
			for i, x := range g {
				off += (float64(x) - sum[i]) * (float64(x) - sum[i])
				norm += sum[i] * sum[i]
			}
			if norm == 0 || off > 1e-12*norm { // roundings of four sums
				t.Errorf("the gradient is off the sum of its parts by %g of %g", math.Sqrt(off), math.Sqrt(norm))
			}
		})
	}
}

// Crafting raises Φ, ends inside the ball on the 8-bit grid, and reports the Φ of that.
func TestCraft(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		v, err := NewSolver(s, task(t, false), Config{Align: AlignPoison, Steps: 12, Restarts: 2, Epsilon255: 10})
		if err != nil {
			return err
		}
		bases, err := v.Bases()
		if err != nil {
			return err
		}
		steps := 0
		p, err := v.Craft(bases, func() { steps++ })
		if err != nil {
			return err
		}
		if steps != 24 || len(p.Report.Restarts) != 2 || len(p.Bases) != 7 {
			t.Errorf("%d steps, %+v", steps, p.Report)
		}
		r := p.Report.Restarts[p.Report.Best]
		if r.Final != p.Report.Phi || r.Final <= r.Phi[0] {
			t.Errorf("Φ from %v to %v, reported %v", r.Phi[0], r.Final, p.Report.Phi)
		}
		l, err := v.newLoop(p.Before)
		if err != nil {
			return err
		}
		device.Upload(s, l.delta.P, p.Delta())
		l.align(nil)
		phi, err := l.mean()
		if err != nil {
			return err
		}
		if math.Abs(phi-p.Report.Phi) > 1e-5 {
			t.Errorf("Φ of the 8-bit poisons is %v, reported %v", phi, p.Report.Phi)
		}
		for i, y := range p.Before.Labels {
			if want := []int32{1, 2}[i/4]; y != want {
				t.Errorf("poison %d has label %d, want %d", i, y, want)
			}
		}
		return nil
	})
}

// A step on the poisons lowers ℓ3 more than one on the clean bases or on noise.
func TestStep(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		v, err := NewSolver(s, task(t, false), Config{Steps: 25, Epsilon255: 32})
		if err != nil {
			return err
		}
		bases, err := v.Bases()
		if err != nil {
			return err
		}
		p, err := v.Craft(bases, nil)
		if err != nil {
			return err
		}
		q, err := RandUn(p.Before, p.Bases, 32, 1)
		if err != nil {
			return err
		}
		attacked, err := v.Step(p.Images(), 0.01)
		if err != nil {
			return err
		}
		noise, err := v.Step(q.Images(), 0.01)
		if err != nil {
			return err
		}
		if attacked.L3 >= p.Report.L3 || attacked.L3 >= noise.L3 {
			t.Errorf("ℓ3 is %v, %v after a step on poisons, %v after one on noise", p.Report.L3, attacked.L3, noise.L3)
		}
		return nil
	})
}

// A gradient of zero is an error that names the surrogate and says why.
func TestZeroGradient(t *testing.T) {
	wish := func(p *Problem, a Aim) {
		a.Keep, a.Inside = -1, -1
		p.Targets = []Target{{Image: p.Targets[0].Image, Aim: a}}
	}
	// biased makes every model's score the same but for the bias of class 1.
	biased := func(p *Problem, bias float32) {
		for i := range p.Surrogates {
			m := p.Surrogates[i].Model
			clear(m.Theta)
			m.Theta[len(m.Theta)-3] = bias
		}
	}
	for name, c := range map[string]struct {
		change func(p *Problem, c *Config)
		says   string
	}{
		"no wish": {func(p *Problem, _ *Config) { wish(p, Aim{}) }, "as wanted already"},
		"saturated": {func(p *Problem, _ *Config) {
			wish(p, Aim{Add: []int{1}})
			biased(p, -200)
		}, "no probability"},
		"inside already": {func(p *Problem, c *Config) {
			c.Margin = -1
			p.Level = conformal.MustLevel("0.04") // the largest of 30 scores
			wish(p, Aim{Add: []int{1}})
			biased(p, 3)
		}, "as wanted already"},
	} {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(s *device.Stream) error {
				p, config := task(t, false), Config{}
				c.change(p, &config)
				_, err := NewSolver(s, p, config)
				for _, say := range []string{"surrogate a", "gradient is zero", c.says} {
					if err == nil || !strings.Contains(err.Error(), say) {
						t.Errorf("no %q in error %v", say, err)
					}
				}
				return nil
			})
		})
	}
}

func TestProblemErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *Problem)
		text   string
	}{
		"label":   {func(p *Problem) { p.Targets[0].Aim.Add = []int{9} }, "aims at label 9"},
		"image":   {func(p *Problem) { p.Targets[0].Image = nil }, "0 bytes"},
		"classes": {func(p *Problem) { p.Classes = []int{1, 2, 3}; p.Count = 2 }, "at least one for each"},
		"few":     {func(p *Problem) { p.Count = 35 }, "lower the budget"},
		"score":   {func(p *Problem) { p.Score.Name = "saps" }, "can't be attacked"},
		"small":   {func(p *Problem) { p.Level = conformal.MustLevel("0.01") }, "at least 99"},
	} {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(s *device.Stream) error {
				p := task(t, false)
				c.change(p)
				v, err := NewSolver(s, p, Config{})
				if err == nil {
					_, err = v.Bases()
				}
				if err == nil || !strings.Contains(err.Error(), c.text) {
					t.Errorf("error %v", err)
				}
				return nil
			})
		})
	}
}
