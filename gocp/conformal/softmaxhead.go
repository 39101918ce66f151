package conformal

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// SoftmaxOptions describe a softmax head.
type SoftmaxOptions struct {
	// Lambda is the weight of the penalty λ/2‖W‖² beside the summed cross entropy, above 0.
	Lambda float64
	// Bias adds a feature that is 1, penalised as the others are.
	Bias bool
	// Score of a sample by its probabilities: Residual is 1 − p_y, Lead max_{j≠y} p_j − p_y.
	Score HeadScore
}

// FullSoftmax is full conformal prediction with a multinomial logistic head on fixed features: for
// every test sample x and candidate y the head minimises
//
//	L(W) = Σ_i −log softmax(W x_i)_{y_i} + λ/2 ‖W‖²
//
// over all n samples and (x, y), and the n+1 scores under that one fit are compared.
//
// Each fit starts at the optimum of the n samples and takes Newton steps with the factor of their
// Hessian, which is refreshed only when a step gains too little. Fits stop by a certificate, not
// by a tolerance: L is λ-strongly convex, so ‖W − W*‖ ≤ ‖∇L(W)‖/λ =: ρ, and the score of sample i
// is within ℓ·ρ·‖x_i‖ of that under the exact optimum, ℓ being the score's Lipschitz constant in
// the logits (√2/4 for Residual, √2/2 for Lead). The fit ends as soon as these bounds settle
// whether y belongs to the set. Should they still not settle it when the gradient is as small as
// rounding allows, as with exact ties, the scores in doubt count as no smaller than the test
// sample's, which can only enlarge the set, and Unsettled counts the candidate.
//
// Setting up takes O(n d²K² + (dK)³); a candidate a few gradients, O(ndK) each, and solves,
// O((dK)²) each.
type FullSoftmax struct {
	n, d, k int
	opt     SoftmaxOptions
	labels  []int
	x       blas64.General // (n+1) × d: the last row is for the test sample
	norms   []float64      // ‖x_i‖ of the n samples
	base    []float64      // optimum of the n samples, d × K
	chol    mat.Cholesky   // of its Hessian
}

// NewFullSoftmax fits the head to n samples of d features, row after row.
func NewFullSoftmax(features []float64, n, d int, labels []int, k int, o SoftmaxOptions) (*FullSoftmax, error) {
	if err := o.Score.check(); err != nil {
		return nil, err
	}
	if !(o.Lambda > 0) || math.IsInf(o.Lambda, 1) {
		return nil, fmt.Errorf("softmax head: lambda is %v: it must be finite and above 0", o.Lambda)
	}
	if k < 1 {
		return nil, fmt.Errorf("softmax head: %d labels", k)
	}
	x, err := designMatrix(features, n, d, o.Bias)
	if err != nil {
		return nil, err
	}
	if err := checkLabels(labels, n, k); err != nil {
		return nil, fmt.Errorf("softmax head: %w", err)
	}
	s := &FullSoftmax{n: n, d: d, k: k, opt: o, labels: append(slices.Clone(labels), 0)}
	s.x = blas64.General{Rows: n + 1, Cols: x.Cols, Stride: x.Cols, Data: make([]float64, (n+1)*x.Cols)}
	copy(s.x.Data, x.Data)
	s.norms = make([]float64, n)
	for i := range s.norms {
		s.norms[i] = floats.Norm(x.Data[i*x.Cols:(i+1)*x.Cols], 2)
	}
	fit := s.newFit(n)
	copy(fit.w, make([]float64, len(fit.w)))
	fit.evaluate()
	if err := fit.factor(); err != nil {
		return nil, err
	}
	for range maxNewton {
		before := fit.norm
		if !fit.step() {
			break
		}
		if fit.norm > before/16 {
			if err := fit.factor(); err != nil {
				return nil, err
			}
		}
	}
	if err := fit.factor(); err != nil {
		return nil, err
	}
	s.base = slices.Clone(fit.w)
	s.chol.Clone(fit.chol)
	return s, nil
}

