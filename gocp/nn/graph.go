package nn

import (
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/usage"
)

// A shape is that of one sample's activations.
type shape struct{ h, w, c int }

func (s shape) len() int { return s.h * s.w * s.c }

// batch is the shape of n of them.
func (s shape) batch(n int) []int { return []int{n, s.h, s.w, s.c} }

// kind is what an op launches.
type kind int

const (
	kindImage   kind = iota // the normalisation
	kindLayer               // map, affine map, sum, activation, maximum
	kindAverage             // average pooling
)

// An op is a Node with its geometry. A node that ends in average pooling is two of them.
type op struct {
	Node
	kind    kind
	x, r    int // the ops whose outputs it reads; r is −1 without one
	in, out shape
	conv    kernel.Conv // of a mapped layer, without the batch
	act     kernel.Act  // of a layer and of the image, without the batch
	avg     kernel.AvgPool
	drops   int  // how many ops with dropout came before: the number of its draws
	theta   bool // parameters influence its output

	weight, bias, gamma, beta Param // parameters; those it lacks have Len 0
	runMean, runVar           Param // running statistics
}

func (o *op) mapped() bool { return o.Map.Out > 0 }
func (o *op) norm() bool   { return o.Norm != "" }

// A graph is the network of a Spec. Op 0 is the image; the last one's output are the logits.
type graph struct {
	ops             []op
	params, buffers []Param
}

func (g *graph) numParams() int  { return end(g.params) }
func (g *graph) numBuffers() int { return end(g.buffers) }

func end(ps []Param) int {
	if len(ps) == 0 {
		return 0
	}
	last := ps[len(ps)-1]
	return last.Off + last.Len
}

// graph lays the nodes of s out. What it refuses is an input too small, as a usage error, or a fault of
// the architecture.
func (s Spec) graph() (*graph, error) {
	a, err := Lookup(s.Arch)
	if err != nil {
		return nil, err
	}
	size := shape{s.H, s.W, s.C}
	g := &graph{ops: []op{{Node: Node{Name: Input}, kind: kindImage, x: -1, r: -1, in: size, out: size,
		act: kernel.Act{H: s.H, W: s.W, C: s.C, Pool: 1}}}}
	at := map[string]int{Input: 0} // the op that a node ends in
	drops := 0
	for _, n := range a.Nodes(s) {
		o := op{Node: n, kind: kindLayer, x: len(g.ops) - 1, r: -1}
		if _, taken := at[n.Name]; taken || n.Name == "" {
			return nil, fmt.Errorf("nn: %s has two nodes named %q, or one without a name", s.Arch, n.Name)
		}
		for _, ref := range []struct {
			name string
			to   *int
		}{{n.X, &o.x}, {n.R, &o.r}} {
			if ref.name == "" {
				continue
			}
			i, ok := at[ref.name]
			if !ok {
				return nil, fmt.Errorf("nn: %s: node %s reads %q, which is none before it", s.Arch, n.Name, ref.name)
			}
			*ref.to = i
		}
		small := func(h, w int) error {
			return usage.Errorf("model: an input of %dx%d is too small for %s with stem %q: %s gets %dx%d", s.H, s.W, s.Arch, s.Stem, n.Name, h, w)
		}
		o.in = g.ops[o.x].out
		o.theta = g.ops[o.x].theta || o.r >= 0 && g.ops[o.r].theta || o.mapped() || o.norm()
		z := o.in
		switch m := n.Map; {
		case m.Out == 0:
		case m.Kernel == 0:
			z = shape{1, 1, m.Out}
			o.conv = kernel.Conv{H: 1, W: 1, C: o.in.len(), K: m.Out, R: 1, S: 1, Stride: 1}
		default:
			if o.in.h+2*m.Pad < m.Kernel || o.in.w+2*m.Pad < m.Kernel {
				return nil, small(o.in.h, o.in.w)
			}
			o.conv = kernel.Conv{H: o.in.h, W: o.in.w, C: o.in.c, K: m.Out, R: m.Kernel, S: m.Kernel, Stride: m.Stride, Pad: m.Pad, Groups: m.Groups}
			z = shape{o.conv.OutH(), o.conv.OutW(), m.Out}
		}
		o.act = kernel.Act{H: z.h, W: z.w, C: z.c, Activation: n.Activation, Pool: max(n.Pool.Size, 1), Stride: n.Pool.Stride, Pad: n.Pool.Pad}
		if p := n.Pool; p.Size > 1 && (z.h+2*p.Pad < p.Size || z.w+2*p.Pad < p.Size) {
			return nil, small(z.h, z.w)
		}
		o.out = shape{o.act.OutH(), o.act.OutW(), z.c}
		if o.r >= 0 && g.ops[o.r].out != z {
			return nil, fmt.Errorf("nn: %s: node %s adds %s of shape %v to %v", s.Arch, n.Name, n.R, g.ops[o.r].out, z)
		}
		g.own(&o)
		plain := !o.mapped() && !o.norm() && o.r < 0 && n.Activation == kernel.Linear && n.Pool.Size <= 1
		if !plain {
			if n.Pool.H > 0 {
				o.Dropout = 0
			}
			g.ops = append(g.ops, o)
		}
		if p := n.Pool; p.H > 0 {
			from := o.x
			if !plain {
				from = len(g.ops) - 1
			}
			in := g.ops[from].out
			if in.h == p.H && in.w == p.W && n.Dropout == 0 { // it is that size already
				at[n.Name] = from
				continue
			}
			g.ops = append(g.ops, op{Node: Node{Name: n.Name, Dropout: n.Dropout}, kind: kindAverage, x: from, r: -1, in: in, out: shape{p.H, p.W, in.c},
				avg: kernel.AvgPool{H: in.h, W: in.w, C: in.c, OutH: p.H, OutW: p.W}, theta: g.ops[from].theta})
		} else if plain {
			return nil, fmt.Errorf("nn: %s: node %s does nothing", s.Arch, n.Name)
		}
		last := &g.ops[len(g.ops)-1]
		if last.Dropout > 0 {
			last.drops = drops
			drops++
		}
		at[n.Name] = len(g.ops) - 1
	}
	return g, g.check(s)
}

