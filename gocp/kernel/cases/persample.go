package cases

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

var persampleAxes = []string{"n", "h", "w", "c", "k", "r", "stride", "pad", "groups"}

func persampleConv(d []int) kernel.Conv {
	return kernel.Conv{N: d[0], H: d[1], W: d[2], C: d[3], K: d[4], R: d[5], S: d[5], Stride: d[6], Pad: d[7], Groups: d[8]}
}

var persampleTests = []Shape{
	Dims(0, 5, 5, 2, 3, 3, 1, 1, 1), Dims(1, 1, 1, 1, 1, 1, 1, 0, 1), Dims(5, 9, 7, 3, 10, 3, 1, 1, 1), Dims(3, 6, 6, 24, 40, 3, 1, 1, 1),
	Dims(18, 4, 5, 33, 9, 5, 1, 2, 1), Dims(2, 12, 11, 3, 16, 5, 2, 2, 1), Dims(33, 1, 1, 70, 11, 1, 1, 0, 1), Dims(2, 5, 6, 40, 8, 3, 1, 0, 1),
	Dims(2, 7, 5, 17, 31, 1, 1, 0, 1), Dims(1, 20, 19, 1, 9, 3, 1, 1, 1), Dims(2, 8, 8, 4, 4, 3, 2, 1, 1),
	Dims(1, 1, 1, 17, 17, 3, 1, 1, 1), Dims(2, 4, 4, 128, 128, 1, 1, 0, 1), Dims(2, 3, 3, 57, 190, 3, 1, 1, 1),
	Dims(1, 9, 9, 64, 260, 3, 2, 1, 1), Dims(1, 9, 9, 60, 580, 3, 1, 1, 1), Dims(130, 2, 1, 3, 5, 2, 1, 1, 1),
	Dims(3, 7, 6, 12, 12, 3, 1, 1, 12), Dims(2, 9, 8, 37, 37, 3, 2, 1, 37), Dims(2, 9, 7, 10, 20, 5, 2, 2, 10), Dims(2, 5, 4, 12, 20, 3, 1, 1, 4),
	Dims(5, 1, 1, 6, 8, 1, 1, 0, 2), Dims(0, 4, 4, 4, 4, 3, 1, 1, 4),
}

var persampleBenches = []Shape{
	Dims(32, 32, 32, 3, 64, 3, 1, 1, 1), Dims(32, 16, 16, 64, 128, 3, 1, 1, 1), Dims(32, 8, 8, 128, 256, 3, 1, 1, 1),
	Dims(32, 1, 1, 4096, 256, 1, 1, 0, 1), Dims(32, 16, 16, 192, 192, 3, 1, 1, 192),
}

// cancelling are inputs of which the gradients of two samples in three all but vanish: a sample's pixels
// are all the same, and its output gradients, which are zero where a patch hangs over the border, sum
// to a small part of one of them. Values have 8 significant bits, so that no precision rounds them,
// and magnitudes of their own in each channel, so that float32 sums of products do.
func cancelling(g kernel.Conv, r *Rand) (x, dy []float32) {
	x, dy = r.Normal(g.In()), r.Normal(g.Out())
	scale := func(n int) []float32 {
		to := make([]float32, n)
		for i := range to {
			to[i] = float32(math.Exp2(float64(r.Int(13) - 10)))
		}
		return to
	}
	few := func() float32 { return float32(r.Int(127) - 63) } // two of them sum to 7 bits and a sign
	in, out := scale(g.C), scale(g.K)
	for i := range g.N {
		if i%3 == 0 {
			continue
		}
		for at := range g.H * g.W {
			for c := range g.C {
				to := &x[(i*g.H*g.W+at)*g.C+c]
				if *to = x[i*g.H*g.W*g.C+c]; at == 0 {
					*to = in[c] * few()
				}
			}
		}
		rows := dy[i*g.OutH()*g.OutW()*g.K:][:g.OutH()*g.OutW()*g.K]
		clear(rows)
		var inside []int
		for y := g.Pad; y < g.OutH()-g.Pad; y++ {
			for q := g.Pad; q < g.OutW()-g.Pad; q++ {
				inside = append(inside, y*g.OutW()+q)
			}
		}
		vanishing := float32(math.Exp2(float64(6 * (i % 3))))
		for k := range g.K {
			rows[inside[0]*g.K+k] = out[k] * few()
			for j := 1; j+2 < len(inside); j += 3 {
				a, b := vanishing*few(), vanishing*few()
				rows[inside[j]*g.K+k], rows[inside[j+1]*g.K+k], rows[inside[j+2]*g.K+k] = out[k]*a, out[k]*b, -out[k]*(a+b)
			}
		}
	}
	return x, dy
}

