package attack

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// One round turns the labels of the greatest gains, which are found here from gradients of backward passes.
func TestLabelsOfTheGreatestGain(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		p := task(t, false)
		p.Room = []int{3, 2, 0, 9}
		v, err := NewSolver(s, p, Config{Poison: PoisonLabels})
		if err != nil {
			return err
		}
		best, label := make([]float64, p.Pool.Len()), make([]int32, p.Pool.Len())
		for i := range best {
			gains := make([]float64, 4)
			for _, f := range v.fields {
				wish := make([]float32, f.grad.Len())
				if err := device.Download(s, wish, f.grad.P); err != nil {
					return err
				}
				clean, err := v.gradientOf(f, p.Pool.At(i), p.Pool.Labels[i])
				if err != nil {
					return err
				}
				for y := range gains {
					g, err := v.gradientOf(f, p.Pool.At(i), int32(y))
					if err != nil {
						return err
					}
					gains[y] += (dot64(wish, g) - dot64(wish, clean)) / math.Sqrt(dot64(wish, wish))
				}
			}
			label[i] = int32(slices.Index(gains, slices.Max(gains)))
			best[i] = slices.Max(gains)
		}
		var want []int
		left := slices.Clone(p.Room)
		for len(want) < p.Count {
			next := -1
			for i := range best {
				if left[p.Pool.Labels[i]] > 0 && !slices.Contains(want, i) && (next < 0 || best[i] > best[next]) {
					next = i
				}
			}
			left[p.Pool.Labels[next]]--
			want = append(want, next)
		}
		slices.Sort(want)
		got, err := v.Poisons(nil)
		if err != nil {
			return err
		}
		if !slices.Equal(got.Bases, want) {
			t.Errorf("turned %v, the greatest gains have %v", got.Bases, want)
		}
		for j, i := range got.Bases {
			if got.Turned[j] != label[i] {
				t.Errorf("image %d has the label %d, the greatest gain has %d", i, got.Turned[j], label[i])
			}
		}
		if !slices.Equal(got.After, got.Before.Pixels) || got.Epsilon255 != 0 || got.Method != MethodLabels {
			t.Errorf("%s, ball %v", got.Method, got.Epsilon255)
		}
		if r := got.Report.Rounds; len(r) != 1 || r[0].Turned != p.Count || r[0].Least <= 0 || r[0].Most < r[0].Least || !(got.Report.Phi > 0) {
			t.Errorf("%+v, Φ = %v", r, got.Report.Phi)
		}
		clean, err := v.Step(got.Before, 1e-3)
		if err != nil {
			return err
		}
		turned, err := v.Step(got.Images(), 1e-3)
		if err != nil {
			return err
		}
		if turned.L3 >= clean.L3 {
			t.Errorf("ℓ3 after a step is %v with turned labels, %v with their own", turned.L3, clean.L3)
		}
		return nil
	})
}

// Near the targets only the nearest images are turned, as many of each class as there is room for.
func TestLabelsOfTheNearest(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		p := task(t, false)
		p.Room = []int{3, 2, 0, 9}
		v, err := NewSolver(s, p, Config{Poison: PoisonLabels, Bases: BasesNearest})
		if err != nil {
			return err
		}
		all := make([]int, p.Pool.Len())
		for i := range all {
			all[i] = i
		}
		d, err := v.distances(all)
		if err != nil {
			return err
		}
		got, err := v.Poisons(nil)
		if err != nil {
			return err
		}
		for i := range all { // whoever is left out lies farther than all of its class that are turned, or than all
			full := 0
			for _, b := range got.Bases {
				if p.Pool.Labels[b] == p.Pool.Labels[i] {
					full++
				}
			}
			for _, b := range got.Bases {
				if slices.Contains(got.Bases, i) || full == p.Room[p.Pool.Labels[i]] && p.Pool.Labels[b] != p.Pool.Labels[i] {
					continue
				}
				if d[i] < d[b] && len(got.Bases) == p.Count {
					t.Errorf("image %d at %v is not turned, %d at %v is", i, d[i], b, d[b])
				}
			}
		}
		if len(got.Bases) == 0 {
			t.Error("none is turned")
		}
		return nil
	})
}