// maxNewton bounds the steps of one fit; a handful is usual.
const maxNewton = 200

// FullSoftmaxResult is a Full with what the stopping rule did.
type FullSoftmaxResult struct {
	Sets *Sets
	// P bounds the p-value of every candidate from above, m·K values; it is on the same side of ε as
	// the p-value itself unless the candidate is unsettled.
	P []float64
	// Steps counts Newton steps over all candidates, Unsettled the candidates that the bounds left
	// open.
	Steps, Unsettled int
}

// Predict returns sets of m test samples of d features.
func (s *FullSoftmax) Predict(features []float64, m int, level Level) (*FullSoftmaxResult, error) {
	if level.eps == nil {
		return nil, errors.New("the miscoverage is not set")
	}
	x, err := designMatrix(features, m, s.d, s.opt.Bias)
	if err != nil {
		return nil, err
	}
	out := &FullSoftmaxResult{Sets: NewSets(m, s.k), P: make([]float64, m*s.k)}
	cols := s.x.Cols
	fit := s.newFit(s.n + 1)
	scores := make([]float64, s.k)
	for i := range m {
		row := x.Data[i*cols : (i+1)*cols]
		copy(s.x.Data[s.n*cols:], row)
		for y := range s.k {
			s.labels[s.n] = y
			copy(fit.w, s.base)
			fit.chol = &s.chol
			fit.evaluate()
			count, settled, err := s.settle(fit, floats.Norm(row, 2), level, &out.Steps, scores)
			if err != nil {
				return nil, err
			}
			if !settled {
				out.Unsettled++
			}
			out.P[i*s.k+y] = float64(1+count) / float64(s.n+1)
			if level.below(1+count, s.n+1) {
				out.Sets.Add(i, y)
			}
		}
	}
	return out, nil
}

// settle runs Newton steps until the certificate decides, and returns how many samples count as
// conforming no better than the test sample.
func (s *FullSoftmax) settle(fit *headFit, norm float64, level Level, steps *int, scratch []float64) (count int, settled bool, err error) {
	lipschitz := math.Sqrt2 / 4
	if s.opt.Score == Lead {
		lipschitz = math.Sqrt2 / 2
	}
	score := func(i int) float64 {
		headScores(scratch, fit.p[i*s.k:(i+1)*s.k], s.opt.Score)
		return scratch[s.labels[i]]
	}
	const rounding = 1e-12 // of a score, from logits
	for n := 0; ; n++ {
		rho := lipschitz * fit.norm / s.opt.Lambda
		own := score(s.n)
		sure, possible := 0, 0
		for i := range s.n {
			gap, doubt := score(i)-own, rho*(norm+s.norms[i])+rounding
			if gap >= doubt {
				sure++
			}
			if gap >= -doubt {
				possible++
			}
		}
		if level.below(1+sure, s.n+1) || !level.below(1+possible, s.n+1) {
			return possible, true, nil
		}
		before := fit.norm
		if n == maxNewton || !fit.step() {
			return possible, false, nil
		}
		*steps++
		if fit.norm > before/4 {
			if err := fit.factor(); err != nil {
				return 0, false, err
			}
		}
	}
}

// headFit minimises L over the first rows of the head's samples.
type headFit struct {
	s    *FullSoftmax
	rows int
	chol *mat.Cholesky

	w, trial  []float64 // d × K
	p         []float64 // rows × K probabilities at w
	grad      []float64 // d × K
	value     float64
	norm      float64 // ‖grad‖
	residuals []float64
}

func (s *FullSoftmax) newFit(rows int) *headFit {
	size := s.x.Cols * s.k
	return &headFit{s: s, rows: rows, w: make([]float64, size), trial: make([]float64, size),
		p: make([]float64, rows*s.k), grad: make([]float64, size), residuals: make([]float64, rows*s.k)}
}

