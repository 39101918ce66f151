package kernel_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// bound is how far a sum of k products may be off, as a share of Σ|a·b|, in the worst case (docs/gpu.md):
// the factors' rounding, and float32 sums in which a tensor core cuts each of the nine terms that it
// adds at 2⁻²³ of the largest; three times as many in float32.
func bound(p kernel.Precision, k int) float64 {
	sums := 9 * math.Ceil(float64(k)/8) * 0x1p-23
	switch p {
	case kernel.BF16:
		return 0x1p-7 + 0x1p-16 + sums
	case kernel.TF32:
		return 1.4*0x1p-10 + 0x1p-19 + sums
	}
	return 3*0x1p-20 + 3*sums
}

// wide draws numbers whose magnitudes span a factor of 2⁶⁰.
func wide(stream uint64, n int) []float32 {
	v := normal(stream, n)
	r := rng.New(12, stream)
	for i := range v {
		v[i] *= float32(math.Exp2(math.Round(60 * (float64(r.Float32()) - 0.5))))
	}
	return v
}

// Every element of every product keeps the bound of its precision on numbers of very different
// magnitudes; and float32, made of three TF32 products on a GPU, is off by no more than a few times
// what plain float32 arithmetic is.
func TestPrecisionBounds(t *testing.T) {
	for _, g := range []kernel.Conv{ // no transforms: Winograd's bound is another
		{N: 2, H: 5, W: 6, C: 12, K: 20, R: 3, S: 3, Stride: 1, Pad: 1},
		{N: 3, H: 7, W: 7, C: 3, K: 17, R: 5, S: 5, Stride: 2, Pad: 2},
		{N: 70, H: 1, W: 1, C: 300, K: 65, R: 1, S: 1, Stride: 1},
	} {
		for p := kernel.F32; p <= kernel.TF32; p++ {
			g.Precision = p
			t.Run(fmt.Sprintf("%s/c=%d,r=%d", p, g.C, g.R), func(t *testing.T) { precisionBounds(t, g) })
		}
	}
}

func precisionBounds(t *testing.T, g kernel.Conv) {
	x, w, dy := wide(1, g.In()), wide(2, g.Weights()), wide(3, g.Out())
	type product struct {
		name  string
		a, b  []float32
		terms int
		place func(x, w, y int) (a, b, out int)
		out   int
		run   func(s *device.Stream, a, b, out tensor.Tensor)
	}
	onDevice(t, func(s *device.Stream) {
		work := kernel.NewWorkspace(s, kernel.ConvBytes(s, g, false))
		for _, p := range []product{
			{"forward", x, w, g.R * g.S * g.C, func(x, w, y int) (int, int, int) { return x, w, y }, g.Out(),
				func(s *device.Stream, a, b, out tensor.Tensor) { kernel.ConvForward(s, work, g, a, b, out) }},
			{"backward data", dy, w, g.R * g.S * g.K, func(x, w, y int) (int, int, int) { return y, w, x }, g.In(),
				func(s *device.Stream, a, b, out tensor.Tensor) { kernel.ConvBackwardData(s, work, g, a, b, out) }},
			{"backward weight", x, dy, g.N * g.OutH() * g.OutW(), func(x, w, y int) (int, int, int) { return x, y, w }, g.Weights(),
				func(s *device.Stream, a, b, out tensor.Tensor) { kernel.ConvBackwardWeight(s, work, g, a, b, out) }},
		} {
			want, size, plain := make([]float64, p.out), make([]float64, p.out), make([]float32, p.out)
			eachTerm(g, func(x, w, y int) {
				a, b, out := p.place(x, w, y)
				v := float64(p.a[a]) * float64(p.b[b])
				want[out] += v
				size[out] += math.Abs(v)
				plain[out] += p.a[a] * p.b[b]
			})
			of := func(v []float32) tensor.Tensor { return tensor.Tensor{Shape: []int{len(v)}, P: upload(s, v)} }
			out := tensor.New(s, p.out)
			p.run(s, of(p.a), of(p.b), out)
			got := download[float32](t, s, out.P, p.out)
			limit, worst, squares, squares32 := bound(g.Precision, p.terms), 0.0, 0.0, 0.0
			for i, v := range got {
				if size[i] == 0 {
					continue
				}
				e, e32 := math.Abs(float64(v)-want[i])/size[i], math.Abs(float64(plain[i])-want[i])/size[i]
				worst = max(worst, e)
				squares += e * e
				squares32 += e32 * e32
				if !(e <= limit) {
					t.Fatalf("%s: element %d is off by %.3g of Σ|a·b|, the bound is %.3g", p.name, i, e, limit)
				}
			}
			ratio := math.Sqrt(squares / squares32)
			t.Logf("%s: at most %.2g of Σ|a·b|, bound %.2g; in the mean %.2g times plain float32", p.name, worst, limit, ratio)
			if g.Precision == kernel.F32 && !(ratio < 8) {
				t.Errorf("%s: off by %.3g times what float32 is", p.name, ratio)
			}
		}
	})
}

// eachTerm calls f with the places of every product that is summed.
func eachTerm(g kernel.Conv, f func(x, w, y int)) {
	for y := range g.Out() {
		k, p := y%g.K, y/g.K
		ox, oy, n := p%g.OutW(), p/g.OutW()%g.OutH(), p/g.OutW()/g.OutH()
		for r := range g.R {
			for s := range g.S {
				iy, ix := oy*g.Stride+r-g.Pad, ox*g.Stride+s-g.Pad
				if iy < 0 || iy >= g.H || ix < 0 || ix >= g.W {
					continue
				}
				for c := range g.C {
					f(((n*g.H+iy)*g.W+ix)*g.C+c, ((k*g.R+r)*g.S+s)*g.C+c, y)
				}
			}
		}
	}
}

func TestParsePrecision(t *testing.T) {
	for i, name := range kernel.Precisions() {
		if p, err := kernel.ParsePrecision(name); err != nil || int(p) != i || p.String() != name {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if _, err := kernel.ParsePrecision("fp16"); !usage.Is(err) {
		t.Errorf("fp16: %v", err)
	}
	for _, c := range []struct {
		p       kernel.Precision
		backend string
		fine    bool
	}{{kernel.F32, "host", true}, {kernel.BF16, "host", true}, {kernel.TF32, "host", false}, {kernel.TF32, "cuda", true}} {
		if err := c.p.On(device.Info{Backend: c.backend}); (err == nil) != c.fine || err != nil && !usage.Is(err) {
			t.Errorf("%s on %s: %v", c.p, c.backend, err)
		}
	}
}
