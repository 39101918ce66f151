package nn

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// MostSide is the largest side of an input's factor that is kept as a matrix. Of a wider layer, such as the first of a
// VGG's mlp, the diagonal is kept: its matrix would take gigabytes and minutes.
const MostSide = 4608

// A KroneckerBlock is what stands for the curvature of one parameter: of a weight the product A ⊗ G, of a bias G, of
// what is its own diagonal D. All are sums, float32 on the device.
type KroneckerBlock struct {
	Param   Param
	In, Out int        // sides of A and G: the device's layout of a weight is [Out,In]. 0: the block has a diagonal alone
	A       device.Ptr // [In,In]: Σ over samples and positions of the outer products of patches; absent of a bias
	ADiag   device.Ptr // [In]: its diagonal, where In is above MostSide
	G       device.Ptr // [Out,Out]: Σ of the outer products of the gradients of outputs; of a bias, summed over positions first
	D       device.Ptr // [Param.Len]: Σ of squared gradients
	Places  int        // positions of an output: G of a weight has so many terms a sample
}

// A Kronecker sums the factors of Kronecker-factored curvature (K-FAC; Martens and Grosse 2015, of convolutions Grosse and
// Martens 2016) from what passes of its Net have left behind. Convolutions with groups and batch norm's own parameters have
// diagonals.
type Kronecker struct {
	Blocks []KroneckerBlock

	n            *Net
	p            *Persample
	work         *kernel.Workspace
	patch, part  device.Ptr
	select1      device.Ptr // filters of one tap
	row          device.Ptr // [n,Len] of per-sample gradients, or [n,C]
	first, after []int      // of each layer: its blocks
}

// NewKronecker allocates what the factors of n's layers need; n must keep what per-sample gradients read (Options.Persample).
func NewKronecker(n *Net) *Kronecker {
	k := &Kronecker{n: n, p: NewPersample(n)}
	s := n.s
	patch, part, selected, row, work := 0, 0, 0, 0, 0
	add := func(b KroneckerBlock) {
		for _, m := range []struct {
			p    *device.Ptr
			size int
		}{{&b.A, b.In * b.In}, {&b.ADiag, b.In}, {&b.G, b.Out * b.Out}, {&b.D, b.Param.Len}} {
			wanted := map[*device.Ptr]bool{&b.A: b.In > 0 && b.In <= MostSide, &b.ADiag: b.In > MostSide, &b.G: b.Out > 0, &b.D: b.Out == 0}[m.p]
			if !wanted {
				continue
			}
			part = max(part, m.size)
			*m.p = s.Alloc(4 * m.size)
			s.Memset32(*m.p, 0, m.size)
		}
		k.Blocks = append(k.Blocks, b)
	}
	for _, l := range n.layers {
		k.first = append(k.first, len(k.Blocks))
		g, a := l.at(n.batch)
		g.Precision = kernel.F32
		if l.mapped() {
			places := g.OutH() * g.OutW()
			if g.Groups > 1 {
				add(KroneckerBlock{Param: l.weight})
				row = max(row, n.batch*l.weight.Len)
			} else {
				b := KroneckerBlock{Param: l.weight, In: g.R * g.S * g.C, Out: g.K, Places: places}
				add(b)
				outer, tap := square(n.batch*places, g.K), onTap(g)
				work = max(work, kernel.ConvBytes(s, outer, false), kernel.ConvBytes(s, tap, false))
				if !pointwise(g) {
					picks := tap
					picks.Groups = g.C
					work = max(work, kernel.ConvBytes(s, picks, false))
					patch, selected = max(patch, picks.Out()), max(selected, picks.Weights())
				}
				if b.In > MostSide {
					patch = max(patch, n.batch*places*g.C)
					work = max(work, kernel.ActBackwardReduceBytes(kernel.Act{N: n.batch * places, H: 1, W: 1, C: g.C}, false))
				}
			}
		}
		if l.bias.Len > 0 {
			add(KroneckerBlock{Param: l.bias, Out: a.C, Places: 1})
			row = max(row, n.batch*a.C)
			work = max(work, kernel.ConvBytes(s, square(n.batch, a.C), false))
		}
		if l.norm() {
			add(KroneckerBlock{Param: l.gamma})
			add(KroneckerBlock{Param: l.beta})
			row = max(row, n.batch*a.C)
		}
		k.after = append(k.after, len(k.Blocks))
	}
	work = max(work, kernel.ActBackwardReduceBytes(kernel.Act{N: n.batch, H: 1, W: 1, C: max(row/max(n.batch, 1), 1)}, false))
	k.patch, k.part, k.select1 = s.Alloc(4*max(patch, 1)), s.Alloc(4*max(part, 1)), s.Alloc(4*max(selected, 1))
	k.row = s.Alloc(4 * max(row, 1))
	k.work = kernel.NewWorkspace(s, work)
	return k
}

// square is the product XᵀX of X[rows,c], as a linear layer's weights' gradient.
func square(rows, c int) kernel.Conv {
	return kernel.Conv{N: rows, H: 1, W: 1, C: c, K: c, R: 1, S: 1, Stride: 1}
}

// pointwise reports whether every output sees one pixel, and every pixel is seen.
func pointwise(g kernel.Conv) bool { return g.R*g.S == 1 && g.Stride == 1 && g.Pad == 0 }

