package kernel_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
)

// onDevice runs f on a stream of a device that it opens.
func onDevice(t testing.TB, f func(s *device.Stream)) {
	t.Helper()
	d := testkit.Open(t)
	if err := d.Do(context.Background(), 2, func(s *device.Stream) error { f(s); return s.Err() }); err != nil {
		t.Fatal(err)
	}
}

func upload[T device.Memory](s *device.Stream, v []T) device.Ptr {
	p := s.Alloc(8 * max(len(v), 1))
	device.Upload(s, p, v)
	return p
}

func download[T device.Memory](t testing.TB, s *device.Stream, p device.Ptr, n int) []T {
	t.Helper()
	v := make([]T, n)
	if err := device.Download(s, v, p); err != nil {
		t.Fatal(err)
	}
	return v
}

func normal(stream uint64, n int) []float32 {
	v := make([]float32, n)
	rng.FillNormal(11, stream, 1, v)
	return v
}

func norm(v []float32, p float64) float64 {
	if math.IsInf(p, 1) {
		m := 0.0
		for _, x := range v {
			m = max(m, math.Abs(float64(x)))
		}
		return m
	}
	sum := 0.0
	for _, x := range v {
		sum += math.Pow(math.Abs(float64(x)), p)
	}
	return math.Pow(sum, 1/p)
}

// The device draws what package rng draws, to the last bit.
func TestNoiseIsRng(t *testing.T) {
	onDevice(t, func(s *device.Stream) {
		for _, n := range []int{1, 2, 3, 4, 5, 7, 1023, 100003} {
			const seed, stream = 0x9e3779b97f4a7c15, 0xfedcba9876543210
			p := s.Alloc(4 * n)
			want := make([]float32, n)
			kernel.UniformNoise(s, seed, stream, 16./255, p, n)
			rng.FillUniform(seed, stream, 16./255, want)
			if got := download[float32](t, s, p, n); !slices.Equal(got, want) {
				t.Errorf("n = %d: uniform noise is not rng.FillUniform's", n)
			}
			kernel.NormalNoise(s, seed, stream, 0.7, math.Inf(1), p, n)
			rng.FillNormal(seed, stream, 0.7, want)
			if got := download[float32](t, s, p, n); !slices.Equal(got, want) {
				t.Errorf("n = %d: normal noise is not rng.FillNormal's", n)
			}
			kernel.GaussianNoise(s, seed, stream, 1, p, n)
			if got := norm(download[float32](t, s, p, n), math.Inf(1)); got > 1 {
				t.Errorf("n = %d: Gaussian noise leaves the ball: %v", n, got)
			}
		}
	})
}

// ‖ζ̂‖_p = ρ, and no other point of the ball does better: ⟨g, ζ̂⟩ = ρ ‖g‖_q.
func TestSAMPerturbation(t *testing.T) {
	onDevice(t, func(s *device.Stream) {
		const n, rho = 40007, 0.05
		g := normal(1, n)
		for i := range g {
			g[i] *= 1e-20 // |g|^q would vanish without the scaling
		}
		g[7] = 0
		w := kernel.NewWorkspace(s, kernel.VectorBytes)
		grad, out := upload(s, g), s.Alloc(4*n)
		for _, p := range []float64{1.05, 1.5, 2, 3, 10, math.Inf(1)} {
			kernel.SAMPerturb(s, 0, grad, rho, p, out, n, w)
			z := download[float32](t, s, out, n)
			if got := norm(z, p); math.Abs(got-rho) > 1e-5*rho {
				t.Errorf("p = %v: ‖ζ‖ = %v, want %v", p, got, rho)
			}
			q := p / (p - 1)
			if math.IsInf(p, 1) {
				q = 1
			}
			inner, scaled := 0.0, make([]float32, n)
			for i := range z {
				inner += float64(z[i]) * float64(g[i]) * 1e20
				scaled[i] = float32(float64(g[i]) * 1e20)
			}
			if want := rho * norm(scaled, q); math.Abs(inner-want) > 1e-5*want {
				t.Errorf("p = %v: ⟨g,ζ⟩ = %v, want %v", p, inner, want)
			}
		}
		theta := normal(2, n)
		th := upload(s, theta)
		kernel.SAMPerturb(s, th, grad, rho, 2, out, n, w)
		at := download[float32](t, s, out, n)
		kernel.SAMPerturb(s, 0, grad, rho, 2, out, n, w)
		for i, z := range download[float32](t, s, out, n) {
			if at[i] != theta[i]+z {
				t.Fatalf("θ + ζ is %v at %d, want %v", at[i], i, theta[i]+z)
			}
		}
		zero := upload(s, make([]float32, n))
		for _, p := range []float64{1.5, 2, math.Inf(1)} {
			kernel.SAMPerturb(s, th, zero, rho, p, out, n, w)
			if !slices.Equal(download[float32](t, s, out, n), theta) {
				t.Errorf("p = %v: a zero gradient moves θ", p)
			}
		}
	})
}

