package conformal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// ClusterOptions steer Cluster; the zero value follows the paper.
type ClusterOptions struct {
	// Clusters is their number M; 0 stands for the paper's rule, half the samples that the
	// rarest class may spend on clustering: M = ⌊⌊n_min·K/(75+K)⌋/2⌋, at least 1.
	Clusters int
	// Restarts of k-means; the assignment of least cost is kept. 0 stands for 10.
	Restarts int
	Seed     uint64
}

// Cluster groups labels whose scores are distributed alike, so that each group has calibration
// samples enough for a threshold of its own (Ding, Angelopoulos, Bates, Jordan, Tibshirani,
// NeurIPS 2023). A label is embedded as the quantiles of its scores at 0.5, 0.6, 0.7, 0.8, 0.9 and
// 1−ε; labels with fewer samples than ⌈1/min(ε, 0.1)⌉ − 1 go to the null cluster, −1; the rest are
// grouped by k-means, each label weighing the root of its number of samples.
//
// scores and labels are a part of the data that calibrates nothing afterwards: clusters chosen on
// the samples that set the thresholds void the guarantee.
func Cluster(scores []float64, labels []int, k int, level Level, o ClusterOptions) ([]int, error) {
	if err := checkLabels(labels, len(scores), k); err != nil {
		return nil, fmt.Errorf("clustering: %w", err)
	}
	if level.eps == nil {
		return nil, fmt.Errorf("clustering: the miscoverage is not set")
	}
	if o.Clusters < 0 || o.Restarts < 0 {
		return nil, fmt.Errorf("clustering: %d clusters, %d restarts: both must be at least 0", o.Clusters, o.Restarts)
	}
	byLabel := make([][]float64, k)
	for i, s := range scores {
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return nil, fmt.Errorf("clustering: score of row %d is %v", i, s)
		}
		byLabel[labels[i]] = append(byLabel[labels[i]], s)
	}
	least := max(1, max(level.MinCalibration(), MustLevel("0.1").MinCalibration()))
	points := []float64{0.5, 0.6, 0.7, 0.8, 0.9, 1 - level.Float()}
	out := make([]int, k)
	var (
		kept    []int
		embed   [][]float64
		weights []float64
	)
	smallest := math.MaxInt
	for y, s := range byLabel {
		out[y] = -1
		if len(s) > 0 {
			smallest = min(smallest, max(len(s), least))
		}
		if len(s) < least {
			continue
		}
		slices.Sort(s)
		e := make([]float64, len(points))
		for j, q := range points {
			e[j] = s[min(len(s)-1, int(math.Ceil(q*float64(len(s)+1)))-1)]
		}
		kept = append(kept, y)
		embed = append(embed, e)
		weights = append(weights, math.Sqrt(float64(len(s))))
	}
	if len(kept) == 0 {
		return out, nil
	}
	m := o.Clusters
	if m == 0 {
		m = max(1, smallest*k/(75+k)/2)
	}
	m = min(m, len(kept))
	restarts := o.Restarts
	if restarts == 0 {
		restarts = 10
	}
	best := math.Inf(1)
	var assigned []int
	for r := range restarts {
		rng := rand.New(rand.NewPCG(o.Seed, uint64(r)))
		if a, cost := kMeans(embed, weights, m, rng); cost < best {
			best, assigned = cost, a
		}
	}
	// Clusters are numbered in the order of their first label, so that runs compare.
	number := map[int]int{}
	for i, y := range kept {
		c, ok := number[assigned[i]]
		if !ok {
			c = len(number)
			number[assigned[i]] = c
		}
		out[y] = c
	}
	return out, nil
}

// kMeans is Lloyd's algorithm with weights from a k-means++ start.
func kMeans(x [][]float64, w []float64, m int, rng *rand.Rand) (assigned []int, cost float64) {
	d := len(x[0])
	square := func(a, b []float64) float64 {
		s := 0.0
		for i := range a {
			s += (a[i] - b[i]) * (a[i] - b[i])
		}
		return s
	}
	draw := func(mass []float64) int {
		total := 0.0
		for _, v := range mass {
			total += v
		}
		at := rng.Float64() * total
		for i, v := range mass {
			if at -= v; at < 0 {
				return i
			}
		}
		return rng.IntN(len(mass))
	}
	centres := [][]float64{slices.Clone(x[draw(w)])}
	mass := make([]float64, len(x))
	for len(centres) < m {
		for i := range x {
			near := math.Inf(1)
			for _, c := range centres {
				near = min(near, square(x[i], c))
			}
			mass[i] = w[i] * near
		}
		centres = append(centres, slices.Clone(x[draw(mass)]))
	}
	assigned = make([]int, len(x))
	for i := range assigned {
		assigned[i] = -1
	}
	for range 300 {
		moved := false
		cost = 0
		for i := range x {
			to, near := 0, math.Inf(1)
			for c := range centres {
				if s := square(x[i], centres[c]); s < near {
					to, near = c, s
				}
			}
			moved = moved || assigned[i] != to
			assigned[i] = to
			cost += w[i] * near
		}
		if !moved {
			break
		}
		for c := range centres {
			sum, total := make([]float64, d), 0.0
			for i, a := range assigned {
				if a == c {
					total += w[i]
					for j := range sum {
						sum[j] += w[i] * x[i][j]
					}
				}
			}
			if total == 0 {
				continue // an empty cluster keeps its centre
			}
			for j := range sum {
				centres[c][j] = sum[j] / total
			}
		}
	}
	return assigned, cost
}
