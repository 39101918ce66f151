package conformal

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// HeadScore is the non-conformity of a sample given the K outputs of a head.
type HeadScore string

const (
	// Residual is 1 − f_y.
	Residual HeadScore = "residual"
	// Lead is max_{j≠y} f_j − f_y.
	Lead HeadScore = "margin"
)

func (h *HeadScore) check() error {
	if *h == "" {
		*h = Residual
	}
	if *h != Residual && *h != Lead {
		return fmt.Errorf("unknown score of a head %q: known are residual, margin", clip(string(*h)))
	}
	return nil
}

// RidgeOptions describe a ridge-regression head.
type RidgeOptions struct {
	// Lambda is the weight of the penalty, above 0.
	Lambda float64
	// Bias adds a feature that is 1, penalised as the others are.
	Bias bool
	// Score of a sample; empty means Residual.
	Score HeadScore
}

// FullRidge is full conformal prediction with a ridge-regression head on fixed features: for every
// test sample x and every candidate label y the head is refit on all n samples and (x, y), and each
// of the n+1 samples is scored by the head fit on the other n (leave-one-out). No refit is ever
// run. With A = XᵀX + λI, W = A⁻¹XᵀY on one-hot targets, F = XW, H = X A⁻¹ Xᵀ, and
//
//	b = A⁻¹x,  s = xᵀb,  g_i = x_iᵀb,  c_i = g_i/(1+s),  f = Wᵀx
//
// the rank-one update by (x, e_y) gives outputs F_i + c_i(e_y − f) and leverages
// h_i = H_ii − g_i²/(1+s), so sample i's leave-one-out outputs are
//
//	( F_i + c_i(e_y − f) − h_i e_{y_i} ) / (1 − h_i),
//
// and those of x itself are f, whatever y is. Setting up takes O(nd² + d³); a test sample
// O(d² + nd + nK), and each candidate then O(n).
type FullRidge struct {
	n, d, k int
	opt     RidgeOptions
	x       blas64.General // n × d
	labels  []int
	chol    mat.Cholesky
	w       blas64.General // d × k
	f       []float64      // n × k
	h       []float64
}

// ridgeSlack is how far below the test score a score may lie, relative to 1 + |score|, and count as
// no smaller: rounding must not decide ties, and counting them is the side on which sets cover.
const ridgeSlack = 1e-9

// ridgeBlock bounds how many test samples are multiplied at once.
const ridgeBlock = 64

// NewFullRidge fits the head to n samples of d features, row after row.
func NewFullRidge(features []float64, n, d int, labels []int, k int, o RidgeOptions) (*FullRidge, error) {
	if err := o.Score.check(); err != nil {
		return nil, err
	}
	if !(o.Lambda > 0) || math.IsInf(o.Lambda, 1) {
		return nil, fmt.Errorf("ridge head: lambda is %v: it must be finite and above 0", o.Lambda)
	}
	if k < 1 {
		return nil, fmt.Errorf("ridge head: %d labels", k)
	}
	x, err := designMatrix(features, n, d, o.Bias)
	if err != nil {
		return nil, err
	}
	if err := checkLabels(labels, n, k); err != nil {
		return nil, fmt.Errorf("ridge head: %w", err)
	}
	r := &FullRidge{n: n, d: d, k: k, opt: o, x: x, labels: slices.Clone(labels)}
	cols := x.Cols
	a := mat.NewSymDense(cols, nil)
	if n > 0 {
		blas64.Syrk(blas.Trans, 1, x, 0, a.RawSymmetric())
	}
	for i := range cols {
		a.SetSym(i, i, a.At(i, i)+o.Lambda)
	}
	if !r.chol.Factorize(a) {
		return nil, errors.New("ridge head: the features are too large for lambda: the normal equations are singular to working precision")
	}
	xty := mat.NewDense(cols, k, nil)
	for i, y := range labels {
		for j := range cols {
			xty.Set(j, y, xty.At(j, y)+x.Data[i*x.Stride+j])
		}
	}
	w := new(mat.Dense)
	if err := solve(&r.chol, w, xty); err != nil {
		return nil, fmt.Errorf("ridge head: %w", err)
	}
	r.w = w.RawMatrix()
	r.h = make([]float64, n)
	r.f = make([]float64, n*k)
	if n > 0 {
		fm := blas64.General{Rows: n, Cols: k, Stride: k, Data: r.f}
		blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, x, r.w, 0, fm)
		z := new(mat.Dense) // A⁻¹Xᵀ
		if err := solve(&r.chol, z, mat.NewDense(n, cols, x.Data).T()); err != nil {
			return nil, fmt.Errorf("ridge head: %w", err)
		}
		for i := range n {
			for j := range cols {
				r.h[i] += x.Data[i*x.Stride+j] * z.At(j, i)
			}
		}
	}
	return r, nil
}

// solve ignores gonum's warning about the condition: the penalty bounds it, and results near
// singularity still are those of a slightly different penalty.
func solve(c *mat.Cholesky, dst *mat.Dense, b mat.Matrix) error {
	err := c.SolveTo(dst, b)
	if _, ok := err.(mat.Condition); ok {
		return nil
	}
	return err
}

