package conformal

import "fmt"

// Gradient is a Score with a derivative. Ranks are held fixed, since they are constant between
// ties: at a tie the derivative is that of the side on which the order of Row stands.
type Gradient interface {
	Score
	// Gradient writes ∂S(x, y)/∂p_j of one label y into dst, for all j.
	Gradient(dst []float64, r *Row, y int)
}

// Bounded is a Score whose values lie in a known interval when there are k labels.
type Bounded interface {
	Score
	Bounds(k int) (low, high float64)
}

var (
	_ Gradient = HPS{}
	_ Gradient = APS{}
	_ Gradient = RAPS{}
	_ Bounded  = HPS{}
	_ Bounded  = APS{}
	_ Bounded  = RAPS{}
)

// Gradient implements Gradient: −1 at y.
func (HPS) Gradient(dst []float64, _ *Row, y int) {
	clear(dst)
	dst[y] = -1
}

// Bounds implements Bounded.
func (HPS) Bounds(int) (low, high float64) { return 0, 1 }

// Gradient implements Gradient: 1 at the labels before y, u at y.
func (APS) Gradient(dst []float64, r *Row, y int) {
	for j, p := range r.P {
		dst[j] = 0
		if before(p, j, r.P[y], y) {
			dst[j] = 1
		}
	}
	dst[y] = r.Draw(y)
}

// Bounds implements Bounded.
func (APS) Bounds(int) (low, high float64) { return 0, 1 }

// Gradient implements Gradient: that of APS, since the penalty is constant between ties.
func (s RAPS) Gradient(dst []float64, r *Row, y int) { APS{}.Gradient(dst, r, y) }

// Bounds implements Bounded.
func (s RAPS) Bounds(k int) (low, high float64) {
	return 0, 1 + s.Lambda*float64(max(0, k-s.KReg))
}

// before tells whether label j comes before label y in the order of Row.
func before(pj float64, j int, py float64, y int) bool { return pj > py || pj == py && j < y }

// SoftmaxBackward carries a gradient to probabilities g back to logits, in place:
//
//	dz_j = p_j·(g_j − Σ_i p_i g_i)
func SoftmaxBackward(g, p []float64) {
	dot := 0.0
	for j, v := range g {
		dot += v * p[j]
	}
	for j := range g {
		g[j] = p[j] * (g[j] - dot)
	}
}

// GradientTo returns ∂S(x, y)/∂p of one label of one row; a score without a derivative is an error.
func (s *Scorer) GradientTo(p *Probs, i, y int, u []float64) ([]float64, error) {
	g, ok := s.score.(Gradient)
	if !ok {
		return nil, fmt.Errorf("score %s has no gradient", s.variant)
	}
	if i < 0 || i >= p.N || y < 0 || y >= p.K {
		return nil, fmt.Errorf("gradient of row %d, label %d: there are %d rows of %d labels", i, y, p.N, p.K)
	}
	if err := s.variant.checkU(u, p.N, p.K); err != nil {
		return nil, err
	}
	var row Row
	row.Reset(p.Row(i), s.variant.rowU(u, i, p.K))
	out := make([]float64, p.K)
	g.Gradient(out, &row, y)
	return out, nil
}
