package bench

import (
	"math"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/train"
)

// seed of everything that is drawn here.
const seed = 1

// A job is what a pass is run on.
type job struct {
	spec      nn.Spec
	batch     int
	precision kernel.Precision
}

// A pass is one of Passes: its steps, the convolutions in a step, and a check that returns the
// relative difference of two ways to the same number.
type pass struct {
	run      func(*device.Stream, job, func(int)) error
	products func([]kernel.Conv) []product
	check    func(*device.Stream, job) (float64, error)
}

var passes = map[string]pass{
	"craft": {craft, craftProducts, checkCraft},
	"hvp":   {hvp, hvpProducts, checkHVP},
	"ggn":   {ggn, ggnProducts, checkGGN},
	"train": {trainSteps, trainProducts, checkTrain},
	"norms": {norms, normProducts, checkNorms},
}

// images draws n random 8-bit images and labels of k classes.
func images(spec nn.Spec, n, k int) attack.Images {
	r := rng.New(seed, rng.Stream("bench images", uint64(n)))
	m := attack.Images{H: spec.H, W: spec.W, C: spec.C, Pixels: make([]uint8, n*spec.H*spec.W*spec.C), Labels: make([]int32, n)}
	for i := range m.Pixels {
		m.Pixels[i] = uint8(r.Intn(256))
	}
	for i := range m.Labels {
		m.Labels[i] = int32(r.Intn(k))
	}
	return m
}

// craft runs the crafting loop of gocp/attack: one surrogate, a batch of poisons.
func craft(s *device.Stream, j job, tick func(int)) error {
	m, err := nn.New(j.spec, seed)
	if err != nil {
		return err
	}
	pool := images(j.spec, j.batch, 1)
	p := &attack.Problem{
		Surrogates: []attack.Surrogate{{Name: "bench", Model: m, Calibration: images(j.spec, 30, j.spec.Classes)}},
		Score:      conformal.Variant{Name: "hps"},
		Level:      conformal.MustLevel("0.1"),
		Targets:    []attack.Target{{Image: images(j.spec, 1, 1).Pixels, Aim: attack.Aim{Remove: []int{1}, Keep: -1, Inside: -1}}},
		Pool:       pool, Classes: []int{0}, Count: j.batch, Precision: j.precision, Seed: seed,
	}
	v, err := attack.NewSolver(s, p, attack.Config{Steps: math.MaxInt32, Margin: 1})
	if err != nil {
		return err
	}
	bases := make([]int, j.batch)
	for i := range bases {
		bases[i] = i
	}
	_, err = v.Craft(bases, func() { tick(1) })
	return err
}

// trainSteps runs the training loop of gocp/train.
func trainSteps(s *device.Stream, j job, tick func(int)) error {
	const steps = 4 // an epoch
	m, err := nn.New(j.spec, seed)
	if err != nil {
		return err
	}
	set := images(j.spec, steps*j.batch, j.spec.Classes)
	return train.Run(s, m, train.Set{Images: set.Pixels, Labels: set.Labels},
		train.Config{Epochs: math.MaxInt32, Batch: j.batch, Seed: seed, Precision: j.precision},
		train.Options{Progress: func(int, float64) { tick(steps) }})
}

// A problem is a network on a stream with a batch and two directions.
type problem struct {
	s        *device.Stream
	net      *nn.Net
	theta, x tensor.Tensor // with tangents
	grad, dx tensor.Tensor // likewise
	running  device.Ptr
	labels   device.Ptr
	u, v, xu device.Ptr // directions in parameter and in image space
	work     *kernel.Workspace
	scalar   device.Ptr
}

