package kernel

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// Act is what follows a convolution or a linear layer: a per-channel affine map, ReLU, and max
// pooling over windows of Pool × Pool, 1 (none) or 2. An odd last row or column is dropped by
// pooling, as PyTorch's MaxPool2d(2) does. Activations are NHWC.
type Act struct {
	N, H, W, C int
	ReLU       bool
	Pool       int
}

// In and Out return the numbers of elements before and after.
func (a Act) In() int  { return a.N * a.H * a.W * a.C }
func (a Act) Out() int { return a.N * (a.H / max(a.Pool, 1)) * (a.W / max(a.Pool, 1)) * a.C }

func (a Act) check(s *device.Stream, name string) bool {
	if !check(s, name, a.N, a.H, a.W, a.C) {
		return false
	}
	if a.Pool != 1 && a.Pool != 2 {
		fail(s, name, "pooling by %d in %+v; 1 and 2 are known", a.Pool, a)
		return false
	}
	return true
}

// grid gives every block about as much as a core's cache holds of input and output.
func (a Act) grid() int { return min(blocks(a.In(), 16384), 512) }

// indexed reports whether the choice an output makes is more than "the one input".
func (a Act) indexed() bool { return a.ReLU || a.Pool > 1 }

// What a kernel does with the index of chosen inputs (enum Index of act.cu).
const (
	indexNone = iota
	indexWrite
	indexRead
)

// ActForward computes y[N,H/p,W/p,C] = pool(relu(scale_c·z + shift_c)) of z[N,H,W,C]. An absent scale
// is 1, an absent shift 0. idx gets a byte for each output: the position in its window (0 … p²−1) of
// the first largest value, or 255 where ReLU cuts it off; it may be absent. With y.P absent
// only the tangent is computed, at the choices that idx holds already.
func ActForward(s *device.Stream, a Act, z, scale, shift, y tensor.Tensor, idx device.Ptr) {
	const name = "ActForward"
	if !a.check(s, name) || a.Out() == 0 || !checkTensors(s, name,
		operand{"z", z, a.In(), false}, operand{"scale", scale, a.C, true},
		operand{"shift", shift, a.C, true}, operand{"y", y, a.Out(), false}) {
		return
	}
	mode := indexWrite
	if idx == 0 || !a.indexed() {
		mode = indexNone
	}
	if y.T == 0 {
		a.forward(s, mode, z.P, scale.P, shift.P, y.P, idx)
		return
	}
	chosen := idx != 0 || !a.indexed()
	if chosen && scale.T == 0 && z.T != 0 {
		// With the choices known and scale constant, the map is affine in (z, shift).
		if y.P != 0 {
			a.forward(s, mode, z.P, scale.P, shift.P, y.P, idx)
		}
		a.forward(s, indexRead, z.T, scale.P, shift.T, y.T, idx)
		return
	}
	if chosen && y.P == 0 && mode == indexWrite {
		mode = indexRead
	}
	s.Launch("act_forward_dual", a.grid(), threads,
		device.I32(a.N), device.I32(a.H), device.I32(a.W), device.I32(a.C), device.I32(a.Pool),
		device.I32(boolean(a.ReLU)), device.I32(mode),
		device.P(z.P), device.P(z.T), device.P(scale.P), device.P(scale.T),
		device.P(shift.P), device.P(shift.T), device.P(y.P), device.P(y.T), device.P(idx))
}

func (a Act) forward(s *device.Stream, mode int, z, scale, shift, y, idx device.Ptr) {
	s.Launch("act_forward_f32", a.grid(), threads,
		device.I32(a.N), device.I32(a.H), device.I32(a.W), device.I32(a.C), device.I32(a.Pool),
		device.I32(boolean(a.ReLU)), device.I32(mode),
		device.P(z), device.P(scale), device.P(shift), device.P(y), device.P(idx))
}

// ActBackward computes dz[N,H,W,C] = scale_c·scatter(dy) + p_c·z + q_c, where scatter puts dy[N,H/p,
// W/p,C] at the inputs that idx names and 0 elsewhere. An absent scale is 1; absent p and q, which
// come together, are 0, and only with them z is needed. idx may be absent with neither ReLU
// nor pooling. With dz.P absent only the tangent is computed.
func ActBackward(s *device.Stream, a Act, dy, z, scale, p, q tensor.Tensor, idx device.Ptr, dz tensor.Tensor) {
	const name = "ActBackward"
	if !a.check(s, name) || a.In() == 0 || !checkTensors(s, name,
		operand{"dy", dy, a.Out(), false}, operand{"z", z, a.In(), p.Absent()},
		operand{"scale", scale, a.C, true}, operand{"p", p, a.C, true},
		operand{"q", q, a.C, p.Absent()}, operand{"dz", dz, a.In(), false}) {
		return
	}
	if !a.checkIndex(s, name, idx) {
		return
	}
	if p.Absent() {
		z, q = tensor.Tensor{}, tensor.Tensor{}
	}
	if dz.T == 0 {
		a.backward(s, dy.P, z.P, scale.P, p.P, q.P, idx, dz.P)
		return
	}
	if p.Absent() && scale.T == 0 && dy.T != 0 { // linear in dy
		if dz.P != 0 {
			a.backward(s, dy.P, 0, scale.P, 0, 0, idx, dz.P)
		}
		a.backward(s, dy.T, 0, scale.P, 0, 0, idx, dz.T)
		return
	}
	s.Launch("act_backward_dual", a.grid(), threads,
		device.I32(a.N), device.I32(a.H), device.I32(a.W), device.I32(a.C), device.I32(a.Pool),
		device.P(dy.P), device.P(dy.T), device.P(z.P), device.P(z.T),
		device.P(scale.P), device.P(scale.T), device.P(p.P), device.P(p.T), device.P(q.P), device.P(q.T),
		device.P(a.index(idx)), device.P(dz.P), device.P(dz.T))
}

func (a Act) backward(s *device.Stream, dy, z, scale, p, q, idx, dz device.Ptr) {
	s.Launch("act_backward_f32", a.grid(), threads,
		device.I32(a.N), device.I32(a.H), device.I32(a.W), device.I32(a.C), device.I32(a.Pool),
		device.P(dy), device.P(z), device.P(scale), device.P(p), device.P(q),
		device.P(a.index(idx)), device.P(dz))
}

// index is idx where it means something.
func (a Act) index(idx device.Ptr) device.Ptr {
	if !a.indexed() {
		return 0
	}
	return idx
}

func (a Act) checkIndex(s *device.Stream, name string, idx device.Ptr) bool {
	if idx == 0 && a.indexed() && a.Out() > 0 {
		fail(s, name, "idx is absent with ReLU %v and pooling by %d", a.ReLU, a.Pool)
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
	shape := func(args ...device.Arg) []device.Arg {
		return append([]device.Arg{device.I32(a.N), device.I32(a.H), device.I32(a.W), device.I32(a.C), device.I32(a.Pool)}, args...)
	}
	reduce := func(dy, z device.Ptr) {
		s.Launch("act_reduce_f32", a.parts(), threads,
			shape(device.P(dy), device.P(z), device.P(a.index(idx)), device.P(part))...)
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
		s.Launch("act_reduce_dual", a.parts(), threads,
			shape(device.P(dy.P), device.P(dy.T), device.P(z.P), device.P(z.T), device.P(a.index(idx)), device.P(part))...)
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
