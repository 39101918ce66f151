package cases

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// single is x as a kernel gets it.
func single(x float64) float64 { return float64(float32(x)) }

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

var vectorTests = []Shape{
	Dims(0), Dims(1), Dims(13), Dims(1021), Dims(70001), Dims(33).With(Ties), Dims(97).With(Infinite), Dims(97).With(NaN),
}

var vectorBenches = []Shape{Dims(1 << 20), Dims(1 << 24)}

// vectors are those of kernels/vector.cu.
func vectors() []Case {
	return []Case{
		{
			Name: "Dot", Kernels: []string{"vector_dot", "vector_combine_sum"},
			Axes: []string{"n"}, Tests: vectorTests, Benches: vectorBenches,
			New: func(sh Shape, r *Rand) *Problem {
				n := sh.Dims[0]
				p := &Problem{Workspace: kernel.VectorBytes, Bytes: 8 * float64(n), FLOPs: 2 * float64(n)}
				a, b := Const(p, "a", r.Values(n)), Const(p, "b", r.Values(n))
				out := OutConst[float64](p, "out", Tol{Rel: 1e-12 * math.Sqrt(float64(n+1)), Why: "products of floats are exact in double, sums are not"}, 1)
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.Dot(s, d.Ptr(a), d.Ptr(b), n, d.Ptr(out), d.Workspace())
				}
				p.Ref = func(v *Values) { v.F(out)[0] = dot(v.F(a), v.F(b)) }
				return p
			},
		},
		{
			Name: "MaxAbs", Kernels: []string{"vector_max", "vector_combine_max"},
			Axes: []string{"n"}, Tests: vectorTests, Benches: vectorBenches,
			New: func(sh Shape, r *Rand) *Problem {
				n := sh.Dims[0]
				p := &Problem{Workspace: kernel.VectorBytes, Bytes: 4 * float64(n), FLOPs: float64(n)}
				a := Const(p, "a", r.Values(n))
				out := OutConst[float64](p, "out", exact, 1)
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.MaxAbs(s, d.Ptr(a), n, d.Ptr(out), d.Workspace())
				}
				p.Ref = func(v *Values) {
					for _, x := range v.F(a) {
						if x = math.Abs(x); x > v.F(out)[0] {
							v.F(out)[0] = x
						}
					}
				}
				return p
			},
		},
		{
			Name: "PowSum", Kernels: []string{"vector_power", "vector_combine_sum"},
			Axes:    []string{"n", "tenths of q"},
			Tests:   []Shape{Dims(0, 15), Dims(1, 15), Dims(1021, 11), Dims(70001, 40), Dims(33, 15).With(Ties), Dims(97, 20).With(NaN)},
			Benches: []Shape{Dims(1<<20, 15)},
			New: func(sh Shape, r *Rand) *Problem {
				n, q := sh.Dims[0], single(float64(sh.Dims[1])/10)
				p := &Problem{Workspace: kernel.VectorBytes, Bytes: 4 * float64(n), FLOPs: 60 * float64(n)}
				a, scale := Const(p, "a", r.Values(n)), Const(p, "scale", []float64{3.5})
				out := OutConst[float64](p, "out", Tol{Rel: 5e-6, Why: "pow is exp(q log x) in float: |q log x| + a few roundings of 6e-8"}, 1)
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.PowSum(s, d.Ptr(a), q, d.Ptr(scale), n, d.Ptr(out), d.Workspace())
				}
				p.Ref = func(v *Values) {
					for _, x := range v.F(a) {
						v.F(out)[0] += math.Pow(math.Abs(x)/v.F(scale)[0], q)
					}
				}
				return p
			},
		},
		{
			Name: "Axpby", Kernels: []string{"vector_axpby"},
			Axes: []string{"n", "beta", "device"},
			Tests: []Shape{
				Dims(0, 1, 1), Dims(1, 1, 0), Dims(1021, 0, 1), Dims(70001, 2, 1), Dims(70001, 2, 0),
				Dims(97, 2, 1).With(Infinite), Dims(97, 2, 1).With(NaN),
			},
			Benches: []Shape{Dims(1<<20, 1, 1), Dims(1<<24, 1, 1)},
			New:     newAxpby,
		},
		{
			Name: "Add", Kernels: []string{"vector_axpby"},
			Axes: []string{"n"}, Tests: vectorTests[:5], Benches: vectorBenches,
			New: func(sh Shape, r *Rand) *Problem {
				n := sh.Dims[0]
				p := &Problem{Bytes: 12 * float64(n), FLOPs: float64(n)}
				x, y := Const(p, "x", r.Values(n)), InOut(p, "y", Tol{Rel: 1e-7, Why: "a sum"}, r.Values(n))
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.Add(s, tensor.Tensor{Shape: []int{n}, P: d.Ptr(x)}, tensor.Tensor{Shape: []int{n}, P: d.Ptr(y)})
				}
				p.Ref = func(v *Values) {
					for i, xi := range v.F(x) {
						v.F(y)[i] += xi
					}
				}
				return p
			},
		},
		{
			Name: "Multiply", Kernels: []string{"vector_multiply_f32", "vector_multiply_dual"},
			Axes: []string{"n"}, Tests: vectorTests, Benches: vectorBenches[:1],
			New: func(sh Shape, r *Rand) *Problem {
				n := sh.Dims[0]
				p := &Problem{Bytes: 12 * float64(n), FLOPs: float64(n)}
				x, y := p.Diff("x", r.Values(n)), p.Diff("y", r.Values(n))
				out := p.Out("out", Tol{Rel: 2e-7, Why: "a product"}, n)
				p.Run = func(s *device.Stream, b *Bound) { kernel.Multiply(s, b.Tensor(x), b.Tensor(y), b.Tensor(out)) }
				p.Ref = func(v *Values) {
					for i, xi := range v.F(x) {
						v.F(out)[i] = xi * v.F(y)[i]
					}
				}
				return p
			},
		},
		{
			Name: "CosineDirection", Kernels: []string{"vector_cosine"},
			Axes:    []string{"n"},
			Tests:   []Shape{Dims(1), Dims(13), Dims(1021), Dims(70001), Dims(33).With(Ties)},
			Benches: []Shape{Dims(1 << 20)},
			New:     newCosine,
		},
		{
			Name: "RowsDot", Kernels: []string{"vector_rows_dot"},
			Axes: []string{"n", "k", "add"},
			Tests: []Shape{
				Dims(0, 3, 0), Dims(3, 0, 0), Dims(3, 0, 1), Dims(1, 1, 1), Dims(7, 13, 0), Dims(129, 1021, 1),
				Dims(9, 5, 1).With(Infinite), Dims(9, 5, 1).With(NaN),
			},
			Benches: []Shape{Dims(128, 4096, 1)},
			New: func(sh Shape, r *Rand) *Problem {
				n, k, add := sh.Dims[0], sh.Dims[1], sh.Dims[2] != 0
				p := &Problem{Bytes: 8 * float64(n*k), FLOPs: 2 * float64(n*k)}
				x, y := Const(p, "x", r.Values(n*k)), Const(p, "y", r.Values(n*k))
				out := InOut(p, "out", Tol{Rel: 1e-6, Abs: 1e-6 * math.Sqrt(float64(k)), Why: "sums of k products in float"}, r.Normal(n))
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.RowsDot(s, n, k, 0.75, d.Ptr(x), d.Ptr(y), add, d.Ptr(out))
				}
				p.Ref = func(v *Values) {
					for i := range n {
						s := 0.75 * dot(v.F(x)[i*k:(i+1)*k], v.F(y)[i*k:(i+1)*k])
						if add {
							s += v.F(out)[i]
						}
						v.F(out)[i] = s
					}
				}
				return p
			},
		},
	}
}

