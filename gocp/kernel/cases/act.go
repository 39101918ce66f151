package cases

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

// What of scale and shift is there.
const (
	affineNone = iota
	affineShift
	affineBoth
)

var (
	actTol = Tol{Rel: 3e-7, Why: "a product and a sum"}
	// sumTol: float32 sums of up to 512 terms in each of up to 512 parts; rounding walks at random.
	sumTol = Tol{Rel: 3e-6, Abs: 1e-5, Why: "sums over rows in float32, in parts"}
)

func activations() []Case {
	axes := []string{"n", "h", "w", "c", "pool", "relu", "affine"}
	var tests []Shape
	for _, pool := range []int{1, 2} {
		for _, relu := range []int{0, 1} {
			for affine := range 3 {
				tests = append(tests, Dims(3, 6, 8, 5, pool, relu, affine))
			}
			tests = append(tests,
				Dims(0, 4, 4, 3, pool, relu, affineBoth), Dims(1, 1, 1, 1, pool, relu, affineBoth),
				Dims(2, 7, 5, 17, pool, relu, affineBoth), Dims(2, 2, 3, 64, pool, relu, affineShift),
				Dims(1, 3, 2, 521, pool, relu, affineBoth), Dims(1, 4, 2, 1100, pool, relu, affineBoth),
				Dims(2, 6, 6, 7, pool, relu, affineBoth).With(Ties), Dims(2, 6, 6, 7, pool, relu, affineNone).With(Ties),
				Dims(2, 6, 6, 7, pool, relu, affineShift).With(Infinite), Dims(2, 6, 6, 7, pool, relu, affineBoth).With(NaN))
		}
	}
	tests = append(tests, Dims(16, 16, 16, 32, 2, 1, affineBoth))
	benches := []Shape{
		Dims(128, 32, 32, 64, 2, 1, affineShift), Dims(128, 32, 32, 64, 2, 1, affineBoth),
		Dims(128, 8, 8, 256, 2, 1, affineShift), Dims(128, 28, 28, 32, 2, 1, affineShift),
		Dims(128, 16, 16, 16, 1, 1, affineShift), Dims(128, 1, 1, 256, 1, 1, affineShift),
		Dims(128, 32, 32, 3, 1, 0, affineBoth),
	}
	return []Case{
		{Name: "ActForward", Kernels: []string{"act_forward_f32", "act_forward_dual"}, Axes: axes, Tests: tests, Benches: benches, New: newActForward},
		{
			Name: "ActBackward", Kernels: []string{"act_backward_f32", "act_backward_dual"}, Axes: axes,
			Tests: finite(tests), Benches: benches, New: newActBackward,
		}, {
			Name: "ActBackwardReduce", Kernels: []string{"act_reduce_f32", "act_reduce_dual", "act_combine"}, Axes: axes,
			Tests: finite(tests), Benches: benches, New: newActBackwardReduce,
		}, {
			Name: "ActForward+Backward", Kernels: []string{"act_forward_f32", "act_backward_f32", "act_reduce_f32"}, Axes: axes,
			Tests: []Shape{
				Dims(3, 6, 8, 5, 2, 1, affineBoth), Dims(3, 7, 5, 19, 2, 0, affineBoth), Dims(2, 5, 3, 33, 1, 1, affineBoth),
				Dims(2, 3, 3, 4, 1, 0, affineBoth),
			}, Benches: benches[1:2], New: newActChain,
		},
	}
}

// finite leaves out the fills that are not finite: products with zero would be NaN at places that
// depend on what is skipped.
func finite(shapes []Shape) []Shape {
	var f []Shape
	for _, s := range shapes {
		if s.Fill == Normal || s.Fill == Ties {
			f = append(f, s)
		}
	}
	return f
}

// actOf reads a shape.
func actOf(sh Shape) (a kernel.Act, affine int) {
	d := sh.Dims
	return kernel.Act{N: d[0], H: d[1], W: d[2], C: d[3], Pool: d[4], ReLU: d[5] == 1}, d[6]
}

func indexed(a kernel.Act) bool { return a.ReLU || a.Pool > 1 }

// eachOutput calls f with every output and the inputs of its window.
func eachOutput(a kernel.Act, f func(o, channel int, window []int)) {
	oh, ow := a.H/a.Pool, a.W/a.Pool
	window := make([]int, a.Pool*a.Pool)
	for o := range a.Out() {
		c := o % a.C
		x := o / a.C % ow
		y := o / a.C / ow % oh
		n := o / a.C / ow / oh
		for j := range window {
			window[j] = ((n*a.H+y*a.Pool+j/a.Pool)*a.W+x*a.Pool+j%a.Pool)*a.C + c
		}
		f(o, c, window)
	}
}

