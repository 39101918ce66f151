package conformal

import (
	"fmt"
	"math"
)

// Scorer computes the scores of a variant for whole tables.
type Scorer struct {
	variant Variant
	score   Score
}

// NewScorer checks the variant and finds its score.
func NewScorer(v Variant) (*Scorer, error) {
	if v.U == "" {
		v.U = DrawOne
	}
	s, err := v.Score()
	if err != nil {
		return nil, err
	}
	return &Scorer{variant: v, score: s}, nil
}

// Variant returns what the scorer was made from, with defaults filled in: record it.
func (s *Scorer) Variant() Variant { return s.variant }

// each calls f with the scores of every row; scores is reused between calls.
func (s *Scorer) each(p *Probs, u []float64, f func(i int, scores []float64)) error {
	if err := s.variant.checkU(u, p.N, p.K); err != nil {
		return err
	}
	var row Row
	scores := make([]float64, p.K)
	for i := range p.N {
		row.Reset(p.Row(i), s.variant.rowU(u, i, p.K))
		s.score.Scores(scores, &row)
		for y, v := range scores {
			if math.IsNaN(v) {
				return fmt.Errorf("score %s of row %d, label %d is NaN", s.variant, i, y)
			}
		}
		f(i, scores)
	}
	return nil
}

// All returns S(x_i, y) for every sample and label, N·K values row after row. u comes from
// Variant.Uniforms, nil for a variant that is not randomised.
func (s *Scorer) All(p *Probs, u []float64) ([]float64, error) {
	out := make([]float64, p.N*p.K)
	err := s.each(p, u, func(i int, scores []float64) { copy(out[i*p.K:], scores) })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Labelled returns S(x_i, y_i), one value for each sample: the calibration scores.
func (s *Scorer) Labelled(p *Probs, labels []int, u []float64) ([]float64, error) {
	if err := checkLabels(labels, p.N, p.K); err != nil {
		return nil, err
	}
	out := make([]float64, p.N)
	err := s.each(p, u, func(i int, scores []float64) { out[i] = scores[labels[i]] })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Calibrate is Labelled followed by the threshold.
func (s *Scorer) Calibrate(p *Probs, labels []int, u []float64, level Level) (Threshold, error) {
	scores, err := s.Labelled(p, labels, u)
	if err != nil {
		return Threshold{}, err
	}
	return Calibrate(scores, level)
}

// Predict returns the sets {y : S(x, y) ≤ τ}. With Nonempty in the variant a set that would be
// empty holds the top label, and Sets.Filled counts how often that happened.
func (s *Scorer) Predict(p *Probs, u []float64, t Threshold) (*Sets, error) {
	if math.IsNaN(t.Tau) {
		return nil, fmt.Errorf("threshold of %d calibration scores is NaN", t.N)
	}
	return s.predict(p, u, func(int, int) float64 { return t.Tau })
}

// predict returns the sets {y : S(x_i, y) ≤ tau(i, y)}.
func (s *Scorer) predict(p *Probs, u []float64, tau func(i, y int) float64) (*Sets, error) {
	sets := NewSets(p.N, p.K)
	err := s.each(p, u, func(i int, scores []float64) {
		empty := true
		for y, v := range scores {
			if v <= tau(i, y) {
				sets.Add(i, y)
				empty = false
			}
		}
		if empty && s.variant.Nonempty {
			sets.Add(i, p.Top(i))
			sets.Filled++
		}
	})
	if err != nil {
		return nil, err
	}
	return sets, nil
}

// checkLabels checks that there is a label in [0, k) for each of n rows.
func checkLabels(labels []int, n, k int) error {
	if len(labels) != n {
		return fmt.Errorf("%d labels for %d rows", len(labels), n)
	}
	for i, y := range labels {
		if y < 0 || y >= k {
			return fmt.Errorf("label of row %d is %d: it must lie in [0, %d)", i, y, k)
		}
	}
	return nil
}
