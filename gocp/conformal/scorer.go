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
	if err := s.variant.checkU(u, p.N, p.K); err != nil {
		return nil, err
	}
	out := make([]float64, p.N)
	w := s.worker(p.K)
	for i, y := range labels {
		var err error
		if out[i], err = w.labelled(p.Row(i), s.variant.rowU(u, i, p.K), y); err != nil {
			return nil, &RowError{i, err}
		}
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
	return s.predict(p, u, func(int) limits { return limits{tau: t.Tau} })
}

// limits are the thresholds that decide on one row.
type limits struct {
	tau float64   // of all labels, or the largest
	per []float64 // of each label, unless all are alike
}

func (l limits) holds(y int, score float64) bool {
	if l.per != nil {
		return score <= l.per[y]
	}
	return score <= l.tau
}

// predict returns the sets {y : S(x_i, y) ≤ τ}, with the thresholds of row i.
func (s *Scorer) predict(p *Probs, u []float64, of func(i int) limits) (*Sets, error) {
	if err := s.variant.checkU(u, p.N, p.K); err != nil {
		return nil, err
	}
	sets := NewSets(p.N, p.K)
	w := s.worker(p.K)
	for i := range p.N {
		if err := w.add(sets, i, p.Row(i), s.variant.rowU(u, i, p.K), of(i)); err != nil {
			return nil, &RowError{i, err}
		}
	}
	return sets, nil
}

// worker scores row after row with buffers of its own.
type worker struct {
	s       *Scorer
	row     Row
	scores  []float64
	partial partial // nil for a score without shortcuts
}

func (s *Scorer) worker(k int) *worker {
	w := &worker{s: s}
	w.partial, _ = s.score.(partial)
	if w.partial == nil {
		w.scores = make([]float64, k)
	}
	return w
}

func (w *worker) all() ([]float64, error) {
	w.s.score.Scores(w.scores, &w.row)
	for y, v := range w.scores {
		if math.IsNaN(v) {
			return nil, fmt.Errorf("score %s of label %d is NaN", w.s.variant, y)
		}
	}
	return w.scores, nil
}

// labelled is the score of one label.
func (w *worker) labelled(p, u []float64, y int) (float64, error) {
	w.row.Reset(p, u)
	if w.partial != nil {
		return w.partial.one(&w.row, y), nil
	}
	scores, err := w.all()
	if err != nil {
		return 0, err
	}
	return scores[y], nil
}

// add puts the labels y with S(x, y) ≤ τ into set i.
func (w *worker) add(sets *Sets, i int, p, u []float64, t limits) error {
	w.row.Reset(p, u)
	empty := true
	visit := func(y int, score float64) {
		if t.holds(y, score) {
			sets.Add(i, y)
			empty = false
		}
	}
	if w.partial != nil {
		w.partial.upTo(&w.row, t.tau, visit)
	} else {
		scores, err := w.all()
		if err != nil {
			return err
		}
		for y, v := range scores {
			visit(y, v)
		}
	}
	if empty && w.s.variant.Nonempty {
		sets.Add(i, Top(p))
		sets.Filled++
	}
	return nil
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
