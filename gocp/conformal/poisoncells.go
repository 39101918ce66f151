package conformal

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// CellInterval is the range of the threshold of one cell under attack.
type CellInterval struct {
	Key int
	N   int // calibration samples of the cell, before the attack
	Interval
}

// CellIntervals are the ranges of all thresholds under attack. Each is as wide as an adversary can make
// it that spends everything on that one cell: exact for each label of a test sample, an outer bound for
// all labels of a set together. Where a cell can fall to the marginal threshold (BelowMarginal, null
// clusters) the range of that is joined to its own, which is an outer bound too.
type CellIntervals struct {
	Conditioning Conditioning
	K            int
	All          Interval       // of the marginal threshold
	Cells        []CellInterval // ascending keys
	Absent       Interval       // of a cell that no calibration sample was in
}

// Of returns the range of the threshold that decides on a label of a sample of a group.
func (c *CellIntervals) Of(label, group int) Interval {
	if c.Conditioning.By == Marginal {
		return c.All
	}
	key := c.Conditioning.key(label, group)
	i, found := slices.BinarySearchFunc(c.Cells, key, func(c CellInterval, key int) int { return cmp.Compare(c.Key, key) })
	if !found {
		return c.Absent
	}
	return c.Cells[i].Interval
}

// Certify returns, for test samples whose own scores the attack does not reach, the labels that are in
// the set whatever the adversary does, and those that are in it for some attack at least or that the
// bounds cannot exclude. scores has N·K values, as Scorer.All returns; groups are needed when
// conditioning is by group.
func (c *CellIntervals) Certify(scores []float64, groups []int) (certain, possible *Sets, err error) {
	if len(scores)%c.K != 0 {
		return nil, nil, fmt.Errorf("certify: %d scores are not rows of %d labels", len(scores), c.K)
	}
	n := len(scores) / c.K
	if c.Conditioning.By == ByGroup && len(groups) != n {
		return nil, nil, fmt.Errorf("certify: %d groups for %d rows", len(groups), n)
	}
	certain, possible = NewSets(n, c.K), NewSets(n, c.K)
	for i := range n {
		g := 0
		if c.Conditioning.By == ByGroup {
			g = groups[i]
		}
		for y, s := range scores[i*c.K : (i+1)*c.K] {
			if math.IsNaN(s) {
				return nil, nil, fmt.Errorf("certify: score of row %d, label %d is NaN", i, y)
			}
			if iv := c.Of(y, g); s <= iv.Low {
				certain.Add(i, y)
				possible.Add(i, y)
			} else if s <= iv.High {
				possible.Add(i, y)
			}
		}
	}
	return certain, possible, nil
}

// PoisonedCells returns the range of every conditioned threshold when up to k calibration points are
// replaced by any others, labels and groups included. A replaced point can leave the cell, enter it or
// both, so with d points leaving and e entering, d, e ≤ k and at most as many more entering as there are
// points elsewhere, n' = n − d + e and r' = ⌈(n'+1)(1−ε)⌉:
//
//	min_{d,e} s_(r'−e) … max_{d,e} s_(r'+d)
//
// with s_(j) = −∞ for j < 1 and +∞ for j > n. own holds the scores of true labels; labels are needed for
// conditioning by class and by cluster, groups for conditioning by group. BelowPool, where the pool
// itself can change hands, is an error if a cell is in the pool or can fall into it.
func PoisonedCells(own []float64, labels, groups []int, k int, level Level, c Conditioning, points int) (*CellIntervals, error) {
	if points < 0 {
		return nil, fmt.Errorf("poisoned cells: %d points: there must be at least 0", points)
	}
	all, err := PoisonedThreshold(own, level, Replace, points)
	if err != nil {
		return nil, err
	}
	n := len(own)
	points = min(points, n)
	return attackCells(n, labels, groups, k, level, c, points, all, func(c Conditioning, members []int, _ int) (Interval, error) {
		sorted := make([]float64, len(members))
		for i, at := range members {
			sorted[i] = own[at]
		}
		slices.Sort(sorted)
		size := len(sorted)
		order := func(j int) float64 {
			switch {
			case j < 1:
				return math.Inf(-1)
			case j > size:
				return math.Inf(1)
			}
			return sorted[j-1]
		}
		out := Interval{math.Inf(1), math.Inf(-1)}
		for d := range min(points, size) + 1 {
			for e := range min(points, d+n-size) + 1 {
				low, high, count := math.Inf(1), math.Inf(1), size-d+e
				switch r, _ := level.Rank(count); { // count ≥ 0 and a level: no error
				case count < c.MinCell && c.Below == BelowMarginal:
					low, high = all.Low, all.High
				case count >= c.MinCell && r <= count:
					low, high = order(r-e), order(r+d)
				}
				out = Interval{min(out.Low, low), max(out.High, high)}
			}
		}
		return out, nil
	})
}

