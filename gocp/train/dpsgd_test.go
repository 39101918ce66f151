package train

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/usage"
)

// clippedSum is the sum of the clipped gradients of the first step on a set.
func clippedSum(t *testing.T, set Set, clip float64) []float64 {
	t.Helper()
	n := len(set.Labels)
	zero := 0.0
	cfg := Config{Epochs: 1, Batch: n, LR: 1, Momentum: &zero, WeightDecay: &zero, Defense: Defense{Name: "dp-sgd", Clip: clip, Noise: -1}}
	var moved []float64
	on(t, 1, func(s *device.Stream) error {
		m, err := nn.New(spec(false), 1)
		if err != nil {
			return err
		}
		before := m.Clone()
		err = Run(s, m, set, cfg, Options{})
		for i, v := range m.Theta {
			moved = append(moved, (float64(before.Theta[i])-float64(v))*float64(n))
		}
		return err
	})
	return moved
}

func norm(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

// One sample more or less, or another one, moves the clipped sum by C or 2C at most, whatever the sample.
func TestSensitivity(t *testing.T) {
	const clip = 0.01 // far below every norm
	set := blobs(20, 4)
	sum := clippedSum(t, set, clip)
	if got := norm(sum); !(got > 0 && got <= 20*clip*(1+1e-4)) {
		t.Errorf("the sum of 20 gradients of norm %g has norm %g", clip, got)
	}
	for _, change := range []func(Set){
		func(s Set) { s.Labels[7] = (s.Labels[7] + 1) % 4 },
		func(s Set) { clear(s.Images[7*64 : 8*64]) },
		func(s Set) {
			for i := range 64 {
				s.Images[7*64+i] = 255
			}
			s.Labels[7] = 3
		},
	} {
		other := blobs(20, 4)
		change(other)
		diff := clippedSum(t, other, clip)
		for i := range diff {
			diff[i] -= sum[i]
		}
		if got := norm(diff); !(got > 0 && got <= 2*clip*(1+1e-3)) {
			t.Errorf("another sample moves the sum by %g, the bound is %g", got, 2*clip)
		}
	}
}

// Batches are drawn, of the expected size in the mean; noise is of its deviation; the same seed gives the same bits, and
// so does a run that was interrupted.
func TestPrivateTraining(t *testing.T) {
	cfg := Config{Epochs: 4, Batch: 32, Seed: 4, Defense: Defense{Name: "dp-sgd"}}
	p := &dpsgd{plain: plain{&trainer{cfg: cfg.WithDefaults(), n: 150, room: privateRoom(32, 150)}}}
	total, sizes := 0, map[int]bool{}
	for e := range 40 {
		batches, err := p.batches(e)
		if err != nil || len(batches) != 5 {
			t.Fatalf("%d batches, %v", len(batches), err)
		}
		for _, b := range batches {
			total += len(b)
			sizes[len(b)] = true
		}
	}
	if mean := float64(total) / 200; math.Abs(mean-32) > 5*math.Sqrt(32/200.) || len(sizes) < 5 {
		t.Errorf("batches of %v samples in the mean, of %d sizes", mean, len(sizes))
	}
	var whole, resumed *nn.Model
	on(t, 1, func(s *device.Stream) (err error) {
		var state State
		if whole, err = fit(s, false, cfg, Options{Checkpoint: func(m *nn.Model, st State) error {
			if st.Epoch == 2 {
				resumed, state = m, st
			}
			return nil
		}}); err != nil {
			return err
		}
		return Run(s, resumed, blobs(150, 4), cfg, Options{Resume: &state})
	})
	if !reflect.DeepEqual(whole.Theta, resumed.Theta) {
		t.Error("a resumed run differs")
	}
	// Of a batch of nobody there is the noise alone.
	zero := 0.0
	lone := Config{Epochs: 1, Batch: 1, LR: 1, Momentum: &zero, WeightDecay: &zero, Defense: Defense{Name: "dp-sgd", Clip: 1e-6, Noise: 1e6}}
	on(t, 1, func(s *device.Stream) error {
		m, err := nn.New(spec(false), 1)
		if err != nil {
			return err
		}
		before := m.Clone()
		err = Run(s, m, blobs(2, 4), lone, Options{})
		var moved []float64
		for i, v := range m.Theta {
			moved = append(moved, float64(v)-float64(before.Theta[i]))
		}
		if got, want := norm(moved), math.Sqrt(2*float64(len(moved))); math.Abs(got/want-1) > 0.1 {
			t.Errorf("two steps of noise of deviation 1 on %d parameters moved them by %g, want about %g", len(moved), got, want)
		}
		return err
	})
}

// Networks whose samples mix, or whose norms are not found, are refused; ε is told, infinite without noise.
func TestPrivacyRefusesAndTells(t *testing.T) {
	c := Config{Defense: Defense{Name: "dp-sgd"}}
	if err := c.Fits(spec(true)); err == nil || !usage.Is(err) || !strings.Contains(err.Error(), "batch norm") {
		t.Error(err)
	}
	vgg := nn.Spec{Arch: "vgg11", Head: "mlp", Dropout: 0.5}
	if err := c.Fits(vgg); err == nil || !usage.Is(err) || !strings.Contains(err.Error(), "dropout") {
		t.Error(err)
	}
	if err := c.Fits(spec(false)); err != nil {
		t.Error(err)
	}
	on(t, 1, func(s *device.Stream) error {
		if _, err := fit(s, true, c, Options{}); err == nil || !usage.Is(err) {
			t.Errorf("trained with batch norm: %v", err)
		}
		return nil
	})
	// 10 epochs of 100 steps at rate 0.01: Opacus's accountant says 2.1013652716.
	c.Epochs, c.Batch = 10, 10
	if e, delta, err := c.Privacy(1000); err != nil || math.Abs(e-2.1013652716) > 1e-6 || delta != 1e-5 {
		t.Errorf("ε = %v at %v, %v", e, delta, err)
	}
	c.Defense.Noise = -1
	if e, _, err := c.Privacy(1000); err != nil || !math.IsInf(e, 1) {
		t.Errorf("without noise ε = %v, %v", e, err)
	}
}

// The fake label is the most frequent one, the smallest of equal ones.
func TestMode(t *testing.T) {
	labels := []int32{3, 1, 1, 3, 2, 0}
	for _, c := range []struct {
		samples []int32
		want    int32
	}{{[]int32{0, 1, 2}, 1}, {[]int32{0, 1, 2, 3}, 1}, {[]int32{0, 3, 4}, 3}, {[]int32{4, 5}, 0}, {[]int32{4}, 2}} {
		if got := mode(labels, c.samples); got != c.want {
			t.Errorf("mode of %v is %d, want %d", c.samples, got, c.want)
		}
	}
}
