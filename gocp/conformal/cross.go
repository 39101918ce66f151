package conformal

import (
	"fmt"
	"math"
	"slices"
)

// Cross is cross-conformal prediction (Vovk 2015), which uses every labelled sample both to train
// and to calibrate. The samples are split into folds; s_i is the score of sample i under the model
// that was trained without its fold f(i). A label enters the set of x when
//
//	(1 + #{i : s_i ≥ S_f(i)(x, y)})/(n+1) > ε,
//
// S_f being the score under the model without fold f. That is the same set as CV+ for
// classification, { y : #{i : s_i < S_f(i)(x, y)} < (1−ε)(n+1) } (Romano, Sesia, Candès 2020),
// since the two counts sum to n; with a fold for each sample it is jackknife+. Floor has the
// coverage that is proven; 1 − ε is what one sees.
type Cross struct {
	scorer *Scorer
	k, n   int
	folds  [][]float64 // ascending scores of each fold
}

// NewCross takes out-of-fold probabilities: row i of p comes from the model trained without
// sample i's fold. Folds count from 0, and none is empty.
func NewCross(s *Scorer, p *Probs, labels, fold []int, u []float64) (*Cross, error) {
	scores, err := s.Labelled(p, labels, u)
	if err != nil {
		return nil, err
	}
	if len(fold) != p.N {
		return nil, fmt.Errorf("%d folds for %d rows", len(fold), p.N)
	}
	c := &Cross{scorer: s, k: p.K, n: p.N}
	for i, f := range fold {
		if f < 0 || f >= p.N {
			return nil, fmt.Errorf("fold of row %d is %d: it must lie in [0, %d)", i, f, p.N)
		}
		for len(c.folds) <= f {
			c.folds = append(c.folds, nil)
		}
		c.folds[f] = append(c.folds[f], scores[i])
	}
	for f, s := range c.folds {
		if len(s) == 0 {
			return nil, fmt.Errorf("fold %d is empty", f)
		}
		slices.Sort(s)
	}
	return c, nil
}

// Folds is the number of folds.
func (c *Cross) Folds() int { return len(c.folds) }

// Predict returns the sets of test samples. models[f] holds their probabilities under the model
// trained without fold f, and u[f] is the u of its rows; u is nil for a variant that is not randomised.
func (c *Cross) Predict(models []*Probs, u [][]float64, level Level) (*Sets, error) {
	return c.predict(models, u, level, func(scores []float64) int {
		atLeast := 0
		for f, s := range c.folds {
			low, _ := slices.BinarySearch(s, scores[f])
			atLeast += len(s) - low
		}
		return atLeast
	})
}

// PredictMinMax is the jackknife-minmax form: a label's score is its least over the folds' models.
// Its sets contain those of Predict and cover with probability 1 − ε.
func (c *Cross) PredictMinMax(models []*Probs, u [][]float64, level Level) (*Sets, error) {
	return c.predict(models, u, level, func(scores []float64) int {
		least := slices.Min(scores)
		atLeast := 0
		for _, s := range c.folds {
			low, _ := slices.BinarySearch(s, least)
			atLeast += len(s) - low
		}
		return atLeast
	})
}

func (c *Cross) predict(models []*Probs, u [][]float64, level Level, atLeast func([]float64) int) (*Sets, error) {
	if len(models) != len(c.folds) {
		return nil, fmt.Errorf("probabilities of %d models for %d folds", len(models), len(c.folds))
	}
	if level.eps == nil {
		return nil, fmt.Errorf("the miscoverage is not set")
	}
	if u == nil {
		u = make([][]float64, len(models))
	}
	if len(u) != len(models) {
		return nil, fmt.Errorf("u for %d models; there are %d", len(u), len(models))
	}
	m := models[0].N
	all := make([][]float64, len(models))
	for f, p := range models {
		if p.N != m || p.K != c.k {
			return nil, fmt.Errorf("model %d has %d rows of %d labels; %d of %d are wanted", f, p.N, p.K, m, c.k)
		}
		var err error
		if all[f], err = c.scorer.All(p, u[f]); err != nil {
			return nil, fmt.Errorf("model %d: %w", f, err)
		}
	}
	sets := NewSets(m, c.k)
	scores := make([]float64, len(models))
	mean := make([]float64, c.k)
	for i := range m {
		empty := true
		for y := range c.k {
			mean[y] = 0
			for f := range models {
				scores[f] = all[f][i*c.k+y]
				mean[y] += models[f].At(i, y)
			}
			if level.below(1+atLeast(scores), c.n+1) {
				sets.Add(i, y)
				empty = false
			}
		}
		if empty && c.scorer.variant.Nonempty {
			sets.Add(i, Top(mean)) // of the models' mean
			sets.Filled++
		}
	}
	return sets, nil
}

// CrossFloor is the coverage proven for Cross.Predict with n samples in k folds of equal size:
//
//	1 − 2ε − min{ 2(1−1/k)/(n/k+1), (1−k/n)/(k+1) }
//
// and 1 − 2ε for jackknife+, k = n (Foygel Barber, Candès, Ramdas, Tibshirani, Annals of Statistics
// 2021, theorems 1 and 4; Romano, Sesia, Candès 2020, theorem 3).
func CrossFloor(level Level, n, k int) float64 {
	if n < 1 || k < 1 || k > n {
		return 0
	}
	nf, kf := float64(n), float64(k)
	slack := math.Min(2*(1-1/kf)/(nf/kf+1), (1-kf/nf)/(kf+1))
	return max(0, 1-2*level.Float()-slack)
}