// FlippedCells returns the range of every conditioned threshold when up to k calibration labels are
// changed to any others, inputs and groups staying as they are. scores has N·K values, as Scorer.All
// returns. By group, flips stay within the cell. By class and by cluster, a flip moves a point into the
// cell, out of it or between two of its labels, at one of the K scores of its row.
//
// This is a small integer program for each t, and solved as one: with b points leaving, e entering and
// a changing within, a + b + e ≤ k, each chosen where it moves #{s ≤ t} the right way if it can be,
// τ ≤ t can be forced when #{s ≤ t} reaches ⌈(n−b+e+1)(1−ε)⌉ for some b and e, and τ > t when it falls
// below that for some. τ is found by bisection over the scores. BelowPool is as in PoisonedCells.
func FlippedCells(scores []float64, labels, groups []int, k int, level Level, c Conditioning, flips int) (*CellIntervals, error) {
	if k < 1 || len(scores) != len(labels)*k {
		return nil, fmt.Errorf("flipped labels: %d scores for %d rows of %d labels", len(scores), len(labels), k)
	}
	n := len(labels)
	if err := checkLabels(labels, n, k); err != nil {
		return nil, fmt.Errorf("flipped labels: %w", err)
	}
	if flips < 0 {
		return nil, fmt.Errorf("flipped labels: %d flips: there must be at least 0", flips)
	}
	for i, s := range scores {
		if math.IsNaN(s) {
			return nil, fmt.Errorf("score of row %d, label %d is NaN", i/k, i%k)
		}
	}
	flips = min(flips, n)
	every := make([]int, n)
	for i := range every {
		every[i] = i
	}
	whole := func(int) bool { return true }
	all, err := flipCell(scores, labels, k, every, nil, whole, false, level, 0, nil, flips)
	if err != nil {
		return nil, err
	}
	return attackCells(n, labels, groups, k, level, c, flips, all, func(c Conditioning, members []int, key int) (Interval, error) {
		var marginal *Interval
		if c.Below == BelowMarginal {
			marginal = &all
		}
		if c.By == ByGroup {
			return flipCell(scores, labels, k, members, nil, whole, false, level, c.MinCell, marginal, flips)
		}
		inside := func(y int) bool { return c.key(y, 0) == key }
		others := 0
		for y := range k {
			if !inside(y) {
				others++
			}
		}
		isMember := make([]bool, n)
		for _, i := range members {
			isMember[i] = true
		}
		var rest []int
		for i := range n {
			if !isMember[i] {
				rest = append(rest, i)
			}
		}
		return flipCell(scores, labels, k, members, rest, inside, others > 0, level, c.MinCell, marginal, flips)
	})
}

// attackCells goes through the cells as calibrateCells does; attack returns the range of a cell with
// these members.
func attackCells(n int, labels, groups []int, k int, level Level, c Conditioning, budget int, all Interval,
	attack func(c Conditioning, members []int, key int) (Interval, error)) (*CellIntervals, error) {
	// calibrateCells checks everything and says which cells there are.
	th, err := calibrateCells(context.Background(), n, labels, groups, k, level, c, func(parts [][]uint32) ([]Threshold, error) { return make([]Threshold, len(parts)), nil })
	if err != nil {
		return nil, err
	}
	c = th.Conditioning
	out := &CellIntervals{Conditioning: c, K: k, All: all, Absent: all}
	if c.By == Marginal {
		return out, nil
	}
	members := map[int][]int{}
	for i := range n {
		y, g := 0, 0
		if c.By == ByGroup {
			g = groups[i]
		} else {
			y = labels[i]
		}
		members[c.key(y, g)] = append(members[c.key(y, g)], i)
	}
	for _, cell := range th.Cells {
		iv := CellInterval{Key: cell.Key, N: cell.N}
		switch {
		case c.null(cell.Key):
			iv.Interval = all
		case c.Below == BelowPool && cell.N-budget < c.MinCell:
			return nil, fmt.Errorf("poisoned cells: cell %d of %d samples is in the pool of small cells or can fall into it: no bound is known for those", cell.Key, cell.N)
		default:
			if iv.Interval, err = attack(c, members[cell.Key], cell.Key); err != nil {
				return nil, err
			}
		}
		out.Cells = append(out.Cells, iv)
	}
	if out.Absent, err = attack(c, nil, math.MinInt); err != nil {
		return nil, err
	}
	if c.Below == BelowPool && budget >= level.MinCalibration() {
		out.Absent = Interval{math.Inf(-1), math.Inf(1)} // a pool of points of the adversary's own
	}
	return out, nil
}