// onTap is the convolution g with as many outputs as inputs.
func onTap(g kernel.Conv) kernel.Conv {
	g.K = g.C
	return g
}

// Inputs adds to A what the last forward pass read.
func (k *Kronecker) Inputs() {
	if !k.p.ready() {
		return
	}
	n, s := k.n, k.n.s
	for i, l := range n.layers {
		if !l.mapped() || k.first[i] == k.after[i] {
			continue
		}
		b := &k.Blocks[k.first[i]]
		if b.Out == 0 {
			continue
		}
		g, _ := l.at(n.n)
		g.Precision = kernel.F32
		x := tensor.Tensor{Shape: []int{g.N, g.H, g.W, g.C}, P: n.value(l.from).P}
		rows := g.N * g.OutH() * g.OutW()
		for t := range g.R * g.S {
			y := x
			if tap := onTap(g); !pointwise(g) {
				picks := tap
				picks.Groups = g.C
				filters := make([]float32, picks.Weights()) // [C,R,S,1]
				for c := range g.C {
					filters[c*g.R*g.S+t] = 1
				}
				w := tensor.Tensor{Shape: []int{len(filters)}, P: k.select1}
				device.Upload(s, w.P, filters)
				y = tensor.Tensor{Shape: []int{g.N, g.OutH(), g.OutW(), g.C}, P: k.patch}
				kernel.ConvForward(s, k.work, picks, x, w, y)
			}
			switch {
			case b.A == 0:
				kernel.Multiply(s, flat(y), flat(y), tensor.Tensor{Shape: []int{y.Len()}, P: k.patch})
				k.columns(k.patch, rows, g.C, b.ADiag.Add(4*t*g.C))
			case pointwise(g):
				k.outer(x.P, rows, g.C, b.A)
			default: // the rows of A that belong to this tap
				size := g.C * b.In
				kernel.ConvBackwardWeight(s, k.work, onTap(g), x, y, tensor.Tensor{Shape: []int{size}, P: k.part})
				kernel.Axpby(s, kernel.Coef{Value: 1}, k.part, kernel.Coef{Value: 1}, b.A.Add(4*t*size), size)
			}
		}
	}
}

func flat(t tensor.Tensor) tensor.Tensor { return tensor.Tensor{Shape: []int{t.Len()}, P: t.P} }

// outer adds XᵀX of X[rows,c] to out.
func (k *Kronecker) outer(x device.Ptr, rows, c int, out device.Ptr) {
	t := tensor.Tensor{Shape: []int{rows, 1, 1, c}, P: x}
	kernel.ConvBackwardWeight(k.n.s, k.work, square(rows, c), t, t, tensor.Tensor{Shape: []int{c * c}, P: k.part})
	kernel.Axpby(k.n.s, kernel.Coef{Value: 1}, k.part, kernel.Coef{Value: 1}, out, c*c)
}

// columns adds the sums of the columns of x[rows,c] to out.
func (k *Kronecker) columns(x device.Ptr, rows, c int, out device.Ptr) {
	none := tensor.Tensor{}
	kernel.ActBackwardReduce(k.n.s, k.work, kernel.Act{N: rows, H: 1, W: 1, C: c}, tensor.Tensor{Shape: []int{rows, 1, 1, c}, P: x}, none, 0, none, tensor.Tensor{Shape: []int{c}, P: k.part})
	kernel.Axpby(k.n.s, kernel.Coef{Value: 1}, k.part, kernel.Coef{Value: 1}, out, c)
}

// squares adds the squares of x[rows,c], summed over the rows, to out.
func (k *Kronecker) squares(x device.Ptr, rows, c int, out device.Ptr) {
	t := tensor.Tensor{Shape: []int{rows * c}, P: x}
	kernel.Multiply(k.n.s, t, t, t)
	k.columns(x, rows, c, out)
}

// Gradients adds to G and D what the last backward pass, from dlogits, wrote.
func (k *Kronecker) Gradients(dlogits tensor.Tensor) {
	if !k.p.ready() {
		return
	}
	n := k.n
	for i, l := range n.layers {
		if k.first[i] == k.after[i] {
			continue
		}
		g, a := l.at(n.n)
		dh, dz := k.p.gradients(l, dlogits)
		for j := k.first[i]; j < k.after[i]; j++ {
			b := &k.Blocks[j]
			switch b.Param.Name {
			case l.weight.Name:
				if b.Out > 0 {
					k.outer(dz, g.N*g.OutH()*g.OutW(), g.K, b.G)
					continue
				}
				kernel.PersampleGrad(n.s, g, n.value(l.from).P, dz, k.row, b.Param.Len, k.p.work)
				k.squares(k.row, g.N, b.Param.Len, b.D)
			case l.bias.Name:
				k.p.bias(a, dz, k.row, a.C)
				k.outer(k.row, a.N, a.C, b.G)
			case l.gamma.Name:
				k.p.norm(l, a, dh, k.row, k.p.shift, a.C)
				k.squares(k.row, a.N, a.C, b.D)
				k.squares(k.p.shift, a.N, a.C, k.Blocks[j+1].D) // beta's
			}
		}
	}
}

// InputOf is the index in PyTorch's order of a weight's inputs of element d in the device's.
func (p Param) InputOf(d int) int {
	if p.perm == nil {
		return d
	}
	return p.perm(d)
}
