package cases

import (
	"math"
	"runtime"
	"sync"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

var (
	convTol = Tol{Rel: 2e-5, Norm: 1e-5, Why: "float32 sums of R·S·C (or N·H·W) products; by Winograd's transforms off by some 1e-6 in norm, single elements by ten times that; 2⁻¹⁹ a product of three TF32"}
	tf32Tol = Tol{Rel: 3e-3, Abs: 1e-4, Norm: 1e-3, Why: "inputs cut to 11 bits, and what that takes on the average given back: 1.3·2⁻¹⁰ a product at most"}
	bf16Tol = Tol{Rel: 2e-2, Abs: 1e-3, Norm: 1e-2, Why: "inputs rounded to 8 bits: 2⁻⁹ each"}
)

// inRounds is the batch that is given the workspace of a third of it.
const inRounds = 7

func convolutions() []Case {
	axes := []string{"n", "h", "w", "c", "k", "r", "stride", "pad", "groups"}
	tests := []Shape{
		Dims(1, 1, 1, 1, 1, 1, 1, 0, 1), Dims(5, 1, 1, 13, 7, 1, 1, 0, 1), Dims(2, 5, 7, 3, 4, 3, 1, 1, 1), Dims(3, 8, 8, 16, 32, 3, 1, 1, 1),
		Dims(2, 9, 8, 3, 5, 5, 2, 2, 1), Dims(1, 6, 6, 17, 19, 3, 1, 1, 1), Dims(4, 7, 7, 32, 16, 3, 1, 1, 1), Dims(0, 4, 4, 3, 4, 3, 1, 1, 1),
		Dims(129, 2, 2, 4, 8, 1, 1, 0, 1), Dims(129, 1, 1, 20, 10, 1, 1, 0, 1), Dims(1, 9, 7, 8, 12, 3, 2, 1, 1), Dims(1, 11, 9, 3, 4, 7, 2, 3, 1),
		Dims(2, 6, 5, 36, 72, 3, 1, 1, 1), Dims(1, 7, 6, 12, 20, 3, 2, 1, 4), Dims(2, 5, 5, 32, 16, 3, 1, 1, 2),
		Dims(inRounds, 7, 6, 6, 12, 3, 1, 1, 1), Dims(3, 7, 6, 12, 12, 3, 1, 1, 12), Dims(2, 9, 7, 10, 20, 5, 2, 2, 10), Dims(1, 7, 7, 4, 4, 2, 3, 0, 1), Dims(1, 11, 11, 120, 124, 1, 1, 0, 1),
		Dims(3, 5, 6, 133, 133, 3, 1, 1, 133), Dims(17, 9, 8, 70, 70, 3, 2, 1, 70), Dims(1, 6, 7, 64, 64, 5, 1, 2, 64), Dims(2, 5, 5, 72, 72, 2, 3, 0, 72),
		Dims(1, 5, 13, 48, 48, 3, 1, 1, 1), Dims(2, 9, 6, 32, 16, 3, 1, 0, 1), Dims(1, 4, 3, 432, 80, 3, 1, 1, 1), Dims(3, 9, 7, 6, 20, 1, 2, 0, 1),
	}
	benches := []Shape{
		Dims(128, 32, 32, 3, 64, 3, 1, 1, 1), Dims(128, 16, 16, 64, 128, 3, 1, 1, 1), Dims(128, 8, 8, 128, 256, 3, 1, 1, 1),
		Dims(128, 14, 14, 32, 64, 3, 1, 1, 1), Dims(128, 32, 32, 3, 16, 5, 2, 2, 1), Dims(128, 1, 1, 4096, 256, 1, 1, 0, 1),
		Dims(128, 16, 16, 192, 192, 3, 1, 1, 192), Dims(128, 16, 16, 144, 144, 3, 2, 1, 144),
	}
	var all []Case
	for _, precision := range []kernel.Precision{kernel.F32, kernel.TF32, kernel.BF16} {
		for _, part := range []struct {
			name    string
			kernels []string
			build   func(g kernel.Conv, r *Rand) *Problem
		}{
			{"ConvForward", []string{"conv_forward", "conv_pack_f32", "conv_pack_bf16", "conv_depthwise_forward_f32", "conv_depthwise_forward_dual"}, newConvForward},
			{"ConvBackwardData", []string{"conv_backward_data", "conv_depthwise_data_f32", "conv_depthwise_data_dual"}, newConvBackwardData},
			{"ConvBackwardWeight", []string{"conv_backward_weight", "conv_sum", "conv_depthwise_weight_f32", "conv_depthwise_weight_dual"}, newConvBackwardWeight},
		} {
			all = append(all, Case{
				Name: part.name, Kernels: part.kernels, Precision: precision.String(), Axes: axes, Tests: tests, Benches: benches,
				New: func(sh Shape, r *Rand) *Problem {
					d := sh.Dims
					g := kernel.Conv{N: d[0], H: d[1], W: d[2], C: d[3], K: d[4], R: d[5], S: d[5], Stride: d[6], Pad: d[7], Groups: d[8], Precision: precision}
					p := part.build(g, r)
					p.Replay, p.Bits = true, OnThreads
					p.WorkspaceOn = func(s *device.Stream) int {
						if g.N != inRounds {
							return kernel.ConvBytes(s, g, true)
						}
						one := g // copies of a batch in rounds
						one.N = (g.N + 2) / 3
						return kernel.ConvBytes(s, one, true)
					}
					p.Bytes = 4 * float64(g.LeastIn()+g.Weights()+g.Out())
					if part.name == "ConvBackwardData" { // zeros where the stride passes over
						p.Bytes = 4 * float64(g.In()+g.Weights()+g.Out())
					}
					p.FLOPs = float64(g.LeastFLOPs())
					return p
				},
			})
		}
	}
	return all
}

func convTolerance(g kernel.Conv) Tol {
	return map[kernel.Precision]Tol{kernel.F32: convTol, kernel.TF32: tf32Tol, kernel.BF16: bf16Tol}[g.Precision]
}

// eachProduct calls f with the places of every product x·w that is summed into y.
func eachProduct(g kernel.Conv, f func(x, w, y int)) { productsOf(g, 0, g.N, 0, g.K, f) }

// parted is eachProduct in parts side by side, for shapes to time: of the images, or of the output's channels
// where f adds to elements of w, so that no element is summed in two.
func parted(g kernel.Conv, ofImages bool, f func(x, w, y int)) {
	n := g.K
	if ofImages {
		n = g.N
	}
	parts := min(n, runtime.GOMAXPROCS(0))
	if g.LeastFLOPs() < 1e7 {
		parts = 1
	}
	var all sync.WaitGroup
	for i := range parts {
		all.Go(func() {
			from, to := i*n/parts, (i+1)*n/parts
			if ofImages {
				productsOf(g, from, to, 0, g.K, f)
			} else {
				productsOf(g, 0, g.N, from, to, f)
			}
		})
	}
	all.Wait()
}

// productsOf is eachProduct of some images and channels of the output.
func productsOf(g kernel.Conv, n0, n1, k0, k1 int, f func(x, w, y int)) {
	oh, ow, each := g.OutH(), g.OutW(), g.C/g.Groups
	for y := n0 * oh * ow * g.K; y < n1*oh*ow*g.K; y++ {
		k := y % g.K
		if k < k0 || k >= k1 {
			continue
		}
		ox := y / g.K % ow
		oy := y / g.K / ow % oh
		n := y / g.K / ow / oh
		for r := range g.R {
			for s := range g.S {
				iy, ix := oy*g.Stride+r-g.Pad, ox*g.Stride+s-g.Pad
				if iy < 0 || iy >= g.H || ix < 0 || ix >= g.W {
					continue
				}
				first := k / (g.K / g.Groups) * each // channel of the group
				for c := range each {
					f(((n*g.H+iy)*g.W+ix)*g.C+first+c, ((k*g.R+r)*g.S+s)*each+c, y)
				}
			}
		}
	}
}

func newConvForward(g kernel.Conv, r *Rand) *Problem {
	p := &Problem{}
	x, w := p.Diff("x", r.Normal(g.In())), p.Diff("w", r.Normal(g.Weights()))
	y := p.Out("y", convTolerance(g), g.Out())
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ConvForward(s, b.Workspace(), g, b.Tensor(x), b.Tensor(w), b.Tensor(y))
	}
	p.Ref = func(v *Values) {
		a, b, to := v.F(x), v.F(w), v.F(y)
		parted(g, true, func(x, w, y int) { to[y] += a[x] * b[w] })
	}
	return p
}

