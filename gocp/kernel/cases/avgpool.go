package cases

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

var avgPoolTol = Tol{Rel: 2e-6, Why: "float32 sums over a window"}

// averages are those of kernels/avgpool.cu.
func averages() []Case {
	axes := []string{"n", "h", "w", "c", "oh", "ow"}
	tests := []Shape{
		Dims(0, 4, 4, 3, 1, 1), Dims(1, 1, 1, 1, 1, 1), Dims(3, 4, 5, 17, 1, 1), Dims(2, 9, 7, 5, 3, 2), Dims(2, 10, 10, 33, 7, 7),
		Dims(2, 1, 1, 21, 7, 7), Dims(1, 2, 3, 4, 5, 7), Dims(1, 7, 4, 530, 2, 4),
	}
	benches := []Shape{Dims(128, 4, 4, 512, 1, 1), Dims(128, 7, 7, 1280, 1, 1), Dims(128, 1, 1, 512, 7, 7)}
	pool := func(name, kern string, newProblem func(a kernel.AvgPool, r *Rand) *Problem) Case {
		return Case{Name: name, Kernels: []string{kern}, Axes: axes, Tests: tests, Benches: benches, New: func(sh Shape, r *Rand) *Problem {
			d := sh.Dims
			return newProblem(kernel.AvgPool{N: d[0], H: d[1], W: d[2], C: d[3], OutH: d[4], OutW: d[5]}, r)
		}}
	}
	return []Case{pool("AvgPoolForward", "avgpool_forward", newAvgPoolForward), pool("AvgPoolBackward", "avgpool_backward", newAvgPoolBackward)}
}

// eachAveraged calls f with every output, every input of its window, and the input's share of it.
func eachAveraged(a kernel.AvgPool, f func(o, i int, share float64)) {
	part := func(i, size, count int) (lo, hi int) { return i * size / count, ((i+1)*size + count - 1) / count }
	for o := range a.Out() {
		c := o % a.C
		x0, x1 := part(o/a.C%a.OutW, a.W, a.OutW)
		y0, y1 := part(o/a.C/a.OutW%a.OutH, a.H, a.OutH)
		n := o / a.C / a.OutW / a.OutH
		for y := y0; y < y1; y++ {
			for x := x0; x < x1; x++ {
				f(o, ((n*a.H+y)*a.W+x)*a.C+c, 1/float64((y1-y0)*(x1-x0)))
			}
		}
	}
}

func newAvgPoolForward(a kernel.AvgPool, r *Rand) *Problem {
	p := &Problem{Bytes: 4 * float64(a.In()+a.Out()), FLOPs: float64(a.In())}
	x := p.Diff("x", r.Normal(a.In()), a.N, a.H, a.W, a.C)
	y := p.Out("y", avgPoolTol, a.N, a.OutH, a.OutW, a.C)
	p.Run = func(s *device.Stream, b *Bound) { kernel.AvgPoolForward(s, a, b.Tensor(x), b.Tensor(y)) }
	p.Ref = func(v *Values) {
		eachAveraged(a, func(o, i int, share float64) { v.F(y)[o] += share * v.F(x)[i] })
	}
	return p
}

func newAvgPoolBackward(a kernel.AvgPool, r *Rand) *Problem {
	p := &Problem{Bytes: 4 * float64(a.In()+a.Out()), FLOPs: float64(a.In())}
	dy := p.Diff("dy", r.Normal(a.Out()), a.N, a.OutH, a.OutW, a.C)
	x := p.Diff("x", r.Normal(a.In()), a.N, a.H, a.W, a.C) // dx is the gradient of ⟨dy, averages of x⟩; no launch reads x
	dx := p.Out("dx", avgPoolTol, a.N, a.H, a.W, a.C)
	p.Run = func(s *device.Stream, b *Bound) { kernel.AvgPoolBackward(s, a, b.Tensor(dy), b.Tensor(dx)) }
	p.Ref = func(v *Values) {
		eachAveraged(a, func(o, i int, share float64) { v.F(dx)[i] += share * v.F(dy)[o] })
	}
	p.Gradients = []Gradient{{dx, x, func(v *Values) float64 {
		sum := 0.0
		eachAveraged(a, func(o, i int, share float64) { sum += share * v.F(x)[i] * v.F(dy)[o] })
		return sum
	}}}
	return p
}
