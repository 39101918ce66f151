package nn

import (
	"fmt"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// A Persample finds the gradient of each sample's own loss with respect to the parameters, from
// what a forward and a backward pass of its Net have left behind. That needs samples which do not
// influence each other: evaluation mode, or no batch norm.
type Persample struct {
	n    *Net
	work *kernel.Workspace
	// [n,C]: a row a sample of the gradients of batch norm's weight, and of its or the layer's bias.
	scale, shift device.Ptr
}

// NewPersample allocates what the per-sample gradients of n need.
func NewPersample(n *Net) *Persample {
	p := &Persample{n: n}
	bytes, channels := 0, 0
	for _, l := range n.layers {
		if g, a := l.at(n.batch); l.mapped() {
			bytes, channels = max(bytes, kernel.PersampleBytes(n.s, g)), max(channels, a.C)
		} else if l.norm() {
			channels = max(channels, a.C)
		}
	}
	p.work = kernel.NewWorkspace(n.s, bytes)
	p.scale, p.shift = n.s.Alloc(4*n.batch*channels), n.s.Alloc(4*n.batch*channels)
	return p
}

// ready checks that the last pass has a gradient for each sample.
func (p *Persample) ready() bool {
	n := p.n
	if n.s.Err() != nil {
		return false
	}
	switch {
	case !n.opt.Persample:
		n.s.Fail(fmt.Errorf("nn: per-sample gradients need what the network has not kept (Options.Persample)"))
	case n.pass.Mode == Train && n.graph.rows() > 0:
		n.s.Fail(fmt.Errorf("nn: no gradient belongs to one sample in training mode with batch norm"))
	case n.pass.Mode == Train && n.spec.Dropout > 0:
		n.s.Fail(fmt.Errorf("nn: per-sample gradients in training mode with dropout: each sample has a network of its own"))
	}
	return n.s.Err() == nil
}

// SqNorm writes ‖∇_θ l_i‖² of the n samples of the last passes to out[n]. dlogits is what Backward
// was given. No gradient is formed.
func (p *Persample) SqNorm(dlogits tensor.Tensor, out device.Ptr) {
	if !p.ready() {
		return
	}
	n := p.n
	n.s.Memset32(out, 0, n.n)
	add := func(c int, rows device.Ptr) { kernel.RowsDot(n.s, n.n, c, 1, rows, rows, true, out) }
	for _, l := range n.layers {
		g, a := l.at(n.n)
		dh, dz := p.gradients(l, dlogits)
		if l.mapped() {
			kernel.PersampleSqNorm(n.s, g, n.value(l.from).P, dz, out, p.work)
		}
		if l.bias.Len > 0 {
			p.bias(a, dz, p.shift, a.C)
			add(a.C, p.shift)
		}
		if l.norm() {
			p.norm(l, a, dh, p.scale, p.shift, a.C)
			add(a.C, p.shift)
			add(a.C, p.scale)
		}
	}
}

// Grad writes ∇_θ l_i of the n samples of the last passes to out[n,|θ|].
func (p *Persample) Grad(dlogits tensor.Tensor, out device.Ptr) {
	if !p.ready() {
		return
	}
	n, size := p.n, p.n.graph.numParams()
	at := func(q Param) device.Ptr { return out.Add(4 * q.Off) }
	for _, l := range n.layers {
		g, a := l.at(n.n)
		dh, dz := p.gradients(l, dlogits)
		if l.mapped() {
			kernel.PersampleGrad(n.s, g, n.value(l.from).P, dz, at(l.weight), size, p.work)
		}
		if l.bias.Len > 0 {
			p.bias(a, dz, at(l.bias), size)
		}
		if l.norm() {
			p.norm(l, a, dh, at(l.gamma), at(l.beta), size)
		}
	}
}

// gradients are those of l's output and of the output of its linear map.
func (p *Persample) gradients(l *layer, dlogits tensor.Tensor) (dh, dz device.Ptr) {
	if dh = l.dh.P; dh == 0 {
		dh = dlogits.P
	}
	if l.passes() {
		return dh, dh
	}
	return dh, l.dz.P
}

// bias writes each sample's gradient of the bias, in rows stride apart.
func (p *Persample) bias(a kernel.Act, dz, out device.Ptr, stride int) {
	kernel.PersampleAffine(p.n.s, kernel.Act{N: a.N, H: a.H, W: a.W, C: a.C}, dz, 0, 0, 0, out, stride)
}

// norm writes each sample's gradient of batch norm's weight and bias, in rows stride apart.
func (p *Persample) norm(l *layer, a kernel.Act, dh, scale, shift device.Ptr, stride int) {
	s := p.n.s
	kernel.PersampleAffine(s, a, dh, p.n.linear(l).P, l.idx, scale, shift, stride)
	kernel.PersampleNorm(s, a.N, a.C, l.mean.P, l.variance.P, Epsilon, scale, shift, stride)
}