// actForwardRef writes y and idx (which may be nil) of z.
func actForwardRef(a kernel.Act, z, scale, shift, y, idx []float64) {
	eachOutput(a, func(o, c int, window []int) {
		best, at := 0.0, 0
		for j, i := range window {
			x := z[i]
			if scale != nil {
				x *= scale[c]
			}
			if shift != nil {
				x += shift[c]
			}
			if j == 0 || x > best || math.IsNaN(x) {
				best, at = x, j
			}
		}
		if a.ReLU && best <= 0 {
			best, at = 0, 255
		}
		y[o] = best
		if idx != nil {
			idx[o] = float64(at)
		}
	})
}

func actBytes(a kernel.Act) (in, out, idx float64) {
	in, out = 4*float64(a.In()), 4*float64(a.Out())
	if indexed(a) {
		idx = float64(a.Out())
	}
	return in, out, idx
}

func newActForward(sh Shape, r *Rand) *Problem {
	a, affine := actOf(sh)
	in, out, ix := actBytes(a)
	p := &Problem{Replay: true, Bytes: in + out + ix, FLOPs: 4 * float64(a.In())}
	z := p.Diff("z", r.Values(a.In()), a.N, a.H, a.W, a.C)
	var scale, shift, idx *Buffer
	if affine >= affineShift {
		shift = p.Diff("shift", r.Normal(a.C))
	}
	if affine == affineBoth {
		scale = p.Diff("scale", r.Normal(a.C))
	}
	y := p.Out("y", actTol, a.N, a.H/a.Pool, a.W/a.Pool, a.C)
	if indexed(a) {
		idx = OutConst[uint8](p, "idx", exact, a.Out())
	}
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ActForward(s, a, b.Tensor(z), b.Tensor(scale), b.Tensor(shift), b.Tensor(y), b.Ptr(idx))
	}
	p.Ref = func(v *Values) { actForwardRef(a, v.F(z), v.F(scale), v.F(shift), v.F(y), v.F(idx)) }
	return p
}

// chosen draws a valid index for every output, a fifth of them off with ReLU.
func chosen(a kernel.Act, p *Problem, r *Rand) *Buffer {
	if !indexed(a) {
		return nil
	}
	idx := make([]uint8, a.Out())
	for i := range idx {
		idx[i] = uint8(r.Int(a.Pool * a.Pool))
		if a.ReLU && r.Int(5) == 0 {
			idx[i] = 255
		}
	}
	return Const(p, "idx", idx)
}

// pickedAt is the input that output o takes, or -1.
func pickedAt(idx []float64, o int, window []int) int {
	if idx == nil {
		return window[0]
	}
	if idx[o] == 255 {
		return -1
	}
	return window[int(idx[o])]
}

func newActBackward(sh Shape, r *Rand) *Problem {
	a, affine := actOf(sh)
	in, out, ix := actBytes(a)
	p := &Problem{Replay: true, Bytes: in + out + ix, FLOPs: 2 * float64(a.In())}
	dy := p.Diff("dy", r.Values(a.Out()), a.N, a.H/a.Pool, a.W/a.Pool, a.C)
	idx := chosen(a, p, r)
	var z, scale, pc, qc *Buffer
	if affine >= affineShift {
		scale = p.Diff("scale", r.Normal(a.C))
	}
	if affine == affineBoth {
		z = p.Diff("z", r.Values(a.In()), a.N, a.H, a.W, a.C)
		pc, qc = p.Diff("p", r.Normal(a.C)), p.Diff("q", r.Normal(a.C))
		p.Bytes += in
	}
	dz := p.Out("dz", actTol, a.N, a.H, a.W, a.C)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ActBackward(s, a, b.Tensor(dy), b.Tensor(z), b.Tensor(scale), b.Tensor(pc), b.Tensor(qc), b.Ptr(idx), b.Tensor(dz))
	}
	p.Ref = func(v *Values) {
		actBackwardRef(a, v.F(dy), v.F(z), v.F(scale), v.F(pc), v.F(qc), v.F(idx), v.F(dz))
	}
	return p
}

