package cases

import (
	"cmp"
	"math"
	"slices"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

// hinges are those of kernels/hinge.cu.
func hinges() []Case {
	return []Case{
		{
			Name: "SortScores", Kernels: []string{"sort_scores"}, Axes: []string{"n"},
			Tests: []Shape{
				Dims(0), Dims(1), Dims(13), Dims(1021), Dims(257).With(Ties), Dims(257).With(Infinite), Dims(257).With(NaN),
			},
			Benches: []Shape{Dims(1000), Dims(5000)},
			New: func(sh Shape, r *Rand) *Problem {
				n := sh.Dims[0]
				p := &Problem{Bytes: 12 * float64(n), FLOPs: float64(n) * float64(n)}
				x := Const(p, "x", r.Values(n))
				sorted, order := OutConst[float32](p, "sorted", exact, n), OutConst[int32](p, "order", exact, n)
				p.Run = func(s *device.Stream, d *Bound) {
					kernel.SortScores(s, n, d.Ptr(x), d.Ptr(sorted), d.Ptr(order))
				}
				p.Ref = func(v *Values) {
					for i, j := range ascending(v.F(x)) {
						v.F(sorted)[i], v.F(order)[i] = v.F(x)[j], float64(j)
					}
				}
				return p
			},
		},
		{
			Name: "PairwiseHinge", Kernels: []string{"hinge_pairs", "hinge_pairs_calibration"},
			Axes: []string{"m", "n", "r", "window", "weighted"},
			Tests: []Shape{
				Dims(0, 10, 9, 0, 0), Dims(1, 1, 1, 0, 0), Dims(3, 10, 11, 0, 1), Dims(7, 101, 92, 0, 0), Dims(7, 101, 92, 5, 1),
				Dims(7, 101, 2, 30, 1), Dims(40, 1021, 920, 0, 1), Dims(9, 64, 58, 0, 0).With(Ties),
			},
			Benches: []Shape{Dims(48, 5000, 4501, 0, 0)},
			New:     newPairwiseHinge,
		},
		{
			Name: "SoftQuantileHinge", Kernels: []string{"soft_quantile", "hinge_threshold", "soft_quantile_backward"},
			Axes: []string{"m", "n", "r", "tenths of bandwidth"},
			Tests: []Shape{
				Dims(0, 10, 9, 0), Dims(1, 1, 1, 30), Dims(7, 101, 92, 0), Dims(7, 101, 92, 5), Dims(7, 101, 92, 40), Dims(7, 101, 1, 40),
				Dims(7, 101, 101, 2000), Dims(40, 1021, 920, 77), Dims(9, 64, 58, 30).With(Ties),
			},
			Benches: []Shape{Dims(48, 5000, 4501, 100)},
			New:     newSoftQuantileHinge,
		},
		{
			Name: "SoftQuantile", Kernels: []string{"soft_quantile"}, Axes: []string{"n", "r", "tenths of bandwidth"},
			Tests: []Shape{
				Dims(1, 1, 0), Dims(101, 92, 0), Dims(101, 92, 40), Dims(1021, 1021, 77), Dims(101, 60, 20).With(Infinite),
			},
			Benches: []Shape{Dims(5000, 4501, 100), Dims(5000, 4501, 5000)},
			New: func(sh Shape, r *Rand) *Problem {
				p := &Problem{Bytes: 4 * float64(sh.Dims[0]), FLOPs: 20 * float64(sh.Dims[0])}
				c := newCalibration(p, r.Values(sh.Dims[0]), sh.Dims[1])
				h := single(float64(sh.Dims[2]) / 10)
				tau := OutConst[float32](p, "tau", Tol{Rel: 1e-6, Abs: 3e-7, Why: "a weighted mean in float"}, 1)
				p.Run = func(s *device.Stream, d *Bound) { kernel.SoftQuantile(s, c.bound(d), h, d.Ptr(tau)) }
				p.Ref = func(v *Values) { v.F(tau)[0] = c.quantile(v, h) }
				return p
			},
		},
		{
			Name: "KeepPrediction", Kernels: []string{"keep_prediction"}, Axes: []string{"n", "k", "add"},
			Tests: []Shape{
				Dims(0, 10, 0), Dims(1, 1, 0), Dims(1, 2, 1), Dims(13, 10, 0), Dims(129, 10, 1), Dims(7, 1021, 0), Dims(33, 7, 1).With(Ties),
			},
			Benches: []Shape{Dims(128, 10, 0), Dims(1000, 100, 0)},
			New:     newKeepPrediction,
		},
	}
}

// ascending is the stable order of x with NaN last.
func ascending(x []float64) []int {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch u, v := x[a], x[b]; {
		case math.IsNaN(u) || math.IsNaN(v):
			return cmp.Compare(btoi(math.IsNaN(u)), btoi(math.IsNaN(v)))
		case u < v:
			return -1
		case u > v:
			return 1
		}
		return 0
	})
	return order
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// calibration has the scores in their own order too: the kernels read them sorted, and their
// gradient is to the former.
type calibration struct {
	n, rank            int
	own, sorted, order *Buffer
}

