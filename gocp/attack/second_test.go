package attack

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// wishes are the directions that poisons are aligned with, of each surrogate.
func wishes(t *testing.T, v *Solver) (out [][]float32) {
	t.Helper()
	for _, f := range v.fields {
		g := make([]float32, f.grad.Len())
		if err := device.Download(v.s, g, f.grad.P); err != nil {
			t.Fatal(err)
		}
		out = append(out, g)
	}
	return out
}

// What crafting goes along solves (C + λI)s = ∇ℓ3 on each surrogate, C of the pool's images, and the record says so.
func TestSecondOrderSolves(t *testing.T) {
	for _, batchNorm := range []bool{false, true} {
		for _, kind := range curvature.Kinds() {
			onDevice(t, func(s *device.Stream) error {
				p := task(t, batchNorm)
				first, err := NewSolver(s, p, Config{})
				if err != nil {
					return err
				}
				o := SecondOrder{Curvature: kind, Damping: "400", Iterations: 100, Tolerance: 1e-4, Images: 30}
				if kind == curvature.GGN {
					o.Damping = "0.7"
				}
				second, err := NewSolver(s, p, Config{Order: 2, Second: o})
				if err != nil {
					return err
				}
				gs, ss := wishes(t, first), wishes(t, second)
				for i, f := range second.fields {
					c := curvature.New(s, curvature.Config{Spec: f.Model.Spec, Kind: kind}, f.theta.P, f.running, second.sample(30))
					product := tensor.New(s, len(ss[i]))
					c.Apply(f.grad.P, product.P)
					back := make([]float32, len(ss[i]))
					if err := device.Download(s, back, product.P); err != nil {
						return err
					}
					var sg, sn, gn float64
					for j := range back {
						back[j] += float32(o.damping()) * ss[i][j]
						sg, sn, gn = sg+float64(ss[i][j])*float64(gs[i][j]), sn+float64(ss[i][j])*float64(ss[i][j]), gn+float64(gs[i][j])*float64(gs[i][j])
					}
					r := f.solve
					if e := testkit.Relative(back, gs[i]); !(e <= 1e-4) || r.Stopped != curvature.Converged || r.Images != 30 || r.Damping != o.damping() {
						t.Errorf("%s of %s: the residual is %g; %+v", kind, f.Name, e, *r)
					}
					if cos := sg / math.Sqrt(sn*gn); math.Abs(cos-r.Cosine) > 1e-5 || cos > 0.9999 {
						t.Errorf("%s of %s: cosine %g, recorded %g", kind, f.Name, cos, r.Cosine)
					}
				}
				return nil
			})
		}
	}
}