func newAxpby(sh Shape, r *Rand) *Problem {
	n, beta, onDevice := sh.Dims[0], float64(sh.Dims[1])/2, sh.Dims[2] != 0
	p := &Problem{Bytes: 12 * float64(n), FLOPs: 3 * float64(n)}
	x := Const(p, "x", r.Values(n))
	y := InOut(p, "y", Tol{Rel: 3e-7, Why: "two products and a sum"}, r.Values(n))
	at := Const(p, "coefficients", []float64{1.25, -0.625})
	alpha := -1.5
	p.Run = func(s *device.Stream, d *Bound) {
		a, b := kernel.Coef{Value: alpha}, kernel.Coef{Value: beta}
		if onDevice {
			a.At, b.At = d.Ptr(at), d.Ptr(at).Add(8)
		}
		kernel.Axpby(s, a, d.Ptr(x), b, d.Ptr(y), n)
	}
	p.Ref = func(v *Values) {
		a, b := alpha, beta
		if onDevice {
			a, b = a*v.F(at)[0], b*v.F(at)[1]
		}
		for i, xi := range v.F(x) {
			if b == 0 {
				v.F(y)[i] = a * xi
			} else {
				v.F(y)[i] = a*xi + b*v.F(y)[i]
			}
		}
	}
	return p
}

func newCosine(sh Shape, r *Rand) *Problem {
	n := sh.Dims[0]
	p := &Problem{Bytes: 12 * float64(n), FLOPs: 3 * float64(n)}
	fu, fg := r.Values(n), r.Values(n)
	u, g := Const(p, "u", fu), Const(p, "g", fg)
	du, dg := convert(fu), convert(fg)
	dots := Const(p, "dots", []float64{dot(du, dg), dot(du, du), dot(dg, dg)})
	out := OutConst[float32](p, "v", Tol{Rel: 1e-6, Abs: 2e-6 / float64(n), Why: "two products of order 1/n whose sum may cancel"}, n)
	phi := OutConst[float64](p, "phi", Tol{Rel: 1e-14, Why: "double"}, 1)
	cosine := func(v *Values) float64 {
		a, b := v.F(u), v.F(g)
		return dot(a, b) / (math.Sqrt(dot(a, a)) * math.Sqrt(dot(b, b)))
	}
	p.Run = func(s *device.Stream, d *Bound) {
		kernel.CosineDirection(s, d.Ptr(u), d.Ptr(g), d.Ptr(dots), n, d.Ptr(out), d.Ptr(phi))
	}
	p.Ref = func(v *Values) {
		c := cosine(v)
		v.F(phi)[0] = c
		uu, gg := dot(v.F(u), v.F(u)), dot(v.F(g), v.F(g))
		for i := range n {
			v.F(out)[i] = v.F(u)[i]/math.Sqrt(uu*gg) - c*v.F(g)[i]/gg
		}
	}
	p.Gradients = []Gradient{{Out: out, In: g, Of: cosine}}
	return p
}
