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
	Draws   Draws         // of dropout, in Train

	// Replay computes tangents alone: the primals are still those of the last pass, which
	// had the same Theta.P, X.P, Mode and Draws. It halves the work of a dual pass that follows a float one.
	Replay bool
}

// Draws address the random numbers of dropout. The same seed and step give the same ones: the step may
// only change between a pass and what follows it.
type Draws struct {
	Seed uint64
	Step device.Ptr // uint64
}

func (p Pass) dual() bool { return p.Theta.T != 0 || p.X.T != 0 }

// Forward runs the network and returns the logits [n,K]. The Net keeps what Backward needs.
func (n *Net) Forward(p Pass) tensor.Tensor {
	if n.s.Err() == nil {
		if err := n.check(p); err != nil {
			n.s.Fail(err)
		}
	}
	if n.s.Err() != nil {
		return tensor.Tensor{Shape: []int{n.n, n.spec.Classes}}
	}
	n.pass, n.n = p, p.X.Shape[0]
	defer n.s.Range("forward").End()
	for _, l := range n.layers {
		r := n.s.Range(l.label)
		n.forward(l)
		r.End()
	}
	return n.logits()
}

func (n *Net) forward(l *layer) {
	s, p := n.s, n.pass
	g, a := l.at(n.n)
	h, none := n.value(l), tensor.Tensor{}
	switch l.kind {
	case kindImage:
		if !p.Replay || p.X.T != 0 {
			kernel.ActForward(s, a, p.X, n.inScale, n.inShift, none, n.output(h), 0)
		}
		return
	case kindAverage:
		n.average(l, kernel.AvgPoolForward, n.value(l.from), h)
	default:
		x := n.value(l.from)
		z := x
		if l.mapped() {
			w := n.param(p.Theta, l.weight)
			z = n.stored(l.z, x.T != 0 || w.T != 0)
			kernel.ConvForward(s, n.work, g, x.Slice(0, g.N, g.H, g.W, g.C), w, n.output(z))
		}
		scale, shift := n.affine(l, z)
		r := none
		if l.add != nil {
			r = n.value(l.add)
		}
		idx := n.chosen(l)
		if l.hBack != 0 && !p.Replay { // the backward pass makes both again
			idx = 0
		}
		kernel.ActForward(s, a, z, scale, shift, r, n.remade(n.output(h), l.hAgain), idx)
	}
	if n.drops(l) {
		kernel.Dropout(s, p.Draws.Seed, l.drops, p.Draws.Step, l.Dropout, n.output(h), n.output(h))
	}
}

// chosen is l's index of chosen inputs.
func (n *Net) chosen(l *layer) device.Ptr {
	if n.pass.Replay && l.idxAgain != 0 {
		return l.idxAgain
	}
	return l.idx
}

// again makes l's output once more, from z, for the backward pass of the layer that reads it.
func (n *Net) again(l *layer) tensor.Tensor {
	_, a := l.at(n.n)
	h := n.stored(tensor.Tensor{Shape: l.h.Shape, P: l.hBack}, false)
	kernel.ActForward(n.s, a, n.stored(l.z, false), l.scale.Primal(), l.shift.Primal(), tensor.Tensor{}, h, l.idx)
	return h
}

// average launches one of the two passes of average pooling.
func (n *Net) average(l *layer, launch func(*device.Stream, kernel.AvgPool, tensor.Tensor, tensor.Tensor), from, to tensor.Tensor) {
	a := l.avg
	a.N = n.n
	launch(n.s, a, from, n.output(to))
}

// drops reports whether this pass has dropout at the end of l.
func (n *Net) drops(l *layer) bool { return l.Dropout > 0 && n.pass.Mode == Train }

// Loss computes the cross entropy of each sample [n] and the gradient of its sum with
// respect to the logits [n,K], for the logits of the last forward pass.
func (n *Net) Loss(labels device.Ptr) (loss, dlogits tensor.Tensor) {
	loss, dlogits = n.stored(n.loss, n.pass.dual()), n.stored(n.dlogits, n.pass.dual())
	kernel.SoftmaxXent(n.s, n.n, n.spec.Classes, n.logits(), labels, n.output(loss), n.output(dlogits))
	return loss, dlogits
}

