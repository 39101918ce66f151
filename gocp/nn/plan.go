package nn

import (
	"slices"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// A buffer is memory that is in use from one moment of a pass to another. Layer i's forward is moment i,
// its backward 2N−1−i of a network of N layers; what outlives the pass is in use until 2N.
type buffer struct {
	bytes    int
	from, to int
	tangent  bool
	users    []*device.Ptr // who are told its address
	offset   int
}

// A plan knows who reads what, and when for the last time. Buffers that are in use at different moments
// share memory.
type plan struct {
	n       *Net
	buffers []*buffer
}

func (p *plan) forward(l *layer) int  { return l.number }
func (p *plan) backward(l *layer) int { return 2*len(p.n.layers) - 1 - l.number }
func (p *plan) forever() int          { return 2 * len(p.n.layers) }

func (p *plan) buffer(bytes, from int) *buffer {
	b := &buffer{bytes: bytes, from: from, to: from}
	p.buffers = append(p.buffers, b)
	return b
}

// until keeps b in use until t.
func (b *buffer) until(t int) { b.to = max(b.to, t) }

// A pair is the two planes of an array; without dual numbers it has no tangent.
type pair struct {
	dims            []int
	primal, tangent *buffer
}

func (p *plan) array(from int, dims ...int) pair {
	bytes := 4
	for _, d := range dims {
		bytes *= d
	}
	x := pair{dims: dims, primal: p.buffer(bytes, from)}
	if p.n.opt.Dual {
		x.tangent = p.buffer(bytes, from)
		x.tangent.tangent = true
	}
	return x
}

func (x pair) absent() bool { return x.primal == nil }

// until keeps both planes in use until t.
func (x pair) until(t int) {
	if x.primal.until(t); x.tangent != nil {
		x.tangent.until(t)
	}
}

// is makes t this array.
func (x pair) is(t *tensor.Tensor) {
	t.Shape = x.dims
	x.primal.users = append(x.primal.users, &t.P)
	if x.tangent != nil {
		x.tangent.users = append(x.tangent.users, &t.T)
	}
}

// memory plans what the layers keep, and allocates it.
func (n *Net) memory() *plan {
	p := &plan{n: n}
	back := !n.opt.Forward
	kept := n.opt.Dual || n.opt.Persample // a replay, or per-sample gradients, read primals after the pass
	last := n.layers[len(n.layers)-1]
	outputs := make([]pair, len(n.layers))
	read := func(x pair, t int) { // in the backward pass
		if x.until(t); kept {
			x.primal.until(p.forever())
		}
	}
	for i, l := range n.layers {
		h := p.array(p.forward(l), l.out.batch(n.batch)...)
		outputs[i] = h
		if h.is(&l.h); l == last || l == last.from {
			h.primal.until(p.forever())
		}
		if l.from != nil {
			x := outputs[l.from.number]
			if x.until(p.forward(l)); back && (l.mapped() || l.norm()) { // a factor of the weights' gradient, or z
				read(x, p.backward(l))
			}
		}
		if l.add != nil {
			outputs[l.add.number].until(p.forward(l))
		}
		if l.act.Indexed() && back {
			idx := p.buffer(l.out.len()*n.batch, p.forward(l))
			read(pair{primal: idx}, p.backward(l))
			idx.users = []*device.Ptr{&l.idx}
		}
		if !l.mapped() {
			continue
		}
		dims := []int{n.batch, l.act.H, l.act.W, l.act.C}
		z := h
		if l.act.Pool > 1 || l.norm() && back { // otherwise the output takes its place
			z = p.array(p.forward(l), dims...)
		}
		z.is(&l.z)
		if !back {
			continue
		}
		if l.norm() {
			read(z, p.backward(l))
		}
		if l.passes() { // dz is dh
			continue
		}
		dz := z
		if !l.norm() || kept {
			dz = p.array(p.backward(l), dims...)
		}
		dz.is(&l.dz)
		read(dz, p.backward(l))
	}
	if back {
		p.gradients(kept)
	}
	p.allocate()
	return p
}

// gradients plans those of the outputs, in the order in which the backward pass writes them. The first
// reader of an output writes its gradient, others add to it from memory of their own.
func (p *plan) gradients(kept bool) {
	layers := p.n.layers
	grads := make([]pair, len(layers))
	write := func(l, target *layer, scratch *tensor.Tensor) (first bool) {
		x := p.array(p.backward(l), target.out.batch(p.n.batch)...)
		if first = grads[target.number].absent(); first {
			grads[target.number] = x
		} else {
			x.is(scratch)
		}
		return first
	}
	for i := len(layers) - 1; i >= 0; i-- {
		l, own := layers[i], grads[i]
		if !own.absent() { // the last one's is the caller's
			own.is(&l.dh)
			own.until(p.backward(l))
			if p.n.opt.Persample || p.n.opt.Dual && (l.norm() || l.mapped() && l.passes()) {
				own.primal.until(p.forever())
			}
		}
		switch {
		case l.add == nil:
		case grads[l.add.number].absent() && !own.absent() && l.act.Pool <= 1 && !kept:
			grads[l.add.number], l.addFirst = own, true // r's takes the place of h's
		default:
			l.addFirst = write(l, l.add, &l.addGrad)
		}
		if l.from != nil {
			l.fromFirst = write(l, l.from, &l.fromGrad)
		}
	}
}

// align is what addresses are multiples of.
const align = 256

// meet reports whether two buffers are in use at once. A replay writes tangents from moment 0 on while the
// primals that outlived the pass before it are still in use.
func (p *plan) meet(a, b *buffer) bool {
	if a.tangent != b.tangent && max(a.to, b.to) == p.forever() {
		return true
	}
	return a.from <= b.to && b.from <= a.to
}

// allocate places the buffers, the largest first, each where it fits below those that are in use with
// it, and tells everybody the addresses.
func (p *plan) allocate() {
	slices.SortStableFunc(p.buffers, func(a, b *buffer) int { return b.bytes - a.bytes })
	var placed []*buffer // by offset
	size := 0
	for _, b := range p.buffers {
		b.bytes = (b.bytes + align - 1) / align * align
		for _, o := range placed {
			if p.meet(o, b) && o.offset < b.offset+b.bytes {
				b.offset = max(b.offset, o.offset+o.bytes)
			}
		}
		at, _ := slices.BinarySearchFunc(placed, b, func(x, y *buffer) int { return x.offset - y.offset })
		placed = slices.Insert(placed, at, b)
		size = max(size, b.offset+b.bytes)
	}
	p.n.bytes = size
	arena := p.n.s.Alloc(size)
	if arena == 0 {
		return
	}
	for _, b := range placed {
		for _, address := range b.users {
			*address = arena.Add(b.offset)
		}
	}
}