func newCalibration(p *Problem, x []float32, rank int) calibration {
	sorted, order := make([]float32, len(x)), make([]int32, len(x))
	for i, j := range ascending(convert(x)) {
		sorted[i], order[i] = x[j], int32(j)
	}
	return calibration{n: len(x), rank: rank, own: Const(p, "calibration", x),
		sorted: Const(p, "sorted", sorted), order: Const(p, "order", order)}
}

func (c calibration) bound(d *Bound) kernel.Calibration {
	return kernel.Calibration{N: c.n, Rank: c.rank, Sorted: d.Ptr(c.sorted), Order: d.Ptr(c.order)}
}

// weight is that of rank i in the kernel quantile, by the mean of Epanechnikov's density over
// [i−½, i+½].
func (c calibration) weight(i int, h float64) float64 {
	if h <= 0.5 {
		return float64(btoi(i == c.rank))
	}
	mass := func(from, to float64) float64 {
		at := func(x float64) float64 {
			t := math.Min(math.Max((x-float64(c.rank))/h, -1), 1)
			return 0.75*t - 0.25*t*t*t
		}
		return at(to) - at(from)
	}
	return mass(float64(i)-0.5, float64(i)+0.5) / mass(0.5, float64(c.n)+0.5)
}

// quantile sorts the scores afresh, so that it can be differentiated.
func (c calibration) quantile(v *Values, h float64) float64 {
	tau, x := 0.0, v.F(c.own)
	for i, j := range ascending(x) {
		if w := c.weight(i+1, h); w != 0 {
			tau += w * x[j]
		}
	}
	return tau
}

type wishes struct {
	m                     int
	score, kind, weighted *Buffer // weighted may be nil
}

func newWishes(p *Problem, r *Rand, m int, weighted bool) wishes {
	kinds := r.Ints(m, 0, 2)
	for i := range kinds {
		kinds[i] = 2*kinds[i] - 1
	}
	w := wishes{m: m, score: Const(p, "score", r.Values(m)), kind: Const(p, "kind", kinds)}
	if weighted {
		w.weighted = Const(p, "weight", r.Uniform(m, 0.5, 2))
	}
	return w
}

func (w wishes) bound(d *Bound) kernel.Wishes {
	return kernel.Wishes{M: w.m, Scores: d.Ptr(w.score), Kinds: d.Ptr(w.kind), Weights: d.Ptr(w.weighted)}
}

func (w wishes) weight(v *Values, q int) float64 {
	if w.weighted == nil {
		return 1
	}
	return v.F(w.weighted)[q]
}

const margin = 0.1

func newPairwiseHinge(sh Shape, r *Rand) *Problem {
	m, n, rank, window := sh.Dims[0], sh.Dims[1], sh.Dims[2], sh.Dims[3]
	p := &Problem{Bytes: 4 * float64(n*(m+3)), FLOPs: 10 * float64(n*m)}
	w := newWishes(p, r, m, sh.Dims[4] != 0)
	c := newCalibration(p, r.Values(n), rank)
	tol := Tol{Rel: 2e-6, Abs: 1e-6, Why: "sums of up to n hinges in float"}
	loss := OutConst[float32](p, "loss", tol, m)
	dscore := OutConst[float32](p, "dscore", tol, m)
	dcal := OutConst[float32](p, "dcal", Tol{Rel: 2e-6, Abs: 1e-7, Why: "a sum over m wishes"}, n)
	p.Run = func(s *device.Stream, d *Bound) {
		kernel.PairwiseHinge(s, w.bound(d), c.bound(d), margin, window, d.Ptr(loss), d.Ptr(dscore), d.Ptr(dcal))
	}
	// eachHinge calls f with every hinge: of wish q and element j, its sign, its share and its value.
	eachHinge := func(v *Values, f func(q, j int, sign, share, x float64)) {
		x := v.F(c.own)
		order := ascending(x)
		for q := range m {
			sign, lo, hi := v.F(w.kind)[q], rank, n
			if window > 0 {
				hi = min(n, rank+window-1)
			}
			if sign < 0 {
				lo, hi = 1, min(rank, n)
				if window > 0 {
					lo = max(1, rank-window+1)
				}
			}
			for i := lo; i <= hi; i++ {
				j := order[i-1]
				f(q, j, sign, w.weight(v, q)/float64(hi-lo+1), sign*(v.F(w.score)[q]-x[j])+single(margin))
			}
		}
	}
	p.Ref = func(v *Values) {
		eachHinge(v, func(q, j int, sign, share, x float64) {
			if x > 0 {
				v.F(loss)[q] += share * x
				v.F(dscore)[q] += share * sign
				v.F(dcal)[j] -= share * sign
			}
		})
	}
	total := func(v *Values) float64 {
		sum := 0.0
		eachHinge(v, func(_, _ int, _, share, x float64) { sum += share * math.Max(x, 0) })
		return sum
	}
	p.Gradients = []Gradient{{Out: dscore, In: w.score, Of: total}, {Out: dcal, In: c.own, Of: total}}
	return p
}

