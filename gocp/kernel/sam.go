package kernel

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
)

// SAMPerturb writes out[n] = θ + ζ̂, the point of the ball ‖ζ‖_p ≤ rho around theta[n] that
// maximises ⟨grad, ζ⟩; theta may be absent (zero), and out may be theta. p is in (1, ∞]:
//
//	ζ̂ = rho·sign(g)·|g|^(q−1) / (Σ|g|^q)^(1/p),  1/p + 1/q = 1
//
// so ‖ζ̂‖_p = rho up to rounding. A zero gradient gives ζ̂ = 0, a NaN in it a NaN.
func SAMPerturb(s *device.Stream, theta, grad device.Ptr, rho, p float64, out device.Ptr, n int, w *Workspace) {
	const name = "SAMPerturb"
	if !check(s, name, n) || n == 0 || !checkPresent(s, name, pointer{"grad", grad}, pointer{"out", out}) {
		return
	}
	if !(p > 1) {
		fail(s, name, "p = %v, want p > 1", p)
		return
	}
	grid := blocks(n, perBlock)
	if math.IsInf(p, 1) {
		s.Launch("sam_max", grid, threads, device.I64(n), device.P(theta), device.P(grad), device.F32(rho), device.P(out))
		return
	}
	work := w.take(s, name, VectorBytes)
	if work == 0 {
		return
	}
	largest, sum := work.Add(8*maxParts), work.Add(8*(maxParts+1))
	if p == 2 {
		Norm2(s, grad, n, sum, w)
		s.Launch("sam_l2", grid, threads, device.I64(n), device.P(theta), device.P(grad), device.F32(rho), device.P(sum), device.P(out))
		return
	}
	MaxAbs(s, grad, n, largest, w)
	PowSum(s, grad, p/(p-1), largest, n, sum, w)
	s.Launch("sam_power", grid, threads, device.I64(n), device.P(theta), device.P(grad),
		device.F32(rho), device.F32(p), device.P(largest), device.P(sum), device.P(out))
}
