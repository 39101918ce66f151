package conformal

// Score is a non-conformity score: small conforms. Adding one takes this method and a line in
// register.go.
type Score interface {
	// Scores writes S(x, y) of every label y into dst, which has as many entries as r.P.
	Scores(dst []float64, r *Row)
}

var (
	_ Score = HPS{}
	_ Score = APS{}
	_ Score = RAPS{}
)

// HPS is the homogeneous prediction set score, also called THR or LAC:
//
//	S(x, y) = 1 − p_y
//
// Sadinle, Lei, Wasserman, JASA 2019. Its sets are the smallest on average.
type HPS struct{}

// Scores implements Score.
func (HPS) Scores(dst []float64, r *Row) {
	for y, p := range r.P {
		dst[y] = 1 - p
	}
}

// APS is the adaptive prediction set score:
//
//	S(x, y) = Σ_{j before y} p_j + u·p_y
//
// where j is before y when p_j > p_y, or p_j = p_y and j < y. With u = 1 a label's own
// probability counts in full, and the set of a confident sample can be empty. Romano, Sesia,
// Candès, NeurIPS 2020.
type APS struct{}

// Scores implements Score.
func (APS) Scores(dst []float64, r *Row) { RAPS{}.Scores(dst, r) }

// RAPS is APS with a penalty on deep ranks:
//
//	S(x, y) = APS(x, y) + λ·max(0, rank(y) − k_reg)
//
// with rank from 1 in the order of APS. Angelopoulos, Bates, Malik, Jordan, ICLR 2021.
type RAPS struct {
	Lambda float64
	KReg   int
}

// Scores implements Score.
func (s RAPS) Scores(dst []float64, r *Row) {
	s.walk(r, func(y int, score, _ float64) bool {
		dst[y] = score
		return true
	})
}
