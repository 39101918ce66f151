package train

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/usage"
)

// blobs is a set that a network can learn: class k is bright in column k.
func blobs(n, classes int) Set {
	set := Set{Images: make([]uint8, n*8*8), Labels: make([]int32, n)}
	r := rng.New(9, 0)
	for i := 0; i < n; i++ {
		k := i % classes
		set.Labels[i] = int32(k)
		for p := 0; p < 64; p++ {
			v := r.Intn(100)
			if p%8 == k {
				v += 120
			}
			set.Images[i*64+p] = uint8(v)
		}
	}
	return set
}

func spec(bn bool) nn.Spec {
	return nn.Spec{Arch: "convnet", Width: 4, Classes: 4, C: 1, H: 8, W: 8, BatchNorm: bn, Stem: nn.StemPool, Mean: []float64{.4}, Std: []float64{.25}}
}

func on(t *testing.T, width int, f func(s *device.Stream) error) {
	t.Helper()
	d, err := device.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Do(context.Background(), width, f); err != nil {
		t.Fatal(err)
	}
}

func fit(s *device.Stream, bn bool, cfg Config, o Options) (*nn.Model, error) {
	m, err := nn.New(spec(bn), 1)
	if err != nil {
		return nil, err
	}
	return m, Run(s, m, blobs(150, 4), cfg, o)
}

func TestLearns(t *testing.T) {
	for _, c := range []struct {
		name string
		bn   bool
		cfg  Config
	}{
		{"plain", false, Config{Epochs: 80, Batch: 32}},
		{"batch norm", true, Config{Epochs: 12, Batch: 32}},
		{"shifted and flipped", true, Config{Epochs: 20, Batch: 32, Shift: 1}},
		{"cosine after a warm-up", false, Config{Epochs: 40, Batch: 32, LR: 0.05, Schedule: Cosine, Warmup: 5, Nesterov: true}},
		{"bf16", false, Config{Epochs: 80, Batch: 32, Precision: kernel.BF16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			on(t, 1, func(s *device.Stream) error {
				var losses []float64
				m, err := fit(s, c.bn, c.cfg, Options{Progress: func(_ int, l float64) { losses = append(losses, l) }})
				if err != nil {
					return err
				}
				if len(losses) != c.cfg.Epochs || losses[len(losses)-1] > 0.5*losses[0] {
					t.Errorf("losses %.3f", losses)
				}
				test := blobs(40, 4)
				out, err := Predict(s, m, test.Images, c.cfg.Precision)
				if err != nil {
					return err
				}
				right := 0
				for i, y := range test.Labels {
					best := 0
					for k := 1; k < 4; k++ {
						if out.Logits[i*4+k] > out.Logits[i*4+best] {
							best = k
						}
					}
					if best == int(y) {
						right++
					}
				}
				if right < 34 {
					t.Errorf("%d of 40 right", right)
				}
				return nil
			})
		})
	}
}

// The same run gives the same bits, and so does one that was interrupted after its third epoch.
func TestSameBits(t *testing.T) {
	for _, bn := range []bool{false, true} {
		cfg := Config{Epochs: 5, Batch: 32, Shift: 2, Flip: true, Seed: 4}
		if bn {
			cfg.Pad, cfg.Schedule, cfg.Warmup, cfg.Nesterov = PadReflect, Cosine, 1, true
		}
		var whole, again, resumed *nn.Model
		on(t, 1, func(s *device.Stream) (err error) {
			var at *nn.Model
			var state State
			if whole, err = fit(s, bn, cfg, Options{}); err != nil {
				return err
			}
			if again, err = fit(s, bn, cfg, Options{Checkpoint: func(m *nn.Model, st State) error {
				if st.Epoch == 3 {
					at, state = m, st
				}
				return nil
			}}); err != nil {
				return err
			}
			resumed = at
			return Run(s, resumed, blobs(150, 4), cfg, Options{Resume: &state})
		})
		if !reflect.DeepEqual(whole.Theta, again.Theta) || !reflect.DeepEqual(whole.Running, again.Running) {
			t.Errorf("batch norm %v: two runs differ", bn)
		}
		if !reflect.DeepEqual(whole.Theta, resumed.Theta) || !reflect.DeepEqual(whole.Running, resumed.Running) {
			t.Errorf("batch norm %v: a resumed run differs", bn)
		}
	}
}

