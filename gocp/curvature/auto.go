package curvature

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

// Ladder are the λ that SolveAuto chooses from, the least first.
func Ladder() []float64 { return []float64{0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30} }

// SolveAuto is Solve by conjugate gradients with the least λ of the ladder at which it converges within the iterations
// and finds no negative curvature. Where there is none, the Solution is that of the largest and says why it stopped.
//
// The Krylov space of C + λI does not depend on λ. So one run of Lanczos, as long as a solve, tells for every λ how far
// conjugate gradients would come and whether their pivots would be positive; the solve itself is made with the λ chosen,
// or, if float32 does not keep the promise, with the next.
func (v *Solver) SolveAuto(b, x device.Ptr, o Options) (Solution, error) {
	diagonal, off, err := v.lanczos(b, o.Iterations)
	if err != nil {
		return Solution{}, err
	}
	ladder := Ladder()
	var sol Solution
	for i, damping := range ladder {
		residual, positive := predict(diagonal, off, damping)
		if last := i == len(ladder)-1; !last && !(positive && residual <= o.Tolerance) {
			continue
		}
		o.Damping = damping
		if sol, err = v.Solve(b, x, o); err != nil || sol.Stopped == Converged {
			break
		}
	}
	return sol, err
}

// lanczos makes the tridiagonal matrix T of k steps from b: its diagonal and, one longer than T has, what stands beside
// it: the last is the coupling to what was not looked at.
func (v *Solver) lanczos(b device.Ptr, k int) (diagonal, off []float64, err error) {
	s, n, one := v.s, v.c.Len(), kernel.Coef{Value: 1}
	scaled := func(a float64, from, to device.Ptr) {
		kernel.Axpby(s, kernel.Coef{Value: a}, from, kernel.Coef{}, to, n)
	}
	size, err := v.norm(b)
	if err != nil || size == 0 {
		return nil, nil, err
	}
	before, now := v.p, v.t
	s.Memset32(before, 0, n)
	scaled(1/size, b, now)
	beta := 0.0
	for range k {
		if err := s.Context().Err(); err != nil {
			return nil, nil, err
		}
		v.c.Apply(now, v.q)
		alpha, _, err := v.pair(now, v.q)
		if err != nil {
			return nil, nil, err
		}
		kernel.Axpby(s, kernel.Coef{Value: -alpha}, now, one, v.q, n)
		kernel.Axpby(s, kernel.Coef{Value: -beta}, before, one, v.q, n)
		if beta, err = v.norm(v.q); err != nil {
			return nil, nil, err
		}
		diagonal, off = append(diagonal, alpha), append(off, beta)
		if beta <= 1e-6*math.Abs(alpha) { // the space is exhausted
			off[len(off)-1] = 0
			break
		}
		before, now = now, before
		scaled(1/beta, v.q, now)
	}
	return diagonal, off, nil
}

// predict is the residual of conjugate gradients on T + λI after as many steps as T has or fewer, the least, and
// whether all pivots up to there are positive: d_j = a_j + λ − b_{j−1}²/d_{j−1}, and ‖r_j‖/‖v‖ = Π b_i/d_i.
func predict(diagonal, off []float64, damping float64) (residual float64, positive bool) {
	d, residual, least := 0.0, 1.0, 1.0
	for j, a := range diagonal {
		a += damping
		if j > 0 {
			a -= off[j-1] * off[j-1] / d
		}
		if d = a; !(d > 0) {
			return least, false
		}
		residual *= off[j] / d
		least = math.Min(least, residual)
	}
	return least, true
}