// Second order crafts poisons of its own, the same each time, and says what its solves saw.
func TestSecondOrderCrafts(t *testing.T) {
	craft := func(cfg Config) (p *Poisons) {
		onDevice(t, func(s *device.Stream) error {
			v, err := NewSolver(s, task(t, false), cfg)
			if err != nil {
				return err
			}
			bases, err := v.Bases()
			if err != nil {
				return err
			}
			p, err = v.Craft(bases, nil)
			return err
		})
		return p
	}
	first := craft(Config{Steps: 6})
	if first.Method != MethodFirstOrder || len(first.Report.Solves) != 0 {
		t.Errorf("first order: method %s, %d solves", first.Method, len(first.Report.Solves))
	}
	for name, o := range map[string]SecondOrder{"fixed": {Iterations: 8}, "auto": {Damping: DampingAuto, Iterations: 12}, "lissa": {Solver: curvature.LiSSA, Damping: "1"},
		"kfac": {Solver: curvature.Kron, Damping: "1"}, "preconditioned": {Preconditioner: curvature.Kron},
		"exact": {Mode: SecondExact, Iterations: 6}, "exact, factors": {Mode: SecondExact, Solver: curvature.Kron, Damping: "1"}} {
		p := craft(Config{Steps: 6, Order: 2, Second: o})
		again := craft(Config{Steps: 6, Order: 2, Second: o})
		if !slices.Equal(p.After, again.After) || !slices.Equal(p.Report.Solves, again.Report.Solves) {
			t.Errorf("%s: other bytes the second time", name)
		}
		if p.Method != MethodSecondOrder || len(p.Report.Solves) != 2 || slices.Equal(p.After, first.After) {
			t.Errorf("%s: method %s, solves %+v", name, p.Method, p.Report.Solves)
		}
		for _, r := range p.Report.Solves {
			if (r.Iterations == 0) != (o.Solver == curvature.Kron) || !(r.Cosine > 0 && r.Cosine < 1) || !(r.Largest >= r.Least && r.Least > 0) || r.Images != 40 {
				t.Errorf("%s: %+v", name, r)
			}
			if o.Damping == DampingAuto && (r.Stopped != curvature.Converged || !slices.Contains(curvature.Ladder(), r.Damping)) {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
}

// Conjugate gradients end at negative curvature of a Hessian; crafting goes on with how far they came, and the record says so.
func TestSecondOrderNegativeCurvature(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		v, err := NewSolver(s, task(t, false), Config{Order: 2, Second: SecondOrder{Curvature: curvature.Hessian, Damping: "0.001", Iterations: 60}})
		if err != nil {
			return err
		}
		found := false
		for _, f := range v.fields {
			if f.solve.Stopped == curvature.Indefinite {
				found = true
				if !(f.solve.Least < -0.001) {
					t.Errorf("%+v", *f.solve)
				}
			}
		}
		if !found {
			t.Errorf("no negative curvature: %+v", *v.fields[0].solve)
		}
		return nil
	})
}

func TestSecondOrderRefusals(t *testing.T) {
	for says, c := range map[string]Config{
		"go with order 2":              {Second: SecondOrder{Damping: "1"}},
		"order 3":                      {Order: 3},
		`"fisher"`:                     {Order: 2, Second: SecondOrder{Curvature: "fisher"}},
		`solver "jacobi"`:              {Order: 2, Second: SecondOrder{Solver: "jacobi"}},
		`damping "-1"`:                 {Order: 2, Second: SecondOrder{Damping: "-1"}},
		"solver cg":                    {Order: 2, Second: SecondOrder{Damping: "auto", Solver: "lissa"}},
		`form of second order "never"`: {Order: 2, Second: SecondOrder{Mode: "never"}},
		"preconditioner \"jacobi":      {Order: 2, Second: SecondOrder{Preconditioner: "jacobi"}},
		"it goes with the solver cg":   {Order: 2, Second: SecondOrder{Preconditioner: "kfac", Solver: "lissa"}},
		"without a preconditioner":     {Order: 2, Second: SecondOrder{Preconditioner: "kfac", Damping: "auto"}},
		"tolerance is 2":               {Order: 2, Second: SecondOrder{Tolerance: 2}},
		"curvature of -1":              {Order: 2, Second: SecondOrder{Images: -1}},
	} {
		if err := c.WithDefaults().Validate(); err == nil || !usage.Is(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want a usage error that says %q", err, says)
		}
	}
	onDevice(t, func(s *device.Stream) error {
		_, err := NewSolver(s, task(t, false), Config{Order: 2, Second: SecondOrder{Damping: "auto", Iterations: 1, Tolerance: 1e-6}})
		if err == nil || !usage.Is(err) || !strings.Contains(err.Error(), "no damping") {
			t.Errorf("error %v", err)
		}
		return nil
	})
}

// A limit of memory changes no bit of second order, and one that is too small is refused.
func TestSecondOrderMemory(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		p := task(t, true)
		p.Pool = randomImages(300, 12, 12, 1, 4, 2) // three batches
		cfg := Config{Order: 2, Plain: true, Second: SecondOrder{Iterations: 4}}
		solver := func(limit int64) (*Solver, error) {
			p.Memory.Limit = limit
			return NewSolver(s, p, cfg)
		}
		v, err := solver(0)
		if err != nil {
			return err
		}
		want, before := wishes(t, v), s.InUse()
		again, err := solver(0)
		if err != nil {
			return err
		}
		own := s.InUse() - before // what a Solver keeps
		if peak := 4 * int64(again.fields[0].grad.Len()); own < peak {
			t.Fatalf("a solver keeps %d bytes", own)
		}
		least, each := curvature.Config{Spec: v.fields[0].Model.Spec}.Needs(s, 100)
		for kept, limit := range []int64{s.InUse() + own + least + each/2 + 1<<20, s.InUse() + own + least + 2*each + 1<<20} {
			v, err := solver(limit)
			if err != nil {
				return err
			}
			for i, g := range wishes(t, v) {
				if !slices.Equal(g, want[i]) {
					t.Errorf("other bits with memory for %d more batches", kept)
				}
			}
		}
		if _, err := solver(s.InUse() + least/2); !usage.Is(err) || !strings.Contains(err.Error(), "--memory") {
			t.Errorf("too little memory: %v", err)
		}
		return nil
	})
}

