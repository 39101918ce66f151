package train

import (
	"flag"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/safetensors"
)

var update = flag.Bool("update", false, "write testdata/defences*: the models, and what is drawn for each step")

// A torchCase is a short training that bench/vectors_defences_torch.py does too, from the papers' equations in float64, with the same draws:
// three epochs of one step.
type torchCase struct {
	name string
	bn   bool
	cfg  Config
}

const torchSteps = 3

func torchCases() []torchCase {
	of := func(d Defense) Config {
		return Config{Epochs: torchSteps, Batch: 12, LR: 0.05, Seed: 11, Defense: d}
	}
	shifted := of(Defense{Name: "sam", Radius: 0.2})
	shifted.Shift, shifted.Flip = 1, true
	private := of(Defense{Name: "dp-sgd", Clip: 1.3, Noise: 0.3})
	private.Batch = 8
	return []torchCase{
		{"maxup", false, of(Defense{Name: "maxup", Copies: 3})},
		{"maxup-bn", true, of(Defense{Name: "maxup", Copies: 2})},
		{"maxup-mixup", false, of(Defense{Name: "maxup", Vary: []string{VaryNoise, VaryMixup}})},
		{"cutmix", true, of(Defense{Name: "augment"})},
		{"mixup", false, of(Defense{Name: "augment", Vary: []string{VaryFlip, VaryCutout, VaryMixup}})},
		{"sam", false, shifted},
		{"sam-bn", true, of(Defense{Name: "sam"})},
		{"poisoning", false, of(Defense{Name: "adversarial-poisoning"})},
		{"poisoning-bn", true, of(Defense{Name: "adversarial-poisoning", Ball255: 8, Steps: 2})},
		{"epic", false, of(Defense{Name: "epic", Fraction: 0.4, From: 1})},
		{"private", false, private},
	}
}

func torchSpec(bn bool) nn.Spec {
	return nn.Spec{Arch: "convnet", Width: 4, Classes: 4, C: 3, H: 16, W: 17, BatchNorm: bn, Stem: nn.StemStride, Mean: []float64{.47, .48, .45}, Std: []float64{.25, .26, .24}}
}

func torchModel(bn bool) string {
	if bn {
		return "testdata/defences-bn.model.safetensors"
	}
	return "testdata/defences.model.safetensors"
}

// torchSet is images of noise: no two windows of one are equal, so that no maximum is a tie.
func torchSet(n int) Set {
	spec := torchSpec(false)
	set := Set{Images: make([]uint8, n*spec.H*spec.W*spec.C), Labels: make([]int32, n)}
	r := rng.New(5, 0)
	for i := range set.Images {
		set.Images[i] = uint8(r.Intn(256))
	}
	for i := range set.Labels {
		set.Labels[i] = int32(r.Intn(spec.Classes))
	}
	return set
}

