package attack

import (
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
)

// A descent is SGD as a lookahead unrolls it: d = ∇l/n + decay·θ, m ← momentum·m + d, θ ← θ − lr·m, with nesterov
// θ ← θ − lr·(d + momentum·m).
type descent struct {
	lr, momentum, decay float64
	nesterov            bool
}

// A look is the batch of one step of a lookahead.
type look struct {
	x      tensor.Tensor // [n,H,W,C]
	labels device.Ptr    // int32 [n]
	draws  nn.Draws      // of dropout; the same until the step has been reversed
}

// An objective returns a loss at theta and sets grad to its gradient.
type objective func(theta device.Ptr, grad tensor.Tensor) (float64, error)

// A lookahead is K steps of SGD on a copy of a network, and the exact reverse of them.
type lookahead struct {
	s       *device.Stream
	n       int // |θ|
	nets    []*nn.Net
	theta   []device.Ptr // K+1, the first where the steps begin
	running device.Ptr
	moment  device.Ptr    // m, where the steps begin; they change it
	grad    tensor.Tensor // ∇l, then ∇ℓ2, then Hd
	adjoint device.Ptr    // of θ_t
	back    device.Ptr    // of m_t
	along   device.Ptr    // of d, where that is not back: of Nesterov's momentum
	dx      tensor.Tensor // [batch,H,W,C], the tangent
	lr      device.Ptr    // float32
}

// lookaheadBytes are those of a lookahead whose steps have arenas of their own, and of one with a single arena.
func lookaheadBytes(s *device.Stream, spec nn.Spec, steps, batch int, o nn.Options) (each, rest int64) {
	arena, work := nn.Needs(s, spec, batch, o)
	return int64(arena), int64(work) + 4*int64(spec.NumParams())*int64(steps+6) + 4*int64(2*batch*spec.H*spec.W*spec.C)*int64(steps)
}

// newLookahead allocates a lookahead of so many steps on batches of at most so many images. With fewer arenas than steps it has one,
// and passes forward once more before each reverse step, to the same bits.
func newLookahead(s *device.Stream, spec nn.Spec, steps, batch, arenas int, o nn.Options) *lookahead {
	n := spec.NumParams()
	a := &lookahead{s: s, n: n, grad: tensor.New(s, n), moment: s.Alloc(4 * n), adjoint: s.Alloc(4 * n), back: s.Alloc(4 * n), along: s.Alloc(4 * n), lr: s.Alloc(4)}
	for range steps + 1 {
		a.theta = append(a.theta, s.Alloc(4*n))
	}
	a.dx = tensor.Tensor{Shape: []int{batch, spec.H, spec.W, spec.C}}
	a.dx.T = s.Alloc(4 * a.dx.Len())
	o.Dual = true
	_, work := nn.Needs(s, spec, batch, o)
	o.Work = kernel.NewWorkspace(s, work)
	if arenas < steps {
		arenas = 1
	}
	for range min(arenas, steps) {
		a.nets = append(a.nets, nn.NewNet(s, spec, batch, o))
	}
	return a
}

// begin puts the steps' beginning in place: θ, SGD's momentum, absent if it is zero, and batch norm's running statistics.
func (a *lookahead) begin(theta, momentum, running []float32) {
	device.Upload(a.s, a.theta[0], theta)
	if momentum == nil {
		a.s.Memset32(a.moment, 0, a.n)
	} else {
		device.Upload(a.s, a.moment, momentum)
	}
	if len(running) > 0 {
		if a.running == 0 {
			a.running = a.s.Alloc(4 * len(running))
		}
		device.Upload(a.s, a.running, running)
	}
}

func (a *lookahead) net(k int) *nn.Net { return a.nets[min(k, len(a.nets)-1)] }

func (a *lookahead) pass(k int, b look) nn.Pass {
	return nn.Pass{Mode: nn.Train, Theta: tensor.Tensor{Shape: a.grad.Shape, P: a.theta[k]}, Running: a.running, X: b.x, Draws: b.draws}
}

// forth runs batch k through the network and back, to grad unless that is absent.
func (a *lookahead) forth(k int, b look, grad tensor.Tensor) {
	net := a.net(k)
	net.Forward(a.pass(k, b))
	_, dlogits := net.Loss(b.labels)
	net.Backward(dlogits, grad, tensor.Tensor{})
}

// run takes a step on each batch and returns the mean of the outer loss after each of them. With a function for it, it
// hands that the gradient of this mean with respect to the images of batch k, from the last to the first.
func (a *lookahead) run(batches []look, sgd descent, outer objective, out func(k int, dx tensor.Tensor)) (float64, error) {
	s, n, one := a.s, a.n, kernel.Coef{Value: 1}
	device.Upload(s, a.lr, []float32{float32(sgd.lr)})
	for k, b := range batches {
		a.forth(k, b, a.grad)
		s.Copy(a.theta[k+1], a.theta[k], 4*n)
		kernel.SGD(s, a.theta[k+1], a.grad.P, a.moment, a.lr, sgd.momentum, sgd.decay, 1/float64(b.x.Shape[0]), sgd.nesterov, n)
	}
	var mean float64
	share := 1 / float64(len(batches))
	for t := len(batches); t > 0; t-- {
		value, err := outer(a.theta[t], a.grad)
		switch {
		case err != nil:
			return 0, err
		case math.IsNaN(value) || math.IsInf(value, 0):
			return 0, fmt.Errorf("the adversary's loss is %v after %d steps ahead with the learning rate %g", value, t, sgd.lr)
		}
		if mean += share * value; out == nil {
			continue
		}
		later := kernel.Coef{Value: 1} // what comes back from the steps after t
		momentum := kernel.Coef{Value: sgd.momentum}
		if t == len(batches) {
			later, momentum = kernel.Coef{}, kernel.Coef{}
		}
		kernel.Axpby(s, kernel.Coef{Value: share}, a.grad.P, later, a.adjoint, n)
		along, rate := a.back, -sgd.lr
		if sgd.nesterov {
			rate *= sgd.momentum
		}
		kernel.Axpby(s, kernel.Coef{Value: rate}, a.adjoint, momentum, a.back, n)
		if sgd.nesterov {
			along = a.along
			s.Copy(along, a.back, 4*n)
			kernel.Axpby(s, kernel.Coef{Value: -sgd.lr}, a.adjoint, one, along, n)
		}
		k := t - 1
		b := batches[k]
		if len(a.nets) < len(batches) {
			a.forth(k, b, tensor.Tensor{})
		}
		p, net := a.pass(k, b), a.net(k)
		p.Theta.T, p.Replay = along, true
		net.Forward(p)
		_, dlogits := net.Loss(b.labels)
		var product tensor.Tensor
		if k > 0 {
			product = tensor.Tensor{Shape: a.grad.Shape, T: a.grad.P}
		}
		dx := a.dx.Slice(0, b.x.Shape...)
		net.Backward(dlogits, product, dx)
		scale := 1 / float64(b.x.Shape[0])
		kernel.Axpby(s, kernel.Coef{}, dx.T, kernel.Coef{Value: scale}, dx.T, dx.Len())
		out(k, tensor.Tensor{Shape: dx.Shape, P: dx.T})
		if k > 0 {
			kernel.Axpby(s, kernel.Coef{Value: scale}, a.grad.P, one, a.adjoint, n)
			kernel.Axpby(s, kernel.Coef{Value: sgd.decay}, along, one, a.adjoint, n)
		}
	}
	return mean, s.Err()
}
