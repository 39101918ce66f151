package compute

import (
	"context"
	"fmt"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/tensor"
)

// Samples go through the network in chunks: they bound the memory of a pass, and of the
// per-sample gradients of one chunk.
const (
	chunkSamples = 128
	chunkFloats  = 64 << 20
)

// Run answers the request on d.
func Run(ctx context.Context, d *device.Device, r Request) (*safetensors.File, error) {
	if err := r.Precision.On(d.Info()); err != nil {
		return nil, err
	}
	r = r.withDefaults()
	in, err := r.read()
	if err != nil {
		return nil, err
	}
	out := newAnswers(r.Model, in)
	err = d.Do(ctx, 0, func(s *device.Stream) error {
		e := newEngine(s, r, in)
		if err := e.samples(out); err != nil {
			return err
		}
		if in.l2 {
			if err := e.l2(out); err != nil {
				return err
			}
		}
		if in.want[SAM] {
			if err := e.sam(out); err != nil {
				return err
			}
		}
		if in.want[IHVP] {
			if err := e.ihvp(out); err != nil {
				return err
			}
		}
		if in.want[KFAC] {
			return e.kfac(out)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compute: %w", err)
	}
	return out.file(), nil
}

// An engine is the device's half of a request.
type engine struct {
	s     *device.Stream
	r     Request
	in    *inputs
	chunk int

	net     *nn.Net
	theta   tensor.Tensor // with the direction as its tangent, if there is one
	running device.Ptr
	x, dx   tensor.Tensor
	labels  device.Ptr
	grad    tensor.Tensor
	u, p    device.Ptr
	scores  device.Ptr

	draws nn.Draws // of dropout: seed 0, step 0

	each          *nn.Persample
	sqNorm, grads device.Ptr
}

func newEngine(s *device.Stream, r Request, in *inputs) *engine {
	m := r.Model
	e := &engine{s: s, r: r, in: in, chunk: min(in.n, chunkSamples)}
	if in.want[PersampleGrad] {
		e.chunk = max(1, min(e.chunk, chunkFloats/m.NumParams()))
	}
	if m.BatchNorm && r.Mode == nn.Train {
		e.chunk = in.n // the batch shares its statistics
	}
	dual := in.needs(Directional, HVP, Mixed, GGNVP)
	e.net = nn.NewNet(s, m.Spec, e.chunk, nn.Options{Precision: r.Precision, Dual: dual, Persample: in.needs(PersampleSqNorm, PersampleGrad)})
	image := []int{e.chunk, m.H, m.W, m.C}
	e.theta, e.x = tensor.New(s, m.NumParams()), tensor.New(s, image...)
	device.Upload(s, e.theta.P, m.Theta)
	if len(m.Running) > 0 {
		e.running = s.Alloc(4 * len(m.Running))
		device.Upload(s, e.running, m.Running)
	}
	e.labels = s.Alloc(4 * e.chunk)
	e.draws.Step = s.Alloc(8)
	s.Memset32(e.draws.Step, 0, 2)
	e.grad, e.dx = tensor.New(s, m.NumParams()), tensor.New(s, image...)
	if dual {
		e.theta.T = s.Alloc(4 * m.NumParams())
		device.Upload(s, e.theta.T, in.v)
		e.grad.T, e.dx.T = s.Alloc(4*m.NumParams()), s.Alloc(4*e.x.Len())
	}
	if in.needs(PersampleSqNorm, PersampleGrad) {
		e.each, e.sqNorm = nn.NewPersample(e.net), s.Alloc(4*e.chunk)
	}
	if in.want[PersampleGrad] {
		e.grads = s.Alloc(4 * e.chunk * m.NumParams())
	}
	if in.want[Scores] {
		e.u, e.p, e.scores = s.Alloc(4*e.chunk), s.Alloc(4*e.chunk*m.Classes), s.Alloc(4*e.chunk*m.Classes)
	}
	return e
}

// load puts samples [at, at+n) of images into x and returns it.
func (e *engine) load(images []float32, at, n int) tensor.Tensor {
	m := e.r.Model
	size := m.H * m.W * m.C
	device.Upload(e.s, e.x.P, images[at*size:(at+n)*size])
	return e.x.Slice(0, n, m.H, m.W, m.C)
}

// samples computes everything that is a sum or a list over the samples x, y.
func (e *engine) samples(out *answers) error {
	s, in, m := e.s, e.in, e.r.Model
	first := in.needs(Grad, InputGrad, PersampleSqNorm, PersampleGrad, SAM) || in.needs(Directional, HVP, Mixed, GGNVP)
	for at := 0; at < in.n; at += e.chunk {
		if err := s.Context().Err(); err != nil {
			return err
		}
		n := min(e.chunk, in.n-at)
		x := e.load(in.x, at, n)
		pass := nn.Pass{Mode: e.r.Mode, Theta: e.theta.Primal(), Running: e.running, X: x, Draws: e.draws}
		logits := e.net.Forward(pass)
		if err := appendFrom(s, &out.logits, logits.P, n*m.Classes); err != nil {
			return err
		}
		if in.want[Scores] {
			if err := e.score(out, logits, at, n); err != nil {
				return err
			}
		}
		if in.y == nil {
			continue
		}
		device.Upload(s, e.labels, in.y[at:at+n])
		loss, dlogits := e.net.Loss(e.labels)
		if err := appendFrom(s, &out.loss, loss.P, n); err != nil {
			return err
		}
		if !first {
			continue
		}
		dx := e.dx.Slice(0, n, m.H, m.W, m.C)
		e.net.Backward(dlogits, e.grad.Primal(), dx.Primal())
		if err := addFrom(s, out.grad, e.grad.P); err != nil {
			return err
		}
		if err := appendFrom(s, &out.inputGrad, dx.P, dx.Len()); err != nil {
			return err
		}
		if err := e.persample(out, dlogits, n); err != nil {
			return err
		}
		if e.theta.T != 0 {
			if err := e.second(out, pass, dx, n); err != nil {
				return err
			}
		}
	}
	return s.Err()
}

// second replays the pass just done in dual numbers: tangents alone, as crafting does.
func (e *engine) second(out *answers, pass nn.Pass, dx tensor.Tensor, n int) error {
	pass.Theta, pass.Replay = e.theta, true
	e.net.Forward(pass)
	loss, dlogits := e.net.Loss(e.labels)
	e.net.Backward(dlogits, e.grad, dx)
	if err := appendFrom(e.s, &out.directional, loss.T, n); err != nil {
		return err
	}
	if err := addFrom(e.s, out.hvp, e.grad.T); err != nil {
		return err
	}
	if err := appendFrom(e.s, &out.mixed, dx.T, dx.Len()); err != nil || !e.in.want[GGNVP] {
		return err
	}
	e.net.BackwardGaussNewton(dlogits, e.grad)
	return addFrom(e.s, out.ggnvp, e.grad.P)
}

// score appends the scores of every label of n samples.
func (e *engine) score(out *answers, logits tensor.Tensor, at, n int) error {
	s, k := e.s, e.r.Model.Classes
	device.Upload(s, e.u, e.in.u[at:at+n])
	kernel.Softmax(s, n, k, logits.Primal(), tensor.Tensor{Shape: []int{n, k}, P: e.p})
	form := e.score0()
	form.U = e.u
	kernel.Scores(s, form, n, k, e.p, e.scores)
	return appendFrom(s, &out.scores, e.scores, n*k)
}

// persample appends the samples' own gradients, or their squared norms, after a backward pass.
func (e *engine) persample(out *answers, dlogits tensor.Tensor, n int) error {
	if e.in.want[PersampleSqNorm] {
		e.each.SqNorm(dlogits, e.sqNorm)
		if err := appendFrom(e.s, &out.sqNorm, e.sqNorm, n); err != nil {
			return err
		}
	}
	if e.in.want[PersampleGrad] {
		e.each.Grad(dlogits, e.grads)
		return appendFrom(e.s, &out.persample, e.grads, n*e.r.Model.NumParams())
	}
	return nil
}

// sam turns a gradient into the perturbation of norm rho that raises its loss most.
func (e *engine) sam(out *answers) error {
	g := out.grad
	if e.r.SAM.Of == "l2" {
		g = out.l2Grad
	}
	flat := narrow(g)
	device.Upload(e.s, e.grad.P, flat)
	work := kernel.NewWorkspace(e.s, kernel.VectorBytes)
	kernel.SAMPerturb(e.s, 0, e.grad.P, e.r.SAM.Rho, e.r.SAM.P, e.grad.P, len(flat), work)
	return appendFrom(e.s, &out.sam, e.grad.P, len(flat))
}

// appendFrom appends n floats from the device to dst.
func appendFrom(s *device.Stream, dst *[]float32, src device.Ptr, n int) error {
	at := len(*dst)
	*dst = append(*dst, make([]float32, n)...)
	return device.Download(s, (*dst)[at:], src)
}

// addFrom adds len(dst) floats from the device to dst.
func addFrom(s *device.Stream, dst []float64, src device.Ptr) error {
	v := make([]float32, len(dst))
	if err := device.Download(s, v, src); err != nil {
		return err
	}
	for i, x := range v {
		dst[i] += float64(x)
	}
	return nil
}
