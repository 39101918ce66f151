package conformal

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Condition names what coverage is asked to hold given.
type Condition string

const (
	// Marginal is one threshold for everything.
	Marginal Condition = "marginal"
	// ByClass gives each label its own threshold (Mondrian): coverage given the true label.
	ByClass Condition = "class"
	// ByGroup gives each group of samples its own: coverage given the group.
	ByGroup Condition = "group"
	// ByCluster gives each cluster of labels its own (see Cluster): coverage given the cluster.
	ByCluster Condition = "cluster"
)

// Below says what happens in a cell with too few calibration samples.
type Below string

const (
	// BelowInfinite gives the cell τ = +∞: coverage holds, the sets are useless.
	BelowInfinite Below = "infinite"
	// BelowMarginal gives it the threshold of all samples together: the cell's own coverage is no
	// longer promised.
	BelowMarginal Below = "marginal"
	// BelowPool puts all such cells together into one: coverage holds given that a sample is in
	// some small cell.
	BelowPool Below = "pool"
)

// Conditioning is how thresholds are conditioned. The zero value is marginal.
type Conditioning struct {
	By Condition `json:"by"`
	// MinCell is the least number of calibration samples for a threshold of a cell's own; 0 stands
	// for the least at which the threshold is finite, Level.MinCalibration.
	MinCell int `json:"min_cell"`
	// Below is what a smaller cell gets; empty means BelowInfinite.
	Below Below `json:"below"`
	// Clusters maps labels to clusters, for ByCluster; −1 is the null cluster, which has the
	// marginal threshold.
	Clusters []int `json:"clusters,omitempty"`
}

// Cell is the threshold of one class, group or cluster.
type Cell struct {
	Key int `json:"key"`
	// N counts the calibration samples of the cell itself.
	N         int       `json:"n"`
	Threshold Threshold `json:"threshold"`
	// Fallback is what Below did, empty for a cell with samples enough.
	Fallback Below `json:"fallback,omitempty"`
}

// Thresholds are the thresholds of all cells. The zero value is not valid; CalibrateCells makes one.
type Thresholds struct {
	Conditioning Conditioning `json:"conditioning"`
	K            int          `json:"labels"`
	All          Threshold    `json:"all"`
	Cells        []Cell       `json:"cells,omitempty"` // ascending keys
	// Absent is the threshold of a cell that no calibration sample was in.
	Absent Threshold `json:"absent"`
	// Ties counts the calibration scores that are equal to τ of All, itself among them.
	Ties int `json:"ties,omitempty"`
}

// CalibrateCells computes the threshold of every cell from the scores of true labels. labels are
// needed for ByClass and ByCluster, groups for ByGroup; nil otherwise.
func CalibrateCells(scores []float64, labels, groups []int, k int, level Level, c Conditioning) (*Thresholds, error) {
	return calibrateScores(context.Background(), scores, labels, groups, k, level, c)
}

