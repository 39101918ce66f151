package kernel

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// BNStatsBytes is the workspace that BNStats wants.
func BNStatsBytes(n, c int, dual bool) int {
	planes := 2
	if dual {
		planes = 4
	}
	return 4 * planes * c * (parts(n, c) + 1)
}

// BNStats computes the mean and the biased variance [c] of each column of z[n,c].
func BNStats(s *device.Stream, ws *Workspace, n, c int, z, mean, variance tensor.Tensor) {
	const name = "BNStats"
	if !check(s, name, n, c) || c == 0 || !checkTensors(s, name, operand{"z", z, n * c, false},
		operand{"mean", mean, c, false}, operand{"variance", variance, c, false}) {
		return
	}
	if n == 0 {
		fail(s, name, "no rows")
		return
	}
	dual := mean.T != 0 || variance.T != 0
	part := ws.take(s, name, BNStatsBytes(n, c, dual))
	if part == 0 {
		return
	}
	grid := parts(n, c)
	if dual {
		s.Launch("bn_partial_dual", grid, threads, device.I64(n), device.I32(c),
			device.P(z.P), device.P(z.T), device.P(part))
		s.Launch("bn_combine_dual", 1, threads, device.I64(n), device.I32(c), device.I32(grid), device.P(part),
			device.P(mean.P), device.P(mean.T), device.P(variance.P), device.P(variance.T))
		return
	}
	s.Launch("bn_partial_f32", grid, threads, device.I64(n), device.I32(c), device.P(z.P), device.P(part))
	s.Launch("bn_combine_f32", 1, threads, device.I64(n), device.I32(c), device.I32(grid), device.P(part),
		device.P(mean.P), device.P(variance.P))
}

// BNAffine makes batch norm's map: scale = γ·rsqrt(variance + eps), shift = β − mean·scale.
func BNAffine(s *device.Stream, c int, mean, variance, gamma, beta tensor.Tensor, eps float64, scale, shift tensor.Tensor) {
	const name = "BNAffine"
	if !check(s, name, c) || c == 0 || !checkTensors(s, name,
		operand{"mean", mean, c, false}, operand{"variance", variance, c, false},
		operand{"gamma", gamma, c, false}, operand{"beta", beta, c, false},
		operand{"scale", scale, c, false}, operand{"shift", shift, c, false}) {
		return
	}
	if scale.T != 0 || shift.T != 0 {
		s.Launch("bn_affine_dual", blocks(c, 256), threads, device.I32(c), device.F32(eps),
			device.P(mean.P), device.P(mean.T), device.P(variance.P), device.P(variance.T),
			device.P(gamma.P), device.P(gamma.T), device.P(beta.P), device.P(beta.T),
			device.P(scale.P), device.P(scale.T), device.P(shift.P), device.P(shift.T))
		return
	}
	s.Launch("bn_affine_f32", blocks(c, 256), threads, device.I32(c), device.F32(eps),
		device.P(mean.P), device.P(variance.P), device.P(gamma.P), device.P(beta.P),
		device.P(scale.P), device.P(shift.P))
}

// BNBackward goes from the gradients of the map's coefficients, dscale = Σ dy·z and dshift = Σ dy over n
// rows, to that of γ, and to the p and q with which ActBackward accounts for the batch's statistics in
// training mode. dgamma may be absent; so may p and q together, in evaluation mode. The
// gradient of β is dshift itself.
func BNBackward(s *device.Stream, n, c int, mean, variance, gamma tensor.Tensor, eps float64, dscale, dshift, dgamma, p, q tensor.Tensor) {
	const name = "BNBackward"
	if !check(s, name, n, c) || c == 0 || !checkTensors(s, name,
		operand{"mean", mean, c, false}, operand{"variance", variance, c, false},
		operand{"gamma", gamma, c, false}, operand{"dscale", dscale, c, false},
		operand{"dshift", dshift, c, false}, operand{"dgamma", dgamma, c, true},
		operand{"p", p, c, true}, operand{"q", q, c, p.Absent()}) {
		return
	}
	if n == 0 {
		fail(s, name, "no rows")
		return
	}
	if dgamma.Absent() && p.Absent() {
		return
	}
	if dgamma.T != 0 || p.T != 0 {
		s.Launch("bn_backward_dual", blocks(c, 256), threads, device.I64(n), device.I32(c), device.F32(eps),
			device.P(mean.P), device.P(mean.T), device.P(variance.P), device.P(variance.T),
			device.P(gamma.P), device.P(gamma.T), device.P(dscale.P), device.P(dscale.T),
			device.P(dshift.P), device.P(dshift.T), device.P(dgamma.P), device.P(dgamma.T),
			device.P(p.P), device.P(p.T), device.P(q.P), device.P(q.T))
		return
	}
	s.Launch("bn_backward_f32", blocks(c, 256), threads, device.I64(n), device.I32(c), device.F32(eps),
		device.P(mean.P), device.P(variance.P), device.P(gamma.P), device.P(dscale.P), device.P(dshift.P),
		device.P(dgamma.P), device.P(p.P), device.P(q.P))
}

// BNRunning moves the running statistics [c] by momentum towards a batch's mean and its unbiased
// variance; variance is the biased one of n rows.
func BNRunning(s *device.Stream, n, c int, momentum float64, mean, variance, runningMean, runningVariance device.Ptr) {
	const name = "BNRunning"
	if !check(s, name, n, c) || c == 0 {
		return
	}
	if n < 2 {
		fail(s, name, "%d rows; an unbiased variance wants 2", n)
		return
	}
	if mean == 0 || variance == 0 || runningMean == 0 || runningVariance == 0 {
		fail(s, name, "statistics of %d channels are absent", c)
		return
	}
	s.Launch("bn_running", blocks(c, 256), threads, device.I32(c), device.F32(momentum),
		device.F32(float64(n)/float64(n-1)),
		device.P(mean), device.P(variance), device.P(runningMean), device.P(runningVariance))
}