// Training that is stopped before any step goes on from there to the same bytes and the same losses: the
// order of samples, the draws, momentum, running statistics and the losses of the epoch under way are saved.
func TestStopAtEveryStep(t *testing.T) {
	if testing.Short() {
		t.Skip("a few dozen trainings")
	}
	for name, c := range map[string]struct {
		bn  bool
		cfg Config
	}{
		"plain":             {false, Config{Epochs: 3, Batch: 64, Seed: 4, Schedule: Cosine}},
		"batch norm, draws": {true, Config{Epochs: 3, Batch: 64, Seed: 4, Shift: 1, Flip: true, Nesterov: true, Warmup: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var whole *nn.Model
			var want []float64
			asked := 0
			on(t, 1, func(s *device.Stream) (err error) {
				whole, err = fit(s, c.bn, c.cfg, Options{Progress: func(_ int, l float64) { want = append(want, l) }, Interrupt: func() bool { asked++; return false }})
				return err
			})
			if asked != 9 {
				t.Fatalf("%d steps", asked)
			}
			for stop := range asked {
				on(t, 1, func(s *device.Stream) error {
					var at *nn.Model
					var state *State
					var losses []float64
					seen := 0
					progress := func(_ int, l float64) { losses = append(losses, l) }
					_, err := fit(s, c.bn, c.cfg, Options{Progress: progress, Interrupt: func() bool { seen++; return seen > stop },
						Checkpoint: func(m *nn.Model, st State) error { at, state = m, &st; return nil }, Due: func() bool { return false }})
					if !errors.Is(err, context.Canceled) || state == nil || state.Epoch*3+state.Step != stop {
						t.Fatalf("stopped before step %d: %v, state %+v", stop, err, state)
					}
					if err := Run(s, at, blobs(150, 4), c.cfg, Options{Resume: state, Progress: progress}); err != nil {
						return err
					}
					if !reflect.DeepEqual(whole.Theta, at.Theta) || !reflect.DeepEqual(whole.Running, at.Running) {
						t.Errorf("stopped before step %d: other parameters", stop)
					}
					if !reflect.DeepEqual(losses, want) {
						t.Errorf("stopped before step %d: losses %v, without a stop %v", stop, losses, want)
					}
					return nil
				})
			}
		})
	}
}