func newSoftQuantileHinge(sh Shape, r *Rand) *Problem {
	m, n, rank, h := sh.Dims[0], sh.Dims[1], sh.Dims[2], single(float64(sh.Dims[3])/10)
	p := &Problem{Bytes: 4 * float64(3*n+4*m), FLOPs: 40 * float64(n)}
	w := newWishes(p, r, m, true)
	c := newCalibration(p, r.Values(n), rank)
	tol := Tol{Rel: 1e-6, Abs: 1e-6, Why: "a weighted mean and sums over wishes in float"}
	tau := OutConst[float32](p, "tau", tol, 1)
	loss, dscore := OutConst[float32](p, "loss", tol, m), OutConst[float32](p, "dscore", tol, m)
	dcal := OutConst[float32](p, "dcal", tol, n)
	p.Run = func(s *device.Stream, d *Bound) {
		kernel.SoftQuantileHinge(s, w.bound(d), c.bound(d), margin, h, d.Ptr(tau), d.Ptr(loss), d.Ptr(dscore), d.Ptr(dcal))
	}
	p.Ref = func(v *Values) {
		t, dtau := c.quantile(v, h), 0.0
		v.F(tau)[0] = t
		for q := range m {
			sign := v.F(w.kind)[q]
			if x := sign*(v.F(w.score)[q]-t) + single(margin); x > 0 {
				v.F(loss)[q] = w.weight(v, q) * x
				v.F(dscore)[q] = w.weight(v, q) * sign
				dtau -= v.F(dscore)[q]
			}
		}
		for i, j := range ascending(v.F(c.own)) {
			v.F(dcal)[j] = dtau * c.weight(i+1, h)
		}
	}
	total := func(v *Values) float64 {
		t, sum := c.quantile(v, h), 0.0
		for q := range m {
			sum += w.weight(v, q) * math.Max(v.F(w.kind)[q]*(v.F(w.score)[q]-t)+single(margin), 0)
		}
		return sum
	}
	p.Gradients = []Gradient{{Out: dscore, In: w.score, Of: total}, {Out: dcal, In: c.own, Of: total}}
	return p
}

func newKeepPrediction(sh Shape, r *Rand) *Problem {
	n, k, add := sh.Dims[0], sh.Dims[1], sh.Dims[2] != 0
	const beta, weight = 0.5, 0.75
	p := &Problem{Bytes: 8 * float64(n*k), FLOPs: 3 * float64(n*k)}
	z, labels := Const(p, "z", r.Values(n*k)), Const(p, "labels", r.Ints(n, 0, k))
	tol := Tol{Rel: 2e-7, Why: "a difference, a product and a sum"}
	loss, dz := OutConst[float32](p, "loss", tol, n), InOut(p, "dz", tol, make([]float32, n*k))
	if add {
		dz.data = r.Normal(n * k)
	}
	p.Run = func(s *device.Stream, d *Bound) {
		kernel.KeepPrediction(s, n, k, beta, weight, d.Ptr(z), d.Ptr(labels), add, d.Ptr(loss), d.Ptr(dz))
	}
	each := func(v *Values, f func(i, y, runner int, gap float64)) {
		for i := range n {
			zi, y, runner, gap := v.F(z)[i*k:(i+1)*k], int(v.F(labels)[i]), -1, math.Inf(-1)
			for j, x := range zi {
				if j != y && x-zi[y] > gap {
					gap, runner = x-zi[y], j
				}
			}
			f(i, y, runner, gap)
		}
	}
	p.Ref = func(v *Values) {
		each(v, func(i, y, runner int, gap float64) {
			if k < 2 { // a single class has no margin
				v.F(loss)[i] = math.NaN()
				return
			}
			v.F(loss)[i] = weight * math.Max(gap, -beta)
			if gap > -beta {
				v.F(dz)[i*k+runner] += weight
				v.F(dz)[i*k+y] -= weight
			}
		})
	}
	if !add && k > 1 {
		p.Gradients = []Gradient{{Out: dz, In: z, Of: func(v *Values) float64 {
			sum := 0.0
			each(v, func(_, _, _ int, gap float64) { sum += weight * math.Max(gap, -beta) })
			return sum
		}}}
	}
	return p
}
