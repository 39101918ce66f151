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
	ones device.Ptr    // [n,H,W]: a bias is the weight of a constant input
	rows tensor.Tensor // [n,C]: batch norm's gradients, a row a sample
}

// NewPersample allocates what the per-sample gradients of n need.
func NewPersample(n *Net) *Persample {
	p := &Persample{n: n}
	bytes, pixels, channels := 0, 1, 0
	for _, l := range n.layers {
		g, a := l.at(n.batch)
		bytes = max(bytes, kernel.PersampleBytes(g), kernel.PersampleBytes(l.constant(n.batch)))
		pixels = max(pixels, a.H*a.W)
		if l.bn != "" {
			channels = max(channels, a.C)
		}
	}
	p.work = kernel.NewWorkspace(n.s, bytes)
	p.ones = n.s.Alloc(4 * n.batch * pixels)
	n.s.Memset32(p.ones, 0x3f800000, n.batch*pixels)
	if channels > 0 {
		p.rows = tensor.New(n.s, n.batch, channels)
	}
	return p
}

// constant is the geometry in which l's bias is the weight of a one-channel input of ones.
func (l *layer) constant(b int) kernel.Conv {
	return kernel.Conv{N: b, H: l.act.H, W: l.act.W, C: 1, K: l.act.C, R: 1, S: 1, Stride: 1, Precision: l.conv.Precision}
}

// ready checks that the last pass has a gradient for each sample.
func (p *Persample) ready() bool {
	n := p.n
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
		if l.bn == "" {
			kernel.PersampleSqNorm(n.s, l.constant(n.n), p.ones, dz, out, p.work)
			continue
		}
		for _, gamma := range []bool{true, false} {
			p.norm(l, gamma)
			kernel.RowsDot(n.s, n.n, a.C, 1, p.rows.P, p.rows.P, true, out)
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
		g, a := l.at(n.n)
		dz := p.dz(i, dlogits)
		kernel.PersampleGrad(n.s, g, n.input(i).P, dz, at(l.weight), size, p.work)
		if l.bn == "" {
			kernel.PersampleGrad(n.s, l.constant(n.n), p.ones, dz, at(l.bias), size, p.work)
			continue
		}
		for _, gamma := range []bool{true, false} {
			name := l.bn + ".bias"
			if gamma {
				name = l.bn + ".weight"
			}
			p.norm(l, gamma)
			for b := 0; b < n.n; b++ {
				n.s.Copy(at(name).Add(4*b*size), p.rows.P.Add(4*b*a.C), 4*a.C)
			}
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

// norm writes each sample's gradient of batch norm's weight, or of its bias, to rows.
func (p *Persample) norm(l *layer, gamma bool) {
	n, none := p.n, tensor.Tensor{}
	_, a := l.at(1)
	in, out := a.H*a.W*a.C, (a.H/a.Pool)*(a.W/a.Pool)*a.C
	dscale, dshift := l.dscale.Primal(), l.dshift.Primal()
	for b := 0; b < n.n; b++ {
		row := p.rows.Slice(b*a.C, a.C)
		if !gamma {
			dshift = row
		}
		dh, z := l.dh.Primal().Slice(b*out, 1, a.H/a.Pool, a.W/a.Pool, a.C), l.z.Primal().Slice(b*in, 1, a.H, a.W, a.C)
		kernel.ActBackwardReduce(n.s, n.work, a, dh, z, l.idx.Add(b*out), dscale, dshift)
		if gamma {
			kernel.BNBackward(n.s, a.H*a.W, a.C, l.mean.Primal(), l.variance.Primal(), n.param(n.pass.Theta.Primal(), l.bn+".weight"),
				bnEpsilon, dscale, dshift, row, none, none)
		}
	}
}