// Backward propagates dlogits [n,K], the gradient with respect to the logits of the last
// forward pass. It writes the gradient summed over the batch to dtheta [|θ|] and the input's
// gradient to dx [n,H,W,C]; either may be absent. After a dual pass the tangents are written
// too, where the destination has room for them. After a replay the primals of the last
// Backward must still be in place, and only tangents are written.
func (n *Net) Backward(dlogits, dtheta, dx tensor.Tensor) {
	s := n.s
	if s.Err() == nil && n.opt.Forward {
		s.Fail(fmt.Errorf("nn: a backward pass on a network for forward passes (Options.Forward)"))
	}
	if s.Err() != nil {
		return
	}
	defer s.Range("backward").End()
	if !n.pass.dual() {
		dlogits, dtheta, dx = dlogits.Primal(), dtheta.Primal(), dx.Primal()
	}
	if n.pass.Replay {
		dtheta.P, dx.P = 0, 0
	}
	if n.opt.Mixed && n.pass.Replay && !dtheta.Absent() {
		s.Fail(fmt.Errorf("nn: the parameters' gradient in the replay of a mixed derivative (Options.Mixed)"))
		return
	}
	for i := len(n.layers) - 1; i >= 0; i-- {
		l := n.layers[i]
		if l.kind == kindImage && dx.Absent() {
			continue
		}
		dh := dlogits
		if i < len(n.layers)-1 {
			dh = n.stored(l.dh, n.pass.dual())
		}
		r := s.Range(l.label)
		n.backward(l, dh, dtheta, dx)
		r.End()
	}
}

// backward goes back through l from dh, the gradient of its output.
func (n *Net) backward(l *layer, dh, dtheta, dx tensor.Tensor) {
	s := n.s
	g, a := l.at(n.n)
	none := tensor.Tensor{}
	if n.drops(l) {
		kernel.Dropout(s, n.pass.Draws.Seed, l.drops, n.pass.Draws.Step, l.Dropout, n.output(dh), n.output(dh))
	}
	// wanted says whether anybody asks for the gradient of an output.
	wanted := func(l *layer) bool { return l != nil && (l.kind != kindImage || !dx.Absent()) }
	switch {
	case l.kind == kindImage:
		kernel.ActBackward(s, a, dh, none, n.inScale, none, none, 0, dx, none)
		return
	case l.kind == kindAverage:
		if wanted(l.from) {
			to := n.sink(l.from, l.fromFirst, l.fromGrad)
			n.average(l, kernel.AvgPoolBackward, dh, to)
			n.settle(l.from, l.fromFirst, to)
		}
		return
	}
	x := tensor.Tensor{}
	if l.mapped() {
		if x = n.value(l.from); l.from.hBack != 0 && !n.pass.Replay {
			x = n.again(l.from)
		}
	}
	scale, p, q := n.backwardAffine(l, a, dh, dtheta)
	dr := none
	if wanted(l.add) {
		if l.act.Indexed() {
			dr = n.sink(l.add, l.addFirst, l.addGrad)
		} else {
			n.hand(l.add, l.addFirst, dh)
		}
	}
	wantX := wanted(l.from)
	dz := dh // of what is not mapped: the gradient of x
	switch {
	case !l.mapped() && !wantX:
		dz = none
	case !l.mapped() && l.passes():
		n.hand(l.from, l.fromFirst, dh)
	case !l.mapped():
		dz = n.sink(l.from, l.fromFirst, l.fromGrad)
	case !l.passes():
		dz = n.remade(n.stored(l.dz, n.pass.dual()), l.dzAgain)
	}
	if !l.passes() && !(dz.Absent() && dr.Absent()) {
		kernel.ActBackward(s, a, dh, n.linear(l), scale, p, q, n.chosen(l), n.remade(n.output(dz), l.dzAgain), n.output(dr))
	}
	if !dr.Absent() {
		n.settle(l.add, l.addFirst, dr)
	}
	if !l.mapped() {
		if wantX && !l.passes() {
			n.settle(l.from, l.fromFirst, dz)
		}
		return
	}
	if !dtheta.Absent() {
		kernel.ConvBackwardWeight(s, n.work, g, x.Slice(0, g.N, g.H, g.W, g.C), dz, n.param(dtheta, l.weight))
	}
	if wantX {
		to := n.sink(l.from, l.fromFirst, l.fromGrad)
		kernel.ConvBackwardData(s, n.work, g, dz, n.param(n.pass.Theta, l.weight), n.output(to).Slice(0, g.N, g.H, g.W, g.C))
		n.settle(l.from, l.fromFirst, to)
	}
}

// sink is where a reader writes its part of the gradient of l's output: the first into its place.
func (n *Net) sink(l *layer, first bool, scratch tensor.Tensor) tensor.Tensor {
	if first {
		return n.stored(l.dh, n.pass.dual())
	}
	return n.stored(scratch, n.pass.dual())
}

// settle adds what a reader wrote to a sink, unless it was the first.
func (n *Net) settle(l *layer, first bool, part tensor.Tensor) {
	if !first {
		kernel.Add(n.s, n.output(part), n.output(n.stored(l.dh, n.pass.dual())))
	}
}

