package curvature

import (
	"fmt"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
)

// The kinds of curvature.
const (
	GGN     = "ggn"     // JᵀH_out J: the Gauss–Newton matrix
	Hessian = "hessian" // all of it
)

// Kinds lists them.
func Kinds() []string { return []string{GGN, Hessian} }

// keptBytes is how much memory for activations is taken without asking.
const keptBytes = 512 << 20

// Config says of what a Matrix is. Its zero value but for Spec is the Gauss–Newton matrix in evaluation
// mode and float32.
type Config struct {
	Spec      nn.Spec
	Kind      string // one of Kinds; "": ggn
	Mode      nn.Mode
	Precision kernel.Precision
	Draws     nn.Draws // of dropout, in training mode
	Keep      int64    // bytes for the activations of batches, which are kept between products as far as they fit, at least one's; 0: 512 MiB
}

// Needs are the bytes that a Matrix of batches of up to so many images takes at least, and those of one batch's
// activations among them.
func (c Config) Needs(s *device.Stream, batch int) (least, each int64) {
	arena, work := nn.Needs(s, c.Spec, batch, c.options())
	return int64(arena) + int64(work) + 4*int64(c.Spec.NumParams()), int64(arena)
}

func (c Config) options() nn.Options { return nn.Options{Precision: c.Precision, Dual: true} }

// A Batch is images with their labels, on the device.
type Batch struct {
	X      tensor.Tensor // [n,H,W,C], pixels in [0,1]
	Labels device.Ptr    // int32 [n]
}

// A Matrix is C [|θ|,|θ|] at the parameters θ.
type Matrix struct {
	s       *device.Stream
	cfg     Config
	theta   tensor.Tensor // its tangent is the vector of the product under way
	running device.Ptr
	batches []Batch
	nets    []*nn.Net // of the first batches, which keep their primals; the last is all others'
	kept    int       // of the batches
	ready   bool      // kept primals are there
	images  int
	part    device.Ptr // float32 [|θ|]
}

// New makes C of the mean loss over batches at theta [|θ|] and the running statistics, both on the device.
func New(s *device.Stream, c Config, theta, running device.Ptr, batches []Batch) *Matrix {
	size := c.Spec.NumParams()
	m := &Matrix{s: s, cfg: c, theta: tensor.Tensor{Shape: []int{size}, P: theta}, running: running, batches: batches}
	switch {
	case c.Kind != "" && c.Kind != GGN && c.Kind != Hessian:
		s.Fail(fmt.Errorf("curvature: unknown kind %q", c.Kind))
	case len(batches) == 0:
		s.Fail(fmt.Errorf("curvature: no images"))
	}
	if s.Err() != nil {
		return m
	}
	largest := 0
	for _, b := range batches {
		m.images += b.X.Shape[0]
		largest = max(largest, b.X.Shape[0])
	}
	room := c.Keep
	if room == 0 {
		room = keptBytes
	}
	arena, work := nn.Needs(s, c.Spec, largest, c.options())
	nets := min(max(1, int(room/max(int64(arena), 1))), len(batches))
	options := c.options()
	options.Work = kernel.NewWorkspace(s, work)
	for range nets {
		m.nets = append(m.nets, nn.NewNet(s, c.Spec, largest, options))
	}
	if m.kept = nets; nets < len(batches) { // the last one is everybody else's
		m.kept--
	}
	m.part = s.Alloc(4 * size)
	return m
}

// Len is |θ|.
func (m *Matrix) Len() int { return m.theta.Len() }

// Images is the number of images whose mean loss C belongs to.
func (m *Matrix) Images() int { return m.images }

// Batches is the number of batches.
func (m *Matrix) Batches() int { return len(m.batches) }

// Apply computes out ← C v of v[|θ|].
func (m *Matrix) Apply(v, out device.Ptr) {
	defer m.s.Range("curvature product").End()
	for i := range m.batches {
		m.product(i, v)
		keep := 1.0
		if i == 0 {
			keep = 0
		}
		kernel.Axpby(m.s, kernel.Coef{Value: 1 / float64(m.images)}, m.part, kernel.Coef{Value: keep}, out, m.Len())
	}
	m.ready = true
}

// ApplyBatch computes out ← C_i v, the curvature of the mean loss over batch i alone.
func (m *Matrix) ApplyBatch(i int, v, out device.Ptr) {
	if !m.ready { // keep all that is to be kept at once
		for j := range m.kept {
			m.primals(j, m.nets[j])
		}
		m.ready = true
	}
	m.product(i, v)
	kernel.Axpby(m.s, kernel.Coef{Value: 1 / float64(m.batches[i].X.Shape[0])}, m.part, kernel.Coef{}, out, m.Len())
}

func (m *Matrix) pass(i int) nn.Pass {
	return nn.Pass{Mode: m.cfg.Mode, Theta: m.theta.Primal(), Running: m.running, X: m.batches[i].X, Draws: m.cfg.Draws}
}

// primals runs batch i through a network, as far back as a product wants it.
func (m *Matrix) primals(i int, n *nn.Net) {
	n.Forward(m.pass(i))
	_, dlogits := n.Loss(m.batches[i].Labels)
	if m.cfg.Kind == Hessian {
		n.Backward(dlogits, tensor.Tensor{}, tensor.Tensor{})
	}
}

// product sets part to the curvature of the summed loss over batch i, times v.
func (m *Matrix) product(i int, v device.Ptr) {
	if m.s.Err() != nil {
		return
	}
	n := m.nets[min(i, len(m.nets)-1)]
	if i >= m.kept || !m.ready {
		m.primals(i, n)
	}
	pass := m.pass(i)
	pass.Theta.T, pass.Replay = v, true
	n.Forward(pass)
	_, dlogits := n.Loss(m.batches[i].Labels)
	out := tensor.Tensor{Shape: m.theta.Shape}
	if m.cfg.Kind == Hessian {
		out.T = m.part
		n.Backward(dlogits, out, tensor.Tensor{})
		return
	}
	out.P = m.part
	n.BackwardGaussNewton(dlogits, out)
}
