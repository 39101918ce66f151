package conformal

// partial is a Score that does without the scores of all labels. What it gives has the bits that
// Scores gives, so that thresholds and sets do not depend on which way they were computed.
type partial interface {
	Score
	// one returns S(x, y).
	one(r *Row, y int) float64
	// upTo calls visit with every label whose score is at most tau, and may call it with others.
	upTo(r *Row, tau float64, visit func(y int, score float64))
}

var (
	_ partial = HPS{}
	_ partial = APS{}
	_ partial = RAPS{}
	_ partial = SAPS{}
)

func (HPS) one(r *Row, y int) float64 { return 1 - r.P[y] }

func (HPS) upTo(r *Row, tau float64, visit func(int, float64)) {
	for y, p := range r.P {
		if s := 1 - p; s <= tau {
			visit(y, s)
		}
	}
}

func (APS) one(r *Row, y int) float64 { return RAPS{}.one(r, y) }

func (APS) upTo(r *Row, tau float64, visit func(int, float64)) { RAPS{}.upTo(r, tau, visit) }

func (s RAPS) one(r *Row, y int) float64 {
	found := 0.0
	s.walk(r, func(label int, score, _ float64) bool {
		found = score
		return label != y
	})
	return found
}

// upTo stops at the first label whose least possible score, that for u = 0, is above tau: sums and
// penalties only grow from there, rounding included.
func (s RAPS) upTo(r *Row, tau float64, visit func(int, float64)) {
	s.walk(r, func(label int, score, least float64) bool {
		if least > tau {
			return false
		}
		visit(label, score)
		return true
	})
}

// walk visits labels in order with their score and what it would be for u = 0, until told to stop.
func (s RAPS) walk(r *Row, visit func(label int, score, least float64) bool) {
	before := 0.0 // Σ p_j over the labels before y: grows along the order
	for i := range r.P {
		y := r.leading(i + 1)[i]
		v, least := before+r.Draw(y)*r.P[y], before
		if over := i + 1 - s.KReg; over > 0 {
			penalty := s.Lambda * float64(over)
			v += penalty
			least += penalty
		}
		if !visit(y, v, least) {
			return
		}
		before += r.P[y]
	}
}

func (s SAPS) one(r *Row, y int) float64 {
	found := 0.0
	s.walk(r, func(label int, score, _ float64) bool {
		found = score
		return label != y
	})
	return found
}

func (s SAPS) upTo(r *Row, tau float64, visit func(int, float64)) {
	s.walk(r, func(label int, score, least float64) bool {
		if least > tau {
			return false
		}
		visit(label, score)
		return true
	})
}

func (s SAPS) walk(r *Row, visit func(label int, score, least float64) bool) {
	top := 0.0
	for i := range r.P {
		y := r.leading(i + 1)[i]
		if i == 0 {
			top = r.P[y]
			if !visit(y, r.Draw(y)*top, 0) {
				return
			}
			continue
		}
		if !visit(y, top+(float64(i-1)+r.Draw(y))*s.Lambda, top+float64(i-1)*s.Lambda) {
			return
		}
	}
}
