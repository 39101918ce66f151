package cases

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// bnEps is float32's 1e-5: what the kernels are given.
var bnEps = float64(float32(1e-5))

var (
	statTol = Tol{Rel: 3e-6, Abs: 1e-6, Why: "sums over rows in float32, in parts"}
	// bnTol: the formulas subtract sums of like size (S2 − mean S1).
	bnTol = Tol{Rel: 5e-6, Abs: 2e-5, Why: "a few products after sums that cancel in part"}
)

func batchNorm() []Case {
	rows := []string{"n", "c"}
	channels := []Shape{Dims(2, 1), Dims(5, 13), Dims(100, 64), Dims(7, 521)}
	return []Case{
		{
			Name: "BNStats", Kernels: []string{"bn_partial_f32", "bn_partial_dual", "bn_combine_f32", "bn_combine_dual"},
			Axes: []string{"n", "c", "mean"},
			Tests: []Shape{
				Dims(1, 1, 0), Dims(2, 3, 0), Dims(17, 5, 3), Dims(1009, 19, 1), Dims(4096, 64, 0), Dims(37, 521, 0),
				Dims(500, 8, 1000), Dims(40, 7, 0).With(Ties),
			},
			Benches: []Shape{Dims(128*32*32, 64, 0), Dims(128*8*8, 256, 0)}, New: newBNStats,
		},
		{Name: "BNAffine", Kernels: []string{"bn_affine_f32", "bn_affine_dual"}, Axes: rows, Tests: channels, Benches: channels[3:], New: newBNAffine},
		{Name: "BNBackward", Kernels: []string{"bn_backward_f32", "bn_backward_dual"}, Axes: rows, Tests: channels, Benches: channels[3:], New: newBNBackward},
		{Name: "BNRunning", Kernels: []string{"bn_running"}, Axes: rows, Tests: channels, Benches: channels[3:], New: newBNRunning},
		{
			Name: "BatchNorm", Kernels: []string{"bn_partial_dual", "bn_combine_dual", "bn_affine_dual", "bn_backward_dual", "act_reduce_dual", "act_backward_dual"},
			Axes: actAxes,
			Tests: []Shape{
				actShape(3, 4, 4, 5, 1, 1, 0, kernel.Linear, affineBoth, 0), actShape(4, 6, 5, 7, 2, 2, 0, kernel.ReLU, affineBoth, 0),
				actShape(2, 3, 3, 33, 1, 1, 0, kernel.ReLU, affineBoth, 0), actShape(8, 8, 8, 17, 2, 2, 0, kernel.ReLU, affineBoth, 0),
				actShape(2, 5, 6, 7, 3, 2, 1, kernel.ReLU6, affineBoth, 0),
			},
			Benches: []Shape{actShape(128, 32, 32, 64, 2, 2, 0, kernel.ReLU, affineBoth, 0)}, New: newBatchNorm,
		},
	}
}

// shifted gives values around a mean.
func shifted(r *Rand, n, mean int) []float32 {
	v := r.Values(n)
	for i := range v {
		v[i] += float32(mean)
	}
	return v
}

func statsRef(n, c int, z, mean, variance []float64) {
	for i := range n * c {
		mean[i%c] += z[i] / float64(n)
	}
	for i := range n * c {
		d := z[i] - mean[i%c]
		variance[i%c] += d * d / float64(n)
	}
}

func newBNStats(sh Shape, r *Rand) *Problem {
	n, c := sh.Dims[0], sh.Dims[1]
	p := &Problem{Replay: true, Bytes: 4 * float64(n*c), FLOPs: 4 * float64(n*c), Workspace: kernel.BNStatsBytes(n, c, true)}
	z := p.Diff("z", shifted(r, n*c, sh.Dims[2]), n, c)
	mean := p.Out("mean", statTol, c)
	tol := statTol
	// A mean off by a rounding adds its square to the variance, and its tangent moves with it.
	tol.Abs += 1e-6 * float64(sh.Dims[2])
	variance := p.Out("variance", tol, c)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.BNStats(s, b.Workspace(), n, c, b.Tensor(z), b.Tensor(mean), b.Tensor(variance))
	}
	p.Ref = func(v *Values) { statsRef(n, c, v.F(z), v.F(mean), v.F(variance)) }
	return p
}

