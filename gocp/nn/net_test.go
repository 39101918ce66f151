package nn

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
)

func nan32() float32 { return float32(math.NaN()) }

// A fixture is a network on a stream with inputs, labels and two directions in parameter space.
type fixture struct {
	s       *device.Stream
	net     *Net
	mode    Mode
	theta   tensor.Tensor
	x       tensor.Tensor
	running device.Ptr
	labels  device.Ptr
	n       int
	u, v    []float32
	host    []float32 // parameters

	step          device.Ptr // dropStep
	pixels, stats []float32  // what x and running hold
	classes       []int32    // and labels
}

func newFixture(s *device.Stream, spec Spec, mode Mode, n int, precision kernel.Precision) *fixture {
	m, err := New(spec, 3)
	if err != nil {
		s.Fail(err)
		return nil
	}
	f := &fixture{s: s, mode: mode, n: n, net: NewNet(s, spec, n+2, Options{Dual: true, Persample: true, Precision: precision}), host: m.Theta,
		theta: tensor.NewDual(s, len(m.Theta)), x: tensor.NewDual(s, n, spec.H, spec.W, spec.C), labels: s.Alloc(4 * n)}
	device.Upload(s, f.theta.P, m.Theta)
	x := make([]float32, f.x.Len())
	r := rng.New(5, 0)
	for i := range x {
		x[i] = r.Float32()
	}
	f.pixels = x
	f.step = s.Alloc(8)
	device.Upload(s, f.step, []uint64{dropStep})
	device.Upload(s, f.x.P, x)
	y := make([]int32, n)
	for i := range y {
		y[i] = int32(r.Intn(spec.Classes))
	}
	f.classes = y
	device.Upload(s, f.labels, y)
	f.u, f.v = make([]float32, len(m.Theta)), make([]float32, len(m.Theta))
	rng.FillNormal(11, 1, 1, f.u)
	rng.FillNormal(11, 2, 1, f.v)
	if spec.BatchNorm {
		running := make([]float32, spec.NumBuffers())
		r = rng.New(5, 1)
		for _, b := range spec.Buffers() {
			for i := b.Off; i < b.Off+b.Len; i++ {
				running[i] = 0.2 * (r.Float32() - 0.5) // means that leave ReLUs alive
				if strings.HasSuffix(b.Name, "_var") {
					running[i] = 0.5 + r.Float32()
				}
			}
		}
		f.running = s.Alloc(4 * len(running))
		f.stats = running
		device.Upload(s, f.running, running)
	}
	return f
}

// gradients of one pass: primal or tangent of the parameters' and of the input's gradient.
type gradients struct{ theta, thetaDot, x, xDot, loss, lossDot []float32 }

// run does a whole pass along direction v (nil: in float), after a float pass if replay.
func (f *fixture) run(v []float32, replay bool) (g gradients, err error) {
	s := f.s
	theta, x := f.theta.Primal(), f.x.Primal()
	dtheta, dx := tensor.NewDual(s, theta.Len()), tensor.NewDual(s, x.Shape...)
	defer func() {
		for _, t := range []tensor.Tensor{dtheta, dx} {
			s.Free(t.P)
			s.Free(t.T)
		}
	}()
	pass := f.pass()
	if v == nil || replay {
		f.net.Forward(pass)
		_, dz := f.net.Loss(f.labels)
		f.net.Backward(dz, dtheta, dx)
	}
	if v != nil {
		device.Upload(s, f.theta.T, v)
		pass.Theta.T, pass.Replay = f.theta.T, replay
		f.net.Forward(pass)
		_, dz := f.net.Loss(f.labels)
		f.net.Backward(dz, dtheta, dx)
	}
	get := func(p device.Ptr, n int) []float32 {
		out := make([]float32, n)
		if e := device.Download(s, out, p); e != nil {
			err = e
		}
		return out
	}
	g.theta, g.x, g.loss = get(dtheta.P, theta.Len()), get(dx.P, x.Len()), get(f.net.loss.P, f.n)
	if v != nil {
		g.thetaDot, g.xDot, g.lossDot = get(dtheta.T, theta.Len()), get(dx.T, x.Len()), get(f.net.loss.T, f.n)
	}
	return g, err
}

