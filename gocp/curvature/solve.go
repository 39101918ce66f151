package curvature

import (
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

// An Operator is a symmetric matrix that is known by its products.
type Operator interface {
	Len() int
	Apply(v, out device.Ptr) // out ← C v
}

// A Stochastic operator is a mean of others, such as those of mini-batches.
type Stochastic interface {
	Operator
	Batches() int
	ApplyBatch(i int, v, out device.Ptr) // out ← C_i v
}

// The solvers.
const (
	CG    = "cg"    // conjugate gradients
	LiSSA = "lissa" // stochastic fixed-point steps, for comparison
	Kron  = "kfac"  // the inverse of Kronecker factors, with nothing after it
)

// Solvers lists them.
func Solvers() []string { return []string{CG, LiSSA, Kron} }

// The preconditioners of conjugate gradients are none and Kron.
const None = "none"

// Preconditioners lists them.
func Preconditioners() []string { return []string{None, Kron} }

// Why a solve ended.
const (
	Converged  = "converged"          // the residual is as small as was asked
	Exhausted  = "iterations"         // the iterations were used up
	Stalled    = "rounding"           // beginning anew made the residual no smaller: float32 ends here
	Indefinite = "negative curvature" // a direction along which C + λI is not positive
	Diverged   = "diverged"           // s grew beyond what a positive C allows: lissa
	Factored   = "factors"            // kfac, whose factors are not C
)

// Options of a solve.
type Options struct {
	Solver     string  // one of Solvers; "": cg
	Damping    float64 // λ
	Iterations int     // at most; lissa makes one product with a batch in each
	Tolerance  float64 // residual ‖v − (C + λI)s‖/‖v‖ at which it ends

	// Inverse is nearly (C + λI)⁻¹, symmetric and positive: cg's preconditioner, kfac's answer. Absent, cg has none.
	Inverse interface{ Apply(r, z device.Ptr) }
}

// A Solution is what a solve saw. Its curvatures are vᵀCv/vᵀv, without λ, of the directions that it went;
// a solve of no direction at all, of v = 0, has 0.
type Solution struct {
	Damping    float64 // λ
	Iterations int
	Residual   float64 // ‖v − (C + λI)s‖/‖v‖, by a product at the end
	Least      float64 // least curvature
	Largest    float64 // largest curvature
	Stopped    string  // Converged and so on
}

// saw notes a curvature.
func (s *Solution) saw(c float64) {
	if s.Largest == 0 && s.Least == 0 {
		s.Least, s.Largest = c, c
	}
	s.Least, s.Largest = math.Min(s.Least, c), math.Max(s.Largest, c)
}

// A Solver has the vectors that solves with one operator need.
type Solver struct {
	s          *device.Stream
	c          Operator
	r, p, q, t device.Ptr // float32 [n]
	dots       device.Ptr // float64 [3]
	work       *kernel.Workspace
}

// SolverBytes is about what a Solver for vectors of n takes.
func SolverBytes(n int) int64 { return 4*4*int64(n) + kernel.VectorBytes + 4*align }

// align is what sizes of allocations are rounded to.
const align = 256

// NewSolver allocates them.
func NewSolver(s *device.Stream, c Operator) *Solver {
	size := 4 * c.Len()
	return &Solver{s: s, c: c, r: s.Alloc(size), p: s.Alloc(size), q: s.Alloc(size), t: s.Alloc(size), dots: s.Alloc(8 * 3),
		work: kernel.NewWorkspace(s, kernel.VectorBytes)}
}

// Solve writes s with (C + λI) s = v to x; v and x are float32 [n]. A solve that ends otherwise than it should is
// no error: x is as far as it came, and the Solution says why.
func (v *Solver) Solve(b, x device.Ptr, o Options) (Solution, error) {
	defer v.s.Range("curvature solve").End()
	sol := Solution{Damping: o.Damping, Stopped: Exhausted}
	norm, err := v.norm(b)
	if err != nil {
		return sol, err
	}
	v.s.Memset32(x, 0, v.c.Len())
	if norm == 0 {
		sol.Stopped = Converged
		return sol, v.s.Err()
	}
	switch o.Solver {
	case "", CG:
		err = v.conjugate(b, x, norm, o, &sol)
	case LiSSA:
		err = v.lissa(b, x, norm, o, &sol)
	case Kron:
		err = v.factored(b, x, norm, o, &sol)
	default:
		err = fmt.Errorf("curvature: unknown solver %q", o.Solver)
	}
	return sol, err
}

// conjugate is the method of conjugate gradients. In float32 the residual that it keeps drifts from the true
// one: it begins anew from where it is until the true one is as asked, as long as that helps.
func (v *Solver) conjugate(b, x device.Ptr, norm float64, o Options, sol *Solution) error {
	n := v.c.Len()
	v.s.Copy(v.r, b, 4*n)
	for before := math.Inf(1); ; before = sol.Residual {
		err := v.descend(x, norm, o, sol)
		if err != nil {
			return err
		}
		if sol.Residual, err = v.residual(b, x, norm, o.Damping); err != nil { // which is in r then
			return err
		}
		switch {
		case sol.Stopped == Indefinite:
			return nil
		case sol.Residual <= o.Tolerance:
			sol.Stopped = Converged
			return nil
		case sol.Iterations >= o.Iterations:
			return nil
		case sol.Residual > before/2:
			sol.Stopped = Stalled
			return nil
		}
	}
}

// descend goes on from x, whose residual is r.
func (v *Solver) descend(x device.Ptr, norm float64, o Options, sol *Solution) error {
	s, n := v.s, v.c.Len()
	one := kernel.Coef{Value: 1}
	// precondition sets z to M⁻¹r and returns ⟨r, z⟩ and ‖r‖.
	z := v.r
	precondition := func() (rz, size float64, err error) {
		if o.Inverse != nil {
			z = v.t
			o.Inverse.Apply(v.r, z)
		}
		rz, rr, err := v.pair(v.r, z)
		return rz, math.Sqrt(rr), err
	}
	rz, size, err := precondition()
	if err != nil {
		return err
	}
	s.Copy(v.p, z, 4*n)
	for size > o.Tolerance*norm && sol.Iterations < o.Iterations {
		if err := s.Context().Err(); err != nil {
			return err
		}
		v.c.Apply(v.p, v.q)
		pq, pp, err := v.pair(v.p, v.q)
		if err != nil {
			return err
		}
		curvature := pq + o.Damping*pp
		sol.saw(pq / pp)
		sol.Iterations++
		if !(curvature > 0) {
			sol.Stopped = Indefinite
			return nil
		}
		alpha := rz / curvature
		kernel.Axpby(s, kernel.Coef{Value: alpha}, v.p, one, x, n)
		kernel.Axpby(s, kernel.Coef{Value: o.Damping}, v.p, one, v.q, n)
		kernel.Axpby(s, kernel.Coef{Value: -alpha}, v.q, one, v.r, n)
		old := rz
		if rz, size, err = precondition(); err != nil {
			return err
		}
		kernel.Axpby(s, one, z, kernel.Coef{Value: rz / old}, v.p, n)
	}
	return nil
}

// factored is the inverse of the factors alone.
func (v *Solver) factored(b, x device.Ptr, norm float64, o Options, sol *Solution) (err error) {
	if o.Inverse == nil {
		return fmt.Errorf("curvature: kfac without its factors")
	}
	o.Inverse.Apply(b, x)
	v.c.Apply(x, v.q)
	xq, xx, err := v.pair(x, v.q)
	if err != nil {
		return err
	}
	sol.saw(xq / xx)
	sol.Stopped = Factored
	sol.Residual, err = v.residual(b, x, norm, o.Damping)
	return err
}

// residual sets r to v − (C + λI)x and returns its norm over that of v.
func (v *Solver) residual(b, x device.Ptr, norm, damping float64) (float64, error) {
	n := v.c.Len()
	v.c.Apply(x, v.r)
	kernel.Axpby(v.s, kernel.Coef{Value: -damping}, x, kernel.Coef{Value: -1}, v.r, n)
	kernel.Axpby(v.s, kernel.Coef{Value: 1}, b, kernel.Coef{Value: 1}, v.r, n)
	size, err := v.norm(v.r)
	return size / norm, err
}

// powerSteps is how many products with C lissa takes to see how large it is.
const powerSteps = 10

// lissa sums the Neumann series by x ← x + (v − (C_i + λI)x)/σ, the C_i those of one batch after the other and σ above
// the largest eigenvalue of C + λI. Its noise does not vanish: it is there to compare with.
func (v *Solver) lissa(b, x device.Ptr, norm float64, o Options, sol *Solution) error {
	c, ok := v.c.(Stochastic)
	if !ok {
		return fmt.Errorf("curvature: lissa wants a mean over batches")
	}
	s, n, one := v.s, c.Len(), kernel.Coef{Value: 1}
	largest, err := v.largest(b)
	if err != nil {
		return err
	}
	scale := 2*largest + o.Damping // a batch's curvature is larger than that of the mean
	for t := range o.Iterations {
		if err := s.Context().Err(); err != nil {
			return err
		}
		c.ApplyBatch(t%c.Batches(), x, v.q)
		sol.Iterations++
		if t > 0 { // x is not zero
			xq, xx, err := v.pair(x, v.q)
			if err != nil {
				return err
			}
			if xx > 0 {
				sol.saw(xq / xx)
			}
			if o.Damping > 0 && math.Sqrt(xx)*o.Damping > 1e3*norm { // ‖s‖ ≤ ‖v‖/λ where C has no negative eigenvalue
				sol.Stopped = Diverged
				break
			}
		}
		kernel.Axpby(s, kernel.Coef{Value: o.Damping}, x, one, v.q, n)
		kernel.Axpby(s, kernel.Coef{Value: -1 / scale}, v.q, one, x, n)
		kernel.Axpby(s, kernel.Coef{Value: 1 / scale}, b, one, x, n)
	}
	if sol.Residual, err = v.residual(b, x, norm, o.Damping); err == nil && sol.Residual <= o.Tolerance {
		sol.Stopped = Converged
	}
	return err
}

// largest is nearly the largest eigenvalue of C in size, by power iterations from v.
func (v *Solver) largest(b device.Ptr) (float64, error) {
	s, n := v.s, v.c.Len()
	s.Copy(v.p, b, 4*n)
	size, err := v.norm(v.p)
	for range powerSteps {
		if err != nil || size == 0 {
			break
		}
		kernel.Axpby(s, kernel.Coef{Value: 1 / size}, v.p, kernel.Coef{}, v.t, n)
		v.c.Apply(v.t, v.p)
		size, err = v.norm(v.p)
	}
	return size, err
}

// norm is ‖a‖; one that is no number is an error.
func (v *Solver) norm(a device.Ptr) (float64, error) {
	kernel.Norm2(v.s, a, v.c.Len(), v.dots, v.work)
	var square [1]float64
	if err := device.Download(v.s, square[:], v.dots); err != nil {
		return 0, err
	}
	if math.IsNaN(square[0]) || math.IsInf(square[0], 0) {
		return 0, fmt.Errorf("curvature: a vector of the solve is not finite: the model's outputs are not, or overflow")
	}
	return math.Sqrt(square[0]), nil
}

// pair is ⟨a, b⟩ and ⟨a, a⟩.
func (v *Solver) pair(a, b device.Ptr) (ab, aa float64, err error) {
	kernel.Dot(v.s, a, b, v.c.Len(), v.dots, v.work)
	kernel.Norm2(v.s, a, v.c.Len(), v.dots.Add(8), v.work)
	var both [2]float64
	if err := device.Download(v.s, both[:], v.dots); err != nil {
		return 0, 0, err
	}
	if math.IsNaN(both[0]) || math.IsInf(both[0], 0) {
		return 0, 0, fmt.Errorf("curvature: a product with the curvature is not finite: the model's outputs are not, or overflow")
	}
	return both[0], both[1], nil
}
