package train

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// poisoning trains on batches of which it poisons one half against the other, as an adversary would who wants the
// other half to be taken for the poisons' most frequent class: from a start drawn in the ball some steps of signed
// Adam along the cosine of Σ∇l(poisons, their labels) and Σ∇l(others, that label), in evaluation mode. The step itself
// is SGD's on both halves with their own labels, in training mode.
var poisoning = method{
	name: "adversarial-poisoning", source: "Geiping et al.: What Doesn't Kill You Makes You Robust(er), arXiv 2102.13624, algorithm 1; gradient matching of Geiping et al., Witches' Brew, ICLR 2021",
	defaults: Defense{Ball255: 16, Steps: 5},
	check: func(d Defense) error {
		if err := positive("adversarial-poisoning's ball, in 255ths,", d.Ball255); err != nil {
			return err
		}
		if d.Steps < 1 {
			return usage.Errorf("train: adversarial-poisoning takes %d steps; it must be at least 1", d.Steps)
		}
		return nil
	},
	start: func(t *trainer) way {
		s, half := t.s, max(1, (t.room+1)/2)
		size := 4 * half * t.pixels()
		p := &poisoned{plain: plain{t}, net: nn.NewNet(s, t.spec, half, nn.Options{Precision: t.cfg.Precision, Mixed: true}),
			theta: tensor.Tensor{Shape: t.theta.Shape, P: t.theta.P, T: s.Alloc(4 * t.theta.Len())}, target: s.Alloc(4 * t.theta.Len()),
			base: s.Alloc(size), delta: s.Alloc(size), m: s.Alloc(size), v: s.Alloc(size), dx: s.Alloc(size), x: s.Alloc(size),
			fake: s.Alloc(4 * half), count: s.Alloc(8), rate: s.Alloc(4), dots: s.Alloc(8 * 4), work: kernel.NewWorkspace(s, kernel.VectorBytes)}
		device.Upload(s, p.rate, []float32{float32(poisoningRate * t.cfg.Defense.Ball255 / 255)})
		return p
	},
}

// poisoningRate is the step of signed Adam, as a share of the ball; the others are Adam's constants, as in PyTorch.
const (
	poisoningRate = 0.1
	adamBeta1     = 0.9
	adamBeta2     = 0.999
	adamEpsilon   = 1e-8
)

type poisoned struct {
	plain
	net                      *nn.Net       // in evaluation mode, with room for the mixed derivative
	theta                    tensor.Tensor // P: θ, T: the direction of dual passes
	target                   device.Ptr    // Σ∇l(others, fake label)
	base, delta, m, v, dx, x device.Ptr    // [half,H,W,C]: the clean poisons, δ, Adam's moments, a gradient, base + δ
	fake                     device.Ptr    // int32 [half]
	count, rate, dots        device.Ptr    // uint64 from 1; float32; float64 [4]
	work                     *kernel.Workspace
}

func (p *poisoned) step(epoch, k int, batch []int32) error {
	s, size := p.s, len(batch)
	half := size / 2 // the poisons, which come first
	if half == 0 {
		return p.plain.step(epoch, k, batch)
	}
	radius := p.cfg.Defense.Ball255 / 255
	fake := make([]int32, size-half)
	for i, y := 0, mode(p.known, batch[:half]); i < len(fake); i++ {
		fake[i] = y
	}
	device.Upload(s, p.fake, fake)
	n := half * p.pixels()
	kernel.NormalNoise(s, p.cfg.Seed, rng.Stream("poisoning", uint64(epoch), uint64(k)), radius, radius, p.delta, n)
	p.do("step", size, func() {
		x := p.trainer.batch(p.trainer.x, size)
		p.drawn(size)
		p.load(size, x)
		p.match(size, half, x, radius)
		s.Copy(x.P, p.x, 4*n)
		p.learn(size, x)
	})
	return nil
}

// match moves δ of the first half of x, and leaves base + δ.
func (p *poisoned) match(size, half int, x tensor.Tensor, radius float64) {
	s, n, params := p.s, half*p.pixels(), p.trainer.theta.Len()
	one, none := kernel.Coef{Value: 1}, tensor.Tensor{}
	images := func(at device.Ptr, count int) tensor.Tensor {
		return tensor.Tensor{Shape: []int{count, p.spec.H, p.spec.W, p.spec.C}, P: at}
	}
	grad := func(at device.Ptr) tensor.Tensor { return tensor.Tensor{Shape: p.theta.Shape, P: at} }
	pass := nn.Pass{Mode: nn.Eval, Theta: p.theta.Primal(), Running: p.running}

	pass.X = images(x.P.Add(4*n), size-half)
	p.net.Forward(pass)
	_, dlogits := p.net.Loss(p.fake)
	p.net.Backward(dlogits, grad(p.target), none)

	s.Copy(p.base, x.P, 4*n)
	for _, zero := range []device.Ptr{p.m, p.v} {
		s.Memset32(zero, 0, n)
	}
	s.Memset32(p.count, 0, 2)
	perturbed := func() {
		s.Copy(p.x, p.base, 4*n)
		kernel.Axpby(s, one, p.delta, one, p.x, n)
	}
	pass.X = images(p.x, half)
	for range p.cfg.Defense.Steps {
		kernel.Increment(s, p.count)
		perturbed()
		p.net.Forward(pass)
		_, dlogits := p.net.Loss(p.batchLabels)
		p.net.Backward(dlogits, grad(p.theta.T), none)
		kernel.Dot(s, p.target, p.theta.T, params, p.dots, p.work)
		kernel.Norm2(s, p.target, params, p.dots.Add(8), p.work)
		kernel.Norm2(s, p.theta.T, params, p.dots.Add(16), p.work)
		kernel.CosineDirection(s, p.target, p.theta.T, p.dots, params, p.theta.T, p.dots.Add(24))
		p.net.Forward(nn.Pass{Mode: nn.Eval, Theta: p.theta, Running: p.running, X: pass.X, Replay: true})
		_, dlogits = p.net.Loss(p.batchLabels)
		dx := images(0, half)
		dx.T = p.dx
		p.net.Backward(dlogits, none, dx)
		kernel.Axpby(s, kernel.Coef{Value: -1}, p.dx, kernel.Coef{}, p.ascent(), n)
		kernel.SignAdam(s, p.delta, p.ascent(), p.m, p.v, p.base, p.count, p.rate, adamBeta1, adamBeta2, adamEpsilon, radius, n)
	}
	perturbed()
}

// ascent is where −∂Φ/∂δ comes: base + δ is of no use any more.
func (p *poisoned) ascent() device.Ptr { return p.x }

// mode is the most frequent label of samples, the smallest of equal ones.
func mode(labels, samples []int32) int32 {
	counts := map[int32]int{}
	best := labels[samples[0]]
	for _, i := range samples {
		counts[labels[i]]++
	}
	for y, n := range counts {
		if n > counts[best] || n == counts[best] && y < best {
			best = y
		}
	}
	return best
}