func newProblem(s *device.Stream, j job) (*problem, error) {
	m, err := nn.New(j.spec, seed)
	if err != nil {
		return nil, err
	}
	n, size := len(m.Theta), []int{j.batch, j.spec.H, j.spec.W, j.spec.C}
	p := &problem{s: s, net: nn.NewNet(s, j.spec, j.batch, nn.Options{Precision: j.precision, Dual: true, Persample: true}),
		theta: tensor.NewDual(s, n), grad: tensor.NewDual(s, n), x: tensor.NewDual(s, size...), dx: tensor.NewDual(s, size...),
		labels: s.Alloc(4 * j.batch), u: s.Alloc(4 * n), v: s.Alloc(4 * n),
		work: kernel.NewWorkspace(s, kernel.VectorBytes), scalar: s.Alloc(8)}
	p.xu = s.Alloc(4 * p.x.Len())
	if n := len(m.Running); n > 0 {
		p.running = s.Alloc(4 * n)
		device.Upload(s, p.running, m.Running)
	}
	set := images(j.spec, j.batch, j.spec.Classes)
	pixels := make([]float32, len(set.Pixels))
	for i, v := range set.Pixels {
		pixels[i] = float32(v) / 255
	}
	device.Upload(s, p.theta.P, m.Theta)
	device.Upload(s, p.x.P, pixels)
	device.Upload(s, p.labels, set.Labels)
	for i, to := range []struct {
		p device.Ptr
		n int
	}{{p.u, n}, {p.v, n}, {p.xu, p.x.Len()}} {
		draws := make([]float32, to.n)
		rng.FillNormal(seed, rng.Stream("bench direction", uint64(i)), 1, draws)
		device.Upload(s, to.p, draws)
	}
	return p, s.Err()
}

// through runs a forward and a backward pass.
func (p *problem) through(theta, x, dtheta, dx tensor.Tensor) (loss, dlogits tensor.Tensor) {
	p.net.Forward(nn.Pass{Mode: nn.Eval, Theta: theta, Running: p.running, X: x})
	loss, dlogits = p.net.Loss(p.labels)
	p.net.Backward(dlogits, dtheta, dx)
	return loss, dlogits
}

// dual is theta with a direction for its tangent.
func (p *problem) dual(direction device.Ptr) tensor.Tensor {
	t := p.theta
	t.T = direction
	return t
}

// dot returns ⟨a, b⟩.
func (p *problem) dot(a, b device.Ptr, n int) (float64, error) {
	kernel.Dot(p.s, a, b, n, p.scalar, p.work)
	out := make([]float64, 1)
	err := device.Download(p.s, out, p.scalar)
	return out[0], err
}

// repeat records f and runs it until the context ends.
func repeat(s *device.Stream, f func(), tick func(int)) error {
	g, err := s.Capture(f)
	if err != nil {
		return err
	}
	defer g.Close()
	for s.Err() == nil && s.Context().Err() == nil {
		g.Launch()
		tick(1)
	}
	return s.Err()
}

func hvp(s *device.Stream, j job, tick func(int)) error {
	p, err := newProblem(s, j)
	if err != nil {
		return err
	}
	return repeat(s, func() { p.through(p.dual(p.v), p.x.Primal(), p.grad, tensor.Tensor{}) }, tick)
}

// ggn runs products with the Gauss–Newton matrix on primals that were kept.
func ggn(s *device.Stream, j job, tick func(int)) error {
	p, err := newProblem(s, j)
	if err != nil {
		return err
	}
	p.net.Forward(nn.Pass{Mode: nn.Eval, Theta: p.theta.Primal(), Running: p.running, X: p.x.Primal()})
	return repeat(s, func() { p.gaussNewton(p.v) }, tick)
}

// gaussNewton sets grad to the Gauss–Newton matrix of the summed loss times v, after a forward pass in floats.
func (p *problem) gaussNewton(v device.Ptr) {
	p.net.Forward(nn.Pass{Mode: nn.Eval, Theta: p.dual(v), Running: p.running, X: p.x.Primal(), Replay: true})
	_, dlogits := p.net.Loss(p.labels)
	p.net.BackwardGaussNewton(dlogits, p.grad)
}

func norms(s *device.Stream, j job, tick func(int)) error {
	p, err := newProblem(s, j)
	if err != nil {
		return err
	}
	each, out := nn.NewPersample(p.net), s.Alloc(4*j.batch)
	return repeat(s, func() {
		_, dlogits := p.through(p.theta.Primal(), p.x.Primal(), tensor.Tensor{}, tensor.Tensor{})
		each.SqNorm(dlogits, out)
	}, tick)
}

