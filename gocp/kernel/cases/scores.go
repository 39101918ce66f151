package cases

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
)

// softmaxOf is softmax of one row.
func softmaxOf(z []float64) []float64 {
	p := make([]float64, len(z))
	softmaxRow(z, p)
	return p
}

// probabilities are softmax rows of logits, as float32. Ties of logits are ties of probabilities.
func probabilities(z []float32, n, k int) []float32 {
	p := make([]float32, 0, n*k)
	for i := range n {
		for _, x := range softmaxOf(convert(z[i*k : (i+1)*k])) {
			p = append(p, float32(x))
		}
	}
	return p
}

// score is the definition, of label y in the row p.
func score(f kernel.Score, p []float64, y int, u float64) float64 {
	if f.Kind == kernel.HPS {
		return 1 - p[y]
	}
	s, rank := u*p[y], 1
	for j, x := range p {
		if x > p[y] || x == p[y] && j < y {
			s += x
			rank++
		}
	}
	if f.Kind == kernel.RAPS {
		s += single(f.Lambda) * float64(max(0, rank-f.KReg))
	}
	return s
}

func scoreOf(kind int) kernel.Score {
	return kernel.Score{Kind: kernel.ScoreKind(kind), Lambda: 0.01, KReg: 2, U0: 0.5}
}

// scoreDraws adds the rows' u if they are wanted, and returns what reads them.
func scoreDraws(p *Problem, r *Rand, n int, wanted bool) (*Buffer, func(v *Values, row int) float64) {
	if !wanted {
		return nil, func(*Values, int) float64 { return 0.5 }
	}
	u := Const(p, "u", r.Uniform(n, 0, 1))
	return u, func(v *Values, row int) float64 { return v.F(u)[row] }
}

var scoreTol = Tol{Rel: 3e-7, Abs: 3e-7, Why: "sums of at most k probabilities that add up to 1"}

// nonconformity are those of kernels/scores.cu.
func nonconformity() []Case {
	return []Case{
		{
			Name: "Scores", Kernels: []string{"scores_all"}, Axes: []string{"n", "k", "kind", "u"},
			Tests: []Shape{
				Dims(0, 10, 1, 1), Dims(1, 1, 1, 1), Dims(3, 10, 0, 0), Dims(17, 10, 1, 1), Dims(17, 10, 2, 0), Dims(5, 101, 2, 1),
				Dims(129, 16, 1, 0), Dims(33, 7, 2, 1).With(Ties), Dims(33, 40, 1, 0).With(Ties),
			},
			Benches: []Shape{Dims(2000, 10, 2, 1), Dims(1000, 100, 2, 1)},
			New: func(sh Shape, r *Rand) *Problem {
				n, k, f := sh.Dims[0], sh.Dims[1], scoreOf(sh.Dims[2])
				p := &Problem{Bytes: 8 * float64(n*k), FLOPs: 4 * float64(n*k*k)}
				prob := Const(p, "p", probabilities(r.Values(n*k), n, k))
				u, draw := scoreDraws(p, r, n, sh.Dims[3] != 0)
				out := OutConst[float32](p, "scores", scoreTol, n*k)
				p.Run = func(s *device.Stream, d *Bound) {
					f := f
					f.U = d.Ptr(u)
					kernel.Scores(s, f, n, k, d.Ptr(prob), d.Ptr(out))
				}
				p.Ref = func(v *Values) {
					for i := range n {
						for y := range k {
							v.F(out)[i*k+y] = score(f, v.F(prob)[i*k:(i+1)*k], y, draw(v, i))
						}
					}
				}
				return p
			},
		},
		{
			Name: "PairScores", Kernels: []string{"scores_pairs"}, Axes: []string{"m", "n", "k", "kind", "rows"},
			Tests: []Shape{
				Dims(0, 4, 10, 1, 0), Dims(1, 1, 1, 1, 0), Dims(17, 17, 10, 0, 0), Dims(40, 9, 10, 1, 1), Dims(40, 9, 11, 2, 1),
				Dims(1021, 1021, 10, 2, 0), Dims(33, 5, 7, 1, 1).With(Ties),
			},
			Benches: []Shape{Dims(5000, 5000, 10, 1, 0)},
			New:     newPairScores,
		},
		{
			Name: "PairScoresBackward", Kernels: []string{"scores_pairs_backward"}, Axes: []string{"m", "n", "k", "kind", "rows"},
			Tests: []Shape{
				Dims(0, 4, 10, 1, 0), Dims(1, 1, 1, 1, 0), Dims(17, 20, 10, 0, 0), Dims(40, 9, 10, 1, 1), Dims(40, 9, 11, 2, 1),
				Dims(40, 9, 10, 0, 1), Dims(1021, 1021, 10, 1, 0),
			},
			Benches: []Shape{Dims(5000, 5000, 10, 1, 0), Dims(64, 12, 10, 1, 1)},
			New:     newPairScoresBackward,
		},
	}
}