// hand makes dh a reader's part of the gradient of l's output.
func (n *Net) hand(l *layer, first bool, dh tensor.Tensor) {
	if !first {
		n.settle(l, first, dh)
		return
	}
	from, to := n.output(dh), n.output(n.stored(l.dh, n.pass.dual()))
	if to.P != 0 && to.P != from.P {
		n.s.Copy(to.P, from.P, 4*to.Len())
	}
	if to.T != 0 && to.T != from.T {
		n.s.Copy(to.T, from.T, 4*to.Len())
	}
}

// backwardAffine writes the gradients of l's bias and of batch norm's parameters to dtheta, and returns
// what dz = scale·dy + p·z + q wants.
func (n *Net) backwardAffine(l *layer, a kernel.Act, dh, dtheta tensor.Tensor) (scale, p, q tensor.Tensor) {
	s, dual, wantTheta := n.s, n.pass.dual(), !dtheta.Absent()
	none := tensor.Tensor{}
	if !l.norm() {
		if wantTheta && l.bias.Len > 0 {
			kernel.ActBackwardReduce(s, n.work, a, dh, none, n.chosen(l), none, n.param(dtheta, l.bias))
		}
		return none, none, none
	}
	training := n.pass.Mode == Train
	scale = channels(l.scale, dual)
	if !wantTheta && !training {
		return scale, none, none
	}
	dscale, dshift, dgamma := channels(l.dscale, dual), channels(l.dshift, dual), channels(l.dgamma, dual)
	kernel.ActBackwardReduce(s, n.work, a, dh, n.linear(l), n.chosen(l), dscale, dshift)
	if wantTheta {
		dgamma = n.param(dtheta, l.gamma)
		dbeta := n.param(dtheta, l.beta)
		if dbeta.P != 0 {
			s.Copy(dbeta.P, dshift.P, 4*a.C)
		}
		if dbeta.T != 0 {
			s.Copy(dbeta.T, dshift.T, 4*a.C)
		}
		if l.bias.Len > 0 {
			n.backwardMoved(l, scale, dshift, n.param(dtheta, l.bias))
		}
	}
	if training {
		p, q = channels(l.p, dual), channels(l.q, dual)
	}
	mean, variance := n.statistics(l)
	kernel.BNBackward(s, a.N*a.H*a.W, a.C, mean, variance, n.param(n.pass.Theta, l.gamma), Epsilon, dscale, dshift, dgamma, p, q)
	return scale, p, q
}

// backwardMoved is the gradient of a bias in front of batch norm. In training it is zero: the mean takes
// the bias away again.
func (n *Net) backwardMoved(l *layer, scale, dshift, dbias tensor.Tensor) {
	if n.pass.Mode == Eval {
		kernel.Multiply(n.s, scale, dshift, dbias)
		return
	}
	for _, plane := range []device.Ptr{dbias.P, dbias.T} {
		if plane != 0 {
			n.s.Memset32(plane, 0, dbias.Len())
		}
	}
}

// affine returns the per-channel scale and shift after the linear map: a bias, or batch norm.
func (n *Net) affine(l *layer, z tensor.Tensor) (scale, shift tensor.Tensor) {
	p := n.pass
	if !l.norm() {
		if l.bias.Len == 0 {
			return tensor.Tensor{}, tensor.Tensor{}
		}
		return tensor.Tensor{}, n.param(p.Theta, l.bias)
	}
	_, a := l.at(n.n)
	mean, variance := n.statistics(l)
	if p.Mode == Train {
		kernel.BNStats(n.s, n.work, a.N*a.H*a.W, a.C, z, mean, variance)
	} else {
		n.running(l, mean, variance)
	}
	scale, shift = channels(l.scale, p.dual()), channels(l.shift, p.dual())
	kernel.BNAffine(n.s, a.C, mean, variance, n.param(p.Theta, l.gamma), n.param(p.Theta, l.beta), Epsilon, scale, shift)
	return scale, shift
}

// running sets the statistics to the running ones. z lacks the bias that stands before batch norm, so
// the mean must lack it too.
func (n *Net) running(l *layer, mean, variance tensor.Tensor) {
	p, bias := n.pass, n.param(n.pass.Theta, l.bias)
	if !p.Replay {
		n.s.Copy(mean.P, p.Running.Add(4*l.runMean.Off), 4*l.runMean.Len)
		n.s.Copy(variance.P, p.Running.Add(4*l.runVar.Off), 4*l.runVar.Len)
		if l.bias.Len > 0 {
			kernel.Axpby(n.s, kernel.Coef{Value: -1}, bias.P, kernel.Coef{Value: 1}, mean.P, l.bias.Len)
		}
	}
	if mean.T != 0 {
		kernel.Axpby(n.s, kernel.Coef{Value: -1}, bias.T, kernel.Coef{}, mean.T, l.bias.Len)
	}
}

