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
		g, a := l.at(n.batch)
		bytes, channels = max(bytes, kernel.PersampleBytes(n.s, g)), max(channels, a.C)
	}
	p.work = kernel.NewWorkspace(n.s, bytes)
	p.scale, p.shift = n.s.Alloc(4*n.batch*channels), n.s.Alloc(4*n.batch*channels)
	return p
}

// ready checks that the last pass has a gradient for each sample.
func (p *Persample) ready() bool {
	n := p.n
	if n.s.Err() == nil && n.opt.Reuse {
		n.s.Fail(fmt.Errorf("nn: per-sample gradients need every layer's memory (no Options.Reuse)"))
	}
	if n.s.Err() == nil && n.spec.BatchNorm && n.pass.Mode == Train {
		n.s.Fail(fmt.Errorf("nn: no gradient belongs to one sample in training mode with batch norm"))
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
	for i, l := range n.layers {
		g, a := l.at(n.n)
		dz := p.dz(i, dlogits)
		kernel.PersampleSqNorm(n.s, g, n.input(i).P, dz, out, p.work)
		p.affine(l, dz, p.scale, p.shift, a.C)
		kernel.RowsDot(n.s, n.n, a.C, 1, p.shift, p.shift, true, out)
		if l.bn != "" {
			kernel.RowsDot(n.s, n.n, a.C, 1, p.scale, p.scale, true, out)
		}
	}
}

// Grad writes ∇_θ l_i of the n samples of the last passes to out[n,|θ|].
func (p *Persample) Grad(dlogits tensor.Tensor, out device.Ptr) {
	if !p.ready() {
		return
	}
	n, size := p.n, p.n.spec.NumParams()
	at := func(name string) device.Ptr { return out.Add(4 * n.params[name].Off) }
	for i, l := range n.layers {
		g, _ := l.at(n.n)
		dz := p.dz(i, dlogits)
		kernel.PersampleGrad(n.s, g, n.input(i).P, dz, at(l.weight), size, p.work)
		if l.bn == "" {
			p.affine(l, dz, 0, at(l.bias), size)
		} else {
			p.affine(l, dz, at(l.bn+".weight"), at(l.bn+".bias"), size)
		}
	}
}

// dz is the gradient with respect to the output of layer i's linear map.
func (p *Persample) dz(i int, dlogits tensor.Tensor) device.Ptr {
	if l := p.n.layers[i]; l.idx != 0 {
		return l.dz.P
	}
	return dlogits.P
}

// affine writes each sample's gradient of batch norm's weight and bias, or of the layer's bias alone,
// in rows stride apart.
func (p *Persample) affine(l *layer, dz, scale, shift device.Ptr, stride int) {
	n := p.n
	_, a := l.at(n.n)
	if l.bn == "" {
		kernel.PersampleAffine(n.s, kernel.Act{N: a.N, H: a.H, W: a.W, C: a.C, Pool: 1}, dz, 0, 0, 0, shift, stride)
		return
	}
	kernel.PersampleAffine(n.s, a, l.dh.P, l.z.P, l.idx, scale, shift, stride)
	kernel.PersampleNorm(n.s, a.N, a.C, l.mean.P, l.variance.P, bnEpsilon, scale, shift, stride)
}