// designMatrix checks features and appends the constant one.
func designMatrix(features []float64, n, d int, bias bool) (blas64.General, error) {
	if n < 0 || d < 1 || len(features) != n*d {
		return blas64.General{}, fmt.Errorf("features: %d values are not %d rows of %d", len(features), n, d)
	}
	for i, v := range features {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return blas64.General{}, fmt.Errorf("features of row %d: entry %d is %v", i/d, i%d, v)
		}
	}
	if !bias {
		return blas64.General{Rows: n, Cols: d, Stride: d, Data: features}, nil
	}
	x := blas64.General{Rows: n, Cols: d + 1, Stride: d + 1, Data: make([]float64, n*(d+1))}
	for i := range n {
		copy(x.Data[i*(d+1):], features[i*d:(i+1)*d])
		x.Data[i*(d+1)+d] = 1
	}
	return x, nil
}

// Full is what full conformal prediction says of m test samples.
type Full struct {
	Sets *Sets
	// P is the p-value (1 + #{i : s_i ≥ s})/(n+1) of every candidate, m·K values.
	P []float64
}

// Predict returns sets and p-values of m test samples of d features.
func (r *FullRidge) Predict(features []float64, m int, level Level) (*Full, error) {
	if level.eps == nil {
		return nil, errors.New("the miscoverage is not set")
	}
	x, err := designMatrix(features, m, r.d, r.opt.Bias)
	if err != nil {
		return nil, err
	}
	out := &Full{Sets: NewSets(m, r.k), P: make([]float64, m*r.k)}
	cols := x.Cols
	g := make([]float64, ridgeBlock*r.n)
	f := make([]float64, ridgeBlock*r.k)
	for first := 0; first < m; first += ridgeBlock {
		size := min(ridgeBlock, m-first)
		block := blas64.General{Rows: size, Cols: cols, Stride: cols, Data: x.Data[first*cols : (first+size)*cols]}
		b := new(mat.Dense) // A⁻¹ of the block, a column for each test sample
		if err := solve(&r.chol, b, mat.NewDense(size, cols, block.Data).T()); err != nil {
			return nil, fmt.Errorf("ridge head: %w", err)
		}
		if r.n > 0 {
			blas64.Gemm(blas.Trans, blas.Trans, 1, b.RawMatrix(), r.x, 0,
				blas64.General{Rows: size, Cols: r.n, Stride: r.n, Data: g})
		}
		blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, block, r.w, 0, blas64.General{Rows: size, Cols: r.k, Stride: r.k, Data: f})
		for i := range size {
			s := 0.0
			for j := range cols {
				s += block.Data[i*cols+j] * b.At(j, i)
			}
			r.candidates(out, first+i, s, g[i*r.n:(i+1)*r.n], f[i*r.k:(i+1)*r.k], level)
		}
	}
	return out, nil
}

// candidates counts, for every candidate y of one test sample, the samples that conform no better.
func (r *FullRidge) candidates(out *Full, at int, s float64, g, f []float64, level Level) {
	k := r.k
	limit := make([]float64, k) // the test sample's scores, lowered by the slack
	headScores(limit, f, r.opt.Score)
	for y, v := range limit {
		limit[y] = v - ridgeSlack*(1+math.Abs(v))
	}
	count := make([]int, k)
	for i, gi := range g {
		yi := r.labels[i]
		c := gi / (1 + s)
		h := r.h[i] - gi*gi/(1+s)
		scale := 1 / (1 - h)
		base := r.f[i*k : (i+1)*k]
		own := base[yi] - c*f[yi] - h
		if r.opt.Score == Residual {
			other := 1 - own*scale // for candidates that are not y_i
			for y, l := range limit {
				if other >= l && y != yi {
					count[y]++
				}
			}
			if 1-(own+c)*scale >= limit[yi] {
				count[yi]++
			}
			continue
		}
		// The two best outputs among labels other than y_i: a candidate moves one by c.
		first, second, best := math.Inf(-1), math.Inf(-1), -1
		for j, v := range base {
			if j == yi {
				continue
			}
			v -= c * f[j]
			if v > first {
				first, second, best = v, first, j
			} else if v > second {
				second = v
			}
		}
		if k == 1 {
			// The maximum is over nothing and 0, as in Margin.
			if -(own+c)*scale >= limit[0] {
				count[0]++
			}
			continue
		}
		for y, l := range limit {
			lead := 0.0
			switch {
			case y == yi:
				lead = first - own - c
			case y == best:
				lead = max(first+c, second) - own
			default:
				lead = max(first, base[y]-c*f[y]+c) - own
			}
			if lead*scale >= l {
				count[y]++
			}
		}
	}
	for y, c := range count {
		out.P[at*k+y] = float64(1+c) / float64(r.n+1)
		if level.below(1+c, r.n+1) {
			out.Sets.Add(at, y)
		}
	}
}

// headScores writes the score of every label given outputs f.
func headScores(dst, f []float64, kind HeadScore) {
	if kind == Lead {
		Margin{}.Scores(dst, &Row{P: f})
		return
	}
	for y, v := range f {
		dst[y] = 1 - v
	}
}