// pass is in floats.
func (f *fixture) pass() Pass {
	return Pass{Mode: f.mode, Theta: f.theta.Primal(), Running: f.running, X: f.x.Primal(), Draws: Draws{dropSeed, f.step}}
}

// Where the draws of dropout lie.
const (
	dropSeed = 17
	dropStep = 3
)

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// A network is one that every test here goes through: n samples of a Spec.
type network struct {
	name string
	spec Spec
	mode Mode
	n    int
	deep bool // so deep that bfloat16 takes other branches than float64
}

// published is a small one of a published architecture.
func published(arch string, width, side int, stem string) Spec {
	return Spec{Arch: arch, Width: width, Classes: 5, C: 3, H: side, W: side - 1, Stem: stem,
		Mean: []float64{.47, .48, .49}, Std: []float64{.25, .24, .23}}.WithDefaults()
}

func normed(s Spec) Spec {
	s.BatchNorm = true
	return s
}

// networks are the ConvNet's both stems, without batch norm and with it in both modes, and small ones of
// the other architectures.
var networks = func() []network {
	conv := func(bn bool, stem string) Spec {
		s := testSpec()
		s.BatchNorm, s.Stem = bn, stem
		return s
	}
	return []network{
		{"plain, pool", conv(false, StemPool), Eval, 5, false},
		{"plain, stride", conv(false, StemStride), Train, 5, false},
		{"batch norm, eval", conv(true, StemPool), Eval, 5, false},
		{"batch norm, train", conv(true, StemPool), Train, 5, false},
		{"batch norm, stride, train", conv(true, StemStride), Train, 5, false},
		{"toy, eval", toySpec(0), Eval, 4, false},
		{"toy, train", toySpec(0), Train, 4, false},
		{"toy, dropout", toySpec(0.25), Train, 4, false},
		{"resnet18, cifar, eval", published("resnet18", 2, 12, StemCIFAR), Eval, 2, true},
		{"resnet18, imagenet, train", published("resnet18", 2, 40, StemImageNet), Train, 3, true},
		{"vgg11", published("vgg11", 2, 33, StemCIFAR), Eval, 2, true},
		{"vgg11, batch norm, eval", normed(published("vgg11", 2, 33, StemCIFAR)), Eval, 2, true},
		{"vgg11, batch norm, train", normed(published("vgg11", 2, 48, StemCIFAR)), Train, 4, true},
		{"mobilenet_v2, eval", published("mobilenet_v2", 4, 9, StemCIFAR), Eval, 2, true},
	}
}()

