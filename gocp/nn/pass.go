package nn

import (
	"fmt"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// A Pass says what a forward pass reads. It is in dual numbers when Theta or X has a tangent.
type Pass struct {
	Mode    Mode
	Theta   tensor.Tensor // [|θ|] flat
	Running device.Ptr    // running statistics of batch norm; read in Eval, absent without batch norm
	X       tensor.Tensor // [n,H,W,C], pixels in [0,1]; n up to the Net's batch

	// Replay computes tangents alone: the primals are still those of the last pass, which
	// had the same Theta.P, X.P and Mode. It halves the work of a dual pass that follows a float one.
	Replay bool
}

func (p Pass) dual() bool { return p.Theta.T != 0 || p.X.T != 0 }

// Forward runs the network and returns the logits [n,K]. The Net keeps what Backward needs.
func (n *Net) Forward(p Pass) tensor.Tensor {
	if n.s.Err() != nil {
		return n.logits
	}
	if err := n.check(p); err != nil {
		n.s.Fail(err)
		return n.logits
	}
	n.pass, n.n = p, p.X.Shape[0]
	s := n.s
	defer s.Range("forward").End()
	in := kernel.Act{N: n.n, H: n.spec.H, W: n.spec.W, C: n.spec.C, Pool: 1}
	xn := n.stored(n.xn, p.X.T != 0)
	if !p.Replay || p.X.T != 0 {
		kernel.ActForward(s, in, p.X, n.inScale, n.inShift, tensor.Tensor{}, n.output(xn), 0)
	}
	h := xn
	for _, l := range n.layers {
		r := s.Range(l.name)
		g, a := l.at(n.n)
		w := n.param(p.Theta, l.weight)
		z := n.stored(l.z, h.T != 0 || w.T != 0)
		kernel.ConvForward(s, n.work, g, h.Slice(0, g.N, g.H, g.W, g.C), w, n.output(z))
		scale, shift := n.affine(l, z)
		h = n.stored(l.h, n.pass.dual())
		kernel.ActForward(s, a, z, scale, shift, tensor.Tensor{}, n.output(h), l.idx)
		r.End()
	}
	return h
}

// Loss computes the cross entropy of each sample [n] and the gradient of its sum with
// respect to the logits [n,K], for the logits of the last forward pass.
func (n *Net) Loss(labels device.Ptr) (loss, dlogits tensor.Tensor) {
	logits := n.stored(n.logits, n.pass.dual())
	loss, dlogits = n.stored(n.loss, n.pass.dual()), n.stored(n.dlogits, n.pass.dual())
	kernel.SoftmaxXent(n.s, n.n, n.spec.Classes, logits, labels, n.output(loss), n.output(dlogits))
	return loss, dlogits
}

// Backward propagates dlogits [n,K], the gradient with respect to the logits of the last
// forward pass. It writes the gradient summed over the batch to dtheta [|θ|] and the input's
// gradient to dx [n,H,W,C]; either may be absent. After a dual pass the tangents are written
// too, where the destination has room for them. After a replay the primals of the last
// Backward must still be in place, and only tangents are written.
func (n *Net) Backward(dlogits, dtheta, dx tensor.Tensor) {
	s := n.s
	if s.Err() != nil {
		return
	}
	defer s.Range("backward").End()
	dual, replay := n.pass.dual(), n.pass.Replay
	if !dual {
		dlogits, dtheta, dx = dlogits.Primal(), dtheta.Primal(), dx.Primal()
	}
	if replay {
		dtheta.P = 0
	}
	wantTheta := dtheta.P != 0 || dtheta.T != 0
	wantX := dx.P != 0 || dx.T != 0
	dh := dlogits
	for i := len(n.layers) - 1; i >= 0; i-- {
		l := n.layers[i]
		r := s.Range(l.name)
		g, a := l.at(n.n)
		h := n.input(i)
		dz := n.backwardAct(l, a, dh, dtheta, wantTheta)
		if wantTheta {
			kernel.ConvBackwardWeight(s, n.work, g, h.Slice(0, g.N, g.H, g.W, g.C), dz, n.param(dtheta, l.weight))
		}
		if i == 0 && !wantX {
			r.End()
			return
		}
		target := n.dxn
		if i > 0 {
			target = n.layers[i-1].dh
		}
		dh = n.stored(target, dual)
		kernel.ConvBackwardData(s, n.work, g, dz, n.param(n.pass.Theta, l.weight), n.output(dh).Slice(0, g.N, g.H, g.W, g.C))
		r.End()
	}
	in := kernel.Act{N: n.n, H: n.spec.H, W: n.spec.W, C: n.spec.C, Pool: 1}
	if replay {
		dx.P = 0
	}
	kernel.ActBackward(s, in, dh, tensor.Tensor{}, n.inScale, tensor.Tensor{}, tensor.Tensor{}, 0, dx, tensor.Tensor{})
}

// backwardAct goes back through pooling, ReLU and the affine map of l: from dh, the gradient
// of its output, to the gradient of z, the convolution's output. It writes the gradients of
// the bias or of batch norm's parameters on the way.
func (n *Net) backwardAct(l *layer, a kernel.Act, dh, dtheta tensor.Tensor, wantTheta bool) tensor.Tensor {
	s, dual := n.s, n.pass.dual()
	z := n.stored(l.z, dual)
	dz := n.stored(l.dz, dual)
	none := tensor.Tensor{}
	if l.bn == "" {
		if wantTheta {
			kernel.ActBackwardReduce(s, n.work, a, dh, z, l.idx, none, n.param(dtheta, l.bias))
		}
		if l.idx == 0 { // neither ReLU nor pooling: dz is dh
			return dh
		}
		kernel.ActBackward(s, a, dh, none, none, none, none, l.idx, n.output(dz), none)
		return dz
	}
	gamma := n.param(n.pass.Theta, l.bn+".weight")
	training := n.pass.Mode == Train
	mean, variance := channels(l.mean, dual && training), channels(l.variance, dual && training)
	scale := channels(l.scale, dual)
	dscale, dshift := channels(l.dscale, dual), channels(l.dshift, dual)
	if wantTheta || training {
		kernel.ActBackwardReduce(s, n.work, a, dh, z, l.idx, dscale, dshift)
		dgamma := channels(l.dgamma, dual)
		if wantTheta {
			dgamma = n.param(dtheta, l.bn+".weight")
			dbeta := n.param(dtheta, l.bn+".bias")
			if dbeta.P != 0 {
				s.Copy(dbeta.P, dshift.P, 4*a.C)
			}
			if dbeta.T != 0 {
				s.Copy(dbeta.T, dshift.T, 4*a.C)
			}
		}
		p, q := none, none
		if training {
			p, q = channels(l.p, dual), channels(l.q, dual)
		}
		kernel.BNBackward(s, a.N*a.H*a.W, a.C, mean, variance, gamma, bnEpsilon, dscale, dshift, dgamma, p, q)
		if training {
			kernel.ActBackward(s, a, dh, z, scale, p, q, l.idx, n.output(dz), none)
			return dz
		}
	}
	kernel.ActBackward(s, a, dh, none, scale, none, none, l.idx, n.output(dz), none)
	return dz
}

// affine returns the per-channel scale and shift after the convolution: a bias, or batch norm.
func (n *Net) affine(l *layer, z tensor.Tensor) (scale, shift tensor.Tensor) {
	theta := n.pass.Theta
	if l.bn == "" {
		return tensor.Tensor{}, n.param(theta, l.bias)
	}
	_, a := l.at(n.n)
	dual := n.pass.dual()
	mean, variance := channels(l.mean, dual && n.pass.Mode == Train), channels(l.variance, dual && n.pass.Mode == Train)
	if n.pass.Mode == Train {
		kernel.BNStats(n.s, n.work, a.N*a.H*a.W, a.C, z, mean, variance)
	} else if !n.pass.Replay {
		rm, rv := n.buffers[l.bn+".running_mean"], n.buffers[l.bn+".running_var"]
		n.s.Copy(mean.P, n.pass.Running.Add(4*rm.Off), 4*rm.Len)
		n.s.Copy(variance.P, n.pass.Running.Add(4*rv.Off), 4*rv.Len)
	}
	scale, shift = channels(l.scale, dual), channels(l.shift, dual)
	kernel.BNAffine(n.s, a.C, mean, variance, n.param(theta, l.bn+".weight"), n.param(theta, l.bn+".bias"), bnEpsilon, scale, shift)
	return scale, shift
}

// UpdateRunning moves the running statistics of batch norm by momentum towards those of the
// last forward pass, which was in Train mode. Without batch norm it does nothing.
func (n *Net) UpdateRunning(running device.Ptr) {
	for _, l := range n.layers {
		if l.bn == "" {
			continue
		}
		_, a := l.at(n.n)
		rm, rv := n.buffers[l.bn+".running_mean"], n.buffers[l.bn+".running_var"]
		kernel.BNRunning(n.s, a.N*a.H*a.W, a.C, bnMomentum, l.mean.P, l.variance.P, running.Add(4*rm.Off), running.Add(4*rv.Off))
	}
}

// Features returns the penultimate activations [n, 4·width] of the last forward pass.
func (n *Net) Features() tensor.Tensor {
	l := n.layers[len(n.layers)-2]
	return n.stored(l.h, n.pass.dual()).Slice(0, n.n, l.act.C)
}

// input returns the input of layer i in the last forward pass.
func (n *Net) input(i int) tensor.Tensor {
	if i == 0 {
		return n.stored(n.xn, n.pass.X.T != 0)
	}
	return n.stored(n.layers[i-1].h, n.pass.dual())
}

// at returns l's geometry for a batch of size b.
func (l *layer) at(b int) (kernel.Conv, kernel.Act) {
	g, a := l.conv, l.act
	g.N, a.N = b, b
	return g, a
}

// stored returns the first n samples of a batch's buffer, with its tangent if asked.
func (n *Net) stored(t tensor.Tensor, tangent bool) tensor.Tensor {
	return channels(t.Slice(0, append([]int{n.n}, t.Shape[1:]...)...), tangent)
}

// channels returns a per-channel buffer, with its tangent if asked.
func channels(t tensor.Tensor, tangent bool) tensor.Tensor {
	if !tangent {
		return t.Primal()
	}
	return t
}

// output is t as a destination: without its primal in a replay, which has it already.
func (n *Net) output(t tensor.Tensor) tensor.Tensor {
	if n.pass.Replay {
		return t.TangentOnly()
	}
	return t
}

// param returns the named slice of a flat vector over the parameters, in the device's shape.
func (n *Net) param(flat tensor.Tensor, name string) tensor.Tensor {
	p := n.params[name]
	return flat.Slice(p.Off, p.Len)
}

func (n *Net) check(p Pass) error {
	x := p.X.Shape
	switch {
	case len(x) != 4 || x[1] != n.spec.H || x[2] != n.spec.W || x[3] != n.spec.C:
		return fmt.Errorf("nn: input has shape %v; the network wants [n,%d,%d,%d]", x, n.spec.H, n.spec.W, n.spec.C)
	case x[0] < 1 || x[0] > n.batch:
		return fmt.Errorf("nn: a batch of %d samples; the network has room for 1 to %d", x[0], n.batch)
	case p.Theta.Len() != n.spec.NumParams():
		return fmt.Errorf("nn: %d parameters; the network has %d", p.Theta.Len(), n.spec.NumParams())
	case p.dual() && !n.opt.Dual:
		return fmt.Errorf("nn: a pass in dual numbers on a network without room for tangents (Options.Dual)")
	case p.Replay && (!p.dual() || p.X.Shape[0] != n.n):
		return fmt.Errorf("nn: a replay wants a tangent and the batch of the pass before it (%d samples, this one %d)", n.n, p.X.Shape[0])
	case n.spec.BatchNorm && p.Mode == Eval && p.Running == 0:
		return fmt.Errorf("nn: batch norm in evaluation mode wants the running statistics")
	case n.spec.BatchNorm && p.Mode == Train && p.X.Shape[0]*n.layers[2].act.H*n.layers[2].act.W < 2:
		return fmt.Errorf("nn: batch norm in training mode wants more than one value per channel")
	}
	return nil
}

// LossBuffer returns the address of the last pass's losses, float32 [n].
func (n *Net) LossBuffer() device.Ptr { return n.loss.P }