// own gives o its parameters and running statistics.
func (g *graph) own(o *op) {
	add := func(to *[]Param, name string, perm func(int) int, how start, dims ...int) Param {
		n := 1
		for _, d := range dims {
			n *= d
		}
		p := Param{Name: name, Torch: dims, Off: end(*to), Len: n, perm: perm, start: how}
		*to = append(*to, p)
		return p
	}
	if m := o.Map; m.Out > 0 {
		c := o.conv
		in := c.C / max(m.Groups, 1)
		weight := start{uniform, 1 / math.Sqrt(float64(in*c.R*c.S))}
		bias := weight
		switch m.Init {
		case InitFanOut:
			weight, bias = start{normal, math.Sqrt(2 / float64(m.Out*c.R*c.S))}, start{}
		case InitNormal:
			weight, bias = start{normal, 0.01}, start{}
		}
		if m.Kernel == 0 {
			o.weight = add(&g.params, o.Name+".weight", flattenPerm(o.in.h, o.in.w, o.in.c), weight, m.Out, in)
		} else {
			o.weight = add(&g.params, o.Name+".weight", convPerm(in, m.Kernel), weight, m.Out, in, m.Kernel, m.Kernel)
		}
		if m.Bias {
			o.bias = add(&g.params, o.Name+".bias", nil, bias, m.Out)
		}
	}
	if o.norm() {
		c := o.act.C
		o.gamma = add(&g.params, o.Norm+".weight", nil, start{constant, 1}, c)
		o.beta = add(&g.params, o.Norm+".bias", nil, start{}, c)
		o.runMean = add(&g.buffers, o.Norm+".running_mean", nil, start{}, c)
		o.runVar = add(&g.buffers, o.Norm+".running_var", nil, start{constant, 1}, c)
	}
}

// check says what is wrong with the network as a whole: faults of the architecture.
func (g *graph) check(s Spec) error {
	read := make([]bool, len(g.ops))
	for i, o := range g.ops {
		if i > 0 {
			read[o.x] = true
		}
		if o.r >= 0 {
			read[o.r] = true
		}
	}
	last := &g.ops[len(g.ops)-1]
	for i, o := range g.ops[:len(g.ops)-1] {
		if !read[i] {
			return fmt.Errorf("nn: %s: nothing reads node %s", s.Arch, o.Name)
		}
	}
	switch {
	case last.out != (shape{1, 1, s.Classes}) || !last.mapped():
		return fmt.Errorf("nn: %s ends in %s with shape %v; it must end in a linear map to %d logits", s.Arch, last.Name, last.out, s.Classes)
	case last.Dropout > 0:
		return fmt.Errorf("nn: %s: dropout of the logits", s.Arch)
	}
	return nil
}

// rows is the least number of values that batch norm has of a channel in one sample; 0 without batch norm.
func (g *graph) rows() int {
	least := 0
	for _, o := range g.ops {
		if n := o.act.H * o.act.W; o.norm() && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// features is the number of values that the last op sees.
func (g *graph) features() int { return g.ops[len(g.ops)-1].in.len() }

// Convs lists the network's convolutions and linear layers, in order, for a batch of n.
func (s Spec) Convs(n int, precision kernel.Precision) []kernel.Conv {
	g, err := s.graph()
	if err != nil {
		return nil
	}
	var out []kernel.Conv
	for _, o := range g.ops {
		if o.mapped() {
			c := o.conv
			c.N, c.Precision = n, precision
			out = append(out, c)
		}
	}
	return out
}
