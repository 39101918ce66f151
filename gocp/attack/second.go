package attack

import (
	"fmt"
	"math"
	"strconv"

	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// DampingAuto as SecondOrder.Damping takes the least λ of curvature.Ladder at which the solve converges and
// finds no negative curvature.
const DampingAuto = "auto"

// curvatureBatch is how many images a product with the curvature takes at a time.
const curvatureBatch = 128

// factorSamples is how many labels are drawn for each image where Kronecker factors are made.
const factorSamples = 1

// What crafting makes of (C + λI)⁻¹.
const (
	SecondOnce  = "once"  // one solve for s, and then the first-order loop along it
	SecondExact = "exact" // two solves in every step: Φ is the cosine of ∇ℓ3 and (C + λI)⁻¹G
)

// SecondOrder says which (C + λI)⁻¹ stands before the adversary's gradient (docs/math.md §10). C is the curvature of the
// mean training loss, in evaluation mode, over images of the pool.
type SecondOrder struct {
	Curvature  string  `json:"curvature"`  // ggn (default), hessian
	Damping    string  `json:"damping"`    // λ, a decimal above 0, or auto (default 0.1)
	Solver     string  `json:"solver"`     // cg (default), lissa, kfac
	Iterations int     `json:"iterations"` // of the solver, at most (default 20)
	Tolerance  float64 `json:"tolerance"`  // residual at which it ends, as a share of ‖∇ℓ3‖ (default 0.05)
	Mode       string  `json:"mode"`       // once (default), exact
	// Preconditioner of cg: none (default), kfac.
	Preconditioner string `json:"preconditioner"`
	Images         int    `json:"images"` // at most so many of the pool, evenly spaced (default 512: then a solve costs a quarter of 250 crafting steps on 90 poisons)
}

func (o SecondOrder) withDefaults() SecondOrder {
	orDefault(&o.Curvature, curvature.GGN)
	orDefault(&o.Damping, "0.1")
	orDefault(&o.Solver, curvature.CG)
	orDefault(&o.Mode, SecondOnce)
	orDefault(&o.Preconditioner, curvature.None)
	orDefault(&o.Iterations, 20)
	orDefault(&o.Tolerance, 0.05)
	orDefault(&o.Images, 512)
	return o
}

func (o SecondOrder) validate() error {
	if err := oneOf("curvature", o.Curvature, curvature.Kinds()...); err != nil {
		return err
	}
	if err := oneOf("solver", o.Solver, curvature.Solvers()...); err != nil {
		return err
	}
	if err := oneOf("form of second order", o.Mode, SecondOnce, SecondExact); err != nil {
		return err
	}
	if err := oneOf("preconditioner", o.Preconditioner, curvature.Preconditioners()...); err != nil {
		return err
	}
	switch {
	case o.Preconditioner != curvature.None && o.Solver != curvature.CG:
		return usage.Errorf("crafting: the preconditioner %s does nothing here: it goes with the solver cg", o.Preconditioner)
	case o.Damping == DampingAuto && o.Preconditioner != curvature.None:
		return usage.Errorf("crafting: damping auto goes with cg without a preconditioner; with %s say a number, such as 0.1", o.Preconditioner)
	case o.Damping == DampingAuto && o.Solver != curvature.CG:
		return usage.Errorf("crafting: damping auto goes with the solver cg; with %s say a number, such as 0.1", o.Solver)
	case o.Damping != DampingAuto && !(o.damping() > 0):
		return usage.Errorf("crafting: the damping %q is neither %q nor a number above 0, such as 0.1", o.Damping, DampingAuto)
	case o.Iterations < 1 || o.Images < 1:
		return usage.Errorf("crafting: %d iterations of the solver and curvature of %d images; each must be at least 1", o.Iterations, o.Images)
	case !(o.Tolerance > 0) || o.Tolerance >= 1:
		return usage.Errorf("crafting: the solver's tolerance is %g; it must be above 0 and below 1", o.Tolerance)
	}
	return nil
}

// damping is λ, 0 if it is none.
func (o SecondOrder) damping() float64 {
	v, err := strconv.ParseFloat(o.Damping, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// A Solve is what the solve for s = (C + λI)⁻¹∇ℓ3 saw on one surrogate.
type Solve struct {
	Surrogate  string  `json:"surrogate"`
	Images     int     `json:"images"` // that C is the mean over
	Damping    float64 `json:"damping"`
	Iterations int     `json:"iterations"`
	Residual   float64 `json:"residual"`        // ‖∇ℓ3 − (C + λI)s‖ / ‖∇ℓ3‖
	Least      float64 `json:"least_curvature"` // least vᵀCv/vᵀv of the directions that the solver went
	Largest    float64 `json:"largest_curvature"`
	Cosine     float64 `json:"cosine"`  // cos(s, ∇ℓ3)
	Stopped    string  `json:"stopped"` // converged, iterations, rounding, negative curvature, factors
}

// CurvatureBatch is how many images a product with the curvature of second order takes at a time.
func (c Config) CurvatureBatch(pool int) int {
	n := min(c.Second.Images, pool)
	return share(n, (n+curvatureBatch-1)/curvatureBatch)[0]
}

// second replaces f's ∇ℓ3 by s, and says what it saw. What the solve needs is freed, unless each step is to solve too: then
// ∇ℓ3 stays.
func (v *Solver) second(f *field) error {
	s, o, n := v.s, v.cfg.Second, f.grad.Len()
	defer s.Range("second order").End()
	wish := s.Alloc(4 * n)
	free := s.Scope()
	batches := v.sample(o.Images)
	cfg := curvature.Config{Spec: f.Model.Spec, Kind: o.Curvature, Precision: v.p.Precision}
	options := curvature.Options{Solver: o.Solver, Damping: o.damping(), Iterations: o.Iterations, Tolerance: o.Tolerance}
	if o.Solver == curvature.Kron || o.Preconditioner == curvature.Kron {
		factors, err := curvature.Factors(s, cfg, f.theta.P, f.running, batches, factorSamples, v.p.Seed)
		if err != nil {
			return err
		}
		if options.Inverse, err = curvature.NewKFAC(s, factors, options.Damping); err != nil {
			return err
		}
	}
	room, err := v.p.Memory.room(s)
	if err != nil {
		return err
	}
	least, each := cfg.Needs(s, batches[0].X.Shape[0])
	least += curvature.SolverBytes(n)
	if room < least && v.p.Memory.Limit > 0 {
		return v.p.Memory.Refuse("the curvature of second order", s.InUse()+least)
	}
	if room -= least; o.Mode == SecondExact {
		room /= 2 // crafting's activations are to come beside these
	}
	cfg.Keep = max(room, 0) + each
	c := curvature.New(s, cfg, f.theta.P, f.running, batches)
	solver := curvature.NewSolver(s, c)
	var sol curvature.Solution
	if o.Damping == DampingAuto {
		sol, err = solver.SolveAuto(f.grad.P, wish, options)
	} else {
		sol, err = solver.Solve(f.grad.P, wish, options)
	}
	if err != nil {
		return err
	}
	switch {
	case sol.Stopped == curvature.Diverged:
		return usage.Errorf("the solver lissa diverged with the damping %g after %d iterations; raise --damping, or take the solver cg", sol.Damping, sol.Iterations)
	case o.Damping == DampingAuto && sol.Stopped != curvature.Converged:
		return usage.Errorf("no damping up to %g lets the solver come to a residual of %g in %d iterations (it ends with %.2g, %s); raise --solve-iterations or --solve-tolerance, or say a damping",
			sol.Damping, o.Tolerance, o.Iterations, sol.Residual, sol.Stopped)
	case sol.Stopped == curvature.Indefinite && sol.Iterations == 1: // no way at all: as Newton's method, the gradient itself
		s.Copy(wish, f.grad.P, 4*n)
	}
	f.solve = &Solve{Surrogate: f.Name, Images: c.Images(), Damping: sol.Damping, Iterations: sol.Iterations, Residual: sol.Residual,
		Least: sol.Least, Largest: sol.Largest, Stopped: sol.Stopped}
	if f.solve.Cosine, err = v.cos(wish, f.grad.P, n); err != nil {
		return err
	}
	if o.Mode == SecondExact {
		options.Damping = sol.Damping
		f.inverse = func(b, x device.Ptr) error { return apply(s, solver, options, b, x, n) }
		f.w, f.y = s.Alloc(4*n), s.Alloc(4*n)
		return s.Err()
	}
	free()
	s.Free(f.grad.P)
	f.grad.P = wish
	return s.Err()
}

// apply sets x to (C + λI)⁻¹b, as near as the solver comes.
func apply(s *device.Stream, solver *curvature.Solver, o curvature.Options, b, x device.Ptr, n int) error {
	if o.Solver == curvature.Kron {
		o.Inverse.Apply(b, x)
		return nil
	}
	sol, err := solver.Solve(b, x, o)
	switch {
	case err != nil:
		return err
	case sol.Stopped == curvature.Diverged:
		return usage.Errorf("the solver lissa diverged with the damping %g in a crafting step; raise --damping, or take the solver cg", o.Damping)
	case sol.Stopped == curvature.Indefinite && sol.Iterations == 1:
		s.Copy(x, b, 4*n)
	}
	return nil
}

// exactly sets phi to cos(∇ℓ3, w) with w = (C + λI)⁻¹G, and the direction of f's dual passes to its derivative with respect to G,
// (C + λI)⁻¹ ∂Φ/∂w.
func (l *loop) exactly(f *field, g, phi device.Ptr) {
	n := f.grad.Len()
	solve := func(b, x device.Ptr) {
		if l.s.Err() != nil {
			return
		}
		if err := f.inverse(b, x); err != nil {
			l.s.Fail(fmt.Errorf("attack: surrogate %s: second order: %w", f.Name, err))
		}
	}
	solve(g, f.w)
	l.cosineOf(f.grad.P, f.w, n, f.y, phi)
	solve(f.y, f.theta.T)
}

// sample puts at most so many images of the pool on the device, evenly spaced.
func (v *Solver) sample(most int) []curvature.Batch {
	s, pool := v.s, v.p.Pool
	n := min(most, pool.Len())
	index := make([]int, n)
	for i := range index {
		index[i] = i * pool.Len() / n
	}
	images := pool.Select(index)
	pixels, labels := uploaded(s, images.Pixels), uploaded(s, images.Labels)
	var batches []curvature.Batch
	at := 0
	for _, b := range share(n, (n+curvatureBatch-1)/curvatureBatch) { // the first are the largest
		x := tensor.New(s, b, pool.H, pool.W, pool.C)
		kernel.Gather(s, pixels.Add(at*pool.Size()), 0, kernel.Augmentation{}, b, pool.H, pool.W, pool.C, x)
		batches = append(batches, curvature.Batch{X: x, Labels: labels.Add(4 * at)})
		at += b
	}
	return batches
}

// cos is the cosine of two vectors.
func (v *Solver) cos(a, b device.Ptr, n int) (float64, error) {
	dots, work := v.s.Alloc(8*3), kernel.NewWorkspace(v.s, kernel.VectorBytes)
	kernel.Dot(v.s, a, b, n, dots, work)
	kernel.Norm2(v.s, a, n, dots.Add(8), work)
	kernel.Norm2(v.s, b, n, dots.Add(16), work)
	var d [3]float64
	if err := device.Download(v.s, d[:], dots); err != nil {
		return 0, err
	}
	c := d[0] / math.Sqrt(d[1]*d[2])
	if math.IsNaN(c) {
		return 0, fmt.Errorf("the solve's result has norm %g", math.Sqrt(d[1]))
	}
	return c, nil
}