// evaluate computes probabilities, value and gradient at w.
func (f *headFit) evaluate() {
	s, k := f.s, f.s.k
	f.value = f.s.opt.Lambda / 2 * floats.Dot(f.w, f.w)
	w := blas64.General{Rows: s.x.Cols, Cols: k, Stride: k, Data: f.w}
	g := blas64.General{Rows: s.x.Cols, Cols: k, Stride: k, Data: f.grad}
	copy(f.grad, f.w)
	if f.rows == 0 {
		floats.Scale(s.opt.Lambda, f.grad)
		f.norm = floats.Norm(f.grad, 2)
		return
	}
	x := s.x
	x.Rows = f.rows
	z := blas64.General{Rows: f.rows, Cols: k, Stride: k, Data: f.p}
	blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, x, w, 0, z)
	for i := range f.rows {
		row := f.p[i*k : (i+1)*k]
		y := s.labels[i]
		top := slices.Max(row)
		own, sum := row[y], 0.0
		for j, v := range row {
			row[j] = math.Exp(v - top)
			sum += row[j]
		}
		f.value += math.Log(sum) + top - own
		for j := range row {
			row[j] /= sum
		}
	}
	copy(f.residuals, f.p)
	for i := range f.rows {
		f.residuals[i*k+s.labels[i]]--
	}
	blas64.Gemm(blas.Trans, blas.NoTrans, 1, x, blas64.General{Rows: f.rows, Cols: k, Stride: k, Data: f.residuals}, s.opt.Lambda, g)
	f.norm = floats.Norm(f.grad, 2)
}

// factor puts the Cholesky factor of the Hessian at w into chol: blocks
// Σ_i p_a(δ_ab − p_b) x_i x_iᵀ + λδ_ab, in the layout of w.
func (f *headFit) factor() error {
	s, k, d := f.s, f.s.k, f.s.x.Cols
	h := mat.NewSymDense(d*k, nil)
	weighted := blas64.General{Rows: f.rows, Cols: d, Stride: d, Data: make([]float64, f.rows*d)}
	block := blas64.General{Rows: d, Cols: d, Stride: d, Data: make([]float64, d*d)}
	x := s.x
	x.Rows = f.rows
	for a := range k {
		for b := a; b < k; b++ {
			clear(block.Data)
			if f.rows > 0 {
				for i := range f.rows {
					w := -f.p[i*k+a] * f.p[i*k+b]
					if a == b {
						w += f.p[i*k+a]
					}
					for j, v := range s.x.Data[i*d : (i+1)*d] {
						weighted.Data[i*d+j] = w * v
					}
				}
				blas64.Gemm(blas.Trans, blas.NoTrans, 1, x, weighted, 0, block)
			}
			for i := range d {
				for j := range d {
					h.SetSym(i*k+a, j*k+b, block.Data[i*d+j])
				}
			}
		}
	}
	for i := range d * k {
		h.SetSym(i, i, h.At(i, i)+s.opt.Lambda)
	}
	f.chol = new(mat.Cholesky)
	if !f.chol.Factorize(h) {
		return errors.New("softmax head: the features are too large for lambda: the Hessian is singular to working precision")
	}
	return nil
}

// step takes one Newton step with the factor at hand, halved until the value falls enough. It
// reports false when rounding allows no more progress.
func (f *headFit) step() bool {
	dir := new(mat.VecDense)
	err := f.chol.SolveVecTo(dir, mat.NewVecDense(len(f.grad), f.grad))
	if _, ok := err.(mat.Condition); err != nil && !ok {
		return false
	}
	slope := floats.Dot(dir.RawVector().Data, f.grad)
	value, norm := f.value, f.norm
	copy(f.trial, f.w)
	for t := 1.0; t > 1e-10; t /= 2 {
		floats.AddScaledTo(f.w, f.trial, -t, dir.RawVector().Data)
		f.evaluate()
		// Near the optimum the value no longer tells, but the gradient does.
		if f.value <= value-1e-4*t*slope && f.norm < norm*(1+1e-3) || f.norm < norm/2 {
			return true
		}
		if f.value <= value-1e-4*t*slope && slope > 1e-8*(1+math.Abs(value)) {
			return true
		}
	}
	copy(f.w, f.trial)
	f.evaluate()
	return false
}