type pairs struct {
	m, n, k      int
	form         kernel.Score
	rows, labels *Buffer // rows may be nil
	u            *Buffer
	draw         func(v *Values, row int) float64
}

func newPairs(p *Problem, sh Shape, r *Rand) pairs {
	q := pairs{m: sh.Dims[0], n: sh.Dims[1], k: sh.Dims[2], form: scoreOf(sh.Dims[3])}
	if sh.Dims[4] != 0 {
		q.rows = Const(p, "rows", r.Ints(q.m, 0, q.n))
	}
	q.labels = Const(p, "labels", r.Ints(q.m, 0, q.k))
	q.u, q.draw = scoreDraws(p, r, q.n, sh.Dims[4] != 0)
	return q
}

func (q pairs) bound(d *Bound, prob *Buffer) (kernel.Score, kernel.ScorePairs) {
	f := q.form
	f.U = d.Ptr(q.u)
	return f, kernel.ScorePairs{M: q.m, N: q.n, K: q.k, P: d.Ptr(prob), Rows: d.Ptr(q.rows), Labels: d.Ptr(q.labels)}
}

// each calls f with the row and the label of every pair.
func (q pairs) each(v *Values, f func(i, row, y int)) {
	for i := range q.m {
		row := i
		if q.rows != nil {
			row = int(v.F(q.rows)[i])
		}
		f(i, row, int(v.F(q.labels)[i]))
	}
}

func newPairScores(sh Shape, r *Rand) *Problem {
	p := &Problem{}
	q := newPairs(p, sh, r)
	p.Bytes, p.FLOPs = 4*float64(q.n*q.k+3*q.m), 4*float64(q.m*q.k)
	prob := Const(p, "p", probabilities(r.Values(q.n*q.k), q.n, q.k))
	out := OutConst[float32](p, "scores", scoreTol, q.m)
	p.Run = func(s *device.Stream, d *Bound) {
		f, pairs := q.bound(d, prob)
		kernel.PairScores(s, f, pairs, d.Ptr(out))
	}
	p.Ref = func(v *Values) {
		q.each(v, func(i, row, y int) {
			v.F(out)[i] = score(q.form, v.F(prob)[row*q.k:(row+1)*q.k], y, q.draw(v, row))
		})
	}
	return p
}

// newPairScoresBackward differentiates the sum of ds times the scores of softmax(z): z is no operand
// of the kernel, but what its output is the gradient to.
func newPairScoresBackward(sh Shape, r *Rand) *Problem {
	p := &Problem{}
	q := newPairs(p, sh, r)
	p.Bytes, p.FLOPs = 8*float64(q.n*q.k)+12*float64(q.m), 10*float64(q.n*q.k)
	logits := r.Values(q.n * q.k)
	z := Const(p, "z", logits)
	prob, ds := Const(p, "p", probabilities(logits, q.n, q.k)), Const(p, "ds", r.Normal(q.m))
	dz := OutConst[float32](p, "dz", Tol{Rel: 1e-6, Abs: 1e-7, Why: "a difference from a mean of k terms"}, q.n*q.k)
	p.Run = func(s *device.Stream, d *Bound) {
		f, pairs := q.bound(d, prob)
		kernel.PairScoresBackward(s, f, pairs, d.Ptr(ds), d.Ptr(dz))
	}
	p.Ref = func(v *Values) {
		dp := make([]float64, q.n*q.k)
		q.each(v, func(i, row, y int) {
			pr, to, s := v.F(prob)[row*q.k:(row+1)*q.k], dp[row*q.k:(row+1)*q.k], v.F(ds)[i]
			for j, x := range pr {
				switch {
				case j == y && q.form.Kind == kernel.HPS:
					to[j] -= s
				case j == y:
					to[j] += s * q.draw(v, row)
				case q.form.Kind != kernel.HPS && (x > pr[y] || x == pr[y] && j < y):
					to[j] += s
				}
			}
		})
		for i := range q.n {
			pr, d := v.F(prob)[i*q.k:(i+1)*q.k], dp[i*q.k:(i+1)*q.k]
			mean := dot(pr, d)
			for j, x := range pr {
				v.F(dz)[i*q.k+j] = x * (d[j] - mean)
			}
		}
	}
	p.Gradients = []Gradient{{Out: dz, In: z, Of: func(v *Values) float64 {
		sum := 0.0
		q.each(v, func(i, row, y int) {
			sum += v.F(ds)[i] * score(q.form, softmaxOf(v.F(z)[row*q.k:(row+1)*q.k]), y, q.draw(v, row))
		})
		return sum
	}}}
	return p
}