// statistics are l's mean and variance, with their tangents where they have any: of the batch's, and of
// a running mean if a bias moves it.
func (n *Net) statistics(l *layer) (mean, variance tensor.Tensor) {
	training, bias := n.pass.Mode == Train, l.bias.Len > 0 && n.pass.Theta.T != 0
	return channels(l.mean, training && n.pass.dual() || bias), channels(l.variance, training && n.pass.dual())
}

// UpdateRunning moves the running statistics of batch norm by momentum towards those of the
// last forward pass, which was in Train mode. Without batch norm it does nothing.
func (n *Net) UpdateRunning(running device.Ptr) {
	for _, l := range n.layers {
		if !l.norm() {
			continue
		}
		_, a := l.at(n.n)
		mean := l.mean.P
		if l.bias.Len > 0 {
			mean = l.moved
			n.s.Copy(mean, l.mean.P, 4*a.C)
			kernel.Axpby(n.s, kernel.Coef{Value: 1}, n.param(n.pass.Theta, l.bias).P, kernel.Coef{Value: 1}, mean, a.C)
		}
		kernel.BNRunning(n.s, a.N*a.H*a.W, a.C, bnMomentum, mean, l.variance.P, running.Add(4*l.runMean.Off), running.Add(4*l.runVar.Off))
	}
}

// Features returns the penultimate activations of the last forward pass, [n, Spec.NumFeatures()]: what
// the last layer sees.
func (n *Net) Features() tensor.Tensor {
	return n.value(n.layers[len(n.layers)-1].from).Slice(0, n.n, n.graph.features())
}

// value is l's output in the last forward pass.
func (n *Net) value(l *layer) tensor.Tensor {
	return n.remade(n.stored(l.h, n.pass.X.T != 0 || n.pass.Theta.T != 0 && l.theta), l.hAgain)
}

// remade is t with the primal that a replay makes again, if it does.
func (n *Net) remade(t tensor.Tensor, again device.Ptr) tensor.Tensor {
	if n.pass.Replay && again != 0 {
		t.P = again
	}
	return t
}

// linear is the output of l's linear map, or what it reads if it has none.
func (n *Net) linear(l *layer) tensor.Tensor {
	if !l.mapped() {
		return n.value(l.from)
	}
	return n.stored(l.z, n.pass.dual())
}

func (n *Net) logits() tensor.Tensor {
	l := n.layers[len(n.layers)-1]
	return n.value(l).Slice(0, n.n, n.spec.Classes)
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

// param returns p's slice of a flat vector over the parameters, in the device's shape.
func (n *Net) param(flat tensor.Tensor, p Param) tensor.Tensor { return flat.Slice(p.Off, p.Len) }

func (n *Net) check(p Pass) error {
	x, rows := p.X.Shape, n.graph.rows()
	switch {
	case len(x) != 4 || x[1] != n.spec.H || x[2] != n.spec.W || x[3] != n.spec.C:
		return fmt.Errorf("nn: input has shape %v; the network wants [n,%d,%d,%d]", x, n.spec.H, n.spec.W, n.spec.C)
	case x[0] < 1 || x[0] > n.batch:
		return fmt.Errorf("nn: a batch of %d samples; the network has room for 1 to %d", x[0], n.batch)
	case p.Theta.Len() != n.graph.numParams():
		return fmt.Errorf("nn: %d parameters; the network has %d", p.Theta.Len(), n.graph.numParams())
	case p.dual() && !n.opt.tangents():
		return fmt.Errorf("nn: a pass in dual numbers on a network without room for tangents (Options.Dual)")
	case n.opt.Mixed && (p.Mode == Train || p.X.T != 0 || p.dual() != p.Replay):
		return fmt.Errorf("nn: a network for the mixed derivative (Options.Mixed) has room for passes in evaluation mode, in floats or as a replay along the parameters")
	case p.Replay && (!p.dual() || x[0] != n.n):
		return fmt.Errorf("nn: a replay wants a tangent and the batch of the pass before it (%d samples, this one %d)", n.n, x[0])
	case rows > 0 && p.Mode == Eval && p.Running == 0:
		return fmt.Errorf("nn: batch norm in evaluation mode wants the running statistics")
	case rows > 0 && p.Mode == Train && x[0]*rows < 2:
		return fmt.Errorf("nn: batch norm in training mode wants more than one value per channel")
	case p.Mode == Train && n.spec.Dropout > 0 && p.Draws.Step == 0:
		return fmt.Errorf("nn: dropout in training mode wants its draws")
	}
	return nil
}

// LossBuffer returns the address of the last pass's losses, float32 [n].
func (n *Net) LossBuffer() device.Ptr { return n.loss.P }
