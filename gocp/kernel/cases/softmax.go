package cases

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

// softmaxTol: z − max is rounded once, to 2⁻²⁴ of at most 16; exp and the quotient add two ulp.
var softmaxTol = Tol{Rel: 2e-6, Abs: 1e-30, Why: "rounding of z − max, exp within 1 ulp, a sum of k terms"}

func softmaxes() []Case {
	tests := []Shape{
		Dims(0, 10), Dims(1, 1), Dims(1, 10), Dims(7, 13), Dims(128, 10), Dims(33, 100), Dims(3, 1000),
		Dims(9, 10).With(Ties), Dims(9, 11).With(Infinite), Dims(9, 17).With(NaN),
	}
	benches := []Shape{Dims(128, 10), Dims(128, 100), Dims(4096, 200)}
	return []Case{
		{
			Name: "Softmax", Kernels: []string{"softmax_f32", "softmax_dual"},
			Axes: []string{"n", "k"}, Tests: tests, Benches: benches, New: newSoftmax,
		}, {
			Name: "SoftmaxXent", Kernels: []string{"softmax_xent_f32", "softmax_xent_dual"},
			Axes: []string{"n", "k"}, Tests: tests, Benches: benches, New: newSoftmaxXent,
		},
	}
}

func newSoftmax(sh Shape, r *Rand) *Problem {
	n, k := sh.Dims[0], sh.Dims[1]
	p := &Problem{Replay: true, Bytes: 8 * float64(n*k), FLOPs: 30 * float64(n*k)}
	z := p.Diff("z", r.Values(n*k), n, k)
	prob := p.Out("p", softmaxTol, n, k)
	p.Run = func(s *device.Stream, b *Bound) { kernel.Softmax(s, n, k, b.Tensor(z), b.Tensor(prob)) }
	p.Ref = func(v *Values) {
		for i := range n {
			softmaxRow(v.F(z)[i*k:(i+1)*k], v.F(prob)[i*k:(i+1)*k])
		}
	}
	return p
}

// softmaxRow writes p = softmax(z) and returns log Σ exp z.
func softmaxRow(z, p []float64) float64 {
	m, sum := math.Inf(-1), 0.0
	for _, x := range z {
		if x > m {
			m = x
		}
	}
	for j, x := range z {
		p[j] = math.Exp(x - m)
		sum += p[j]
	}
	for j := range p {
		p[j] /= sum
	}
	return math.Log(sum) + m
}

func newSoftmaxXent(sh Shape, r *Rand) *Problem {
	n, k := sh.Dims[0], sh.Dims[1]
	p := &Problem{Replay: true, Bytes: 8 * float64(n*k), FLOPs: 30 * float64(n*k)}
	z := p.Diff("z", r.Values(n*k), n, k)
	y := r.Ints(n, 0, k)
	if sh.Fill == Ties && n > 2 { // labels out of range
		y[0], y[1], y[2] = -1, int32(k), math.MaxInt32
	}
	labels := Const(p, "labels", y)
	lossTol := softmaxTol
	lossTol.Abs = 1e-6 // log Σ + max − z_y cancels where the loss is small
	loss := p.Out("loss", lossTol, n)
	dz := p.Out("dz", Tol{Rel: 2e-6, Abs: 1e-7, Why: "as softmax; p_y − 1 cancels"}, n, k)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.SoftmaxXent(s, n, k, b.Tensor(z), b.Ptr(labels), b.Tensor(loss), b.Tensor(dz))
	}
	p.Ref = func(v *Values) {
		for i := range n {
			row, d := v.F(z)[i*k:(i+1)*k], v.F(dz)[i*k:(i+1)*k]
			total := softmaxRow(row, d)
			c := int(v.F(labels)[i])
			if c < 0 || c >= k {
				v.F(loss)[i] = math.NaN()
				for j := range d {
					d[j] = math.NaN()
				}
				continue
			}
			v.F(loss)[i] = total - row[c]
			d[c]--
		}
	}
	p.Gradients = []Gradient{{Out: dz, In: z, Of: func(v *Values) float64 {
		p.Ref(v)
		return total(v.F(loss))
	}}}
	return p
}

func total(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s
}