// sampleGradient adds sample i's gradient to the weights [K,R,S,C/Groups] to to.
func sampleGradient(g kernel.Conv, i int, x, dy, to []float64) {
	oh, ow, cs, ks := g.OutH(), g.OutW(), g.C/g.Groups, g.K/g.Groups
	for oy := range oh {
		for ox := range ow {
			d := dy[((i*oh+oy)*ow+ox)*g.K:][:g.K]
			for r := range g.R {
				for s := range g.S {
					iy, ix := oy*g.Stride-g.Pad+r, ox*g.Stride-g.Pad+s
					if iy < 0 || iy >= g.H || ix < 0 || ix >= g.W {
						continue
					}
					pixel := x[((i*g.H+iy)*g.W+ix)*g.C:][:g.C]
					for k, dk := range d {
						row := to[((k*g.R+r)*g.S+s)*cs:][:cs]
						for c, xc := range pixel[k/ks*cs:][:cs] {
							row[c] += dk * xc
						}
					}
				}
			}
		}
	}
}

func (p *Problem) persample(g kernel.Conv, r *Rand) (*Buffer, *Buffer) {
	p.WorkspaceOn = func(s *device.Stream) int { return kernel.PersampleBytes(s, g) }
	p.Bytes = 4 * float64(g.LeastIn()+g.Out())
	p.FLOPs = float64(g.LeastFLOPs())
	x, dy := r.Values(g.In()), r.Values(g.Out())
	for i := range x {
		x[i]++ // positions then resemble each other, as they do in images, and their products matter
	}
	for i := range dy {
		dy[i] += 0.5
	}
	return Const(p, "x", x), Const(p, "dy", dy)
}

// persamples are those of kernels/persample.cu and, on a GPU, of kernels/conv_persample.cuh.
func persamples() []Case {
	var all []Case
	for _, precision := range []kernel.Precision{kernel.F32, kernel.TF32, kernel.BF16} {
		all = append(all, persampleProducts(precision)...)
	}
	return append(all, persampleMaps()...)
}

// persampleTolerance is tol in float32, else that of rounded factors: errors of single terms average
// out in norms and inner products, not in an element of a gradient.
func persampleTolerance(g kernel.Conv, tol Tol) Tol {
	size := math.Sqrt(float64(g.OutH() * g.OutW()))
	switch g.Precision {
	case kernel.TF32:
		return Tol{Rel: 1e-3, Abs: 1e-3*size + 1e3*tol.Abs, Norm: 1e-3, Why: "factors rounded to 11 bits: 0.7·2⁻¹⁰ each"}
	case kernel.BF16:
		return Tol{Rel: 1e-2, Abs: 1e-2*size + 1e4*tol.Abs, Norm: 1e-2, Why: "factors rounded to 8 bits: 2⁻⁸ each at most"}
	}
	tol.Norm = 1e-5
	return tol
}