func TestRounds(t *testing.T) {
	turned := func(cfg Config, lr float64) (p *Poisons) {
		onDevice(t, func(s *device.Stream) error {
			problem := task(t, false)
			for i := range problem.Surrogates {
				problem.Surrogates[i].Train = train.Config{Batch: 8, LR: lr}
			}
			v, err := NewSolver(s, problem, cfg)
			if err != nil {
				return err
			}
			steps := 0
			if p, err = v.Poisons(func() { steps++ }); err != nil {
				return err
			}
			if want := v.cfg.Work(); steps != want {
				t.Errorf("%d steps, %d were told", steps, want)
			}
			return nil
		})
		return p
	}
	one := turned(Config{Poison: PoisonLabels}, .05)
	still := turned(Config{Poison: PoisonLabels, Rounds: 3}, 1e-12)
	if !slices.Equal(one.Bases, still.Bases) || !slices.Equal(one.Turned, still.Turned) {
		t.Errorf("surrogates that hardly move: %v as %v, in one round %v as %v", still.Bases, still.Turned, one.Bases, one.Turned)
	}
	three := turned(Config{Poison: PoisonLabels, Rounds: 3}, .05)
	n := 0
	for _, r := range three.Report.Rounds {
		n += r.Turned
	}
	if n != len(three.Bases) || len(three.Report.Rounds) != 3 || three.Report.Rounds[1].L2 == three.Report.Rounds[0].L2 {
		t.Errorf("%+v for %v", three.Report.Rounds, three.Bases)
	}
	again := turned(Config{Poison: PoisonLabels, Rounds: 3}, .05)
	if again.Hash() != three.Hash() || three.Hash() == one.Hash() {
		t.Errorf("three rounds give %s, then %s, one %s", three.Hash(), again.Hash(), one.Hash())
	}
	both := turned(Config{Poison: PoisonBoth, Steps: 4}, .05)
	if !slices.Equal(both.Bases, one.Bases) || !slices.Equal(both.Turned, one.Turned) || slices.Equal(both.After, both.Before.Pixels) {
		t.Errorf("both: %v as %v, labels alone %v as %v", both.Bases, both.Turned, one.Bases, one.Turned)
	}
	if largest, _ := both.Spread(); largest > 16 || !(both.Report.Phi > one.Report.Phi) {
		t.Errorf("both: δ of %d/255, Φ = %v; labels alone have %v", largest, both.Report.Phi, one.Report.Phi)
	}
}

func TestTurnedLabelsInABundle(t *testing.T) {
	images := randomImages(6, 5, 4, 3, 4, 9)
	p, err := RandLabel(images, []int{9, 4, 2, 7, 1, 0}, 4, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "bundle")
	if _, err := WriteBundle(dir, &Bundle{Poisons: p, Dataset: "d"}); err != nil {
		t.Fatal(err)
	}
	b, err := ReadBundle(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.Turned, p.Turned) || !slices.Equal(b.Before.Labels, images.Labels) || b.Hash() != p.Hash() || !slices.Equal(b.Images().Labels, p.Turned) {
		t.Errorf("read %v of %v, written %v of %v", b.Turned, b.Before.Labels, p.Turned, images.Labels)
	}
	file := filepath.Join(dir, ManifestFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		`"schema": 2`: `"schema": 1`, `"turned_label"`: `"turned"`, `"turned_label": ` + string(rune('0'+p.Turned[0])): `"turned_label": ` + string(rune('0'+images.Labels[0])),
	} {
		if !strings.Contains(string(text), from) {
			t.Fatalf("the manifest has no %s", from)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), from, to, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadBundle(dir); !usage.Is(err) {
			t.Errorf("%s in the place of %s: %v", to, from, err)
		}
	}
}

func TestRandLabel(t *testing.T) {
	images := randomImages(3000, 1, 1, 1, 4, 5)
	p, err := RandLabel(images, make([]int, 3000), 4, 0, 8)
	if err != nil {
		t.Fatal(err)
	}
	var counts [4][4]int
	for i, y := range p.Turned {
		counts[images.Labels[i]][y]++
	}
	for from := range counts {
		all := 0
		for _, n := range counts[from] {
			all += n
		}
		for to, n := range counts[from] {
			// Binomial of all and 1/3, within five deviations.
			if want := float64(all) / 3; from == to && n != 0 || from != to && math.Abs(float64(n)-want) > 5*math.Sqrt(want*2/3) {
				t.Errorf("%d of %d labels %d became %d", n, all, from, to)
			}
		}
	}
	if noisy, err := RandLabel(images, make([]int, 3000), 4, 16, 8); err != nil || !slices.Equal(noisy.Turned, p.Turned) || slices.Equal(noisy.After, p.After) {
		t.Errorf("with a ball: %v", err)
	}
	if _, err := RandLabel(images, make([]int, 3000), 1, 0, 8); !usage.Is(err) {
		t.Errorf("one class: %v", err)
	}
}

func TestConfigOfLabels(t *testing.T) {
	for text, c := range map[string]Config{
		"epsilon does nothing here":               {Poison: PoisonLabels, Epsilon255: 8},
		"align does nothing here":                 {Poison: PoisonLabels, Align: AlignSum},
		"steps does nothing here":                 {Poison: PoisonLabels, Steps: 3},
		"start does nothing here":                 {Poison: PoisonLabels, Start: StartNormal},
		"choice of bases other than nearest does": {Poison: PoisonBoth, Bases: BasesRandom},
		"with poison labels images":               {Poison: PoisonLabels, Diverse: true},
		"rounds do nothing here":                  {Rounds: 2},
		"-1 rounds":                               {Poison: PoisonLabels, Rounds: -1},
		"say once and not exact":                  {Poison: PoisonLabels, Order: 2, Second: SecondOrder{Mode: SecondExact}},
		"(known: images, labels, both)":           {Poison: "x"},
		"unknown alignment":                       {Poison: PoisonBoth, Align: "x"},
		"unknown choice of bases \"farthest\"":    {Bases: "farthest"},
	} {
		if err := c.WithDefaults().Validate(); !usage.Is(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, c := range []Config{{Poison: PoisonLabels, Rounds: 2, Order: 2}, {Poison: PoisonBoth, Epsilon255: 8}, {}} {
		c = c.WithDefaults()
		if err := c.Validate(); err != nil || c != c.WithDefaults() {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