func affineRef(c int, mean, variance, gamma, beta, scale, shift []float64) {
	for i := range c {
		scale[i] = gamma[i] / math.Sqrt(variance[i]+bnEps)
		shift[i] = beta[i] - mean[i]*scale[i]
	}
}

func newBNAffine(sh Shape, r *Rand) *Problem {
	c := sh.Dims[1]
	p := &Problem{Replay: true, Bytes: 24 * float64(c), FLOPs: 5 * float64(c)}
	mean, variance := p.Diff("mean", r.Normal(c)), p.Diff("variance", r.Uniform(c, 0.1, 2))
	gamma, beta := p.Diff("gamma", r.Normal(c)), p.Diff("beta", r.Normal(c))
	scale, shift := p.Out("scale", bnTol, c), p.Out("shift", bnTol, c)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.BNAffine(s, c, b.Tensor(mean), b.Tensor(variance), b.Tensor(gamma), b.Tensor(beta), 1e-5, b.Tensor(scale), b.Tensor(shift))
	}
	p.Ref = func(v *Values) {
		affineRef(c, v.F(mean), v.F(variance), v.F(gamma), v.F(beta), v.F(scale), v.F(shift))
	}
	return p
}

func bnBackwardRef(n, c int, mean, variance, gamma, dscale, dshift, dgamma, p, q []float64) {
	for i := range c {
		r := 1 / math.Sqrt(variance[i]+bnEps)
		s := dscale[i] - mean[i]*dshift[i]
		dgamma[i] = r * s
		p[i] = -gamma[i] * r * r * r * s / float64(n)
		q[i] = -gamma[i]*r*dshift[i]/float64(n) - p[i]*mean[i]
	}
}

func newBNBackward(sh Shape, r *Rand) *Problem {
	n, c := sh.Dims[0], sh.Dims[1]
	p := &Problem{Replay: true, Bytes: 32 * float64(c), FLOPs: 16 * float64(c)}
	mean, variance, gamma := p.Diff("mean", r.Normal(c)), p.Diff("variance", r.Uniform(c, 0.1, 2)), p.Diff("gamma", r.Normal(c))
	dscale, dshift := p.Diff("dscale", r.Normal(c)), p.Diff("dshift", r.Normal(c))
	dgamma, pc, qc := p.Out("dgamma", bnTol, c), p.Out("p", bnTol, c), p.Out("q", bnTol, c)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.BNBackward(s, n, c, b.Tensor(mean), b.Tensor(variance), b.Tensor(gamma), 1e-5,
			b.Tensor(dscale), b.Tensor(dshift), b.Tensor(dgamma), b.Tensor(pc), b.Tensor(qc))
	}
	p.Ref = func(v *Values) {
		bnBackwardRef(n, c, v.F(mean), v.F(variance), v.F(gamma), v.F(dscale), v.F(dshift), v.F(dgamma), v.F(pc), v.F(qc))
	}
	return p
}

func newBNRunning(sh Shape, r *Rand) *Problem {
	n, c := sh.Dims[0], sh.Dims[1]
	momentum := float64(float32(0.1))
	p := &Problem{Bytes: 24 * float64(c), FLOPs: 7 * float64(c)}
	mean, variance := Const(p, "mean", r.Normal(c)), Const(p, "variance", r.Uniform(c, 0, 2))
	rm, rv := InOut(p, "running mean", actTol, r.Normal(c)), InOut(p, "running variance", actTol, r.Uniform(c, 0, 2))
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.BNRunning(s, n, c, 0.1, b.Ptr(mean), b.Ptr(variance), b.Ptr(rm), b.Ptr(rv))
	}
	p.Ref = func(v *Values) {
		unbiased := float64(n) / float64(n-1)
		for i := range c {
			v.F(rm)[i] = (1-momentum)*v.F(rm)[i] + momentum*v.F(mean)[i]
			v.F(rv)[i] = (1-momentum)*v.F(rv)[i] + momentum*unbiased*v.F(variance)[i]
		}
	}
	return p
}

