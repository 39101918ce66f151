package nn

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// Mode says where batch norm takes its statistics from, and whether there is dropout.
type Mode int

// The modes.
const (
	Eval  Mode = iota // running statistics, no dropout: samples do not influence each other
	Train             // statistics of the batch
)

// Options of a Net. Left zero, it has room for passes in floats, there and back.
type Options struct {
	Precision kernel.Precision
	Dual      bool // and for tangents: needed before a pass in dual numbers
	Persample bool // and keeps what per-sample gradients read
	Forward   bool // or is never gone through backward

	// Mixed is room for the mixed derivative alone: in evaluation mode a pass in floats, there and back,
	// then once its replay along Theta.T, to the input's gradient and not to the parameters'. It takes
	// less than half of what Dual takes.
	Mixed bool

	// Memory that several networks use in turn: of one address what one keeps is gone after a pass of
	// another. Absent, a Net has its own. Needs says how much it must be.
	Arena device.Ptr
	Work  *kernel.Workspace
}

// tangents reports whether there is room for any.
func (o Options) tangents() bool { return o.Dual || o.Mixed }

// A Net holds the activations of one network on one stream, for batches of up to a given
// size. Passes write into it; nothing is allocated during a pass, so passes can be recorded.
// What a replay reads lies in its arena.
type Net struct {
	spec  Spec
	graph *graph
	s     *device.Stream
	batch int
	opt   Options

	inScale, inShift tensor.Tensor // the normalisation: 1/std, −mean/std
	layers           []*layer      // the first is the image, the last one's output the logits
	bytes            int           // of the arena: activations, gradients, batch norm's statistics
	loss, dlogits    tensor.Tensor
	work             *kernel.Workspace

	pass Pass // the last forward pass, which Backward follows
	n    int  // its batch size
}

// A layer is an op with its memory.
type layer struct {
	op
	number    int
	label     string // for profilers: "layer conv1"
	from, add *layer // whose outputs are x and r, or nil

	z, h, dz, dh    tensor.Tensor
	hAgain, dzAgain device.Ptr // where the replay of a mixed derivative makes their primals again
	hBack           device.Ptr // where the backward pass makes h again, from z
	idx             device.Ptr // which input of its window each output came from
	idxAgain        device.Ptr // likewise, in such a replay

	// Backward, of all that read an output the first writes its gradient; the others add to it.
	fromFirst, addFirst bool
	fromGrad, addGrad   tensor.Tensor // what is added

	mean, variance tensor.Tensor // batch norm's, by channel, as are all below
	scale, shift   tensor.Tensor // without batch norm the bias itself is the shift
	dscale, dshift tensor.Tensor
	p, q           tensor.Tensor // correction of dz in training mode
	dgamma         tensor.Tensor
	moved          device.Ptr // the mean with the bias that stands before batch norm
}

// passes reports whether the gradient of the linear map's output is that of the layer's output.
func (l *layer) passes() bool { return !l.act.Indexed() && !l.norm() }

// NewNet allocates a network for batches of up to batch samples on s. Everything is freed
// with the stream. Errors are the stream's.
func NewNet(s *device.Stream, spec Spec, batch int, o Options) *Net {
	n, p := newNet(s, spec, batch, o)
	if p == nil {
		return n
	}
	scale, shift := make([]float32, spec.C), make([]float32, spec.C)
	for i := range scale {
		scale[i] = float32(1 / spec.Std[i])
		shift[i] = float32(-spec.Mean[i] / spec.Std[i])
	}
	n.inScale, n.inShift = tensor.New(s, spec.C), tensor.New(s, spec.C)
	device.Upload(s, n.inScale.P, scale)
	device.Upload(s, n.inShift.P, shift)
	arena := o.Arena
	if arena == 0 {
		arena = s.Alloc(n.bytes)
	}
	if p.tell(arena); o.Work == nil {
		n.work = kernel.NewWorkspace(s, n.workspaceBytes())
	}
	return n
}

// newNet lays the network and its memory out, and allocates nothing. Without a plan it has failed.
func newNet(s *device.Stream, spec Spec, batch int, o Options) (*Net, *plan) {
	n := &Net{spec: spec, s: s, batch: batch, opt: o, work: o.Work}
	var err error
	if n.graph, err = spec.graph(); err != nil {
		s.Fail(err)
		n.graph = &graph{}
		return n, nil
	}
	for i, o := range n.graph.ops {
		n.layers = append(n.layers, n.newLayer(i, o))
	}
	return n, n.memory()
}

// Needs returns the bytes of the arena and of the scratch that NewNet would allocate.
func Needs(s *device.Stream, spec Spec, batch int, o Options) (arena, work int) {
	n, p := newNet(s, spec, batch, o)
	if p == nil {
		return 0, 0
	}
	return n.bytes, n.workspaceBytes()
}

func (n *Net) newLayer(i int, o op) *layer {
	l := &layer{op: o, number: i, label: "layer " + o.Name}
	if o.x >= 0 {
		l.from = n.layers[o.x]
	}
	if o.r >= 0 {
		l.add = n.layers[o.r]
	}
	l.conv.Precision = n.opt.Precision
	return l
}

// workspaceBytes is the scratch that the reductions of a pass need.
func (n *Net) workspaceBytes() int {
	bytes := 0
	for _, l := range n.layers {
		g, a := l.at(n.batch)
		if l.mapped() || l.norm() {
			bytes = max(bytes, kernel.ActBackwardReduceBytes(a, n.opt.tangents()))
		}
		if l.mapped() {
			bytes = max(bytes, kernel.ConvBytes(n.s, g, n.opt.tangents()))
		}
		if l.norm() {
			bytes = max(bytes, kernel.BNStatsBytes(n.batch*a.H*a.W, a.C, n.opt.tangents()))
		}
	}
	return bytes
}

// at returns l's geometry for a batch of size b.
func (l *layer) at(b int) (kernel.Conv, kernel.Act) {
	g, a := l.conv, l.act
	g.N, a.N = b, b
	return g, a
}
