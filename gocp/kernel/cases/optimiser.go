package cases

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

// optimisers are those of kernels/optimiser.cu.
func optimisers() []Case {
	return []Case{
		{
			Name: "SGD", Kernels: []string{"sgd"}, Axes: []string{"n", "momentum", "nesterov"},
			Tests: []Shape{
				Dims(0, 1, 0), Dims(1, 1, 0), Dims(1021, 0, 0), Dims(70001, 1, 0), Dims(97, 1, 0).With(Infinite), Dims(97, 0, 0).With(NaN),
				Dims(1, 1, 1), Dims(1021, 0, 1), Dims(70001, 1, 1), Dims(97, 1, 1).With(Infinite),
			},
			Benches: []Shape{Dims(1<<20, 1, 0), Dims(1<<24, 1, 0)},
			New:     newSGD,
		},
		{
			Name: "SignAdam", Kernels: []string{"sign_adam"}, Axes: []string{"n", "step", "bounded"},
			Tests: []Shape{
				Dims(0, 1, 1), Dims(1, 1, 1), Dims(1021, 1, 0), Dims(1021, 7, 1), Dims(70001, 250, 1), Dims(97, 3, 1).With(Ties),
			},
			Benches: []Shape{Dims(128*3072, 10, 1)},
			New:     newSignAdam,
		},
		{
			Name: "Quantize8", Kernels: []string{"quantize8"}, Axes: []string{"n", "radius"},
			Tests:   []Shape{Dims(0, 16), Dims(1, 16), Dims(1021, 0), Dims(1021, 1), Dims(70001, 16)},
			Benches: []Shape{Dims(128*3072, 16)},
			New:     newQuantize8,
		},
		{
			Name: "Increment", Kernels: []string{"increment"}, Axes: []string{"n"},
			Tests: []Shape{Dims(0), Dims(41)}, Benches: []Shape{Dims(1)},
			New: func(sh Shape, _ *Rand) *Problem {
				p := &Problem{Bytes: 16, FLOPs: 1}
				t := InOut(p, "t", exact, []uint64{uint64(sh.Dims[0])})
				p.Run = func(s *device.Stream, d *Bound) { kernel.Increment(s, d.Ptr(t)) }
				p.Ref = func(v *Values) { v.F(t)[0]++ }
				return p
			},
		},
	}
}

func newSGD(sh Shape, r *Rand) *Problem {
	n, momentum, nesterov := sh.Dims[0], sh.Dims[1] != 0, sh.Dims[2] != 0
	p := &Problem{Bytes: 20 * float64(n), FLOPs: 7 * float64(n)}
	tol := Tol{Rel: 5e-7, Why: "five roundings, with nesterov seven"}
	theta, grad := InOut(p, "theta", tol, r.Values(n)), Const(p, "grad", r.Values(n))
	lr := Const(p, "lr", []float32{0.01})
	var m *Buffer
	if momentum {
		m = InOut(p, "m", tol, r.Values(n))
	}
	const mu, decay, scale = 0.9, 5e-4, 1. / 128
	p.Run = func(s *device.Stream, d *Bound) {
		kernel.SGD(s, d.Ptr(theta), d.Ptr(grad), d.Ptr(m), d.Ptr(lr), mu, decay, scale, nesterov, n)
	}
	p.Ref = func(v *Values) {
		for i := range n {
			d := scale*v.F(grad)[i] + single(decay)*v.F(theta)[i]
			if momentum {
				next := d + single(mu)*v.F(m)[i]
				v.F(m)[i] = next
				if nesterov {
					d += single(mu) * next
				} else {
					d = next
				}
			}
			v.F(theta)[i] -= v.F(lr)[0] * d
		}
	}
	return p
}

func newSignAdam(sh Shape, r *Rand) *Problem {
	n, t, bounded := sh.Dims[0], sh.Dims[1], sh.Dims[2] != 0
	const radius, beta1, beta2, eps = 16. / 255, 0.9, 0.999, 1e-8
	p := &Problem{Bytes: 32 * float64(n), FLOPs: 25 * float64(n)}
	tol := Tol{Rel: 2e-6, Abs: 1e-7, Why: "a dozen roundings, a sum of base and delta of order 1"}
	delta := InOut(p, "delta", tol, r.Uniform(n, -radius, radius))
	grad, lr, step := Const(p, "grad", r.Values(n)), Const(p, "lr", []float32{0.01}), Const(p, "step", []uint64{uint64(t)})
	m := InOut(p, "m", tol, r.Uniform(n, -0.5, 0.5))
	moment := InOut(p, "v", tol, r.Uniform(n, 1e-3, 2e-3))
	var base *Buffer
	if bounded {
		base = Const(p, "base", r.Uniform(n, 0, 1))
	}
	p.Run = func(s *device.Stream, d *Bound) {
		kernel.SignAdam(s, d.Ptr(delta), d.Ptr(grad), d.Ptr(m), d.Ptr(moment), d.Ptr(base), d.Ptr(step), d.Ptr(lr),
			beta1, beta2, eps, radius, n)
	}
	p.Ref = func(v *Values) {
		b1, b2, ball := single(beta1), single(beta2), single(radius)
		for i, g := range v.F(grad) {
			sign := 0.0
			if g != 0 {
				sign = math.Copysign(1, g)
			}
			mi, vi := b1*v.F(m)[i]+(1-b1)*sign, b2*v.F(moment)[i]+(1-b2)*sign*sign
			v.F(m)[i], v.F(moment)[i] = mi, vi
			d := v.F(delta)[i] - v.F(lr)[0]*mi/(1-math.Pow(b1, float64(t)))/(math.Sqrt(vi/(1-math.Pow(b2, float64(t))))+single(eps))
			d = math.Min(math.Max(d, -ball), ball)
			if bounded {
				x := v.F(base)[i]
				d = math.Min(math.Max(x+d, 0), 1) - x
			}
			v.F(delta)[i] = d
		}
	}
	return p
}

// newQuantize8 keeps base + delta off the half-way points, where roundings decide.
func newQuantize8(sh Shape, r *Rand) *Problem {
	n, radius := sh.Dims[0], sh.Dims[1]
	p := &Problem{Bytes: 12 * float64(n), FLOPs: 20 * float64(n)}
	pixel, moved := make([]float64, n), make([]float64, n)
	fb, fd := make([]float32, n), r.Uniform(n, -0.4, 0.4)
	for i := range n {
		pixel[i], moved[i] = float64(r.Int(256)), float64(r.Int(2*radius+9)-radius-4)
		fb[i] = float32(pixel[i]) / 255
		fd[i] = float32((moved[i] + float64(fd[i])) / 255)
	}
	base := Const(p, "base", fb)
	delta := InOut(p, "delta", Tol{Abs: 1e-7, Why: "two roundings of pixels in [0,1]"}, fd)
	p.Run = func(s *device.Stream, d *Bound) {
		kernel.Quantize8(s, d.Ptr(base), d.Ptr(delta), float64(radius)/255, n)
	}
	p.Ref = func(v *Values) {
		for i := range n {
			q := math.Min(math.Max(moved[i], float64(-radius)), float64(radius)) + pixel[i]
			v.F(delta)[i] = math.Min(math.Max(q, 0), 255)/255 - v.F(base)[i]
		}
	}
	return p
}