// Training under a defence that is stopped before any epoch goes on from there to the same bytes and losses. Pruning by
// epic depends on the parameters at an epoch's beginning, and happens once: after the checkpoint that is made there.
func TestStopBeforeEveryEpoch(t *testing.T) {
	const epochs = 5
	for _, c := range []struct {
		bn bool
		d  Defense
	}{
		{true, Defense{Name: "epic", Fraction: 0.4, From: 1}}, {false, Defense{Name: "epic", Fraction: 0.4, From: 2, Every: 2}},
		{true, Defense{Name: "adversarial-poisoning", Steps: 2}}, {false, Defense{Name: "dp-sgd"}},
		{true, Defense{Name: "maxup"}}, {true, Defense{Name: "augment"}}, {true, Defense{Name: "sam"}},
	} {
		t.Run(c.d.String(), func(t *testing.T) {
			cfg := Config{Epochs: epochs, Batch: 32, Seed: 4, Shift: 1, Flip: true, Defense: c.d}
			var whole *nn.Model
			var want []float64
			var wantDropped []int32
			byEpoch := make([]State, epochs+1) // after so many
			on(t, 1, func(s *device.Stream) (err error) {
				whole, err = fit(s, c.bn, cfg, Options{Progress: func(_ int, l float64) { want = append(want, l) }, Dropped: func(d []int32) { wantDropped = d },
					Checkpoint: func(_ *nn.Model, st State) error { byEpoch[st.Epoch] = st; return nil }})
				return err
			})
			if c.d.Drops() && (len(byEpoch[3].Dropped) == 0 || len(byEpoch[3].Dropped) >= len(wantDropped)) {
				t.Fatalf("%d samples were dropped in three epochs, %d in all: pruning twice would not show", len(byEpoch[3].Dropped), len(wantDropped))
			}
			for stop := range epochs + 1 { // the last one: before the model is written
				on(t, 1, func(s *device.Stream) error {
					var at *nn.Model
					var state *State
					var losses []float64
					var dropped []int32
					asked := 0
					progress := func(_ int, l float64) { losses = append(losses, l) }
					_, err := fit(s, c.bn, cfg, Options{Progress: progress, Interrupt: func() bool { asked++; return asked > stop },
						Checkpoint: func(m *nn.Model, st State) error { at, state = m, &st; return nil }, Due: func() bool { return false }})
					if stop < epochs && !errors.Is(err, context.Canceled) || stop == epochs && err != nil || state == nil || state.Epoch != stop || state.Step != 0 {
						t.Fatalf("stopped before epoch %d: %v, state %+v", stop, err, state)
					}
					if !slices.Equal(state.Dropped, byEpoch[stop].Dropped) {
						t.Errorf("stopped before epoch %d: the checkpoint says %v are dropped, after the epoch before it were %v", stop, state.Dropped, byEpoch[stop].Dropped)
					}
					if err := Run(s, at, blobs(150, 4), cfg, Options{Resume: state, Progress: progress, Dropped: func(d []int32) { dropped = d }}); err != nil {
						return err
					}
					if !reflect.DeepEqual(whole.Theta, at.Theta) || !reflect.DeepEqual(whole.Running, at.Running) {
						t.Errorf("stopped before epoch %d: other parameters", stop)
					}
					if !reflect.DeepEqual(losses, want) || !slices.Equal(dropped, wantDropped) {
						t.Errorf("stopped before epoch %d: losses %v, %v dropped; without a stop %v, %v", stop, losses, dropped, want, wantDropped)
					}
					return nil
				})
			}
		})
	}
}

func TestCheckpointOfAnotherRun(t *testing.T) {
	on(t, 1, func(s *device.Stream) error {
		n := 0
		if m, err := nn.New(spec(false), 1); err == nil {
			n = len(m.Theta)
		}
		for _, st := range []State{{Momentum: make([]float32, n-1)}, {Momentum: make([]float32, n), Epoch: 9}, {Momentum: make([]float32, n), Step: 2}, {Momentum: make([]float32, n), Step: 9, Losses: make([]float32, 150)}} {
			if _, err := fit(s, false, Config{Epochs: 3, Batch: 64}, Options{Resume: &st}); err == nil {
				t.Errorf("step %d of epoch %d passes", st.Step, st.Epoch)
			}
		}
		for _, st := range []State{{Dropped: []int32{150}}, {Dropped: []int32{-1}}, {Dropped: []int32{3, 3}}, {Epoch: 1, Step: 1, Losses: make([]float32, 64)}} {
			st.Momentum = make([]float32, n)
			if _, err := fit(s, false, Config{Epochs: 3, Batch: 64, Defense: Defense{Name: "epic"}}, Options{Resume: &st}); err == nil {
				t.Errorf("step %d with %v dropped passes", st.Step, st.Dropped)
			}
		}
		if _, err := fit(s, false, Config{Epochs: 3, Batch: 64}, Options{Resume: &State{Momentum: make([]float32, n), Dropped: []int32{3}}}); err == nil {
			t.Error("a sample that plain training has dropped passes")
		}
		return nil
	})
}

