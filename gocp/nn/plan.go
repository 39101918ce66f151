package nn

import (
	"slices"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// A buffer is memory that is in use from one moment of a pass to another. Layer i's forward is moment i,
// its backward 2N−1−i of a network of N layers; what outlives the pass is in use until the end. Where
// memory is for the mixed derivative alone, its replay comes 2N moments later.
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
	replay  int // how much later the replay's moments are; 0 where replays may come at any time
}

func (p *plan) forward(l *layer) int  { return l.number }
func (p *plan) backward(l *layer) int { return 2*len(p.n.layers) - 1 - l.number }
func (p *plan) forever() int          { return 2*len(p.n.layers) + p.replay }

func (p *plan) buffer(bytes, from int) *buffer {
	b := &buffer{bytes: bytes, from: from, to: from}
	p.buffers = append(p.buffers, b)
	return b
}

// until keeps b in use until t.
func (b *buffer) until(t int) { b.to = max(b.to, t) }

// A pair is the two planes of an array; without dual numbers it has no tangent. Again is the primal where
// the replay of a mixed derivative makes it again; else the replay reads the one that is there.
type pair struct {
	dims                   []int
	primal, again, tangent *buffer
}

// array is one that is written at a moment of the pass, its tangent at that of the replay.
func (p *plan) array(from int, dims ...int) pair {
	x := pair{dims: dims, primal: p.buffer(size(dims), from)}
	if p.n.opt.tangents() {
		x.tangent = p.buffer(size(dims), from+p.replay)
		x.tangent.tangent = true
	}
	return x
}

func size(dims []int) int {
	bytes := 4
	for _, d := range dims {
		bytes *= d
	}
	return bytes
}

// remake gives x a primal that the replay writes at that moment of it.
func (p *plan) remake(x *pair, t int, at *device.Ptr) {
	x.again = p.buffer(size(x.dims), t+p.replay)
	x.again.users = []*device.Ptr{at}
}

func (x pair) absent() bool { return x.primal == nil }

