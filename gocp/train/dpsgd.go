package train

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/privacy"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// private is SGD with privacy: each sample is in a step's batch with probability B/n, independently; each sample's
// gradient is cut to norm C; to their sum comes normal noise of standard deviation σC on every parameter, and the
// sum is divided by B, the expected size of a batch. No gradient of a sample is formed: one pass back finds their
// norms, a second one is of the losses weighted by min(1, C/norm).
var private = method{
	name: "dp-sgd", source: "Abadi et al.: Deep Learning with Differential Privacy, CCS 2016, algorithm 1",
	defaults: Defense{Clip: 1, Noise: 1, Delta: 1e-5},
	check: func(d Defense) error {
		if err := positive("dp-sgd's clipping norm", d.Clip); err != nil {
			return err
		}
		if math.IsNaN(d.Noise) || math.IsInf(d.Noise, 0) {
			return usage.Errorf("train: dp-sgd's noise is %g times the clipping norm; it must be finite", d.Noise)
		}
		if !(d.Delta > 0 && d.Delta < 1) {
			return usage.Errorf("train: dp-sgd's δ is %g; it must be above 0 and below 1", d.Delta)
		}
		return nil
	},
	fits: func(_ Config, spec nn.Spec) error {
		if spec.NumBuffers() > 0 {
			return usage.Errorf("train: dp-sgd needs a network in which samples do not mix, and in %s with batch norm every sample moves the others' outputs; take one without", spec.Arch)
		}
		if spec.Dropout > 0 {
			return usage.Errorf("train: dp-sgd needs the norms of single samples' gradients, which are not found under dropout; take --dropout 0")
		}
		return nil
	},
	start: func(t *trainer) way {
		s, n := t.s, t.theta.Len()
		return &dpsgd{plain: plain{t}, per: nn.NewPersample(t.net), norms: s.Alloc(4 * t.room), weights: s.Alloc(4 * t.room * t.spec.Classes), noise: s.Alloc(4 * n)}
	},
}

// privateRoom is room for the batches that are drawn: ten standard deviations above the expected size, which no run ever sees.
func privateRoom(batch, n int) int {
	return min(n, batch+int(math.Ceil(10*math.Sqrt(float64(batch))))+10)
}

// private reports whether d is DP-SGD.
func (d Defense) private() bool { return d.Name == "dp-sgd" }

// sigma is the noise as a multiple of the clipping norm; 0 is none.
func (d Defense) sigma() float64 { return max(d.Noise, 0) }

// Privacy is what training by c of n samples spends at c's δ: infinite without noise. It is that of noise which
// is normal, and not of its 24 bits.
func (c Config) Privacy(n int) (epsilon, delta float64, err error) {
	c = c.WithDefaults()
	d, batch := c.Defense, min(c.Batch, n)
	if d.sigma() == 0 {
		return math.Inf(1), d.Delta, nil
	}
	steps := c.Epochs * ((n + batch - 1) / batch)
	epsilon, _, err = privacy.Epsilon(float64(batch)/float64(n), d.sigma(), steps, d.Delta)
	return epsilon, d.Delta, err
}

type dpsgd struct {
	plain
	per            *nn.Persample
	norms, weights device.Ptr // float32 [room] squared; [room,K]
	noise          device.Ptr // float32 [|θ|]
	dlogits        tensor.Tensor
}

// lot is B, the expected size of a batch.
func (p *dpsgd) lot() int { return min(p.cfg.Batch, p.n) }

func (p *dpsgd) batches(epoch int) ([][]int32, error) {
	batches := make([][]int32, (p.n+p.lot()-1)/p.lot())
	rate := float64(p.lot()) / float64(p.n)
	for k := range batches {
		src := rng.New(p.cfg.Seed, rng.Stream("poisson", uint64(epoch), uint64(k)))
		for i := range p.n {
			if src.Float64() < rate {
				batches[k] = append(batches[k], int32(i))
			}
		}
		if len(batches[k]) > p.room {
			return nil, usage.Errorf("train: a batch of %d samples was drawn where %d are expected; take another --seed", len(batches[k]), p.lot())
		}
	}
	return batches, nil
}

func (p *dpsgd) step(epoch, k int, batch []int32) error {
	s, size, n, c := p.s, len(batch), p.theta.Len(), p.cfg.Defense.Clip
	kernel.NormalNoise(s, p.cfg.Seed, rng.Stream("privacy", uint64(epoch), uint64(k)), p.cfg.Defense.sigma()*c, math.Inf(1), p.noise, n)
	if size == 0 {
		p.do("nobody", 0, func() {
			s.Memset32(p.grad.P, 0, n)
			p.noisy(n)
		})
		return nil
	}
	p.do("norms", size, func() {
		x := p.batch(p.x, size)
		p.drawn(size)
		p.load(size, x)
		p.forward(p.theta, x)
		_, p.dlogits = p.net.Loss(p.batchLabels)
		p.net.Backward(p.dlogits, tensor.Tensor{}, tensor.Tensor{})
		p.per.SqNorm(p.dlogits, p.norms)
	})
	squares := make([]float32, size)
	if err := device.Download(s, squares, p.norms); err != nil {
		return err
	}
	device.Upload(s, p.weights, p.clipped(squares))
	p.do("weighted", size, func() {
		kernel.Multiply(s, p.dlogits, tensor.Tensor{Shape: p.dlogits.Shape, P: p.weights}, p.dlogits)
		p.net.Backward(p.dlogits, p.grad, tensor.Tensor{})
		p.noisy(n)
	})
	return nil
}

// clipped are the weights that bring gradients of such squared norms to the clipping norm, for each logit. Norms have
// float32's last digits wrong, so the bound is taken a little lower.
func (p *dpsgd) clipped(squares []float32) []float32 {
	c, k := p.cfg.Defense.Clip, p.spec.Classes
	out := make([]float32, len(squares)*k)
	for i, sq := range squares {
		w := float32(min(1, c*(1-1e-5)/math.Sqrt(float64(sq))))
		for j := range k {
			out[i*k+j] = w
		}
	}
	return out
}

// noisy adds the noise to the gradient and descends.
func (p *dpsgd) noisy(n int) {
	one := kernel.Coef{Value: 1}
	kernel.Axpby(p.s, one, p.noise, one, p.grad.P, n)
	p.descend(float64(p.lot()))
}