// persampleProducts are the cases whose products have a precision.
func persampleProducts(precision kernel.Precision) []Case {
	terms := func(g kernel.Conv) float64 { return math.Sqrt(float64(g.OutH() * g.OutW())) }
	geometry := func(sh Shape) kernel.Conv {
		g := persampleConv(sh.Dims)
		g.Precision = precision
		return g
	}
	return []Case{
		{
			Name: "PersampleSqNorm", Precision: precision.String(),
			Kernels: []string{"persample_square", "persample_ghost", "persample_linear", "persample_grouped", "persample_sum"},
			Axes:    persampleAxes, Tests: persampleTests, Benches: persampleBenches,
			New: func(sh Shape, r *Rand) *Problem {
				g := geometry(sh)
				p := &Problem{}
				x, dy := p.persample(g, r)
				if g.Groups == 1 { // or half of the products of positions, in both operands
					t := float64(g.OutH() * g.OutW())
					p.FLOPs = min(p.FLOPs, float64(g.N)*t*(t+1)*float64(g.C+g.K))
				}
				tol := Tol{Rel: 5e-6, Why: "float sums of products of float sums; the ghost form cancels where patches point apart"}
				if precision != kernel.F32 {
					tol = persampleTolerance(g, Tol{})
					tol.Rel, tol.Abs = 3*tol.Rel, 0 // a square, of the one element there is in the smallest shape
				}
				out := InOut(p, "out", tol, r.Uniform(g.N, 0, 1))
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.PersampleSqNorm(s, g, d.Ptr(x), d.Ptr(dy), d.Ptr(out), d.Workspace())
				}
				p.Ref = func(v *Values) {
					for i := range g.N {
						grad := make([]float64, g.Weights())
						sampleGradient(g, i, v.F(x), v.F(dy), grad)
						v.F(out)[i] += dot(grad, grad)
					}
				}
				return p
			},
		},
		{
			Name: "PersampleSqNormCancels", Precision: precision.String(),
			Kernels: []string{"persample_square", "persample_ghost", "persample_settle", "persample_sum"},
			Axes:    persampleAxes,
			Tests:   []Shape{Dims(6, 5, 5, 60, 192, 3, 1, 1, 1), Dims(5, 8, 8, 32, 64, 3, 1, 1, 1), Dims(3, 4, 4, 128, 128, 1, 1, 0, 1), Dims(3, 9, 9, 60, 260, 3, 1, 1, 1)},
			Benches: persampleBenches[2:3], // two norms in three are made twice
			New: func(sh Shape, r *Rand) *Problem {
				g := geometry(sh)
				p := &Problem{
					WorkspaceOn: func(s *device.Stream) int { return kernel.PersampleBytes(s, g) },
					Bytes:       4 * float64(g.LeastIn()+g.Out()), FLOPs: float64(g.LeastFLOPs()),
				}
				a, b := cancelling(g, r)
				x, dy := Const(p, "x", a), Const(p, "dy", b)
				tol := Tol{Rel: 1e-3, Why: "the gradient's own sum cancels to 2⁻¹² of its terms; by their products the norm would be off by a multiple of itself"}
				if precision == kernel.TF32 {
					tol = Tol{Rel: 4e-3, Why: "as above, and 1.0007² that rounded factors would have lost"}
				}
				out := InOut(p, "out", tol, make([]float32, g.N))
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.PersampleSqNorm(s, g, d.Ptr(x), d.Ptr(dy), d.Ptr(out), d.Workspace())
				}
				p.Ref = func(v *Values) {
					for i := range g.N {
						grad := make([]float64, g.Weights())
						sampleGradient(g, i, v.F(x), v.F(dy), grad)
						v.F(out)[i] = dot(grad, grad)
					}
				}
				return p
			},
		},
		{
			Name: "PersampleGrad", Precision: precision.String(), Kernels: []string{"persample_store", "persample_grouped"},
			Axes: persampleAxes, Tests: persampleTests, Benches: persampleBenches[1:3],
			New: func(sh Shape, r *Rand) *Problem {
				g := geometry(sh)
				p := &Problem{}
				x, dy := p.persample(g, r)
				p.Bytes += 4 * float64(g.N*g.Weights())
				stride := g.Weights() + 3 // rows of a longer vector of parameters
				tol := persampleTolerance(g, Tol{Rel: 1e-6, Abs: 1e-6 * terms(g), Why: "float sums over positions; 2⁻¹⁹ a product of three TF32"})
				out := InOut(p, "out", tol, r.Normal(g.N*stride))
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.PersampleGrad(s, g, d.Ptr(x), d.Ptr(dy), d.Ptr(out), stride, d.Workspace())
				}
				p.Ref = func(v *Values) {
					for i := range g.N {
						to := v.F(out)[i*stride : i*stride+g.Weights()]
						clear(to)
						sampleGradient(g, i, v.F(x), v.F(dy), to)
					}
				}
				return p
			},
		},
		{
			Name: "PersampleInner", Precision: precision.String(), Kernels: []string{"persample_inner", "persample_grouped", "persample_sum"},
			Axes: persampleAxes, Tests: persampleTests, Benches: persampleBenches[1:3],
			New: func(sh Shape, r *Rand) *Problem {
				g := geometry(sh)
				p := &Problem{}
				x, dy := p.persample(g, r)
				direction := Const(p, "v", r.Normal(g.Weights()))
				p.Bytes += 4 * float64(g.Weights())
				tol := Tol{Rel: 2e-6, Abs: 5e-7 * terms(g) * math.Sqrt(float64(g.Weights())), Why: "float sums over positions, then weights"}
				if precision != kernel.F32 { // the sum cancels: its terms bound the error, not it
					tol = persampleTolerance(g, tol)
					tol.Norm = 0
				}
				out := InOut(p, "out", tol, r.Normal(g.N))
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.PersampleInner(s, g, d.Ptr(x), d.Ptr(dy), d.Ptr(direction), d.Ptr(out), d.Workspace())
				}
				p.Ref = func(v *Values) {
					for i := range g.N {
						grad := make([]float64, g.Weights())
						sampleGradient(g, i, v.F(x), v.F(dy), grad)
						v.F(out)[i] += dot(grad, v.F(direction))
					}
				}
				return p
			},
		},
	}
}