// After rounding to 8 bits δ is on the grid, in the ball and in [0, 1], counted in integers.
func TestQuantizedPoisonsStayInTheBall(t *testing.T) {
	onDevice(t, func(s *device.Stream) {
		for _, eps := range []int{0, 1, 8, 16, 32} {
			const n = 256 * 97
			base, delta := make([]float32, n), make([]float32, n)
			rng.FillUniform(1, uint64(eps), 1.2*float32(eps)/255, delta)
			for i := range base {
				base[i] = float32(i%256) / 255
			}
			b, d := upload(s, base), upload(s, delta)
			kernel.Quantize8(s, b, d, float64(eps)/255, n)
			for i, got := range download[float32](t, s, d, n) {
				x := 255 * float64(base[i]+got)
				q := math.Round(x)
				moved := int(q) - i%256
				want := math.Round(255 * (float64(base[i]) + float64(delta[i])))
				want = max(min(want, float64(i%256+eps), 255), float64(i%256-eps), 0)
				if math.Abs(x-q) > 1e-4 || moved > eps || -moved > eps || q < 0 || q > 255 || math.Abs(q-want) > 1 {
					t.Fatalf("ε = %d, base %d, δ %v → %v: pixel %v, want %v", eps, i%256, delta[i], got, x, want)
				}
				if again := math.Abs(q - want); again == 1 { // only where the two roundings meet a tie
					if f := 255 * (float64(base[i]) + float64(delta[i])); math.Abs(math.Abs(f-math.Floor(f))-0.5) > 1e-3 {
						t.Fatalf("ε = %d, base %d, δ %v → pixel %v, want %v", eps, i%256, delta[i], q, want)
					}
				}
			}
		}
	})
}

// Steps of sign-Adam end in the ball and in [0, 1], and go downhill.
func TestSignAdamStaysInside(t *testing.T) {
	onDevice(t, func(s *device.Stream) {
		const n, radius = 5003, 16. / 255
		base := make([]float32, n)
		rng.FillUniform(1, 2, 0.5, base)
		for i := range base {
			base[i] += 0.5
		}
		zero := make([]float32, n)
		delta, g, m, v := upload(s, zero), upload(s, normal(3, n)), upload(s, zero), upload(s, zero)
		b, step, lr := upload(s, base), upload(s, []uint64{0}), upload(s, []float32{0.01})
		for range 20 {
			kernel.Increment(s, step)
			kernel.SignAdam(s, delta, g, m, v, b, step, lr, 0.9, 0.999, 1e-8, radius, n)
		}
		if got := download[uint64](t, s, step, 1)[0]; got != 20 {
			t.Fatalf("step = %d", got)
		}
		grad := download[float32](t, s, g, n)
		for i, d := range download[float32](t, s, delta, n) {
			x := base[i] + d
			if math.Abs(float64(d)) > radius*(1+1e-6) || x < 0 || x > 1 || d*grad[i] > 0 {
				t.Fatalf("δ = %v, base %v, gradient %v", d, base[i], grad[i])
			}
		}
	})
}

func TestSortScores(t *testing.T) {
	onDevice(t, func(s *device.Stream) {
		nan, inf := float32(math.NaN()), float32(math.Inf(1))
		for _, x := range [][]float32{
			{1}, {2, 1}, {3, 1, 2, 1, 3}, {nan, inf, -inf, 0, float32(math.Copysign(0, -1)), 0, nan, -1}, normal(4, 3001),
		} {
			n := len(x)
			sorted, order := s.Alloc(4*n), s.Alloc(4*n)
			kernel.SortScores(s, n, upload(s, x), sorted, order)
			want := make([]int32, n)
			for i := range want {
				want[i] = int32(i)
			}
			slices.SortStableFunc(want, func(a, b int32) int {
				switch u, v := x[a], x[b]; {
				case u != u && v != v:
					return 0
				case v != v || u < v:
					return -1
				case u != u || u > v:
					return 1
				}
				return 0
			})
			if got := download[int32](t, s, order, n); !slices.Equal(got, want) {
				t.Errorf("n = %d: order %v, want %v", n, got[:min(n, 9)], want[:min(n, 9)])
			}
			for i, v := range download[float32](t, s, sorted, n) {
				if w := x[want[i]]; v != w && v == v {
					t.Fatalf("sorted[%d] = %v, want %v", i, v, w)
				}
			}
		}
	})
}

