package kernel

import (
	"fmt"
	"math"
	"strings"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// An Activation is a function of single numbers, its derivative 0 where it is not smooth.
type Activation int

// The activations.
const (
	Linear Activation = iota // none
	ReLU
	ReLU6 // min(max(·, 0), 6)
)

var activations = []string{"linear", "relu", "relu6"}

func (a Activation) String() string {
	if a < 0 || int(a) >= len(activations) {
		return fmt.Sprintf("Activation(%d)", int(a))
	}
	return activations[a]
}

// bounds are the values at and beyond which an activation is constant; NaN bounds nothing.
func (a Activation) bounds() (lower, upper float64) {
	switch a {
	case ReLU:
		return 0, math.NaN()
	case ReLU6:
		return 0, 6
	}
	return math.NaN(), math.NaN()
}

// maxWindow is the widest window whose positions fit into a byte beside 255.
const maxWindow = 15

// Act is what follows a convolution or a linear layer: a per-channel affine map, a residual, an
// activation, and max pooling over windows of Pool × Pool, Stride apart, with Pad lines around the
// image that no window takes from, as PyTorch's MaxPool2d does (floor mode). Pool 0 or 1 is none,
// Stride 0 is Pool. Activations are NHWC.
type Act struct {
	N, H, W, C  int
	Activation  Activation
	Pool        int
	Stride, Pad int
}

// In and Out return the numbers of elements before and after.
func (a Act) In() int  { return a.N * a.H * a.W * a.C }
func (a Act) Out() int { return a.N * a.OutH() * a.OutW() * a.C }

// OutH and OutW return the size of the output, 0 where no window fits.
func (a Act) OutH() int { return a.outSize(a.H) }
func (a Act) OutW() int { return a.outSize(a.W) }

func (a Act) outSize(in int) int {
	if over := in + 2*a.Pad - a.pool(); over >= 0 {
		return over/a.stride() + 1
	}
	return 0
}

func (a Act) pool() int { return max(a.Pool, 1) }

func (a Act) stride() int {
	if a.Stride == 0 {
		return a.pool()
	}
	return a.Stride
}

func (a Act) check(s *device.Stream, name string) bool {
	if !check(s, name, a.N, a.H, a.W, a.C) {
		return false
	}
	switch {
	case a.Activation < Linear || a.Activation > ReLU6:
		fail(s, name, "unknown activation in %+v", a)
	case a.Pool < 0 || a.Pool > maxWindow || a.Stride < 0 || a.Pad < 0:
		fail(s, name, "pooling by %d, stride %d, padding %d; windows are 1 to %d wide", a.Pool, a.Stride, a.Pad, maxWindow)
	case 2*a.Pad > a.pool():
		fail(s, name, "pooling by %d with padding %d; at most half of the window", a.Pool, a.Pad)
	case a.pool() == 1 && a.stride() != 1:
		fail(s, name, "stride %d without pooling", a.Stride)
	case a.windows(false) && !a.fits():
		fail(s, name, "no window of %d fits into the image of %+v", a.Pool, a)
	default:
		return true
	}
	return false
}

// fits reports whether the image, if it has pixels, is as large as a window.
func (a Act) fits() bool { return a.H*a.W == 0 || a.OutH()*a.OutW() > 0 }

// grid gives every block about as much as a core's cache holds of input and output.
func (a Act) grid() int { return min(blocks(a.In(), 16384), 512) }

// Indexed reports whether the choice an output makes is more than "the one input": then there is an idx.
func (a Act) Indexed() bool { return a.Activation != Linear || a.pool() > 1 }

// windows reports whether act_window.cu is to do it: act.cu has loops of its own for single pixels and
// for 2 × 2 windows side by side.
func (a Act) windows(residual bool) bool {
	return a.pool() > 1 && (a.pool() != 2 || a.stride() != 2 || a.Pad != 0 || residual || a.Activation == ReLU6)
}

// What a kernel does with the index of chosen inputs (enum Index of act.cu).
const (
	indexNone = iota
	indexWrite
	indexRead
)

// launch launches the kernel of that name, or its likeness for windows.
func (a Act) launch(s *device.Stream, name string, grid int, windows bool, args ...device.Arg) {
	shape := []device.Arg{device.I32(a.N), device.I32(a.H), device.I32(a.W), device.I32(a.C), device.I32(a.pool())}
	if windows {
		name = strings.Replace(name, "act_", "act_window_", 1)
		shape = append(shape, device.I32(a.stride()), device.I32(a.Pad))
	}
	s.Launch(name, grid, threads, append(shape, args...)...)
}

// ActForward computes y[N,OutH,OutW,C] = pool(act(scale_c·z + shift_c + r)) of z and r[N,H,W,C]. An
// absent scale is 1, absent shift and r are 0. idx gets a byte for each output: the position in its
// window (row·Pool + column) of the first largest value, or 255 where the activation cuts it off; it
// may be absent. With y.P absent only the tangent is computed, at the choices that idx holds already.
// Without pooling y may be z.
func ActForward(s *device.Stream, a Act, z, scale, shift, r, y tensor.Tensor, idx device.Ptr) {
	const name = "ActForward"
	if !a.check(s, name) || a.Out() == 0 || !checkTensors(s, name,
		operand{"z", z, a.In(), false}, operand{"scale", scale, a.C, true},
		operand{"shift", shift, a.C, true}, operand{"r", r, a.In(), true}, operand{"y", y, a.Out(), false}) {
		return
	}
	mode := indexWrite
	if idx == 0 || !a.Indexed() {
		mode = indexNone
	}
	if y.T == 0 {
		a.forward(s, mode, z.P, scale.P, shift.P, r.P, y.P, idx)
		return
	}
	chosen := idx != 0 || !a.Indexed()
	if chosen && scale.T == 0 && z.T != 0 {
		// With the choices known and scale constant, the map is affine in (z, shift, r).
		if y.P != 0 {
			a.forward(s, mode, z.P, scale.P, shift.P, r.P, y.P, idx)
		}
		a.forward(s, indexRead, z.T, scale.P, shift.T, r.T, y.T, idx)
		return
	}
	if chosen && y.P == 0 && mode == indexWrite {
		mode = indexRead
	}
	windows := a.windows(!r.Absent())
	a.launch(s, "act_forward_dual", a.grid(), windows, append(a.bounds(windows), device.I32(mode),
		device.P(z.P), device.P(z.T), device.P(scale.P), device.P(scale.T),
		device.P(shift.P), device.P(shift.T), device.P(r.P), device.P(r.T), device.P(y.P), device.P(y.T), device.P(idx))...)
}

func (a Act) forward(s *device.Stream, mode int, z, scale, shift, r, y, idx device.Ptr) {
	windows := a.windows(r != 0)
	a.launch(s, "act_forward_f32", a.grid(), windows, append(a.bounds(windows), device.I32(mode),
		device.P(z), device.P(scale), device.P(shift), device.P(r), device.P(y), device.P(idx))...)
}

// bounds are the activation as a kernel's arguments.
func (a Act) bounds(windows bool) []device.Arg {
	if !windows {
		return []device.Arg{device.I32(int(a.Activation))} // enum Bounds of act.cu
	}
	lower, upper := a.Activation.bounds()
	return []device.Arg{device.F32(lower), device.F32(upper)}
}

// ActBackward computes dz[N,H,W,C] = scale_c·scatter(dy) + p_c·z + q_c and dr[N,H,W,C] = scatter(dy),
// where scatter adds dy[N,OutH,OutW,C] to the inputs that idx names, 0 elsewhere. An absent scale is
// 1; absent p and q, which come together, are 0, and only with them z is needed. One of dz and dr may
// be absent, and idx with neither activation nor pooling. With dz.P and dr.P absent only tangents are
// computed. dz may be z; without pooling dr may be dy.
func ActBackward(s *device.Stream, a Act, dy, z, scale, p, q tensor.Tensor, idx device.Ptr, dz, dr tensor.Tensor) {
	const name = "ActBackward"
	if dz.Absent() { // the residual's gradient alone
		scale, p, dz, dr = tensor.Tensor{}, tensor.Tensor{}, dr, tensor.Tensor{}
	}
	if !a.check(s, name) || a.In() == 0 || !checkTensors(s, name,
		operand{"dy", dy, a.Out(), false}, operand{"z", z, a.In(), p.Absent()},
		operand{"scale", scale, a.C, true}, operand{"p", p, a.C, true},
		operand{"q", q, a.C, p.Absent()}, operand{"dz", dz, a.In(), false}, operand{"dr", dr, a.In(), true}) {
		return
	}
	if !a.checkIndex(s, name, idx) {
		return
	}
	if a.windows(!dr.Absent()) && !a.fits() {
		fail(s, name, "no window of %d fits into the image of %+v", a.Pool, a)
		return
	}
	if p.Absent() {
		z, q = tensor.Tensor{}, tensor.Tensor{}
	}
	if dz.T == 0 && dr.T == 0 {
		a.backward(s, dy.P, z.P, scale.P, p.P, q.P, idx, dz.P, dr.P)
		return
	}
	if p.Absent() && scale.T == 0 && dy.T != 0 && (dr.Absent() || (dr.P == 0) == (dz.P == 0) && (dr.T == 0) == (dz.T == 0)) { // linear in dy
		if dz.P != 0 {
			a.backward(s, dy.P, 0, scale.P, 0, 0, idx, dz.P, dr.P)
		}
		a.backward(s, dy.T, 0, scale.P, 0, 0, idx, dz.T, dr.T)
		return
	}
	a.launch(s, "act_backward_dual", a.grid(), a.windows(!dr.Absent()),
		device.P(dy.P), device.P(dy.T), device.P(z.P), device.P(z.T),
		device.P(scale.P), device.P(scale.T), device.P(p.P), device.P(p.T), device.P(q.P), device.P(q.T),
		device.P(a.index(idx)), device.P(dz.P), device.P(dz.T), device.P(dr.P), device.P(dr.T))
}

func (a Act) backward(s *device.Stream, dy, z, scale, p, q, idx, dz, dr device.Ptr) {
	a.launch(s, "act_backward_f32", a.grid(), a.windows(dr != 0),
		device.P(dy), device.P(z), device.P(scale), device.P(p), device.P(q),
		device.P(a.index(idx)), device.P(dz), device.P(dr))
}

// index is idx where it means something.
func (a Act) index(idx device.Ptr) device.Ptr {
	if !a.Indexed() {
		return 0
	}
	return idx
}

func (a Act) checkIndex(s *device.Stream, name string, idx device.Ptr) bool {
	if idx == 0 && a.Indexed() && a.Out() > 0 {
		fail(s, name, "idx is absent with activation %v and pooling by %d", a.Activation, a.Pool)
		return false
	}
	return true
}

// parts is the number of partial sums of ActBackwardReduce.
func (a Act) parts() int { return parts(a.Out(), 4) }

// ActBackwardReduceBytes is the workspace that ActBackwardReduce wants.
func ActBackwardReduceBytes(a Act, dual bool) int {
	planes := 2
	if dual {
		planes = 4
	}
	return 4 * planes * a.C * a.parts()
}

// ActBackwardReduce sums over everything but channels: dscale[C] = Σ dy·z at the inputs that idx names
// (255: none), dshift[C] = Σ dy there. dscale may be absent, and then z is not needed; so may
// dshift. Planes that are absent are not computed. The order of the sums is fixed.
func ActBackwardReduce(s *device.Stream, ws *Workspace, a Act, dy, z tensor.Tensor, idx device.Ptr, dscale, dshift tensor.Tensor) {
	const name = "ActBackwardReduce"
	if !a.check(s, name) || a.C == 0 || !checkTensors(s, name,
		operand{"dy", dy, a.Out(), false}, operand{"z", z, a.In(), dscale.Absent()},
		operand{"dscale", dscale, a.C, true}, operand{"dshift", dshift, a.C, true}) {
		return
	}
	if !a.checkIndex(s, name, idx) || dscale.Absent() && dshift.Absent() {
		return
	}
	if a.Out() == 0 {
		for _, p := range []device.Ptr{dscale.P, dscale.T, dshift.P, dshift.T} {
			zero(s, p, a.C)
		}
		return
	}
	dual := dscale.T != 0 || dshift.T != 0
	part := ws.take(s, name, ActBackwardReduceBytes(a, dual))
	if part == 0 {
		return
	}
	combine := func(planes int, out [4]device.Ptr) {
		s.Launch("act_combine", blocks(a.C, 256), threads,
			device.I32(a.parts()), device.I32(planes), device.I32(a.C), device.P(part),
			device.P(out[0]), device.P(out[1]), device.P(out[2]), device.P(out[3]))
	}
	reduce := func(dy, z device.Ptr) {
		a.launch(s, "act_reduce_f32", a.parts(), a.windows(false),
			device.P(dy), device.P(z), device.P(a.index(idx)), device.P(part))
	}
	switch {
	case dscale.Absent(): // linear in dy: each plane by itself
		if dshift.P != 0 {
			reduce(dy.P, 0)
			combine(1, [4]device.Ptr{dshift.P})
		}
		if dshift.T != 0 && dy.T == 0 {
			zero(s, dshift.T, a.C)
		} else if dshift.T != 0 {
			reduce(dy.T, 0)
			combine(1, [4]device.Ptr{dshift.T})
		}
	case dual:
		a.launch(s, "act_reduce_dual", a.parts(), a.windows(false),
			device.P(dy.P), device.P(dy.T), device.P(z.P), device.P(z.T), device.P(a.index(idx)), device.P(part))
		combine(4, [4]device.Ptr{dscale.P, dscale.T, dshift.P, dshift.T})
	default:
		reduce(dy.P, z.P)
		combine(2, [4]device.Ptr{dscale.P, dshift.P})
	}
}

// zero clears n floats; an absent buffer is left alone.
func zero(s *device.Stream, p device.Ptr, n int) {
	if p != 0 {
		s.Memset32(p, 0, n)
	}
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}
