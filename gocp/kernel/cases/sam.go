package cases

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

// perturbations are those of kernels/sam.cu. The axis p is tenths, 0 being infinity.
func perturbations() []Case {
	return []Case{{
		Name:    "SAMPerturb",
		Kernels: []string{"sam_l2", "sam_max", "sam_power", "vector_dot", "vector_max", "vector_power", "vector_combine_sum", "vector_combine_max"},
		Axes:    []string{"n", "p", "theta"},
		Tests: []Shape{
			Dims(0, 20, 1), Dims(1, 20, 1), Dims(1, 15, 1), Dims(1, 0, 0), Dims(1021, 20, 0), Dims(1021, 0, 1), Dims(1021, 15, 1),
			Dims(1021, 11, 0), Dims(70001, 20, 1), Dims(70001, 30, 1), Dims(97, 20, 1).With(Ties), Dims(97, 30, 1).With(Ties),
			Dims(97, 0, 1).With(Ties), Dims(97, 20, 1).With(NaN), Dims(97, 0, 0).With(NaN),
		},
		Benches: []Shape{Dims(1<<20, 20, 1), Dims(1<<20, 0, 1), Dims(1<<20, 30, 1)},
		New: func(sh Shape, r *Rand) *Problem {
			n, q, rho := sh.Dims[0], math.Inf(1), 0.05
			exponent := math.Inf(1)
			if sh.Dims[1] > 0 {
				exponent = float64(sh.Dims[1]) / 10
				q = exponent / (exponent - 1)
			} else {
				q = 1
			}
			p := &Problem{Workspace: kernel.VectorBytes, Bytes: 16 * float64(n), FLOPs: 4 * float64(n)}
			grad := Const(p, "grad", r.Values(n))
			var theta *Buffer
			if sh.Dims[2] != 0 {
				theta = Const(p, "theta", r.Normal(n))
			}
			out := OutConst[float32](p, "out", Tol{Rel: 2e-6, Abs: 2e-5 * rho, Why: "pow in float: its exponent 1/(p-1) multiplies an error of log x of 6e-8 |log x|"}, n)
			p.Run = func(s *device.Stream, d *Bound) {
				kernel.SAMPerturb(s, d.Ptr(theta), d.Ptr(grad), rho, exponent, d.Ptr(out), n, d.Workspace())
			}
			p.Ref = func(v *Values) {
				top, sum := 0.0, 0.0
				for _, g := range v.F(grad) {
					if a := math.Abs(g); a > top {
						top = a
					}
				}
				for _, g := range v.F(grad) {
					sum += math.Pow(math.Abs(g)/top, q)
				}
				for i, g := range v.F(grad) {
					z := rho * math.Pow(math.Abs(g)/top, q-1) / math.Pow(sum, 1/exponent)
					switch {
					case g != g:
						z = g
					case g == 0:
						z = 0
					case g < 0:
						z = -z
					}
					if theta != nil {
						z += v.F(theta)[i]
					}
					v.F(out)[i] = z
				}
			}
			return p
		},
	}}
}