// The kernel quantile goes to the order statistic as the bandwidth goes to zero, and its weights
// sum to 1 at every rank.
func TestSoftQuantileToHard(t *testing.T) {
	onDevice(t, func(s *device.Stream) {
		const n = 1001
		x, one := normal(5, n), make([]float32, n)
		for i := range one {
			one[i] = 1
		}
		sorted, order, tau := s.Alloc(4*n), s.Alloc(4*n), s.Alloc(4)
		kernel.SortScores(s, n, upload(s, x), sorted, order)
		ones := upload(s, one)
		slices.Sort(x)
		for _, r := range []int{1, 2, 500, 902, 1000, 1001} {
			c := kernel.Calibration{N: n, Rank: r, Sorted: sorted, Order: order}
			last := math.Inf(1)
			for _, h := range []float64{50, 10, 2, 1, 0.5, 0} {
				kernel.SoftQuantile(s, c, h, tau)
				got := float64(download[float32](t, s, tau, 1)[0])
				if gap := math.Abs(got - float64(x[r-1])); gap > last+0.02 || h <= 0.5 && gap != 0 {
					t.Errorf("r = %d, h = %v: τ = %v, s_(r) = %v", r, h, got, x[r-1])
				} else {
					last = gap
				}
				kernel.SoftQuantile(s, kernel.Calibration{N: n, Rank: r, Sorted: ones}, h, tau)
				if got := download[float32](t, s, tau, 1)[0]; math.Abs(float64(got)-1) > 1e-5 {
					t.Errorf("r = %d, h = %v: weights sum to %v", r, h, got)
				}
			}
		}
	})
}

// Per-sample gradients sum to the batch's gradient, their squares are the norms (in whichever form
// the launcher took), and their inner products are those of the store.
func TestPersampleAgainstBatch(t *testing.T) {
	onDevice(t, func(s *device.Stream) {
		for _, g := range []kernel.Conv{
			{N: 5, H: 9, W: 7, C: 3, K: 10, R: 3, S: 3, Stride: 1, Pad: 1},   // direct
			{N: 3, H: 6, W: 6, C: 24, K: 40, R: 3, S: 3, Stride: 1, Pad: 1},  // ghost
			{N: 19, H: 4, W: 5, C: 33, K: 9, R: 5, S: 5, Stride: 1, Pad: 2},  // ghost
			{N: 4, H: 12, W: 11, C: 3, K: 16, R: 5, S: 5, Stride: 2, Pad: 2}, // strided
			{N: 33, H: 1, W: 1, C: 70, K: 10, R: 1, S: 1, Stride: 1},         // linear
		} {
			np, nw := g.OutH()*g.OutW(), g.Weights()
			x, dy, v := upload(s, normal(6, g.In())), upload(s, normal(7, g.Out())), normal(8, nw)
			w := kernel.NewWorkspace(s, kernel.PersampleBytes(s, g))
			stride := nw + 5
			full, square, inner := s.Alloc(4*stride*g.N), upload(s, make([]float32, g.N)), upload(s, make([]float32, g.N))
			kernel.PersampleGrad(s, g, x, dy, full, stride, w)
			kernel.PersampleSqNorm(s, g, x, dy, square, w)
			kernel.PersampleInner(s, g, x, dy, upload(s, v), inner, w)
			dw := tensor.New(s, g.K, g.R, g.S, g.C)
			kernel.ConvBackwardWeight(s, kernel.NewWorkspace(s, kernel.ConvBytes(s, g, false)), g, tensor.Tensor{Shape: []int{g.N, g.H, g.W, g.C}, P: x},
				tensor.Tensor{Shape: []int{g.N, np, g.K}, P: dy}, dw)
			each := download[float32](t, s, full, stride*g.N)
			squares, inners := download[float32](t, s, square, g.N), download[float32](t, s, inner, g.N)
			sum := make([]float64, nw)
			for i := range g.N {
				gi := each[i*stride : i*stride+nw]
				sq, in, size := 0.0, 0.0, 0.0
				for j, a := range gi {
					sum[j] += float64(a)
					sq += float64(a) * float64(a)
					in += float64(a) * float64(v[j])
					size += float64(v[j]) * float64(v[j])
				}
				if math.Abs(float64(squares[i])-sq) > 2e-6*sq {
					t.Errorf("%+v: ‖g_%d‖² = %v, want %v", g, i, squares[i], sq)
				}
				if math.Abs(float64(inners[i])-in) > 2e-6*math.Sqrt(sq*size) {
					t.Errorf("%+v: ⟨v, g_%d⟩ = %v, want %v", g, i, inners[i], in)
				}
			}
			for j, want := range download[float32](t, s, dw.P, nw) {
				if math.Abs(sum[j]-float64(want)) > 1e-5*math.Sqrt(float64(g.N*np)) {
					t.Fatalf("%+v: Σ g_i[%d] = %v, want %v", g, j, sum[j], want)
				}
			}
		}
	})
}