// draws are what c draws, step by step, by the rules of this package and package rng alone.
func (c torchCase) draws() []safetensors.Tensor {
	spec, cfg := torchSpec(c.bn), c.cfg.WithDefaults()
	n := cfg.Batch
	t := &trainer{cfg: cfg, spec: spec, n: n, room: n}
	v := &varier{trainer: t, copies: max(1, cfg.Defense.Copies), crop: cfg.Shift, flip: cfg.Flip}
	for _, k := range cfg.Defense.Vary {
		switch k {
		case VaryCrop:
			v.crop = max(v.crop, spec.H/8)
		case VaryFlip:
			v.flip = true
		case VaryNoise:
			v.noise = true
		case VaryCutout:
			v.cutout = true
		case VaryMixup:
			v.mixup = true
		case VaryCutmix:
			v.cmix = true
		}
	}
	var batch, aug, cut, partner, paste []int32
	var own, noise []float32
	for e := range torchSteps {
		batch = append(batch, t.shuffled(e, t.all())[0]...)
		for i := range v.copies * n {
			words, draw := rng.Block(cfg.Seed, 0x6175676d, t.number(e, 0)<<32|uint64(i)), [3]int32{}
			for j := range 2 {
				draw[j] = int32(uint64(words[j])*uint64(2*v.crop+1)>>32) - int32(v.crop)
			}
			if v.flip {
				draw[2] = int32(words[2] >> 31)
			}
			aug = append(aug, draw[:]...)
		}
		for _, d := range v.draw(e, 0, n) {
			flat := func(b box) []int32 { return []int32{int32(b.top), int32(b.bottom), int32(b.left), int32(b.right)} }
			cut, paste = append(cut, flat(d.cut)...), append(paste, flat(d.paste)...)
			partner, own = append(partner, int32(d.partner)), append(own, d.own)
		}
		if v.noise {
			step := make([]float32, v.copies*n*t.pixels())
			rng.FillNormal(cfg.Seed, rng.Stream("vary noise", uint64(e), 0), varyNoise, step)
			noise = append(noise, step...)
		}
	}
	switch cfg.Defense.Name {
	case "dp-sgd":
		return c.privateDraws(t)
	case "epic":
		return c.epicDraws(t)
	case "adversarial-poisoning":
		half, radius := n/2, float32(cfg.Defense.Ball255/255)
		for e := range torchSteps {
			start := make([]float32, half*t.pixels())
			rng.FillNormal(cfg.Seed, rng.Stream("poisoning", uint64(e), 0), radius, start)
			for _, x := range start {
				noise = append(noise, min(max(x, -radius), radius))
			}
		}
		return []safetensors.Tensor{safetensors.FromInt32(c.name+".batch", batch, torchSteps, n), safetensors.FromInt32(c.name+".aug", aug, torchSteps, 1, n, 3),
			safetensors.FromFloat32(c.name+".start", noise, torchSteps, half, spec.H, spec.W, spec.C)}
	}
	m := v.copies
	out := []safetensors.Tensor{safetensors.FromInt32(c.name+".batch", batch, torchSteps, n), safetensors.FromInt32(c.name+".aug", aug, torchSteps, m, n, 3)}
	if v.cutout {
		out = append(out, safetensors.FromInt32(c.name+".cut", cut, torchSteps, m, n, 4))
	}
	if v.mixes() {
		out = append(out, safetensors.FromInt32(c.name+".partner", partner, torchSteps, m, n), safetensors.FromFloat32(c.name+".own", own, torchSteps, m, n),
			safetensors.FromInt32(c.name+".paste", paste, torchSteps, m, n, 4))
	}
	if v.noise {
		out = append(out, safetensors.FromFloat32(c.name+".noise", noise, torchSteps, m, n, spec.H, spec.W, spec.C))
	}
	return out
}

// privateDraws are which samples are in each batch, and the noise of each parameter.
func (c torchCase) privateDraws(t *trainer) []safetensors.Tensor {
	p, spec := &dpsgd{plain: plain{t}}, t.spec
	t.n, t.room = 12, 12
	var in []uint8
	noise := map[string][]float32{}
	steps := 0
	for e := range torchSteps {
		batches, err := p.batches(e)
		if err != nil {
			panic(err)
		}
		for k, batch := range batches {
			steps++
			marks := make([]uint8, t.n)
			for _, i := range batch {
				marks[i] = 1
			}
			in = append(in, marks...)
			flat := make([]float32, spec.NumParams())
			rng.FillNormal(t.cfg.Seed, rng.Stream("privacy", uint64(e), uint64(k)), float32(t.cfg.Defense.Noise*t.cfg.Defense.Clip), flat)
			for _, q := range spec.Params() {
				noise[q.Name] = append(noise[q.Name], q.ToTorch(flat)...)
			}
		}
	}
	out := []safetensors.Tensor{safetensors.FromUint8(c.name+".in", in, steps, t.n)}
	for _, q := range spec.Params() {
		out = append(out, safetensors.FromFloat32(c.name+".noise."+q.Name, noise[q.Name], append([]int{steps}, q.Torch...)...))
	}
	return out
}