// Every setting reaches the steps.
func TestSettingsMatter(t *testing.T) {
	base := Config{Epochs: 3, Batch: 32, Shift: 1, Seed: 4}
	of := func(change func(*Config)) (theta []float32) {
		on(t, 1, func(s *device.Stream) error {
			cfg := base
			change(&cfg)
			m, err := fit(s, false, cfg, Options{})
			theta = m.Theta
			return err
		})
		return theta
	}
	plain := of(func(*Config) {})
	for name, change := range map[string]func(*Config){
		"steps":    func(c *Config) { c.Schedule, c.Milestones = Steps, []int{2} },
		"cosine":   func(c *Config) { c.Schedule = Cosine },
		"warm-up":  func(c *Config) { c.Warmup = 1 },
		"nesterov": func(c *Config) { c.Nesterov = true },
		"reflect":  func(c *Config) { c.Pad = PadReflect },
		"flip":     func(c *Config) { c.Flip = true },
	} {
		if reflect.DeepEqual(plain, of(change)) {
			t.Errorf("%s changes nothing", name)
		}
	}
	if !reflect.DeepEqual(plain, of(func(c *Config) { c.Schedule, c.Pad = Constant, PadZero })) {
		t.Error("what is said by default gives other bits when it is said")
	}
}

// One step without momentum is θ − lr·(∇ + wd·θ), by central differences of the loss.
func TestFirstStepDescends(t *testing.T) {
	on(t, 1, func(s *device.Stream) error {
		zero := 0.0
		var before, after float64
		cfg := Config{Epochs: 2, Batch: 150, LR: 0.05, Momentum: &zero, WeightDecay: &zero}
		_, err := fit(s, false, cfg, Options{Progress: func(e int, l float64) {
			if e == 1 {
				before = l
			} else {
				after = l
			}
		}})
		if err == nil && !(after < before) {
			t.Errorf("loss %v, then %v", before, after)
		}
		return err
	})
}

func TestBadConfigs(t *testing.T) {
	nan := math.NaN()
	for want, cfg := range map[string]Config{
		"epochs":        {Epochs: -1},
		"batch":         {Batch: -2},
		"learning rate": {LR: nan},
		"momentum":      {Momentum: &nan},
		"weight decay":  {WeightDecay: &nan},
		"shift":         {Shift: -1},

		`unknown schedule "linear" (known: constant, steps, cosine)`: {Schedule: "linear"},
		`unknown padding "edge" (known: zero, reflect)`:              {Shift: 1, Pad: "edge"},
		"no milestones":       {Schedule: Steps},
		"milestones [3 3]":    {Schedule: Steps, Milestones: []int{3, 3}},
		"milestones [0 3]":    {Schedule: Steps, Milestones: []int{0, 3}},
		"within the 20":       {Schedule: Steps, Milestones: []int{5, 20}},
		"multiplied by NaN":   {Schedule: Steps, Milestones: []int{5}, Gamma: nan},
		"21 epochs of warm":   {Warmup: 21},
		"Nesterov's momentum": {Nesterov: true, Momentum: new(0.0)},
	} {
		if err := cfg.Validate(); !usage.Is(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v; want a usage error about %q", cfg, err, want)
		}
	}
}

func TestBadSets(t *testing.T) {
	on(t, 1, func(s *device.Stream) error {
		m, err := nn.New(spec(false), 1)
		if err != nil {
			return err
		}
		bad := blobs(8, 4)
		bad.Labels[3] = 4
		for want, set := range map[string]Set{
			"empty":      {},
			"bytes":      {Images: make([]uint8, 63), Labels: make([]int32, 1)},
			"label 4 of": bad,
		} {
			if err := Run(s, m, set, Config{}, Options{}); !usage.Is(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v; want a usage error with %q", err, want)
			}
		}
		return nil
	})
}

func TestCancelled(t *testing.T) {
	d, err := device.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(context.Background())
	err = d.Do(ctx, 1, func(s *device.Stream) error {
		_, err := fit(s, false, Config{Epochs: 50, Batch: 32}, Options{Progress: func(e int, _ float64) {
			if e == 2 {
				cancel()
			}
		}})
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
