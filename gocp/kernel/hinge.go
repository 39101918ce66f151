package kernel

import "github.com/gocp/gocp/gocp/device"

// Wishes are labels that a loss pushes into prediction sets or out of them: M of them, with a
// float32 score, an int32 kind (+1 into the set, −1 out of it) and a float32 weight each.
type Wishes struct {
	M             int
	Scores, Kinds device.Ptr
	Weights       device.Ptr // absent: 1
}

// Calibration is a calibration set's sorted scores: N float32, the int32 order SortScores found,
// and the rank from 1 of the one that is the threshold.
type Calibration struct {
	N, Rank       int
	Sorted, Order device.Ptr
}

// SortScores writes the n float32 at x in ascending order to sorted and, as int32, which element
// each was to order. Equal ones keep their order, NaN comes last. n² comparisons: it is for some
// ten thousand scores at most.
func SortScores(s *device.Stream, n int, x, sorted, order device.Ptr) {
	const name = "SortScores"
	if !check(s, name, n) || n == 0 ||
		!checkPresent(s, name, pointer{"x", x}, pointer{"sorted", sorted}, pointer{"order", order}) {
		return
	}
	s.Launch("sort_scores", blocks(n, 64), threads, device.I64(n), device.P(x), device.P(sorted), device.P(order))
}

func checkLoss(s *device.Stream, name string, q Wishes, c Calibration, loss, dscore device.Ptr) bool {
	if !check(s, name, q.M, c.N) {
		return false
	}
	if c.Rank < 1 {
		fail(s, name, "rank %d, want at least 1", c.Rank)
		return false
	}
	return (q.M == 0 || checkPresent(s, name, pointer{"scores", q.Scores}, pointer{"kinds", q.Kinds},
		pointer{"loss", loss}, pointer{"dscore", dscore})) &&
		(c.N == 0 || checkPresent(s, name, pointer{"sorted", c.Sorted}))
}

// PairwiseHinge writes the loss of each wish against the calibration scores on the far side of the
// threshold, loss[M], and the gradients of their sum: dscore[M] to the wishes' scores and, unless
// dcal is absent, dcal[N] to the calibration scores in their own order.
//
//	into the set  w·mean_{i ≥ r} max(S − s_(i) + margin, 0)
//	out of it     w·mean_{i ≤ r} max(s_(i) − S + margin, 0)
//
// window > 0 keeps the window ranks nearest to r. With r > N the threshold is infinite: the first
// kind costs nothing, the second counts all N.
func PairwiseHinge(s *device.Stream, q Wishes, c Calibration, margin float64, window int, loss, dscore, dcal device.Ptr) {
	const name = "PairwiseHinge"
	if !check(s, name, window) || !checkLoss(s, name, q, c, loss, dscore) {
		return
	}
	if q.M > 0 {
		s.Launch("hinge_pairs", blocks(q.M, 1), threads, device.I32(q.M), device.I64(c.N), device.I64(c.Rank),
			device.I64(window), device.F32(margin), device.P(q.Scores), device.P(q.Kinds), device.P(q.Weights),
			device.P(c.Sorted), device.P(loss), device.P(dscore))
	}
	if c.N > 0 && dcal != 0 && checkPresent(s, name, pointer{"order", c.Order}) {
		s.Launch("hinge_pairs_calibration", blocks(c.N, 256), threads, device.I32(q.M), device.I64(c.N),
			device.I64(c.Rank), device.I64(window), device.F32(margin), device.P(q.Scores), device.P(q.Kinds),
			device.P(q.Weights), device.P(c.Sorted), device.P(c.Order), device.P(dcal))
	}
}

// SoftQuantile writes τ̃ = Σ wᵢ s_(i) to the float32 at tau, with Epanechnikov weights of the
// given bandwidth in ranks around c.Rank, which must be at most c.N; a bandwidth of at most ½
// gives s_(r) exactly.
func SoftQuantile(s *device.Stream, c Calibration, bandwidth float64, tau device.Ptr) {
	const name = "SoftQuantile"
	if !checkQuantile(s, name, c, bandwidth) || !checkPresent(s, name, pointer{"tau", tau}) {
		return
	}
	s.Launch("soft_quantile", 1, threads, device.I64(c.N), device.I64(c.Rank), device.F32(bandwidth),
		device.P(c.Sorted), device.P(tau))
}

func checkQuantile(s *device.Stream, name string, c Calibration, bandwidth float64) bool {
	if !check(s, name, c.N) {
		return false
	}
	if c.Rank < 1 || c.Rank > c.N {
		fail(s, name, "rank %d is not among %d scores", c.Rank, c.N)
		return false
	}
	if !(bandwidth >= 0) {
		fail(s, name, "bandwidth %v", bandwidth)
		return false
	}
	return checkPresent(s, name, pointer{"sorted", c.Sorted})
}

// SoftQuantileHinge writes τ̃ as SoftQuantile does, the hinges of the wishes against it, loss[M],
// and the gradients of their sum to the wishes' scores and, unless dcal is absent, to the
// calibration scores:
//
//	into the set  w·max(S − τ̃ + margin, 0)        out of it  w·max(τ̃ − S + margin, 0)
func SoftQuantileHinge(s *device.Stream, q Wishes, c Calibration, margin, bandwidth float64, tau, loss, dscore, dcal device.Ptr) {
	const name = "SoftQuantileHinge"
	if !checkLoss(s, name, q, c, loss, dscore) || !checkQuantile(s, name, c, bandwidth) {
		return
	}
	SoftQuantile(s, c, bandwidth, tau)
	if q.M > 0 {
		s.Launch("hinge_threshold", blocks(q.M, 1024), threads, device.I32(q.M), device.F32(margin), device.P(tau),
			device.P(q.Scores), device.P(q.Kinds), device.P(q.Weights), device.P(loss), device.P(dscore))
	}
	if dcal != 0 && checkPresent(s, name, pointer{"order", c.Order}) {
		s.Launch("soft_quantile_backward", blocks(c.N, 1024), threads, device.I32(q.M), device.I64(c.N),
			device.I64(c.Rank), device.F32(bandwidth), device.P(dscore), device.P(c.Order), device.P(dcal))
	}
}

// KeepPrediction writes loss[n] = weight·max(max_{y≠y₀} z_y − z_{y₀}, −beta) of the logits
// z[n,k] and the int32 labels y₀[n], and its gradient to dz[n,k], added to what is there if add.
func KeepPrediction(s *device.Stream, n, k int, beta, weight float64, z, labels device.Ptr, add bool, loss, dz device.Ptr) {
	const name = "KeepPrediction"
	if !check(s, name, n, k) || n*k == 0 || !checkPresent(s, name, pointer{"z", z},
		pointer{"labels", labels}, pointer{"loss", loss}, pointer{"dz", dz}) {
		return
	}
	s.Launch("keep_prediction", blocks(n, rowsPerBlock(k)), threads, device.I64(n), device.I32(k), device.F32(beta),
		device.F32(weight), device.P(z), device.P(labels), device.I32(flag(add)), device.P(loss), device.P(dz))
}