// epicDraws are the orders of any number of samples that are left.
func (c torchCase) epicDraws(t *trainer) []safetensors.Tensor {
	var out []safetensors.Tensor
	for left := 1; left <= t.n; left++ {
		var order []int32
		for e := range torchSteps {
			for _, batch := range t.shuffled(e, t.all()[:left]) {
				order = append(order, batch...)
			}
		}
		out = append(out, safetensors.FromInt32(fmt.Sprintf("%s.order.%d", c.name, left), order, torchSteps, left))
	}
	return out
}

// TestAgainstTorch holds one and three steps under each defence against PyTorch in float64.
func TestAgainstTorch(t *testing.T) {
	const inputs, answers = "testdata/defences.in.safetensors", "testdata/defences.safetensors"
	set, spec := torchSet(12), torchSpec(false)
	in := &safetensors.File{Meta: map[string]string{"generator": "go test ./gocp/train -run TestAgainstTorch -update"}, Tensors: []safetensors.Tensor{
		safetensors.FromUint8("images", set.Images, 12, spec.H, spec.W, spec.C), safetensors.FromInt32("labels", set.Labels, 12)}}
	for _, c := range torchCases() {
		in.Tensors = append(in.Tensors, c.draws()...)
	}
	if *update {
		for _, bn := range []bool{false, true} {
			m, err := nn.New(torchSpec(bn), 3)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Save(torchModel(bn)); err != nil {
				t.Fatal(err)
			}
		}
		if err := in.Save(inputs); err != nil {
			t.Fatal(err)
		}
		t.Skip("now python bench/vectors_defences_torch.py")
	}
	committed, err := safetensors.Load(inputs)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range in.Tensors {
		if old := committed.Get(x.Name); old == nil || !reflect.DeepEqual(old.Data, x.Data) {
			t.Errorf("%s: %s is drawn otherwise than it was", inputs, x.Name)
		}
	}
	want, err := safetensors.Load(answers)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range torchCases() {
		t.Run(c.name, func(t *testing.T) {
			m, err := nn.Load(filepath.FromSlash(torchModel(c.bn)))
			if err != nil {
				t.Fatal(err)
			}
			start := m.Clone()
			on(t, 1, func(s *device.Stream) error {
				return Run(s, m, set, c.cfg, Options{Checkpoint: func(at *nn.Model, st State) error {
					if st.Epoch == 1 || st.Epoch == torchSteps {
						c.compare(t, want, start, at, st.Epoch)
					}
					return nil
				}})
			})
		})
	}
}

// compare holds how far the parameters and the running statistics have moved from the start against the answers.
func (c torchCase) compare(t *testing.T, want *safetensors.File, start, m *nn.Model, step int) {
	t.Helper()
	check := func(p nn.Param, from, to []float32) {
		x := want.Get(c.name + map[int]string{1: ".1.", torchSteps: ".3."}[step] + p.Name)
		if x == nil {
			t.Fatalf("no answer for %s after step %d", p.Name, step)
		}
		w, err := x.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		a, b := p.ToTorch(from), p.ToTorch(to)
		var diff, norm float64
		for i := range w {
			d := float64(b[i]) - float64(a[i])
			diff, norm = diff+(d-float64(w[i]))*(d-float64(w[i])), norm+float64(w[i])*float64(w[i])
		}
		if !(math.Sqrt(diff) <= 1e-4*math.Sqrt(norm)+1e-7) {
			t.Errorf("%s after step %d: moved by another way than PyTorch's: %.2g of it", p.Name, step, math.Sqrt(diff/norm))
		}
	}
	for _, p := range m.Params() {
		check(p, start.Theta, m.Theta)
	}
	for _, p := range m.Buffers() {
		check(p, start.Running, m.Running)
	}
}
