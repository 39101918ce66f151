package curvature

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
)

func on(t *testing.T, f func(s *device.Stream)) {
	t.Helper()
	err := testkit.Open(t).Do(context.Background(), 1, func(s *device.Stream) error {
		f(s)
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func uploaded[T device.Memory](s *device.Stream, x []T) device.Ptr {
	p := s.Alloc(8 * max(len(x), 1))
	device.Upload(s, p, x)
	return p
}

func downloaded(t *testing.T, s *device.Stream, p device.Ptr, n int) []float32 {
	t.Helper()
	out := make([]float32, n)
	if err := device.Download(s, out, p); err != nil {
		t.Fatal(err)
	}
	return out
}

// A diagonal is a matrix whose solutions are known; its batches are the even and the odd entries, twice.
type diagonal struct {
	s      *device.Stream
	d      [3]device.Ptr // the batches', then the mean
	values []float32
}

func newDiagonal(s *device.Stream, values ...float32) *diagonal {
	m := &diagonal{s: s, values: values}
	for b := range 2 {
		v := make([]float32, len(values))
		for i := range v {
			if i%2 == b {
				v[i] = 2 * values[i]
			}
		}
		m.d[b] = uploaded(s, v)
	}
	m.d[2] = uploaded(s, values)
	return m
}

func (m *diagonal) Len() int     { return len(m.values) }
func (m *diagonal) Batches() int { return 2 }
func (m *diagonal) Apply(v, out device.Ptr) {
	m.ApplyBatch(2, v, out)
}

func (m *diagonal) ApplyBatch(i int, v, out device.Ptr) {
	shape := []int{m.Len()}
	kernel.Multiply(m.s, tensor.Tensor{Shape: shape, P: m.d[i]}, tensor.Tensor{Shape: shape, P: v}, tensor.Tensor{Shape: shape, P: out})
}

// spectrum are n values between lo and hi, evenly spaced in the logarithm, in no order.
func spectrum(n int, lo, hi float64) []float32 {
	out := make([]float32, n)
	for i, at := range rng.New(1, 0).Perm(n) {
		out[i] = float32(lo * math.Pow(hi/lo, float64(at)/float64(n-1)))
	}
	return out
}

func TestConjugateGradients(t *testing.T) {
	on(t, func(s *device.Stream) {
		c := newDiagonal(s, spectrum(100, 0.01, 10)...)
		b := make([]float32, c.Len())
		rng.FillNormal(3, 1, 1, b)
		v, x, solver := uploaded(s, b), s.Alloc(4*c.Len()), NewSolver(s, c)
		const damping = 0.05
		sol, err := solver.Solve(v, x, Options{Damping: damping, Iterations: 500, Tolerance: 1e-6})
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, len(b))
		for i := range want {
			want[i] = float32(float64(b[i]) / (float64(c.values[i]) + damping))
		}
		if e := testkit.Relative(downloaded(t, s, x, len(b)), want); !(e <= 1e-5) || sol.Stopped != Converged || !(sol.Residual <= 1e-6) {
			t.Errorf("%+v, %g from the solution", sol, e)
		}
		if sol.Least < 0.00999 || sol.Largest > 10.01 || sol.Least >= sol.Largest {
			t.Errorf("curvatures %g to %g of a spectrum from 0.01 to 10", sol.Least, sol.Largest)
		}
		few, err := solver.Solve(v, x, Options{Damping: damping, Iterations: 5, Tolerance: 1e-6})
		if err != nil {
			t.Fatal(err)
		}
		residual := make([]float32, len(b))
		for i, y := range downloaded(t, s, x, len(b)) {
			residual[i] = float32(float64(b[i]) - (float64(c.values[i])+damping)*float64(y) + float64(b[i]))
		}
		if e := testkit.Relative(residual, b); few.Stopped != Exhausted || few.Iterations != 5 || math.Abs(e-few.Residual) > 1e-5 {
			t.Errorf("after 5 iterations %+v, and the residual is %g", few, e)
		}
		s.Memset32(v, 0, c.Len())
		if sol, err := solver.Solve(v, x, Options{Damping: damping, Iterations: 5}); err != nil || sol.Iterations != 0 || sol.Stopped != Converged {
			t.Errorf("of zero: %+v, %v", sol, err)
		}
	})
}

// A direction of negative curvature ends a solve, which says how negative; a λ beyond it does not.
func TestNegativeCurvature(t *testing.T) {
	on(t, func(s *device.Stream) {
		values := spectrum(60, 0.1, 5)
		values[7] = -0.5
		c := newDiagonal(s, values...)
		b := make([]float32, c.Len())
		rng.FillNormal(3, 2, 1, b)
		v, x, solver := uploaded(s, b), s.Alloc(4*c.Len()), NewSolver(s, c)
		sol, err := solver.Solve(v, x, Options{Damping: 0.2, Iterations: 200, Tolerance: 1e-5})
		if err != nil || sol.Stopped != Indefinite || !(sol.Least < -0.2 && sol.Least >= -0.5001) {
			t.Errorf("%+v, %v", sol, err)
		}
		if sol, err = solver.Solve(v, x, Options{Damping: 0.6, Iterations: 200, Tolerance: 1e-5}); err != nil || sol.Stopped != Converged {
			t.Errorf("with a damping beyond it: %+v, %v", sol, err)
		}
		b[0] = float32(math.NaN())
		device.Upload(s, v, b)
		if _, err = solver.Solve(v, x, Options{Damping: 1, Iterations: 3}); err == nil || !strings.Contains(err.Error(), "not finite") {
			t.Errorf("of a NaN: %v", err)
		}
	})
}

// LiSSA comes near to the solution, as near as the noise of its batches lets it.
func TestLiSSA(t *testing.T) {
	on(t, func(s *device.Stream) {
		c := newDiagonal(s, spectrum(50, 0.5, 5)...)
		b := make([]float32, c.Len())
		rng.FillNormal(3, 3, 1, b)
		v, x := uploaded(s, b), s.Alloc(4*c.Len())
		sol, err := NewSolver(s, c).Solve(v, x, Options{Solver: LiSSA, Damping: 0.1, Iterations: 400})
		if err != nil || !(sol.Residual < 0.3) || sol.Stopped != Exhausted || sol.Iterations != 400 {
			t.Errorf("%+v, %v", sol, err)
		}
		diverges := newDiagonal(s, append(spectrum(50, 0.5, 5), -3)...)
		b = append(b, 1)
		v, x = uploaded(s, b), s.Alloc(4*len(b))
		if sol, err = NewSolver(s, diverges).Solve(v, x, Options{Solver: LiSSA, Damping: 0.1, Iterations: 400}); err != nil || sol.Stopped != Diverged {
			t.Errorf("of an indefinite matrix: %+v, %v", sol, err)
		}
	})
}

// network is a small network with batch norm and images in three batches.
func network(s *device.Stream) (m *nn.Model, theta, running device.Ptr, batches []Batch) {
	spec := nn.Spec{Arch: "convnet", Stem: nn.StemStride, Width: 4, Classes: 5, C: 1, H: 16, W: 16, BatchNorm: true, Mean: []float64{.5}, Std: []float64{.25}}
	m, err := nn.New(spec, 2)
	if err != nil {
		s.Fail(err)
		return nil, 0, 0, nil
	}
	for i := range m.Running {
		m.Running[i] += 0.1 * float32(i%5)
	}
	r := rng.New(4, 0)
	for _, n := range []int{12, 12, 7} {
		x, y := make([]float32, n*spec.H*spec.W), make([]int32, n)
		for i := range x {
			x[i] = r.Float32()
		}
		for i := range y {
			y[i] = int32(r.Intn(spec.Classes))
		}
		batches = append(batches, Batch{X: tensor.Tensor{Shape: []int{n, spec.H, spec.W, 1}, P: uploaded(s, x)}, Labels: uploaded(s, y)})
	}
	return m, uploaded(s, m.Theta), uploaded(s, m.Running), batches
}

// A product has the same bits whether primals are kept or not, the first time and later; those of batches
// have the whole one's for their mean; and C is symmetric.
func TestMatrix(t *testing.T) {
	for _, kind := range Kinds() {
		on(t, func(s *device.Stream) {
			m, theta, running, batches := network(s)
			size := m.NumParams()
			u, v := make([]float32, size), make([]float32, size)
			rng.FillNormal(6, 1, 1, u)
			rng.FillNormal(6, 2, 1, v)
			product := func(c *Matrix, v []float32) []float32 {
				out := s.Alloc(4 * size)
				c.Apply(uploaded(s, v), out)
				return downloaded(t, s, out, size)
			}
			kept := New(s, Config{Spec: m.Spec, Kind: kind}, theta, running, batches)
			if kept.Images() != 31 || kept.kept != 3 {
				t.Fatalf("%d images, %d batches kept", kept.Images(), kept.kept)
			}
			want, cu := product(kept, v), product(kept, u)
			_, each := Config{Spec: m.Spec, Kind: kind}.Needs(s, 12)
			for i, keep := range []int64{1, 2*each + each/2, 3 * each} {
				c := New(s, Config{Spec: m.Spec, Kind: kind, Keep: keep}, theta, running, batches)
				if want := []int{0, 1, 3}[i]; c.kept != want {
					t.Errorf("%d batches kept in %d bytes, want %d", c.kept, keep, want)
				}
				for range 2 {
					if !slices.Equal(product(c, v), want) {
						t.Errorf("%s: other bits with %d batches kept", kind, c.kept)
					}
				}
			}
			if again := product(kept, v); !slices.Equal(again, want) {
				t.Errorf("%s: other bits the second time", kind)
			}
			mean, part := make([]float32, size), s.Alloc(4*size)
			single := New(s, Config{Spec: m.Spec, Kind: kind, Keep: 1}, theta, running, batches)
			for i, b := range batches {
				single.ApplyBatch(i, uploaded(s, v), part)
				for j, x := range downloaded(t, s, part, size) {
					mean[j] += x * float32(b.X.Shape[0]) / 31
				}
			}
			if e := testkit.Relative(mean, want); !(e <= 1e-6) {
				t.Errorf("%s: the batches' mean is %g from the whole", kind, e)
			}
			var a, b, norm float64
			for i := range u {
				a, b, norm = a+float64(u[i])*float64(want[i]), b+float64(v[i])*float64(cu[i]), norm+float64(want[i])*float64(want[i])
			}
			if !(math.Abs(a-b) <= 1e-5*math.Sqrt(norm*float64(size))) || norm == 0 {
				t.Errorf("%s: uᵀCv = %g, vᵀCu = %g", kind, a, b)
			}
		})
	}
}

// The least λ at which a solve converges is found, for matrices with and without negative eigenvalues; what
// Lanczos says of a λ is what conjugate gradients do.
func TestSolveAuto(t *testing.T) {
	on(t, func(s *device.Stream) {
		for name, lowest := range map[string]float32{"positive": 0.001, "indefinite": -0.5} {
			values := spectrum(300, 0.001, 10)
			for i := range 5 {
				values[11*i] = lowest
			}
			c := newDiagonal(s, values...)
			b := make([]float32, c.Len())
			rng.FillNormal(3, 4, 1, b)
			v, x, solver := uploaded(s, b), s.Alloc(4*c.Len()), NewSolver(s, c)
			o := Options{Iterations: 15, Tolerance: 0.05}
			sol, err := solver.SolveAuto(v, x, o)
			if err != nil || sol.Stopped != Converged || !(sol.Residual <= 0.05) {
				t.Fatalf("%s: %+v, %v", name, sol, err)
			}
			tried := 0
			for _, o.Damping = range Ladder() {
				if o.Damping == sol.Damping {
					break
				}
				tried++
				if less, err := solver.Solve(v, x, o); err != nil || less.Stopped == Converged {
					t.Errorf("%s: with %g it converges too: %+v, %v", name, o.Damping, less, err)
				}
			}
			if tried < 2 {
				t.Errorf("%s: the least of the ladder or nearly so, %g", name, sol.Damping)
			}
			diagonal, off, err := solver.lanczos(v, o.Iterations)
			if err != nil {
				t.Fatal(err)
			}
			o.Damping, o.Tolerance = 1, 1e-9
			done, err := solver.Solve(v, x, o)
			if residual, positive := predict(diagonal, off, 1); err != nil || !positive || math.Abs(residual-done.Residual) > 0.02*done.Residual {
				t.Errorf("%s: the residual %g was predicted, it is %g; positive %v; %v", name, residual, done.Residual, positive, err)
			}
		}
		none := newDiagonal(s, spectrum(300, 0.001, 1e6)...)
		b := make([]float32, none.Len())
		rng.FillNormal(3, 5, 1, b)
		if sol, err := NewSolver(s, none).SolveAuto(uploaded(s, b), s.Alloc(4*len(b)), Options{Iterations: 3, Tolerance: 1e-3}); err != nil || sol.Stopped != Exhausted || sol.Damping != 30 {
			t.Errorf("where none converges: %+v, %v", sol, err)
		}
	})
}