func newConvBackwardData(g kernel.Conv, r *Rand) *Problem {
	p := &Problem{}
	dy, w := p.Diff("dy", r.Normal(g.Out())), p.Diff("w", r.Normal(g.Weights()))
	x := p.Diff("x", r.Normal(g.In())) // dx is the gradient of ⟨dy, x ∗ w⟩; no launch reads x
	dx := p.Out("dx", convTolerance(g), g.In())
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ConvBackwardData(s, b.Workspace(), g, b.Tensor(dy), b.Tensor(w), b.Tensor(dx))
	}
	p.Ref = func(v *Values) {
		a, b, to := v.F(dy), v.F(w), v.F(dx)
		parted(g, true, func(x, w, y int) { to[x] += a[y] * b[w] })
	}
	p.Gradients = []Gradient{{dx, x, func(v *Values) float64 { return trilinear(g, v.F(x), v.F(w), v.F(dy)) }}}
	return p
}

func newConvBackwardWeight(g kernel.Conv, r *Rand) *Problem {
	p := &Problem{}
	x, dy := p.Diff("x", r.Normal(g.In())), p.Diff("dy", r.Normal(g.Out()))
	w := p.Diff("w", r.Normal(g.Weights())) // dw is the gradient of ⟨dy, x ∗ w⟩; no launch reads w
	tol := convTolerance(g)
	if long := math.Sqrt(float64(g.N*g.OutH()*g.OutW()) / 1024); long > 1 {
		tol.Rel, tol.Norm = long*tol.Rel, long*tol.Norm
		tol.Why += "; more by the root of the terms beyond 1,024, whose roundings add up"
	}
	dw := p.Out("dw", tol, g.Weights())
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.ConvBackwardWeight(s, b.Workspace(), g, b.Tensor(x), b.Tensor(dy), b.Tensor(dw))
	}
	p.Ref = func(v *Values) {
		a, b, to := v.F(x), v.F(dy), v.F(dw)
		parted(g, false, func(x, w, y int) { to[w] += a[x] * b[y] })
	}
	p.Gradients = []Gradient{{dw, w, func(v *Values) float64 { return trilinear(g, v.F(x), v.F(w), v.F(dy)) }}}
	return p
}

// trilinear is ⟨dy, x ∗ w⟩.
func trilinear(g kernel.Conv, x, w, dy []float64) float64 {
	sum := 0.0
	eachProduct(g, func(i, j, o int) { sum += x[i] * w[j] * dy[o] })
	return sum
}
