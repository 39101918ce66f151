package kernel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// Precision is how the inputs of convolutions and linear layers are rounded before they are
// multiplied. Sums are float32 in all, and so is everything that is stored.
type Precision int

// The precisions.
const (
	F32  Precision = iota // float32; on a GPU three products of TF32, off by less than 2⁻¹⁹ each
	BF16                  // 8 significant bits
	TF32                  // 11 significant bits; on the host engine the same as F32
)

// Precisions are the names of the precisions, in their order.
func Precisions() []string { return []string{"f32", "bf16", "tf32"} }

func (p Precision) String() string { return Precisions()[p] }

// ParsePrecision returns the precision of a name.
func ParsePrecision(name string) (Precision, error) {
	if p := slices.Index(Precisions(), name); p >= 0 {
		return Precision(p), nil
	}
	return 0, usage.Errorf("unknown precision %q (known: %s)", name, strings.Join(Precisions(), ", "))
}

// On reports, as a usage error, why p cannot be had on a device. Launchers take TF32 anywhere, but
// what a user asks for and a result records must be what was computed.
func (p Precision) On(d device.Info) error {
	if p == TF32 && d.Backend != "cuda" {
		return usage.Errorf("precision tf32 is a rounding of GPUs, and this runs on the CPU: take f32, bf16 or auto")
	}
	return nil
}

// Conv is the geometry of a convolution: activations [N,H,W,C] and [N,OutH,OutW,K], weights
// [K,R,S,C], the same Stride and zero Pad in both directions. A linear layer is the case
// H = W = R = S = 1. With Groups > 1 the channels of both are so many runs, the weights are
// [K,R,S,C/Groups], and each output channel sees its own group's input channels (PyTorch's groups);
// 0 is 1. Layout is for those who measure: other ways in which a GPU could compute it.
type Conv struct {
	N, H, W, C  int
	K, R, S     int
	Stride, Pad int
	Precision   Precision
	Groups      int
	Layout      ConvLayout
}

// OutH returns the height of the output.
func (g Conv) OutH() int { return (g.H+2*g.Pad-g.R)/g.Stride + 1 }

// OutW returns the width of the output.
func (g Conv) OutW() int { return (g.W+2*g.Pad-g.S)/g.Stride + 1 }

// In, Out and Weights return the numbers of elements of the three operands.
func (g Conv) In() int      { return g.N * g.H * g.W * g.C }
func (g Conv) Out() int     { return g.N * g.OutH() * g.OutW() * g.K }
func (g Conv) Weights() int { return g.K * g.R * g.S * g.C / g.groups() }

// FLOPs returns the operations of one product, counting a multiply-add as two, and zeros of the
// padding as if they were multiplied.
func (g Conv) FLOPs() int { return 2 * g.Out() * g.R * g.S * g.C / g.groups() }

func (g Conv) groups() int { return max(g.Groups, 1) }

// check says what is wrong with the geometry.
func (g Conv) check() error {
	switch {
	case g.Stride < 1 || g.OutH() < 1 || g.OutW() < 1:
		return fmt.Errorf("geometry %+v has no output", g)
	case g.Groups < 0 || g.C%g.groups() != 0 || g.K%g.groups() != 0:
		return fmt.Errorf("geometry %+v: %d and %d channels are not %d groups", g, g.C, g.K, g.Groups)
	}
	return nil
}

// LeastFLOPs is FLOPs without the zeros of the padding.
func (g Conv) LeastFLOPs() int {
	taps := func(out, in, filter int) (n int) { // that lie inside, over all places of the filter
		for o := range out {
			n += max(0, min(filter, in+g.Pad-o*g.Stride)-max(0, g.Pad-o*g.Stride))
		}
		return n
	}
	return 2 * g.N * g.K * g.C / g.groups() * taps(g.OutH(), g.H, g.R) * taps(g.OutW(), g.W, g.S)
}

// LeastIn is In without the pixels that a stride passes over.
func (g Conv) LeastIn() int {
	lines := func(out, in, filter int) (n int) {
		for i := range in {
			for o := max(0, (i+g.Pad-filter)/g.Stride); o < out && o*g.Stride-g.Pad <= i; o++ {
				if i < o*g.Stride-g.Pad+filter {
					n++
					break
				}
			}
		}
		return n
	}
	return g.N * g.C * lines(g.OutH(), g.H, g.R) * lines(g.OutW(), g.W, g.S)
}

// ConvForward computes y = x ∗ w and, in dual numbers, ẏ = ẋ ∗ w + x ∗ ẇ. Absent tangents
// cost nothing; with y.P absent only ẏ is computed. Like the other two passes it wants ConvBytes of
// workspace.
func ConvForward(s *device.Stream, ws *Workspace, g Conv, x, w, y tensor.Tensor) {
	launchConv(s, convForward, g, ws, x, w, y)
}

// ConvBackwardData computes dx, the adjoint of ConvForward in x applied to dy.
func ConvBackwardData(s *device.Stream, ws *Workspace, g Conv, dy, w, dx tensor.Tensor) {
	launchConv(s, convBackwardData, g, ws, dy, w, dx)
}

// ConvBackwardWeight computes dw, the adjoint of ConvForward in w applied to dy, summed over
// the batch.
func ConvBackwardWeight(s *device.Stream, ws *Workspace, g Conv, x, dy, dw tensor.Tensor) {
	launchConv(s, convBackwardWeight, g, ws, x, dy, dw)
}

// convPass is one of the three products of a convolution, by the name of its kernel.
type convPass string

const (
	convForward        convPass = "conv_forward"
	convBackwardData   convPass = "conv_backward_data"
	convBackwardWeight convPass = "conv_backward_weight"
)

// lens returns the numbers of elements of a pass's two operands and of its result.
func (g Conv) lens(pass convPass) (a, b, out int) {
	switch pass {
	case convForward:
		return g.In(), g.Weights(), g.Out()
	case convBackwardData:
		return g.Out(), g.Weights(), g.In()
	}
	return g.In(), g.Out(), g.Weights()
}

func launchConv(s *device.Stream, pass convPass, g Conv, ws *Workspace, a, b, out tensor.Tensor) {
	if s.Err() != nil {
		return
	}
	if err := g.check(); err != nil {
		s.Fail(fmt.Errorf("kernel %s: %w", pass, err))
		return
	}
	na, nb, nout := g.lens(pass)
	if a.Len() != na || b.Len() != nb || out.Len() != nout {
		s.Fail(fmt.Errorf("kernel %s: operands %v, %v → %v have %d, %d → %d elements; geometry %+v wants %d, %d → %d",
			pass, a.Shape, b.Shape, out.Shape, a.Len(), b.Len(), out.Len(), g, na, nb, nout))
		return
	}
	if g.N == 0 {
		if out.P != 0 {
			s.Memset32(out.P, 0, nout)
		}
		if out.T != 0 {
			s.Memset32(out.T, 0, nout)
		}
		return
	}
	if onGPU(s) {
		launchConvGPU(s, pass, g, ws, a, b, out)
		return
	}
	s.Launch(string(pass), 1, 1,
		device.P(a.P), device.P(a.T), device.P(b.P), device.P(b.T), device.P(out.P), device.P(out.T),
		device.I32(g.N), device.I32(g.H), device.I32(g.W), device.I32(g.C),
		device.I32(g.K), device.I32(g.R), device.I32(g.S), device.I32(g.Stride), device.I32(g.Pad),
		device.I32(int(g.Precision)), device.I32(g.groups()))
}
