package nn

import (
	"fmt"
	"strings"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// Mode says where batch norm takes its statistics from.
type Mode int

// The modes.
const (
	Eval  Mode = iota // running statistics: samples do not influence each other
	Train             // statistics of the batch
)

// Options of a Net.
type Options struct {
	Precision kernel.Precision
	Dual      bool // make room for tangents: needed before a pass in dual numbers

	// Reuse lets all layers share the memory of what a pass needs for a moment (z, dz, dh), which halves
	// what a step touches. Per-sample gradients and passes in dual numbers need it of every layer.
	Reuse bool
}

// A Net holds the activations of one network on one stream, for batches of up to a given
// size. Passes write into it; nothing is allocated during a pass, so passes can be recorded.
type Net struct {
	spec  Spec
	s     *device.Stream
	batch int
	opt   Options

	params  map[string]Param
	buffers map[string]Param

	inScale, inShift tensor.Tensor // the normalisation layer: 1/std, −mean/std
	xn               tensor.Tensor // normalised input
	layers           []*layer
	logits           tensor.Tensor
	loss, dlogits    tensor.Tensor
	dxn              tensor.Tensor
	work             *kernel.Workspace

	pass Pass // the last forward pass, which Backward follows
	n    int  // its batch size
}

// A layer is a linear map followed by a per-channel affine map, ReLU and pooling:
// h = pool(relu(scale·(in ∗ w) + shift)).
type layer struct {
	name         string // for profilers: "layer conv1"
	weight, bias string // parameters; bias is empty under batch norm
	bn           string // batch norm's prefix, or empty
	conv         kernel.Conv
	act          kernel.Act

	z, h, dz, dh   tensor.Tensor
	idx            device.Ptr // which input of its window each output came from
	mean, variance tensor.Tensor
	scale, shift   tensor.Tensor // batch norm's; without it the bias itself is the shift
	dscale, dshift tensor.Tensor
	p, q           tensor.Tensor // batch norm's correction of dz in training mode
	dgamma         tensor.Tensor
}

// NewNet allocates a network for batches of up to batch samples on s. Everything is freed
// with the stream. Errors are the stream's.
func NewNet(s *device.Stream, spec Spec, batch int, o Options) *Net {
	n := &Net{spec: spec, s: s, batch: batch, opt: o, params: map[string]Param{}, buffers: map[string]Param{}}
	for _, p := range spec.Params() {
		n.params[p.Name] = p
	}
	for _, p := range spec.Buffers() {
		n.buffers[p.Name] = p
	}
	scale, shift := make([]float32, spec.C), make([]float32, spec.C)
	for i := range scale {
		scale[i] = float32(1 / spec.Std[i])
		shift[i] = float32(-spec.Mean[i] / spec.Std[i])
	}
	n.inScale, n.inShift = tensor.New(s, spec.C), tensor.New(s, spec.C)
	device.Upload(s, n.inScale.P, scale)
	device.Upload(s, n.inShift.P, shift)
	n.xn = n.alloc(batch, spec.H, spec.W, spec.C)
	n.dxn = n.alloc(batch, spec.H, spec.W, spec.C)

	for i, b := range spec.blocks() {
		l := &layer{
			weight: b.name + ".weight",
			conv: kernel.Conv{H: b.inH, W: b.inW, C: b.inC, K: b.outC, R: b.kernel, S: b.kernel,
				Stride: b.stride, Pad: b.pad, Precision: o.Precision},
			act: kernel.Act{H: b.outH, W: b.outW, C: b.outC, Activation: kernel.ReLU, Pool: b.pool},
		}
		if spec.BatchNorm {
			l.bn = fmt.Sprintf("bn%d", i+1)
		} else {
			l.bias = b.name + ".bias"
		}
		n.add(l)
	}
	h, w, c := spec.features()
	n.add(&layer{weight: "fc1.weight", bias: "fc1.bias", conv: n.linear(h*w*c, 4*spec.Width), act: kernel.Act{H: 1, W: 1, C: 4 * spec.Width, Activation: kernel.ReLU, Pool: 1}})
	n.add(&layer{weight: "fc2.weight", bias: "fc2.bias", conv: n.linear(4*spec.Width, spec.Classes), act: kernel.Act{H: 1, W: 1, C: spec.Classes, Pool: 1}})
	if o.Reuse {
		n.share()
	}
	n.logits = n.layers[len(n.layers)-1].h
	n.loss = n.alloc(batch)
	n.dlogits = n.alloc(batch, spec.Classes)
	n.work = kernel.NewWorkspace(s, n.workspaceBytes())
	return n
}

func (n *Net) linear(in, out int) kernel.Conv {
	return kernel.Conv{H: 1, W: 1, C: in, K: out, R: 1, S: 1, Stride: 1, Precision: n.opt.Precision}
}

func (n *Net) alloc(shape ...int) tensor.Tensor {
	if n.opt.Dual {
		return tensor.NewDual(n.s, shape...)
	}
	return tensor.New(n.s, shape...)
}

func (n *Net) add(l *layer) {
	a := l.act
	l.name = "layer " + strings.TrimSuffix(l.weight, ".weight")
	l.h = n.alloc(n.batch, a.H/a.Pool, a.W/a.Pool, a.C)
	if a.Indexed() {
		l.idx = n.s.Alloc(l.h.Len())
	}
	if !n.opt.Reuse {
		l.z, l.dh = n.alloc(n.batch, a.H, a.W, a.C), n.alloc(l.h.Shape...)
		l.dz = l.z
		if l.idx != 0 {
			l.dz = n.alloc(l.z.Shape...)
		}
	}
	l.dscale, l.dshift = n.alloc(a.C), n.alloc(a.C)
	if l.bn != "" {
		l.mean, l.variance = n.alloc(a.C), n.alloc(a.C)
		l.scale, l.shift = n.alloc(a.C), n.alloc(a.C)
		l.p, l.q, l.dgamma = n.alloc(a.C), n.alloc(a.C), n.alloc(a.C)
	}
	n.layers = append(n.layers, l)
}

// share gives the layers one z, dz and dh. Without batch norm nothing reads z after the activation,
// so dz has its place too.
func (n *Net) share() {
	if n.opt.Dual {
		n.s.Fail(fmt.Errorf("nn: a network in dual numbers can't share the memory of its layers"))
		return
	}
	z, h := 0, 0
	for _, l := range n.layers {
		_, a := l.at(n.batch)
		z, h = max(z, a.In()), max(h, a.Out())
	}
	dz, dh := n.alloc(z), n.alloc(h)
	for _, l := range n.layers {
		_, a := l.at(n.batch)
		shape := []int{n.batch, a.H, a.W, a.C}
		l.z, l.dz, l.dh = dz.Slice(0, shape...), dz.Slice(0, shape...), dh.Slice(0, l.h.Shape...)
		if l.bn != "" {
			l.z = n.alloc(shape...)
		}
	}
}

// workspaceBytes is the scratch that the reductions of a pass need.
func (n *Net) workspaceBytes() int {
	bytes := 0
	for _, l := range n.layers {
		g, a := l.at(n.batch)
		bytes = max(bytes, kernel.ActBackwardReduceBytes(a, n.opt.Dual), kernel.ConvBytes(n.s, g, n.opt.Dual))
		if l.bn != "" {
			bytes = max(bytes, kernel.BNStatsBytes(n.batch*a.H*a.W, a.C, n.opt.Dual))
		}
	}
	return bytes
}