func relative(a, b float64) float64 {
	return math.Abs(a-b) / math.Max(math.Abs(b), math.SmallestNonzeroFloat64)
}

// checkHVP holds ⟨u, Hv⟩ against ⟨v, Hu⟩.
func checkHVP(s *device.Stream, j job) (float64, error) {
	p, err := newProblem(s, j)
	if err != nil {
		return 0, err
	}
	var values [2]float64
	for i, d := range [2][2]device.Ptr{{p.v, p.u}, {p.u, p.v}} {
		p.through(p.dual(d[0]), p.x.Primal(), p.grad, tensor.Tensor{})
		if values[i], err = p.dot(p.grad.T, d[1], p.grad.Len()); err != nil {
			return 0, err
		}
	}
	return relative(values[0], values[1]), nil
}

// checkGGN holds ⟨u, Gv⟩ against ⟨v, Gu⟩.
func checkGGN(s *device.Stream, j job) (float64, error) {
	p, err := newProblem(s, j)
	if err != nil {
		return 0, err
	}
	p.net.Forward(nn.Pass{Mode: nn.Eval, Theta: p.theta.Primal(), Running: p.running, X: p.x.Primal()})
	var values [2]float64
	for i, d := range [2][2]device.Ptr{{p.v, p.u}, {p.u, p.v}} {
		p.gaussNewton(d[0])
		if values[i], err = p.dot(p.grad.P, d[1], p.grad.Len()); err != nil {
			return 0, err
		}
	}
	return relative(values[0], values[1]), nil
}

// checkCraft holds ⟨w, ∇_x⟨v, ∇_θ L⟩⟩ against ⟨v, ∂_w ∇_θ L⟩: one has its tangent in θ, the other in x.
func checkCraft(s *device.Stream, j job) (float64, error) {
	p, err := newProblem(s, j)
	if err != nil {
		return 0, err
	}
	p.through(p.dual(p.v), p.x.Primal(), p.grad, p.dx)
	a, err := p.dot(p.dx.T, p.xu, p.dx.Len())
	if err != nil {
		return 0, err
	}
	x := p.x
	x.T = p.xu
	p.through(p.theta.Primal(), x, p.grad, p.dx)
	b, err := p.dot(p.grad.T, p.v, p.grad.Len())
	return relative(a, b), err
}

// checkTrain holds ⟨v, ∇_θ L⟩ of the backward pass against the forward pass's tangent of the loss.
func checkTrain(s *device.Stream, j job) (float64, error) {
	p, err := newProblem(s, j)
	if err != nil {
		return 0, err
	}
	loss, _ := p.through(p.dual(p.v), p.x.Primal(), p.grad, tensor.Tensor{})
	a, err := p.dot(p.grad.P, p.v, p.grad.Len())
	if err != nil {
		return 0, err
	}
	tangents, b := make([]float32, j.batch), 0.0
	err = device.Download(s, tangents, loss.T)
	for _, t := range tangents {
		b += float64(t)
	}
	return relative(a, b), err
}

// checkNorms holds the norms against those of gradients formed in full.
func checkNorms(s *device.Stream, j job) (float64, error) {
	p, err := newProblem(s, j)
	if err != nil {
		return 0, err
	}
	few := min(8, j.batch) // gradients in full are large
	x := p.x.Slice(0, few, j.spec.H, j.spec.W, j.spec.C)
	_, dlogits := p.through(p.theta.Primal(), x.Primal(), tensor.Tensor{}, tensor.Tensor{})
	each, n := nn.NewPersample(p.net), p.theta.Len()
	out, full := s.Alloc(4*few), s.Alloc(4*few*n)
	each.SqNorm(dlogits, out)
	each.Grad(dlogits, full)
	got := make([]float32, few)
	if err := device.Download(s, got, out); err != nil {
		return 0, err
	}
	worst := 0.0
	for i, v := range got {
		want, err := p.dot(full.Add(4*i*n), full.Add(4*i*n), n)
		if err != nil {
			return 0, err
		}
		worst = math.Max(worst, relative(float64(v), want))
	}
	return worst, nil
}