func actBackwardRef(a kernel.Act, dy, z, scale, p, q, idx, dz []float64) {
	if p != nil {
		for i := range dz {
			dz[i] = p[i%a.C]*z[i] + q[i%a.C]
		}
	}
	eachOutput(a, func(o, c int, window []int) {
		d := dy[o]
		if scale != nil {
			d *= scale[c]
		}
		if i := pickedAt(idx, o, window); i >= 0 {
			dz[i] += d
		}
	})
}

func newActBackwardReduce(sh Shape, r *Rand) *Problem {
	a, affine := actOf(sh)
	in, out, ix := actBytes(a)
	p := &Problem{Replay: true, Bytes: out + ix, FLOPs: float64(a.Out()), Workspace: kernel.ActBackwardReduceBytes(a, true)}
	dy := p.Diff("dy", r.Values(a.Out()), a.N, a.H/a.Pool, a.W/a.Pool, a.C)
	idx := chosen(a, p, r)
	var z, dscale *Buffer
	if affine == affineBoth {
		z = p.Diff("z", r.Values(a.In()), a.N, a.H, a.W, a.C)
		dscale = p.Out("dscale", sumTol, a.C)
		p.Bytes, p.FLOPs = p.Bytes+in, 3*p.FLOPs
	}
	dshift := p.Out("dshift", sumTol, a.C)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ActBackwardReduce(s, b.Workspace(), a, b.Tensor(dy), b.Tensor(z), b.Ptr(idx), b.Tensor(dscale), b.Tensor(dshift))
	}
	p.Ref = func(v *Values) { actReduceRef(a, v.F(dy), v.F(z), v.F(idx), v.F(dscale), v.F(dshift)) }
	return p
}

func actReduceRef(a kernel.Act, dy, z, idx, dscale, dshift []float64) {
	eachOutput(a, func(o, c int, window []int) {
		if i := pickedAt(idx, o, window); i >= 0 {
			dshift[c] += dy[o]
			if dscale != nil {
				dscale[c] += dy[o] * z[i]
			}
		}
	})
}

// newActChain runs forward and backward together: every gradient is one of ⟨dy, y⟩.
func newActChain(sh Shape, r *Rand) *Problem {
	a, _ := actOf(sh)
	in, out, ix := actBytes(a)
	p := &Problem{Replay: true, Bytes: 3*in + 3*out + 3*ix, FLOPs: 8 * float64(a.In()), Workspace: kernel.ActBackwardReduceBytes(a, true)}
	z := p.Diff("z", r.Normal(a.In()), a.N, a.H, a.W, a.C)
	scale, shift := p.Diff("scale", r.Normal(a.C)), p.Diff("shift", r.Normal(a.C))
	dy := p.Diff("dy", r.Normal(a.Out()), a.N, a.H/a.Pool, a.W/a.Pool, a.C)
	y := p.Out("y", actTol, a.N, a.H/a.Pool, a.W/a.Pool, a.C)
	dz := p.Out("dz", actTol, a.N, a.H, a.W, a.C)
	dscale, dshift := p.Out("dscale", sumTol, a.C), p.Out("dshift", sumTol, a.C)
	var idx *Buffer
	if indexed(a) {
		idx = OutConst[uint8](p, "idx", exact, a.Out())
	}
	none := (*Buffer)(nil)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ActForward(s, a, b.Tensor(z), b.Tensor(scale), b.Tensor(shift), b.Tensor(y), b.Ptr(idx))
		kernel.ActBackwardReduce(s, b.Workspace(), a, b.Tensor(dy), b.Tensor(z), b.Ptr(idx), b.Tensor(dscale), b.Tensor(dshift))
		kernel.ActBackward(s, a, b.Tensor(dy), b.Tensor(none), b.Tensor(scale), b.Tensor(none), b.Tensor(none), b.Ptr(idx), b.Tensor(dz))
	}
	p.Ref = func(v *Values) {
		at := v.F(idx)
		actForwardRef(a, v.F(z), v.F(scale), v.F(shift), v.F(y), at)
		actReduceRef(a, v.F(dy), v.F(z), at, v.F(dscale), v.F(dshift))
		actBackwardRef(a, v.F(dy), nil, v.F(scale), nil, nil, at, v.F(dz))
	}
	of := func(v *Values) float64 {
		actForwardRef(a, v.F(z), v.F(scale), v.F(shift), v.F(y), nil)
		return dot(v.F(dy), v.F(y))
	}
	p.Gradients = []Gradient{{dz, z, of}, {dscale, scale, of}, {dshift, shift, of}}
	return p
}