// The direction of the dual passes of exact second order against central differences of its Φ, in the poisons' gradient: there
// are no kinks on that way.
func TestSecondOrderExactly(t *testing.T) {
	for name, o := range map[string]SecondOrder{"cg": {Iterations: 300, Tolerance: 1e-6}, "hessian": {Curvature: curvature.Hessian, Damping: "500", Iterations: 300, Tolerance: 1e-6},
		"factors": {Solver: curvature.Kron}} {
		o.Mode = SecondExact
		onDevice(t, func(s *device.Stream) error {
			v, err := NewSolver(s, task(t, false), Config{Align: AlignPoison, Order: 2, Second: o})
			if err != nil {
				return err
			}
			bases, err := v.Bases()
			if err != nil {
				return err
			}
			l, err := v.newLoop(v.p.Pool.Select(bases))
			if err != nil {
				return err
			}
			f := v.fields[0]
			n := f.grad.Len()
			g, u := s.Alloc(4*n), s.Alloc(4*n)
			kernel.NormalNoise(s, 5, 2, 1, 1e9, g, n)
			kernel.Axpby(s, kernel.Coef{Value: 3}, f.grad.P, kernel.Coef{Value: 1}, g, n)
			l.exactly(f, g, l.phi)
			kernel.NormalNoise(s, 5, 1, 1, 1e9, u, n)
			numbers := make([]float64, 3)
			work := kernel.NewWorkspace(s, kernel.VectorBytes)
			measure := func() error {
				kernel.Dot(s, f.theta.T, u, n, l.dots, work)
				kernel.Norm2(s, g, n, l.dots.Add(8), work)
				kernel.Norm2(s, u, n, l.dots.Add(16), work)
				return device.Download(s, numbers, l.dots)
			}
			if err := measure(); err != nil {
				return err
			}
			// Half of the way lies along the direction itself: along noise alone Φ hardly moves, and rounding is seen.
			kernel.Norm2(s, f.theta.T, n, l.dots, work)
			if err := device.Download(s, numbers[:1], l.dots); err != nil {
				return err
			}
			kernel.Axpby(s, kernel.Coef{Value: math.Sqrt(numbers[2] / numbers[0])}, f.theta.T, kernel.Coef{Value: 1}, u, n)
			if err := measure(); err != nil {
				return err
			}
			want, h := numbers[0], 0.003*math.Sqrt(numbers[1]/numbers[2])
			phi := func(h float64) float64 {
				to := s.Alloc(4 * n)
				s.Copy(to, g, 4*n)
				kernel.Axpby(s, kernel.Coef{Value: h}, u, kernel.Coef{Value: 1}, to, n)
				l.exactly(f, to, l.phi)
				out := make([]float64, 1)
				if err := device.Download(s, out, l.phi); err != nil {
					t.Fatal(err)
				}
				return out[0]
			}
			got := (phi(h) - phi(-h)) / (2 * h)
			if math.Abs(got-want) > 5e-3*math.Abs(want) || want == 0 {
				t.Errorf("%s: the slope of Φ is %g, %g by the direction", name, got, want)
			}
			return nil
		})
	}
}
