package compute

import (
	"math"

	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// A solve goes on to this residual, or to where float32 makes it no smaller; then it counts if the residual is no
// larger than this part of ‖v‖ + ‖C/N + λI‖‖s‖, the backward error of Rigal and Gaches (1967).
const (
	solveTolerance  = 1e-6
	solveIterations = 2000
)

// ihvp solves (C/N + λI) s = v, C the curvature of the summed loss. What would be no solution is refused.
func (e *engine) ihvp(out *answers) error {
	s, in, m, o := e.s, e.in, e.r.Model, e.r.Curvature
	c := curvature.New(s, curvature.Config{Spec: m.Spec, Kind: o.Kind, Mode: e.r.Mode, Precision: e.r.Precision, Draws: e.draws}, e.theta.P, e.running, e.batches())
	v, x := upload(s, in.v), s.Alloc(4*len(in.v))
	sol, err := curvature.NewSolver(s, c).Solve(v, x, curvature.Options{Damping: o.Damping, Iterations: solveIterations, Tolerance: solveTolerance})
	switch {
	case err != nil:
		return err
	case sol.Stopped == curvature.Indefinite:
		return usage.Errorf("ihvp: the %s has the curvature %.4g along a direction, so that with the damping %g the system has no minimum; a damping above %.4g is needed, or the curvature ggn, which is never negative",
			o.Kind, sol.Least, o.Damping, -sol.Least)
	case sol.Stopped == curvature.Converged:
		return appendFrom(s, &out.ihvp, x, len(in.v))
	}
	if err := appendFrom(s, &out.ihvp, x, len(in.v)); err != nil {
		return err
	}
	if residual := sol.Residual * norm(in.v); sol.Stopped != curvature.Stalled || residual > solveTolerance*(norm(in.v)+(sol.Largest+o.Damping)*norm(out.ihvp)) {
		return usage.Errorf("ihvp: the solve came to a residual of %.2g of v in %d iterations, %.0e is wanted; take a larger damping than %g, or products in f32",
			sol.Residual, sol.Iterations, solveTolerance, o.Damping)
	}
	return nil
}

// kfac makes the Kronecker factors.
func (e *engine) kfac(out *answers) (err error) {
	m := e.r.Model
	out.factors, err = curvature.Factors(e.s, curvature.Config{Spec: m.Spec, Precision: e.r.Precision}, e.theta.P, e.running, e.batches(), 0, 0)
	return err
}

// batches puts the samples on the device, so many at a time as a pass takes.
func (e *engine) batches() []curvature.Batch {
	s, in, m := e.s, e.in, e.r.Model
	batch := min(in.n, chunkSamples)
	if m.BatchNorm && e.r.Mode == nn.Train {
		batch = in.n
	}
	size := m.H * m.W * m.C
	var batches []curvature.Batch
	for at := 0; at < in.n; at += batch {
		n := min(batch, in.n-at)
		x, labels := tensor.New(s, n, m.H, m.W, m.C), device.Ptr(0)
		device.Upload(s, x.P, in.x[at*size:(at+n)*size])
		if in.y != nil {
			labels = upload(s, in.y[at:at+n])
		}
		batches = append(batches, curvature.Batch{X: x, Labels: labels})
	}
	return batches
}

// norm is ‖x‖.
func norm(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}