// calibrateScores is CalibrateCells, which the context can end early.
func calibrateScores(ctx context.Context, scores []float64, labels, groups []int, k int, level Level, c Conditioning) (*Thresholds, error) {
	for i, s := range scores {
		if math.IsNaN(s) {
			return nil, fmt.Errorf("calibration score of row %d is NaN", i)
		}
	}
	th, err := calibrateCells(ctx, len(scores), labels, groups, k, level, c, func(parts [][]uint32) ([]Threshold, error) {
		out := make([]Threshold, len(parts))
		for i, rows := range parts {
			var err error
			if out[i], err = level.threshold(len(scores), rows); err != nil {
				return nil, err
			}
			if !out[i].TooFew() {
				if out[i].Tau, err = orderStatistic(ctx, scores, rows, out[i].Rank-1); err != nil {
					return nil, err
				}
			}
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	return th, th.countTies(ctx, scores)
}

// threshold is that of some of n scores, or of all for nil, but for τ, which is +∞.
func (l Level) threshold(n int, rows []uint32) (Threshold, error) {
	if rows != nil {
		n = len(rows)
	}
	r, err := l.Rank(n)
	return Threshold{Tau: math.Inf(1), Rank: r, N: n}, err
}

// countTies fills in Ties.
func (t *Thresholds) countTies(ctx context.Context, scores []float64) error {
	if t.All.Infinite() {
		return nil
	}
	return eachPart(ctx, scores, nil, func(part []float64) {
		for _, s := range part {
			if s == t.All.Tau {
				t.Ties++
			}
		}
	})
}

// calibrateCells takes the thresholds of parts of n rows, where nil stands for all rows, from a function.
func calibrateCells(ctx context.Context, n int, labels, groups []int, k int, level Level, c Conditioning, calibrate func(parts [][]uint32) ([]Threshold, error)) (*Thresholds, error) {
	if c.By == "" {
		c.By = Marginal
	}
	if c.Below == "" {
		c.Below = BelowInfinite
	}
	if c.MinCell == 0 {
		c.MinCell = level.MinCalibration()
	}
	if err := c.check(k); err != nil {
		return nil, err
	}
	if n > math.MaxUint32 {
		return nil, fmt.Errorf("%d calibration samples are too many: at most %d", n, uint32(math.MaxUint32))
	}
	none, err := level.threshold(0, nil)
	if err != nil {
		return nil, err
	}
	t := &Thresholds{Conditioning: c, K: k, Absent: none}
	if c.By == Marginal {
		all, err := calibrate([][]uint32{nil})
		if err != nil {
			return nil, err
		}
		t.All, t.Absent = all[0], all[0]
		return t, nil
	}
	if c.By == ByGroup && len(groups) != n {
		return nil, fmt.Errorf("%d groups for %d calibration scores", len(groups), n)
	}
	if c.By != ByGroup {
		if err := checkLabels(labels, n, k); err != nil {
			return nil, fmt.Errorf("conditioning by %s: %w", c.By, err)
		}
	}
	keys, members, err := c.members(ctx, n, labels, groups, k)
	if err != nil {
		return nil, err
	}
	// All rows, the pool, and the cells that have a threshold of their own.
	parts, pool := [][]uint32{nil, {}}, []uint32{}
	at := make([]int, len(keys))
	for i, key := range keys {
		switch {
		case c.null(key):
		case len(members[i]) < c.MinCell:
			pool = append(pool, members[i]...)
		default:
			at[i] = len(parts)
			parts = append(parts, members[i])
		}
	}
	if c.Below == BelowPool {
		parts[1] = pool
	}
	of, err := calibrate(parts)
	if err != nil {
		return nil, err
	}
	t.All = of[0]
	for i, key := range keys {
		cell := Cell{Key: key, N: len(members[i])}
		switch small := cell.N < c.MinCell; {
		case c.null(key) || small && c.Below == BelowMarginal:
			cell.Threshold, cell.Fallback = t.All, BelowMarginal
		case small && c.Below == BelowPool:
			cell.Threshold, cell.Fallback = of[1], BelowPool
		case small:
			if cell.Threshold, err = level.threshold(cell.N, nil); err != nil {
				return nil, err
			}
			cell.Fallback = BelowInfinite
		default:
			cell.Threshold = of[at[i]]
		}
		t.Cells = append(t.Cells, cell)
	}
	switch c.Below {
	case BelowMarginal:
		t.Absent = t.All
	case BelowPool:
		t.Absent = of[1]
	}
	return t, nil
}

// members are the rows of each cell, in ascending order of their keys. Every label has a cell, even one
// that calibration never saw; a group has one if a row is in it.
func (c Conditioning) members(ctx context.Context, n int, labels, groups []int, k int) (keys []int, rows [][]uint32, err error) {
	key := func(i int) int {
		if c.By == ByGroup {
			return groups[i]
		}
		return c.key(labels[i], 0)
	}
	count := map[int]int{}
	if c.By != ByGroup {
		for y := range k {
			count[c.key(y, 0)] = 0
		}
	}
	pass := func(f func(i int)) error {
		for i := range n {
			if i%(1<<16) == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			f(i)
		}
		return nil
	}
	if err := pass(func(i int) { count[key(i)]++ }); err != nil {
		return nil, nil, err
	}
	keys = slices.Sorted(maps.Keys(count))
	rows = make([][]uint32, len(keys))
	all, place := make([]uint32, n), make(map[int]int, len(keys))
	for i, k := range keys {
		rows[i], all = all[:0:count[k]], all[count[k]:]
		place[k] = i
	}
	err = pass(func(i int) {
		at := place[key(i)]
		rows[at] = append(rows[at], uint32(i))
	})
	return keys, rows, err
}

func (c Conditioning) check(k int) error {
	switch c.By {
	case Marginal, ByClass, ByGroup:
	case ByCluster:
		if len(c.Clusters) != k {
			return fmt.Errorf("clusters of %d labels for %d labels", len(c.Clusters), k)
		}
		for y, m := range c.Clusters {
			if m < -1 {
				return fmt.Errorf("cluster of label %d is %d: it must be at least −1", y, m)
			}
		}
	default:
		return fmt.Errorf("unknown conditioning %q: known are marginal, class, group, cluster", clip(string(c.By)))
	}
	switch c.Below {
	case BelowInfinite, BelowMarginal, BelowPool:
	default:
		return fmt.Errorf("unknown rule for small cells %q: known are infinite, marginal, pool", clip(string(c.Below)))
	}
	if c.MinCell < 0 {
		return fmt.Errorf("the least cell size is %d: it must be at least 0", c.MinCell)
	}
	return nil
}

// key is the cell of a candidate label of a sample of a group.
func (c Conditioning) key(label, group int) int {
	switch c.By {
	case ByClass:
		return label
	case ByGroup:
		return group
	case ByCluster:
		return c.Clusters[label]
	}
	return 0
}

func (c Conditioning) null(key int) bool { return c.By == ByCluster && key == -1 }

// Of returns the threshold that decides on a label of a sample of a group.
func (t *Thresholds) Of(label, group int) Threshold {
	if t.Conditioning.By == Marginal {
		return t.All
	}
	key := t.Conditioning.key(label, group)
	i, found := slices.BinarySearchFunc(t.Cells, key, func(c Cell, key int) int { return cmp.Compare(c.Key, key) })
	if !found {
		return t.Absent
	}
	return t.Cells[i].Threshold
}

// Check tells whether thresholds that came from elsewhere fit together.
func (t *Thresholds) Check() error {
	if t.K < 1 {
		return fmt.Errorf("thresholds for %d labels", t.K)
	}
	if err := t.Conditioning.check(t.K); err != nil {
		return err
	}
	if math.IsNaN(t.All.Tau) || math.IsNaN(t.Absent.Tau) {
		return fmt.Errorf("a threshold is NaN")
	}
	for i, c := range t.Cells {
		if math.IsNaN(c.Threshold.Tau) {
			return fmt.Errorf("the threshold of cell %d is NaN", c.Key)
		}
		if i > 0 && t.Cells[i-1].Key >= c.Key {
			return fmt.Errorf("the cells are not in ascending order of their keys")
		}
	}
	return nil
}

// PredictCells returns the sets {y : S(x, y) ≤ τ of y's cell}; groups has an entry for each row
// when conditioning is by group, and is nil otherwise.
func (s *Scorer) PredictCells(p *Probs, u []float64, t *Thresholds, groups []int) (*Sets, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	if p.K != t.K {
		return nil, fmt.Errorf("rows of %d labels for thresholds of %d", p.K, t.K)
	}
	if t.Conditioning.By == ByGroup && len(groups) != p.N {
		return nil, fmt.Errorf("%d groups for %d rows", len(groups), p.N)
	}
	of := t.limits()
	return s.predict(p, u, func(i int) limits {
		if t.Conditioning.By == ByGroup {
			return of(groups[i])
		}
		return of(0)
	})
}

// limits returns the thresholds for a row of a group.
func (t *Thresholds) limits() func(group int) limits {
	switch t.Conditioning.By {
	case Marginal:
		return func(int) limits { return limits{tau: t.All.Tau} }
	case ByGroup:
		return func(g int) limits { return limits{tau: t.Of(0, g).Tau} }
	}
	l := limits{tau: math.Inf(-1), per: make([]float64, t.K)}
	for y := range l.per {
		l.per[y] = t.Of(y, 0).Tau
		l.tau = max(l.tau, l.per[y])
	}
	return func(int) limits { return l }
}
