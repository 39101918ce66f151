package curvature

import (
	"math"
	"slices"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/rng"
)

// Of one image the last layer's block of the Gauss–Newton matrix is A ⊗ G itself, and its bias's is G: products with
// directions in them alone say so.
func TestFactorsOfTheLastLayer(t *testing.T) {
	on(t, func(s *device.Stream) {
		m, theta, running, batches := network(s)
		one := batches[:1]
		one[0].X.Shape = append([]int{1}, one[0].X.Shape[1:]...)
		cfg := Config{Spec: m.Spec}
		factors, err := Factors(s, cfg, theta, running, one, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := New(s, cfg, theta, running, one)
		found := 0
		for _, f := range factors {
			if f.Param.Name != "fc2.weight" && f.Param.Name != "fc2.bias" {
				continue
			}
			found++
			v, out := make([]float32, m.NumParams()), s.Alloc(4*m.NumParams())
			block := v[f.Param.Off:][:f.Param.Len]
			rng.FillNormal(9, 1, 1, block)
			c.Apply(uploaded(s, v), out)
			got := downloaded(t, s, out, len(v))[f.Param.Off:][:f.Param.Len]
			want := make([]float32, len(block))
			in := max(f.In, 1)
			for o := range f.Out {
				for i := range in {
					sum := 0.0
					for q := range f.Out {
						for j := range in {
							a := float32(1)
							if f.A != nil {
								a = f.A[i*in+j]
							}
							sum += float64(f.G[o*f.Out+q]) * float64(block[q*in+j]) * float64(a)
						}
					}
					want[o*in+i] = float32(sum)
				}
			}
			if e := testkit.Relative(got, want); !(e <= 1e-5) {
				t.Errorf("%s: the product with the factors is %g from that with C", f.Param.Name, e)
			}
		}
		if found != 2 {
			t.Fatalf("%d of fc2's blocks among %d", found, len(factors))
		}
	})
}

// What is applied is the inverse of the damped factors: multiplied by them it gives the vector back.
func TestKFACInverts(t *testing.T) {
	on(t, func(s *device.Stream) {
		m, theta, running, batches := network(s)
		factors, err := Factors(s, Config{Spec: m.Spec}, theta, running, batches, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		const damping = 0.3
		k, err := NewKFAC(s, factors, damping)
		if err != nil {
			t.Fatal(err)
		}
		size, v := 0, make([]float32, m.NumParams())
		rng.FillNormal(9, 2, 1, v)
		z := s.Alloc(4 * len(v))
		k.Apply(uploaded(s, v), z)
		got := downloaded(t, s, z, len(v))
		back := make([]float32, len(v))
		for _, f := range factors {
			size += f.Param.Len
			x, y := got[f.Param.Off:][:f.Param.Len], back[f.Param.Off:][:f.Param.Len]
			if f.D != nil {
				for i := range x {
					y[i] = x[i] * (f.D[i] + damping)
				}
				continue
			}
			in, pi, root := max(f.In, 1), 1.0, damping
			if f.In > 0 {
				pi, root = math.Sqrt(ratio(&f)), math.Sqrt(damping)
			}
			for o := range f.Out {
				for i := range in {
					sum := 0.0
					for q := range f.Out {
						g := float64(f.G[o*f.Out+q])
						if o == q {
							g += root / pi
						}
						for j := range in {
							a := 1.0
							if f.In > 0 {
								if a = float64(f.A[i*in+j]); i == j {
									a += pi * root
								}
							}
							sum += g * float64(x[q*in+j]) * a
						}
					}
					y[o*in+i] = float32(sum)
				}
			}
		}
		if e := testkit.Relative(back, v); !(e <= 1e-4) || size != len(v) {
			t.Errorf("%g from the vector; the blocks have %d of %d parameters", e, size, len(v))
		}
	})
}

// With the factors as preconditioner conjugate gradients come to the same solution, with labels drawn or not, and the
// factors alone to what their own inverse is.
func TestKFACPreconditions(t *testing.T) {
	on(t, func(s *device.Stream) {
		m, theta, running, batches := network(s)
		cfg := Config{Spec: m.Spec}
		c := New(s, cfg, theta, running, batches)
		solver := NewSolver(s, c)
		v := make([]float32, m.NumParams())
		rng.FillNormal(9, 3, 1, v)
		b, x := s.Alloc(4*len(v)), s.Alloc(4*len(v))
		c.Apply(uploaded(s, v), b) // in C's range, where a solve is not 1/λ times it
		const damping = 0.003
		o := Options{Damping: damping, Iterations: 400, Tolerance: 1e-5}
		plain, err := solver.Solve(b, x, o)
		if err != nil || plain.Stopped != Converged {
			t.Fatalf("%+v, %v", plain, err)
		}
		want := downloaded(t, s, x, len(v))
		for _, samples := range []int{0, 1, 4} {
			factors, err := Factors(s, cfg, theta, running, batches, samples, 7)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Factors(s, cfg, theta, running, batches, samples, 7)
			if err != nil || !slices.Equal(factors[0].G, again[0].G) {
				t.Errorf("other factors the second time: %v", err)
			}
			k, err := NewKFAC(s, factors, damping)
			if err != nil {
				t.Fatal(err)
			}
			o.Inverse, o.Solver = k, CG
			sol, err := solver.Solve(b, x, o)
			if err != nil || sol.Stopped != Converged || sol.Iterations == plain.Iterations {
				t.Errorf("%d samples: %+v, %v", samples, sol, err)
			}
			if e := testkit.Relative(downloaded(t, s, x, len(v)), want); !(e <= 1e-2) {
				t.Errorf("%d samples: the solution is %g from that without", samples, e)
			}
			o.Solver = Kron
			alone, err := solver.Solve(b, x, o)
			if err != nil || alone.Stopped != Factored || alone.Iterations != 0 {
				t.Errorf("alone: %+v, %v", alone, err)
			}
			y := s.Alloc(4 * len(v))
			k.Apply(b, y)
			if !slices.Equal(downloaded(t, s, x, len(v)), downloaded(t, s, y, len(v))) {
				t.Errorf("alone it is another vector than the inverse gives")
			}
		}
	})
}

// Drawn labels have the exact factors for their mean.
func TestFactorsByDrawing(t *testing.T) {
	on(t, func(s *device.Stream) {
		m, theta, running, batches := network(s)
		exact, err := Factors(s, Config{Spec: m.Spec}, theta, running, batches, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		var errs []float64
		for _, samples := range []int{4, 64} {
			drawn, err := Factors(s, Config{Spec: m.Spec}, theta, running, batches, samples, 3)
			if err != nil {
				t.Fatal(err)
			}
			worst := 0.0
			for i, f := range drawn {
				if f.G != nil {
					worst = math.Max(worst, testkit.Relative(f.G, exact[i].G))
				}
			}
			errs = append(errs, worst)
		}
		if !(errs[1] < 0.2 && errs[1] < errs[0]/2) {
			t.Errorf("4 and 64 labels an image are %v from the exact factors", errs)
		}
	})
}
