package conformal

var (
	_ Score    = SAPS{}
	_ Gradient = SAPS{}
	_ Bounded  = SAPS{}
	_ Score    = Margin{}
	_ Gradient = Margin{}
	_ Bounded  = Margin{}
)

// SAPS keeps of the probabilities only the largest, and counts ranks for the rest:
//
//	S(x, y) = u·p_max                          rank(y) = 1
//	S(x, y) = p_max + (rank(y) − 2 + u)·λ      else
//
// with ranks in the order of APS. Huang, Xi, Zhang, Yao, Qiu, Wei, ICML 2024.
type SAPS struct{ Lambda float64 }

// Scores implements Score.
func (s SAPS) Scores(dst []float64, r *Row) {
	s.walk(r, func(y int, score, _ float64) bool {
		dst[y] = score
		return true
	})
}

// Gradient implements Gradient: only p_max has a part.
func (s SAPS) Gradient(dst []float64, r *Row, y int) {
	clear(dst)
	top := Top(r.P)
	dst[top] = 1
	if y == top {
		dst[top] = r.Draw(y)
	}
}

// Bounds implements Bounded.
func (s SAPS) Bounds(k int) (low, high float64) { return 0, 1 + s.Lambda*float64(max(0, k-1)) }

// Margin is the lead of the best other label:
//
//	S(x, y) = max_{j≠y} p_j − p_y
//
// from −1 for a label that is certain to 1. With a single label the maximum is over nothing and 0.
type Margin struct{}

// Scores implements Score.
func (Margin) Scores(dst []float64, r *Row) {
	first, second := topTwo(r.P)
	for y, p := range r.P {
		switch {
		case y != first:
			dst[y] = r.P[first] - p
		case second >= 0:
			dst[y] = r.P[second] - p
		default:
			dst[y] = -p
		}
	}
}

// Gradient implements Gradient.
func (Margin) Gradient(dst []float64, r *Row, y int) {
	clear(dst)
	dst[y] = -1
	first, second := topTwo(r.P)
	if first == y {
		first = second
	}
	if first >= 0 {
		dst[first] = 1
	}
}

// Bounds implements Bounded.
func (Margin) Bounds(int) (low, high float64) { return -1, 1 }

// topTwo returns the labels of the two largest entries, ties by index, −1 for one that is not there.
func topTwo(p []float64) (first, second int) {
	first, second = -1, -1
	for y, v := range p {
		switch {
		case first < 0 || v > p[first]:
			first, second = y, first
		case second < 0 || v > p[second]:
			second = y
		}
	}
	return first, second
}