func eachFixture(t *testing.T, f func(t *testing.T, x *fixture)) {
	d, err := device.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, c := range networks {
		t.Run(c.name, func(t *testing.T) {
			err := d.Do(context.Background(), 1, func(s *device.Stream) error {
				if x := newFixture(s, c.spec, c.mode, c.n, kernel.F32); x != nil && s.Err() == nil {
					f(t, x)
				}
				return s.Sync()
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// uᵀHv = vᵀHu: 1e-4 relative to ‖u‖‖Hv‖, for H's entries cancel in float32.
func TestHessianIsSymmetric(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		hv, err := f.run(f.v, false)
		if err != nil {
			t.Fatal(err)
		}
		hu, err := f.run(f.u, false)
		if err != nil {
			t.Fatal(err)
		}
		a, b := dot(f.u, hv.thetaDot), dot(f.v, hu.thetaDot)
		if scale := math.Sqrt(dot(f.u, f.u) * dot(hv.thetaDot, hv.thetaDot)); !(math.Abs(a-b) <= 1e-4*scale) || scale == 0 {
			t.Errorf("uᵀHv = %g, vᵀHu = %g", a, b)
		}
	})
}

// A dual pass has the float pass's primals, and a replay has the dual pass's tangents.
func TestReplay(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		float, err := f.run(nil, false)
		if err != nil {
			t.Fatal(err)
		}
		full, err := f.run(f.v, false)
		if err != nil {
			t.Fatal(err)
		}
		replay, err := f.run(f.v, true)
		if err != nil {
			t.Fatal(err)
		}
		for name, pair := range map[string][2][]float32{
			"gradient, dual against float":       {full.theta, float.theta},
			"input gradient, dual against float": {full.x, float.x},
			"loss, dual against float":           {full.loss, float.loss},
			"Hv, replay against dual":            {replay.thetaDot, full.thetaDot},
			"mixed, replay against dual":         {replay.xDot, full.xDot},
			"directional, replay against dual":   {replay.lossDot, full.lossDot},
			"gradient survives a replay":         {replay.theta, float.theta},
			"input gradient survives a replay":   {replay.x, float.x},
		} {
			if e := testkit.Relative(pair[0], pair[1]); !(e <= 2e-6) {
				t.Errorf("%s: relative difference %g", name, e)
			}
		}
	})
}

// What a network keeps changes no bit; what it has not kept is refused.
func TestOptions(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		want, err := f.run(nil, false)
		if err != nil {
			t.Fatal(err)
		}
		whole := f.net
		logits := download(t, f.s, whole.logits())
		for _, o := range []Options{{}, {Persample: true}, {Dual: true}} {
			f.net = NewNet(f.s, whole.spec, f.n+2, o)
			for range 2 {
				got, err := f.run(nil, false)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.theta, want.theta) || !slices.Equal(got.x, want.x) || !slices.Equal(got.loss, want.loss) {
					t.Fatalf("%+v: other bits than with memory for everything", o)
				}
			}
		}
		f.net = NewNet(f.s, whole.spec, f.n+2, Options{Forward: true})
		f.net.Forward(f.pass())
		if !slices.Equal(download(t, f.s, f.net.logits()), logits) {
			t.Fatal("other logits without memory for a backward pass")
		}
	})
	dev := testkit.Open(t)
	for name, use := range map[string]func(s *device.Stream, n *Net, p Pass){
		"a tangent": func(s *device.Stream, n *Net, p Pass) {
			p.Theta.T = p.Theta.P
			n.Forward(p)
		},
		"per-sample gradients": func(s *device.Stream, n *Net, p Pass) {
			n.Forward(p)
			n.Backward(n.dlogits, tensor.Tensor{}, tensor.Tensor{})
			NewPersample(n).SqNorm(n.dlogits, n.loss.P)
		},
		"a backward pass": func(s *device.Stream, n *Net, p Pass) {
			n = NewNet(s, n.spec, 2, Options{Forward: true})
			n.Forward(p)
			n.Backward(n.dlogits, tensor.Tensor{}, tensor.Tensor{})
		},
	} {
		err := dev.Do(context.Background(), 1, func(s *device.Stream) error {
			spec := testSpec()
			spec.BatchNorm = false
			use(s, NewNet(s, spec, 2, Options{}), Pass{Theta: tensor.New(s, spec.NumParams()), X: tensor.New(s, 2, spec.H, spec.W, spec.C)})
			return s.Err()
		})
		if err == nil || !strings.Contains(err.Error(), "Options.") {
			t.Errorf("%s without the option for it: %v", name, err)
		}
	}
}

func download(t *testing.T, s *device.Stream, x tensor.Tensor) []float32 {
	t.Helper()
	out := make([]float32, x.Len())
	if err := device.Download(s, out, x.P); err != nil {
		t.Fatal(err)
	}
	return out
}

// The directional derivatives of all samples' losses sum to ⟨v, ∇Σl⟩.
func TestDirectionalSumsToGradient(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		g, err := f.run(f.v, false)
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, l := range g.lossDot {
			sum += float64(l)
		}
		want := dot(f.v, g.theta)
		if math.Abs(sum-want) > 1e-4*math.Max(1, math.Abs(want)) {
			t.Errorf("Σ⟨v,∇lᵢ⟩ = %g, ⟨v,∇Σl⟩ = %g", sum, want)
		}
	})
}