// persampleMaps are the cases of what is around the products.
func persampleMaps() []Case {
	return []Case{
		{
			Name: "PersampleAffine", Kernels: []string{"persample_affine"}, Axes: []string{"n", "h", "w", "c", "pool", "stride", "pad", "relu", "scale"},
			Tests: []Shape{
				Dims(0, 4, 4, 3, 2, 2, 0, 1, 1), Dims(1, 1, 1, 1, 1, 1, 0, 0, 1), Dims(3, 5, 7, 13, 2, 2, 0, 1, 1), Dims(3, 4, 6, 130, 2, 2, 0, 1, 1),
				Dims(5, 3, 4, 5, 1, 1, 0, 1, 1), Dims(5, 3, 4, 5, 1, 1, 0, 0, 0), Dims(2, 4, 4, 3, 2, 2, 0, 0, 1),
				Dims(3, 8, 7, 13, 3, 2, 1, 1, 1), Dims(2, 5, 6, 3, 2, 1, 0, 0, 0), Dims(1, 15, 16, 2, 15, 1, 7, 1, 1),
			},
			Benches: []Shape{Dims(128, 16, 16, 128, 2, 2, 0, 1, 1)},
			New:     newPersampleAffine,
		},
		{
			Name: "PersampleNorm", Kernels: []string{"persample_norm"}, Axes: []string{"n", "c"},
			Tests:   []Shape{Dims(0, 3), Dims(1, 1), Dims(7, 13), Dims(129, 101)},
			Benches: []Shape{Dims(128, 128)},
			New: func(sh Shape, r *Rand) *Problem {
				n, c := sh.Dims[0], sh.Dims[1]
				const eps = 1e-5
				p := &Problem{Bytes: 12 * float64(n*c), FLOPs: 8 * float64(n*c)}
				mean, variance := Const(p, "mean", r.Normal(c)), Const(p, "variance", r.Uniform(c, 0, 2))
				dscale := InOut(p, "dscale", Tol{Rel: 1e-6, Why: "a difference, a root and a quotient"}, r.Normal(n*c))
				dshift := Const(p, "dshift", r.Normal(n*c))
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.PersampleNorm(s, n, c, d.Ptr(mean), d.Ptr(variance), eps, d.Ptr(dscale), d.Ptr(dshift), c)
				}
				p.Ref = func(v *Values) {
					for i := range n * c {
						j := i % c
						v.F(dscale)[i] = (v.F(dscale)[i] - v.F(mean)[j]*v.F(dshift)[i]) / math.Sqrt(v.F(variance)[j]+single(eps))
					}
				}
				return p
			},
		},
	}
}

func newPersampleAffine(sh Shape, r *Rand) *Problem {
	d := sh.Dims
	a := kernel.Act{N: d[0], H: d[1], W: d[2], C: d[3], Pool: d[4], Stride: d[5], Pad: d[6], Activation: kernel.Activation(d[7])}
	stride := a.C + 2
	p := &Problem{Bytes: 5*float64(a.Out()) + 4*float64(a.In()), FLOPs: 3 * float64(a.Out())}
	dy := Const(p, "dy", r.Values(a.Out()))
	tol := Tol{Rel: 1e-6, Abs: 5e-7 * math.Sqrt(float64(a.OutH()*a.OutW())), Why: "float sums over outputs"}
	var z, dscale *Buffer
	if d[8] != 0 {
		z = Const(p, "z", r.Values(a.In()))
		dscale = InOut(p, "dscale", tol, r.Normal(a.N*stride))
	}
	idx := chosen(a, p, r)
	dshift := InOut(p, "dshift", tol, r.Normal(a.N*stride))
	p.Run = func(s *device.Stream, d *Bound) {
		kernel.PersampleAffine(s, a, d.Ptr(dy), d.Ptr(z), d.Ptr(idx), d.Ptr(dscale), d.Ptr(dshift), stride)
	}
	p.Ref = func(v *Values) {
		for i := range a.N {
			clear(v.F(dshift)[i*stride : i*stride+a.C])
			if dscale != nil {
				clear(v.F(dscale)[i*stride : i*stride+a.C])
			}
		}
		eachOutput(a, func(o, c int, window []int) {
			from := pickedAt(v.F(idx), o, window)
			if from < 0 {
				return
			}
			row := o / (a.OutH() * a.OutW() * a.C) * stride
			v.F(dshift)[row+c] += v.F(dy)[o]
			if dscale != nil {
				v.F(dscale)[row+c] += v.F(dy)[o] * v.F(z)[from]
			}
		})
	}
	return p
}