// newBatchNorm is a whole layer in training mode, forward and backward: statistics, their map, ReLU and
// pooling, and back to z, gamma and beta.
func newBatchNorm(sh Shape, r *Rand) *Problem {
	a, _, _ := actOf(sh)
	n, c := a.N*a.H*a.W, a.C
	in, out, ix := actBytes(a)
	p := &Problem{
		Bytes: 5*in + 3*out + 3*ix, FLOPs: 15 * float64(a.In()),
		Workspace: max(kernel.ActBackwardReduceBytes(a, true), kernel.BNStatsBytes(n, c, true)),
	}
	z := p.Diff("z", r.Normal(a.In()), a.N, a.H, a.W, a.C)
	gamma, beta := p.Diff("gamma", r.Uniform(c, 0.5, 1.5)), p.Diff("beta", r.Normal(c))
	dy := p.Diff("dy", r.Normal(a.Out()), a.N, a.OutH(), a.OutW(), a.C)
	tol := bnTol
	tol.Rel = 1e-5 // a chain of the parts' errors
	vector := func(name string) *Buffer { return p.Out(name, tol, c) }
	mean, variance, scale, shift := vector("mean"), vector("variance"), vector("scale"), vector("shift")
	dscale, dshift, dgamma, pc, qc := vector("dscale"), vector("dshift"), vector("dgamma"), vector("p"), vector("q")
	y := p.Out("y", tol, a.N, a.OutH(), a.OutW(), a.C)
	dz := p.Out("dz", tol, a.N, a.H, a.W, a.C)
	var idx *Buffer
	if a.Indexed() {
		idx = OutConst[uint8](p, "idx", exact, a.Out())
	}
	p.Run = func(s *device.Stream, b *Bound) {
		t, ws := b.Tensor, b.Workspace()
		kernel.BNStats(s, ws, n, c, t(z), t(mean), t(variance))
		kernel.BNAffine(s, c, t(mean), t(variance), t(gamma), t(beta), 1e-5, t(scale), t(shift))
		kernel.ActForward(s, a, t(z), t(scale), t(shift), tensor.Tensor{}, t(y), b.Ptr(idx))
		kernel.ActBackwardReduce(s, ws, a, t(dy), t(z), b.Ptr(idx), t(dscale), t(dshift))
		kernel.BNBackward(s, n, c, t(mean), t(variance), t(gamma), 1e-5, t(dscale), t(dshift), t(dgamma), t(pc), t(qc))
		kernel.ActBackward(s, a, t(dy), t(z), t(scale), t(pc), t(qc), b.Ptr(idx), t(dz), tensor.Tensor{})
	}
	forward := func(v *Values) {
		statsRef(n, c, v.F(z), v.F(mean), v.F(variance))
		affineRef(c, v.F(mean), v.F(variance), v.F(gamma), v.F(beta), v.F(scale), v.F(shift))
		actForwardRef(a, v.F(z), v.F(scale), v.F(shift), nil, v.F(y), v.F(idx))
	}
	p.Ref = func(v *Values) {
		forward(v)
		actReduceRef(a, v.F(dy), v.F(z), v.F(idx), v.F(dscale), v.F(dshift))
		bnBackwardRef(n, c, v.F(mean), v.F(variance), v.F(gamma), v.F(dscale), v.F(dshift), v.F(dgamma), v.F(pc), v.F(qc))
		actBackwardRef(a, v.F(dy), v.F(z), v.F(scale), v.F(pc), v.F(qc), v.F(idx), v.F(dz))
	}
	of := func(v *Values) float64 {
		forward(v)
		return dot(v.F(dy), v.F(y))
	}
	p.Gradients = []Gradient{{dz, z, of}, {dgamma, gamma, of}, {dshift, beta, of}}
	return p
}