// flipCell is the range of the threshold of one cell: members have their labels in it, which are those
// that inside tells; rest could enter it, and members leave it if there are labels to leave for. With
// marginal, a cell below minCell has that threshold, otherwise an infinite one.
func flipCell(scores []float64, labels []int, k int, members, rest []int, inside func(y int) bool, leave bool, level Level, minCell int, marginal *Interval, flips int) (Interval, error) {
	extremes := func(i int) (least, most float64) {
		least, most = math.Inf(1), math.Inf(-1)
		for y, s := range scores[i*k : (i+1)*k] {
			if inside(y) {
				least, most = min(least, s), max(most, s)
			}
		}
		return least, most
	}
	// Sorted copies turn every count into a search: s_i > t and min_y ≤ t is min_y ≤ t less s_i ≤ t.
	var own, least, most, restLeast, restMost []float64
	for _, i := range members {
		own = append(own, scores[i*k+labels[i]])
		a, b := extremes(i)
		least, most = append(least, a), append(most, b)
	}
	entering := 0
	for _, i := range rest {
		if a, b := extremes(i); a <= b { // the cell has labels
			restLeast, restMost = append(restLeast, a), append(restMost, b)
			entering++
		}
	}
	for _, s := range [][]float64{own, least, most, restLeast, restMost} {
		slices.Sort(s)
	}
	upTo := func(s []float64, t float64) int {
		j, _ := slices.BinarySearchFunc(s, t, func(a, b float64) int {
			if a <= b {
				return -1
			}
			return 1
		})
		return j
	}
	n := len(members)
	leaving := 0
	if leave {
		leaving = n
	}
	ranks := map[int]int{}
	rank := func(n int) (int, error) {
		r, ok := ranks[n]
		if !ok {
			var err error
			if r, err = level.Rank(n); err != nil {
				return 0, err
			}
			ranks[n] = r
		}
		return r, nil
	}
	small, enough := false, false // whether the cell can fall below its least size, and can stay above
	for b := range min(flips, leaving) + 1 {
		for e := range min(flips-b, entering) + 1 {
			if _, err := rank(n - b + e); err != nil {
				return Interval{}, err
			}
			small = small || n-b+e < minCell
			enough = enough || n-b+e >= minCell
		}
	}
	// forced tells whether some attack brings #{s ≤ t} to the rank or, for down = false, below it.
	forced := func(t float64, down bool) bool {
		below := upTo(own, t)
		for b := range min(flips, leaving) + 1 {
			for e := range min(flips-b, entering) + 1 {
				size := n - b + e
				if size < minCell {
					if !down && marginal == nil {
						return true // an infinite threshold
					}
					continue
				}
				r := ranks[size]
				left := flips - b - e
				if down {
					// Points above t leave first, points that can be at most t enter first.
					away := min(b, n-below)
					count := below - (b - away) + min(e, upTo(restLeast, t))
					count += min(left, upTo(least, t)-below, n-below-away)
					if r <= size && count >= r {
						return true
					}
					continue
				}
				away := min(b, below)
				count := below - away + e - min(e, entering-upTo(restMost, t))
				count -= min(left, below-upTo(most, t), below-away)
				if count < r {
					return true
				}
			}
		}
		return false
	}
	candidates := slices.Concat(own, least, most, restLeast, restMost)
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)
	first := func(f func(t float64) bool) float64 {
		j, _ := slices.BinarySearchFunc(candidates, true, func(t float64, _ bool) int {
			if f(t) {
				return 1
			}
			return -1
		})
		if j == len(candidates) {
			return math.Inf(1)
		}
		return candidates[j]
	}
	out := Interval{math.Inf(1), math.Inf(-1)}
	if enough || marginal == nil {
		out.Low = first(func(t float64) bool { return forced(t, true) })
		out.High = first(func(t float64) bool { return !forced(t, false) })
	}
	if small && marginal != nil {
		out = Interval{min(out.Low, marginal.Low), max(out.High, marginal.High)}
	}
	return out, nil
}
