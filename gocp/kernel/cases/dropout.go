package cases

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
)

// dropouts are those of kernels/dropout.cu: which numbers are kept is package rng's, exactly.
func dropouts() []Case {
	return []Case{{
		Name: "Dropout", Kernels: []string{"dropout"}, Axes: []string{"n", "percent"},
		Tests:   []Shape{Dims(0, 50), Dims(1, 50), Dims(3, 0), Dims(1021, 20), Dims(70003, 50), Dims(18, 99), Dims(97, 50).With(NaN)},
		Benches: []Shape{Dims(128*4096, 50)},
		New: func(sh Shape, r *Rand) *Problem {
			n, rate := sh.Dims[0], float64(sh.Dims[1])/100
			const seed, layer, at = 0xfedcba9876543210, 3, 1<<31 + 12345
			p := &Problem{Bytes: 8 * float64(n), FLOPs: 25 * float64(n)}
			step := Const(p, "step", []uint64{at})
			x := p.Diff("x", r.Values(n))
			y := p.Out("y", Tol{Rel: 2e-7, Why: "a product"}, n)
			p.Run = func(s *device.Stream, b *Bound) {
				kernel.Dropout(s, seed, layer, b.Ptr(step), rate, b.Tensor(x), b.Tensor(y))
			}
			p.Ref = func(v *Values) {
				for i, xi := range v.F(x) {
					words := rng.Block(seed, kernel.DropoutStream(layer), at<<32|uint64(i/4))
					if float64(rng.Uniform(words[i%4])) >= single(rate) {
						v.F(y)[i] = xi / (1 - rate)
					}
				}
			}
			return p
		},
	}}
}
