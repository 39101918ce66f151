package cases

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
)

// noises are those of kernels/noise.cu: the reference is package rng, to the last bit.
func noises() []Case {
	const seed, stream = 0x9e3779b97f4a7c15, 0xfedcba9876543210
	noise := func(name, kern string, flops float64, run func(s *device.Stream, p device.Ptr, n int), ref func(v []float32)) Case {
		return Case{
			Name: name, Kernels: []string{kern}, Axes: []string{"n"},
			Tests:   []Shape{Dims(0), Dims(1), Dims(2), Dims(3), Dims(5), Dims(1021), Dims(70003)},
			Benches: []Shape{Dims(128 * 3072)},
			New: func(sh Shape, _ *Rand) *Problem {
				n := sh.Dims[0]
				p := &Problem{Bytes: 4 * float64(n), FLOPs: flops * float64(n)}
				delta := OutConst[float32](p, "delta", exact, n)
				p.Run = func(s *device.Stream, d *Bound) { run(s, d.Ptr(delta), n) }
				p.Ref = func(v *Values) {
					f := make([]float32, n)
					ref(f)
					copy(v.F(delta), convert(f))
				}
				return p
			},
		}
	}
	const radius = 16. / 255
	return []Case{
		noise("UniformNoise", "noise_uniform", 25,
			func(s *device.Stream, p device.Ptr, n int) { kernel.UniformNoise(s, seed, stream, radius, p, n) },
			func(v []float32) { rng.FillUniform(seed, stream, radius, v) }),
		noise("GaussianNoise", "noise_normal", 70,
			func(s *device.Stream, p device.Ptr, n int) { kernel.GaussianNoise(s, seed, stream, radius, p, n) },
			func(v []float32) {
				rng.FillNormal(seed, stream, float32(radius/math.Sqrt(3)), v)
				for i, x := range v {
					v[i] = min(max(x, -float32(radius)), float32(radius))
				}
			}),
	}
}
