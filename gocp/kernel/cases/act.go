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
	actTol     = Tol{Rel: 3e-7, Why: "a product and a sum or two"}
	actBackTol = Tol{Rel: 6e-7, Why: "two products and the sums of them and of what windows add"}
	// sumTol: float32 sums of up to 512 terms in each of up to 512 parts; rounding walks at random.
	sumTol = Tol{Rel: 3e-6, Abs: 1e-5, Why: "sums over rows in float32, in parts"}
)

var actAxes = []string{"n", "h", "w", "c", "pool", "stride", "pad", "act", "affine", "residual"}

// actShape is a shape of the activation's cases: the window with its stride and padding, the
// activation, what of scale and shift there is, and whether there is a residual.
func actShape(n, h, w, c, pool, stride, pad int, act kernel.Activation, affine, residual int) Shape {
	return Dims(n, h, w, c, pool, stride, pad, int(act), affine, residual)
}

func activations() []Case {
	var tests []Shape
	for _, pool := range []int{1, 2} {
		for _, act := range []kernel.Activation{kernel.Linear, kernel.ReLU} {
			of := func(n, h, w, c, affine int) Shape { return actShape(n, h, w, c, pool, pool, 0, act, affine, 0) }
			for affine := range 3 {
				tests = append(tests, of(3, 6, 8, 5, affine))
			}
			tests = append(tests,
				of(0, 4, 4, 3, affineBoth), of(1, 1, 1, 1, affineBoth),
				of(2, 7, 5, 17, affineBoth), of(2, 2, 3, 64, affineShift),
				of(1, 3, 2, 521, affineBoth), of(1, 4, 2, 1100, affineBoth),
				of(2, 6, 6, 7, affineBoth).With(Ties), of(2, 6, 6, 7, affineNone).With(Ties),
				of(2, 6, 6, 7, affineShift).With(Infinite), of(2, 6, 6, 7, affineBoth).With(NaN))
		}
	}
	tests = append(tests, actShape(16, 16, 16, 32, 2, 2, 0, kernel.ReLU, affineBoth, 0))
	for _, act := range []kernel.Activation{kernel.Linear, kernel.ReLU, kernel.ReLU6} {
		tests = append(tests,
			actShape(2, 7, 5, 17, 1, 1, 0, act, affineBoth, 1), actShape(3, 2, 3, 521, 1, 1, 0, act, affineNone, 1),
			actShape(2, 6, 6, 7, 1, 1, 0, act, affineShift, 1).With(NaN), actShape(2, 9, 8, 21, 3, 2, 1, act, affineBoth, 0),
			actShape(2, 9, 8, 5, 3, 2, 1, act, affineNone, 0).With(Ties), actShape(2, 5, 6, 3, 3, 1, 1, act, affineShift, 1),
			actShape(1, 7, 7, 33, 2, 2, 0, act, affineBoth, 1), actShape(1, 5, 4, 2, 2, 1, 1, act, affineBoth, 0).With(Infinite),
			actShape(2, 7, 6, 4, 2, 3, 0, act, affineShift, 0), actShape(1, 9, 9, 3, 5, 3, 2, act, affineBoth, 0).With(NaN),
			actShape(0, 4, 4, 3, 3, 2, 1, act, affineBoth, 1))
	}
	tests = append(tests, actShape(2, 7, 5, 18, 1, 1, 0, kernel.ReLU6, affineBoth, 0), actShape(2, 6, 5, 18, 2, 2, 0, kernel.ReLU6, affineBoth, 0),
		actShape(1, 16, 15, 2, 15, 1, 7, kernel.ReLU, affineBoth, 0))
	benches := []Shape{
		actShape(128, 32, 32, 64, 2, 2, 0, kernel.ReLU, affineShift, 0), actShape(128, 32, 32, 64, 2, 2, 0, kernel.ReLU, affineBoth, 0),
		actShape(128, 8, 8, 256, 2, 2, 0, kernel.ReLU, affineShift, 0), actShape(128, 28, 28, 32, 2, 2, 0, kernel.ReLU, affineShift, 0),
		actShape(128, 16, 16, 16, 1, 1, 0, kernel.ReLU, affineShift, 0), actShape(128, 1, 1, 256, 1, 1, 0, kernel.ReLU, affineShift, 0),
		actShape(128, 32, 32, 3, 1, 1, 0, kernel.Linear, affineBoth, 0),
		actShape(128, 32, 32, 64, 1, 1, 0, kernel.ReLU, affineBoth, 1), actShape(128, 16, 16, 192, 1, 1, 0, kernel.ReLU6, affineBoth, 0),
		actShape(32, 112, 112, 64, 3, 2, 1, kernel.ReLU, affineBoth, 0),
	}
	return []Case{
		{
			Name: "ActForward", Kernels: []string{"act_forward_f32", "act_forward_dual", "act_window_forward_f32", "act_window_forward_dual"},
			Axes: actAxes, Tests: tests, Benches: benches, New: newActForward,
		}, {
			Name: "ActBackward", Kernels: []string{"act_backward_f32", "act_backward_dual", "act_window_backward_f32", "act_window_backward_dual"},
			Axes: actAxes, Tests: finite(tests), Benches: benches, New: newActBackward,
		}, {
			Name: "ActBackwardReduce", Kernels: []string{"act_reduce_f32", "act_reduce_dual", "act_window_reduce_f32", "act_window_reduce_dual", "act_combine"},
			Axes: actAxes, Tests: finite(tests), Benches: benches, New: newActBackwardReduce,
		}, {
			Name: "ActForward+Backward", Kernels: []string{"act_forward_f32", "act_backward_f32", "act_reduce_f32"}, Axes: actAxes,
			Tests: []Shape{
				actShape(3, 6, 8, 5, 2, 2, 0, kernel.ReLU, affineBoth, 0), actShape(3, 7, 5, 19, 2, 2, 0, kernel.Linear, affineBoth, 0),
				actShape(2, 5, 3, 33, 1, 1, 0, kernel.ReLU, affineBoth, 0), actShape(2, 3, 3, 4, 1, 1, 0, kernel.Linear, affineBoth, 0),
				actShape(2, 9, 8, 5, 3, 2, 1, kernel.ReLU, affineBoth, 1), actShape(2, 5, 3, 33, 1, 1, 0, kernel.ReLU6, affineBoth, 1),
				actShape(2, 6, 4, 3, 2, 1, 1, kernel.ReLU6, affineBoth, 1),
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
func actOf(sh Shape) (a kernel.Act, affine int, residual bool) {
	d := sh.Dims
	return kernel.Act{
		N: d[0], H: d[1], W: d[2], C: d[3], Pool: d[4], Stride: d[5], Pad: d[6], Activation: kernel.Activation(d[7]),
	}, d[8], d[9] == 1
}

// eachOutput calls f with every output and the inputs of its window, -1 for what is padding.
func eachOutput(a kernel.Act, f func(o, channel int, window []int)) {
	oh, ow := a.OutH(), a.OutW()
	window := make([]int, a.Pool*a.Pool)
	for o := range a.Out() {
		c := o % a.C
		x := o / a.C % ow
		y := o / a.C / ow % oh
		n := o / a.C / ow / oh
		for j := range window {
			iy, ix := y*a.Stride-a.Pad+j/a.Pool, x*a.Stride-a.Pad+j%a.Pool
			window[j] = ((n*a.H+iy)*a.W+ix)*a.C + c
			if iy < 0 || iy >= a.H || ix < 0 || ix >= a.W {
				window[j] = -1
			}
		}
		f(o, c, window)
	}
}

// actForwardRef writes y and idx (which may be nil) of z.
func actForwardRef(a kernel.Act, z, scale, shift, r, y, idx []float64) {
	eachOutput(a, func(o, c int, window []int) {
		best, at := 0.0, -1
		for j, i := range window {
			if i < 0 {
				continue
			}
			x := z[i]
			if scale != nil {
				x *= scale[c]
			}
			if shift != nil {
				x += shift[c]
			}
			if r != nil {
				x += r[i]
			}
			if at < 0 || x > best || math.IsNaN(x) {
				best, at = x, j
			}
		}
		if a.Activation != kernel.Linear && best <= 0 {
			best, at = 0, 255
		}
		if a.Activation == kernel.ReLU6 && best >= 6 {
			best, at = 6, 255
		}
		y[o] = best
		if idx != nil {
			idx[o] = float64(at)
		}
	})
}

func actBytes(a kernel.Act) (in, out, idx float64) {
	in, out = 4*float64(a.In()), 4*float64(a.Out())
	if a.Indexed() {
		idx = float64(a.Out())
	}
	return in, out, idx
}

// spread brings a good part of the values beyond ReLU6's upper bound.
func spread(a kernel.Act, v []float32) []float32 {
	if a.Activation == kernel.ReLU6 {
		for i := range v {
			v[i] *= 6
		}
	}
	return v
}

func newActForward(sh Shape, r *Rand) *Problem {
	a, affine, residual := actOf(sh)
	in, out, ix := actBytes(a)
	p := &Problem{Replay: true, Bytes: in + out + ix, FLOPs: 4 * float64(a.In())}
	z := p.Diff("z", spread(a, r.Values(a.In())), a.N, a.H, a.W, a.C)
	var scale, shift, added, idx *Buffer
	if affine >= affineShift {
		shift = p.Diff("shift", r.Normal(a.C))
	}
	if affine == affineBoth {
		scale = p.Diff("scale", r.Normal(a.C))
	}
	if residual {
		added = p.Diff("r", r.Values(a.In()), a.N, a.H, a.W, a.C)
		p.Bytes += in
	}
	y := p.Out("y", actTol, a.N, a.OutH(), a.OutW(), a.C)
	if a.Indexed() {
		idx = OutConst[uint8](p, "idx", exact, a.Out())
	}
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ActForward(s, a, b.Tensor(z), b.Tensor(scale), b.Tensor(shift), b.Tensor(added), b.Tensor(y), b.Ptr(idx))
	}
	p.Ref = func(v *Values) { actForwardRef(a, v.F(z), v.F(scale), v.F(shift), v.F(added), v.F(y), v.F(idx)) }
	return p
}

// chosen draws a valid index for every output, a fifth of them cut off by an activation.
func chosen(a kernel.Act, p *Problem, r *Rand) *Buffer {
	if !a.Indexed() {
		return nil
	}
	idx := make([]uint8, a.Out())
	eachOutput(a, func(o, _ int, window []int) {
		at := r.Int(len(window))
		for window[at] < 0 {
			at = (at + 1) % len(window)
		}
		idx[o] = uint8(at)
		if a.Activation != kernel.Linear && r.Int(5) == 0 {
			idx[o] = 255
		}
	})
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
	a, affine, residual := actOf(sh)
	in, out, ix := actBytes(a)
	p := &Problem{Replay: true, Bytes: in + out + ix, FLOPs: 2 * float64(a.In())}
	dy := p.Diff("dy", r.Values(a.Out()), a.N, a.OutH(), a.OutW(), a.C)
	idx := chosen(a, p, r)
	var z, scale, pc, qc, dr *Buffer
	if affine >= affineShift {
		scale = p.Diff("scale", r.Normal(a.C))
	}
	if affine == affineBoth {
		z = p.Diff("z", r.Values(a.In()), a.N, a.H, a.W, a.C)
		pc, qc = p.Diff("p", r.Normal(a.C)), p.Diff("q", r.Normal(a.C))
		p.Bytes += in
	}
	dz := p.Out("dz", actBackTol, a.N, a.H, a.W, a.C)
	if residual {
		dr = p.Out("dr", actBackTol, a.N, a.H, a.W, a.C)
		p.Bytes += in
	}
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ActBackward(s, a, b.Tensor(dy), b.Tensor(z), b.Tensor(scale), b.Tensor(pc), b.Tensor(qc), b.Ptr(idx), b.Tensor(dz), b.Tensor(dr))
	}
	p.Ref = func(v *Values) {
		actBackwardRef(a, v.F(dy), v.F(z), v.F(scale), v.F(pc), v.F(qc), v.F(idx), v.F(dz))
		if residual {
			actBackwardRef(a, v.F(dy), nil, nil, nil, nil, v.F(idx), v.F(dr))
		}
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
	a, affine, _ := actOf(sh)
	in, out, ix := actBytes(a)
	p := &Problem{Replay: true, Bytes: out + ix, FLOPs: float64(a.Out()), Workspace: kernel.ActBackwardReduceBytes(a, true)}
	dy := p.Diff("dy", r.Values(a.Out()), a.N, a.OutH(), a.OutW(), a.C)
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
	a, _, residual := actOf(sh)
	in, out, ix := actBytes(a)
	p := &Problem{Replay: true, Bytes: 3*in + 3*out + 3*ix, FLOPs: 8 * float64(a.In()), Workspace: kernel.ActBackwardReduceBytes(a, true)}
	z := p.Diff("z", spread(a, r.Normal(a.In())), a.N, a.H, a.W, a.C)
	scale, shift := p.Diff("scale", r.Normal(a.C)), p.Diff("shift", r.Normal(a.C))
	dy := p.Diff("dy", r.Normal(a.Out()), a.N, a.OutH(), a.OutW(), a.C)
	y := p.Out("y", actTol, a.N, a.OutH(), a.OutW(), a.C)
	dz := p.Out("dz", actBackTol, a.N, a.H, a.W, a.C)
	dscale, dshift := p.Out("dscale", sumTol, a.C), p.Out("dshift", sumTol, a.C)
	var added, dr, idx *Buffer
	if residual {
		added, dr = p.Diff("r", r.Normal(a.In()), a.N, a.H, a.W, a.C), p.Out("dr", actBackTol, a.N, a.H, a.W, a.C)
	}
	if a.Indexed() {
		idx = OutConst[uint8](p, "idx", exact, a.Out())
	}
	none := (*Buffer)(nil)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ActForward(s, a, b.Tensor(z), b.Tensor(scale), b.Tensor(shift), b.Tensor(added), b.Tensor(y), b.Ptr(idx))
		kernel.ActBackwardReduce(s, b.Workspace(), a, b.Tensor(dy), b.Tensor(z), b.Ptr(idx), b.Tensor(dscale), b.Tensor(dshift))
		kernel.ActBackward(s, a, b.Tensor(dy), b.Tensor(none), b.Tensor(scale), b.Tensor(none), b.Tensor(none), b.Ptr(idx), b.Tensor(dz), b.Tensor(dr))
	}
	p.Ref = func(v *Values) {
		at := v.F(idx)
		actForwardRef(a, v.F(z), v.F(scale), v.F(shift), v.F(added), v.F(y), at)
		actReduceRef(a, v.F(dy), v.F(z), at, v.F(dscale), v.F(dshift))
		actBackwardRef(a, v.F(dy), nil, v.F(scale), nil, nil, at, v.F(dz))
		if residual {
			actBackwardRef(a, v.F(dy), nil, nil, nil, nil, at, v.F(dr))
		}
	}
	of := func(v *Values) float64 {
		actForwardRef(a, v.F(z), v.F(scale), v.F(shift), v.F(added), v.F(y), nil)
		return dot(v.F(dy), v.F(y))
	}
	p.Gradients = []Gradient{{dz, z, of}, {dscale, scale, of}, {dshift, shift, of}}
	if residual {
		p.Gradients = append(p.Gradients, Gradient{dr, added, of})
	}
	return p
}