// until keeps both planes in use until t of the pass, or of its replay.
func (p *plan) until(x pair, t int) {
	x.primal.until(t)
	if x.tangent != nil {
		x.tangent.until(t + p.replay)
	}
	switch {
	case x.again != nil:
		x.again.until(t + p.replay)
	case p.replay > 0:
		x.primal.until(t + p.replay)
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

// kept reports whether primals outlive the pass: for replays, or for per-sample gradients.
func (p *plan) kept() bool { return p.n.opt.Dual || p.n.opt.Persample }

// memory plans what the layers keep.
func (n *Net) memory() *plan {
	p := &plan{n: n}
	if n.opt.Mixed {
		p.replay = 2 * len(n.layers)
	}
	back, mixed := !n.opt.Forward, n.opt.Mixed
	last := n.layers[len(n.layers)-1]
	outputs := make([]pair, len(n.layers))
	redone := p.redone()
	read := func(x pair, t int) { // in the backward pass
		if p.until(x, t); p.kept() {
			x.primal.until(p.forever())
		}
	}
	for i, l := range n.layers {
		h := p.array(p.forward(l), l.out.batch(n.batch)...)
		if mixed && l.kind == kindLayer && !l.mapped() { // from what it reads
			p.remake(&h, p.forward(l), &l.hAgain)
		}
		outputs[i] = h
		if h.is(&l.h); l == last || l == last.from {
			h.primal.until(p.forever())
		}
		if l.from != nil {
			x := outputs[l.from.number]
			p.until(x, p.forward(l))
			switch wanted := l.mapped() || l.norm(); { // as a factor of the weights' gradient, or as z
			case redone[l.from.number] != nil:
				b := p.buffer(size(x.dims), p.backward(l))
				b.users = []*device.Ptr{&l.from.hBack}
			case wanted && mixed:
				x.primal.until(p.backward(l))
			case wanted && back:
				read(x, p.backward(l))
			}
		}
		if l.add != nil {
			p.until(outputs[l.add.number], p.forward(l))
		}
		if !l.mapped() {
			continue
		}
		dims := []int{n.batch, l.act.H, l.act.W, l.act.C}
		z := h
		switch inPlace := l.act.Pool <= 1; {
		case mixed && l.norm() && inPlace: // the replay reads z no more once h is made of it again
			z = pair{dims: dims, primal: p.buffer(size(dims), p.forward(l)), tangent: h.tangent}
			z.primal.users = []*device.Ptr{&l.hAgain}
			outputs[i].again = z.primal
		case l.norm() && back || !inPlace:
			z = p.array(p.forward(l), dims...)
			if mixed && l.norm() {
				p.remake(&outputs[i], p.forward(l), &l.hAgain)
			}
		} // else the output takes its place
		z.is(&l.z)
		if !back {
			continue
		}
		if l.norm() {
			if p.until(z, p.forward(l)); mixed {
				z.primal.until(p.backward(l))
			} else {
				read(z, p.backward(l))
			}
		}
		if l.passes() { // dz is dh
			continue
		}
		dz := z
		if !l.norm() || p.kept() || mixed {
			dz = p.array(p.backward(l), dims...)
		}
		if mixed {
			p.remake(&dz, p.backward(l), &l.dzAgain)
		}
		dz.is(&l.dz)
		read(dz, p.backward(l))
	}
	for _, x := range []struct {
		t    *tensor.Tensor
		dims []int
	}{{&n.loss, []int{n.batch}}, {&n.dlogits, []int{n.batch, n.spec.Classes}}} {
		a := p.array(p.forward(last), x.dims...)
		p.until(a, p.forever()-p.replay)
		a.is(x.t)
	}
	if back {
		p.indices(redone, outputs)
		p.gradients()
	}
	p.channels()
	p.place()
	return p
}

// redone are the outputs that the backward pass makes again from z, which batch norm keeps anyway, by the
// one layer that reads them, as a factor of its weights' gradient. It costs a pass over z.
func (p *plan) redone() (reader []*layer) {
	layers := p.n.layers
	reader, readers := make([]*layer, len(layers)), make([]int, len(layers))
	for _, l := range layers {
		for _, from := range []*layer{l.from, l.add} {
			if from != nil {
				reader[from.number] = l
				readers[from.number]++
			}
		}
	}
	for i, l := range layers {
		able := l.mapped() && l.norm() && l.add == nil && l.act.Pool <= 1 && l.Dropout == 0 && !p.kept() && !p.n.opt.Forward
		if r := reader[i]; !able || readers[i] != 1 || r.from != l || !r.mapped() || i == len(layers)-2 {
			reader[i] = nil
		}
	}
	return reader
}

// indices plans those of the chosen inputs. Whatever makes h again makes them again.
func (p *plan) indices(redone []*layer, outputs []pair) {
	for i, l := range p.n.layers {
		if !l.act.Indexed() {
			continue
		}
		bytes := l.out.len() * p.n.batch
		idx := p.buffer(bytes, p.forward(l))
		idx.users = []*device.Ptr{&l.idx}
		if r := redone[i]; r != nil {
			idx.from = p.backward(r)
		}
		idx.until(p.backward(l))
		switch {
		case p.kept():
			idx.until(p.forever())
		case outputs[i].again != nil:
			again := p.buffer(bytes, p.forward(l)+p.replay)
			again.until(p.backward(l) + p.replay)
			again.users = []*device.Ptr{&l.idxAgain}
		default:
			idx.until(p.backward(l) + p.replay)
		}
	}
}

// gradients plans those of the outputs, in the order in which the backward pass writes them. The first
// reader of an output writes its gradient, others add to it from memory of their own.
func (p *plan) gradients() {
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
			own.primal.until(p.backward(l))
			if own.tangent != nil {
				own.tangent.until(p.backward(l) + p.replay)
			}
			switch {
			case p.n.opt.Persample || p.n.opt.Dual && (l.norm() || l.mapped() && l.passes()):
				own.primal.until(p.forever())
			case p.n.opt.Mixed && (l.norm() || l.mapped()): // the replay makes dz of it
				own.primal.until(p.backward(l) + p.replay)
			}
		}
		switch {
		case l.add == nil:
		case grads[l.add.number].absent() && !own.absent() && l.act.Pool <= 1 && !p.kept() && !p.n.opt.Mixed:
			grads[l.add.number], l.addFirst = own, true // r's takes the place of h's
		default:
			l.addFirst = write(l, l.add, &l.addGrad)
		}
		if l.from != nil {
			l.fromFirst = write(l, l.from, &l.fromGrad)
		}
	}
}

// channels plans what batch norm has of each channel.
func (p *plan) channels() {
	for _, l := range p.n.layers {
		if !l.norm() {
			continue
		}
		for _, t := range []*tensor.Tensor{&l.mean, &l.variance, &l.scale, &l.shift, &l.dscale, &l.dshift, &l.p, &l.q, &l.dgamma} {
			x := p.array(0, l.act.C)
			x.is(t)
			x.primal.until(p.forever())
			if x.tangent != nil {
				x.tangent.from = 0
				x.tangent.until(p.forever())
			}
		}
		if l.bias.Len > 0 {
			b := p.buffer(4*l.act.C, 0)
			b.until(p.forever())
			b.users = []*device.Ptr{&l.moved}
		}
	}
}

// align is what addresses are multiples of.
const align = 256

// meet reports whether two buffers are in use at once. A replay that may come at any time writes tangents
// from moment 0 on while the primals that outlived the pass before it are still in use.
func (p *plan) meet(a, b *buffer) bool {
	if p.replay == 0 && a.tangent != b.tangent && max(a.to, b.to) == p.forever() {
		return true
	}
	return a.from <= b.to && b.from <= a.to
}

// place gives the buffers their offsets, the largest first, each where it fits below those that are in
// use with it.
func (p *plan) place() {
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
}

// tell tells everybody the addresses in an arena.
func (p *plan) tell(arena device.Ptr) {
	if arena == 0 {
		return
	}
	for _, b := range p.buffers {
		for _, address := range b.users {
			*address = arena.Add(b.offset)
		}
	}
}
