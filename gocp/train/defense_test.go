package train

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/usage"
)

// Each sample's own copies are compared, which lie n apart: not neighbours, and nothing is averaged.
func TestLargest(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		losses []float32
		n      int
		want   []int32
	}{
		{[]float32{1, 5, 2, 4, 3, 3}, 2, []int32{4, 1}},
		{[]float32{1, 5, 2, 4, 3, 3}, 3, []int32{3, 1, 5}},
		{[]float32{2, 2, 2, 2}, 2, []int32{0, 1}},
		{[]float32{2, 9, nan, 3}, 2, []int32{2, 1}},
		{[]float32{nan, 9, 7, nan}, 2, []int32{0, 3}},
		{[]float32{float32(math.Inf(1)), 1, float32(math.Inf(1)), 0}, 2, []int32{0, 1}},
	} {
		if got := largest(c.losses, c.n); !reflect.DeepEqual(got, c.want) {
			t.Errorf("largest(%v, %d) = %v, want %v", c.losses, c.n, got, c.want)
		}
	}
}

// A box is inside of the image, and a mask is one number there and another elsewhere.
func TestBoxes(t *testing.T) {
	for _, c := range []struct {
		got, want box
	}{
		{around(0, 0, 4, 4, 8, 9), box{0, 2, 0, 2}}, {around(7, 8, 4, 4, 8, 9), box{5, 8, 6, 9}},
		{around(4, 4, 3, 2, 8, 9), box{3, 6, 3, 5}}, {around(3, 3, 0, 0, 8, 9), box{3, 3, 3, 3}}, {around(3, 3, 8, 9, 8, 9), box{0, 7, 0, 8}},
	} {
		if c.got != c.want {
			t.Errorf("%+v, want %+v", c.got, c.want)
		}
	}
	v := &varier{trainer: &trainer{spec: nn.Spec{H: 2, W: 3, C: 2}, room: 1}, copies: 1}
	got := v.mask([]variation{{cut: box{1, 2, 1, 3}}}, func(d variation) (box, float32, float32) { return d.cut, 0, 1 })
	if want := []float32{1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("mask %v, want %v", got, want)
	}
}

// Draws differ from copy to copy, from step to step and with the seed; shares of cutmix are those of its boxes.
func TestVariationsAreDrawnEach(t *testing.T) {
	v := &varier{trainer: &trainer{spec: torchSpec(false), cfg: Config{Seed: 3}, room: 8}, copies: 3, cutout: true, cmix: true}
	all := v.draw(1, 2, 8)
	if again := v.draw(1, 2, 8); !reflect.DeepEqual(all, again) {
		t.Error("the same step draws otherwise the second time")
	}
	if reflect.DeepEqual(all[:8], all[8:16]) || reflect.DeepEqual(all, v.draw(1, 3, 8)) || reflect.DeepEqual(all, v.draw(2, 2, 8)) {
		t.Error("draws repeat")
	}
	for i, d := range all {
		area := (d.paste.bottom - d.paste.top) * (d.paste.right - d.paste.left)
		if want := 1 - float64(area)/(16*17); math.Abs(float64(d.own)-want) > 1e-6 || d.partner < 0 || d.partner > 7 {
			t.Errorf("draw %d: %+v, the own share is %v", i, d, want)
		}
	}
}

// A defended training gives the same bits the second time, and after an interruption.
func TestDefendedSameBits(t *testing.T) {
	for _, d := range []Defense{{Name: "maxup", Vary: []string{VaryCrop, VaryNoise, VaryCutmix}}, {Name: "augment", Vary: []string{VaryCutout, VaryMixup}}, {Name: "sam"}, {Name: "adversarial-poisoning", Steps: 2}} {
		t.Run(d.Name, func(t *testing.T) {
			cfg := Config{Epochs: 3, Batch: 32, Seed: 4, Defense: d}
			var whole, resumed *nn.Model
			on(t, 1, func(s *device.Stream) (err error) {
				var state State
				if whole, err = fit(s, true, cfg, Options{}); err != nil {
					return err
				}
				if _, err = fit(s, true, cfg, Options{Checkpoint: func(m *nn.Model, st State) error {
					if st.Epoch == 2 {
						resumed, state = m, st
					}
					return nil
				}}); err != nil {
					return err
				}
				return Run(s, resumed, blobs(150, 4), cfg, Options{Resume: &state})
			})
			if !reflect.DeepEqual(whole.Theta, resumed.Theta) || !reflect.DeepEqual(whole.Running, resumed.Running) {
				t.Error("a resumed run differs")
			}
		})
	}
}

// Defended networks learn.
func TestDefendedLearns(t *testing.T) {
	for _, d := range []Defense{{Name: "maxup", Copies: 2, Vary: []string{VaryNoise}}, {Name: "augment", Vary: []string{VaryCutout}}, {Name: "sam"}} {
		on(t, 1, func(s *device.Stream) error {
			var losses []float64
			_, err := fit(s, false, Config{Epochs: 60, Batch: 32, LR: 0.02, Defense: d}, Options{Progress: func(_ int, l float64) { losses = append(losses, l) }})
			if err == nil && losses[len(losses)-1] > 0.5*losses[0] {
				t.Errorf("%s: losses from %.3f to %.3f", d, losses[0], losses[len(losses)-1])
			}
			return err
		})
	}
}

// What makes no sense is refused with a sentence that says what there is.
func TestDefenseRefuses(t *testing.T) {
	for _, c := range []struct {
		d    Defense
		want string
	}{
		{Defense{Name: "magic"}, `no defence "magic"`}, {Defense{Name: "maxup", Copies: 1}, "at least 2"}, {Defense{Name: "maxup", Copies: 65}, "at most 64"},
		{Defense{Name: "maxup", Vary: []string{}}, "by nothing"}, {Defense{Name: "augment", Vary: []string{"magic"}}, `by "magic"`},
		{Defense{Name: "augment", Vary: []string{VaryCrop, VaryCrop}}, "twice"}, {Defense{Name: "augment", Vary: []string{VaryMixup, VaryCutmix}}, "not by both"},
		{Defense{Name: "dp-sgd", Clip: -1}, "above 0"}, {Defense{Name: "dp-sgd", Noise: math.NaN()}, "finite"}, {Defense{Name: "dp-sgd", Delta: 1}, "below 1"},
		{Defense{Name: "adversarial-poisoning", Steps: -1}, "at least 1"}, {Defense{Name: "adversarial-poisoning", Ball255: -1}, "above 0"},
		{Defense{Name: "epic", Fraction: 1}, "below 1"}, {Defense{Name: "epic", Every: -1}, "at least 1"}, {Defense{Name: "epic", From: -1}, "0 or more"},
		{Defense{Name: "sam", Radius: -1}, "above 0"}, {Defense{Name: "sam", Radius: math.Inf(1)}, "above 0"},
	} {
		if err := (Config{Defense: c.d}).Validate(); err == nil || !usage.Is(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.d, err)
		}
	}
	for _, name := range Defenses() {
		if err := (Config{Defense: Defense{Name: name}}).Validate(); err != nil || DefenseSource(name) == "" {
			t.Errorf("%s: %v, source %q", name, err, DefenseSource(name))
		}
	}
}