func TestBatchTooLarge(t *testing.T) {
	d, err := device.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	err = d.Do(context.Background(), 1, func(s *device.Stream) error {
		spec := testSpec()
		net := NewNet(s, spec, 2, Options{Precision: kernel.F32})
		net.Forward(Pass{Theta: tensor.New(s, spec.NumParams()), Running: 1, X: tensor.New(s, 3, 9, 8, 3)})
		return s.Sync()
	})
	if err == nil {
		t.Error("three samples went into a network with room for two")
	}
}

// The gradients of single samples sum to the batch's, and their squared norms are those that are found
// without forming them.
func TestPersample(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		if f.mode == Train && (f.net.spec.BatchNorm || f.net.spec.Dropout > 0) {
			return
		}
		s, size := f.s, len(f.host)
		want, err := f.run(nil, false)
		if err != nil {
			t.Fatal(err)
		}
		f.net.Forward(f.pass())
		_, dlogits := f.net.Loss(f.labels)
		f.net.Backward(dlogits, tensor.Tensor{}, tensor.Tensor{})
		each, rows, squares := NewPersample(f.net), tensor.New(s, f.n, size), tensor.New(s, f.n)
		each.Grad(dlogits, rows.P)
		each.SqNorm(dlogits, squares.P)
		sum, norms := make([]float32, size), make([]float32, f.n)
		for i, v := range download(t, s, rows) {
			sum[i%size] += v
			norms[i/size] += v * v
		}
		if e := testkit.Relative(sum, want.theta); !(e <= 1e-5) {
			t.Errorf("sum of the samples' gradients: relative difference %g from the batch's", e)
		}
		if e := testkit.Relative(download(t, s, squares), norms); !(e <= 1e-5) {
			t.Errorf("squared norms: relative difference %g from the gradients'", e)
		}
	})
}

// Per-sample gradients in training mode are refused where samples have no gradient of their own.
func TestPersampleRefusals(t *testing.T) {
	dev := testkit.Open(t)
	for want, spec := range map[string]Spec{"batch norm": testSpec(), "dropout": func() Spec {
		s := published("vgg11", 1, 33, StemCIFAR)
		s.Head, s.Dropout = HeadMLP, 0.5
		return s
	}()} {
		err := dev.Do(context.Background(), 1, func(s *device.Stream) error {
			f := newFixture(s, spec, Train, 2, kernel.F32)
			f.net.Forward(f.pass())
			_, dlogits := f.net.Loss(f.labels)
			f.net.Backward(dlogits, tensor.Tensor{}, tensor.Tensor{})
			NewPersample(f.net).SqNorm(dlogits, f.net.loss.P)
			return s.Err()
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s in training mode: %v", want, err)
		}
	}
}

// Buffers that are in use at once have no byte in common.
func TestPlan(t *testing.T) {
	dev := testkit.Open(t)
	for _, c := range networks {
		for _, o := range []Options{{}, {Dual: true}, {Persample: true}, {Forward: true}} {
			err := dev.Do(context.Background(), 1, func(s *device.Stream) error {
				n := NewNet(s, c.spec, 3, o)
				p := n.memory() // once more: the same plan
				shared := 0
				for i, a := range p.buffers {
					for _, b := range p.buffers[:i] {
						if a.offset < b.offset+b.bytes && b.offset < a.offset+a.bytes {
							if shared++; p.meet(a, b) {
								t.Errorf("%s %+v: buffers of moments %d–%d and %d–%d overlap", c.name, o, a.from, a.to, b.from, b.to)
							}
						}
					}
				}
				if shared == 0 && !o.Persample { // which keeps all that batch norm is given
					t.Errorf("%s %+v: nothing is shared", c.name, o)
				}
				return s.Err()
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
