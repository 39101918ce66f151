package train

import (
	"container/heap"
	"math"
)

// medoids chooses k rows by greedy facility location: each the one that raises F(S) = Σ_i max_{j∈S} (d₀ − ‖x_i − x_j‖) the
// most, the first of equal ones. d₀, the largest distance, changes no choice. A row's gain only falls as others are
// chosen, so it is reckoned again only when it would be the largest (Minoux 1978); sums are in one order, so rounding keeps that
// true. Distances are made as they are needed: no N × N matrix.
func medoids(rows [][]float64, k int) []int {
	n := len(rows)
	near := make([]float64, n) // to the nearest chosen row
	for i := range near {
		near[i] = math.Inf(1)
	}
	// Before the first is chosen the gain is Σ(d₀ − d_ij), the larger the smaller −Σ d_ij is in size.
	gain := func(j int, first bool) float64 {
		sum := 0.0
		for i := range rows {
			d := distance(rows[i], rows[j])
			if first {
				sum -= d
			} else if d < near[i] {
				sum += near[i] - d
			}
		}
		return sum
	}
	q := make(gains, n)
	for j := range rows {
		q[j] = bound{j, gain(j, true), 0}
	}
	heap.Init(&q)
	var chosen []int
	for len(chosen) < min(k, n) {
		top := &q[0]
		if top.round != len(chosen) {
			top.gain, top.round = gain(top.row, len(chosen) == 0), len(chosen)
			heap.Fix(&q, 0)
			continue
		}
		m := heap.Pop(&q).(bound).row
		chosen = append(chosen, m)
		for i := range rows {
			near[i] = min(near[i], distance(rows[i], rows[m]))
		}
		if len(chosen) == 1 { // the others' bounds were of another sum
			for at := range q {
				q[at].gain = math.Inf(1)
			}
			heap.Init(&q)
		}
	}
	return chosen
}

func distance(a, b []float64) float64 {
	sum := 0.0
	for i, x := range a {
		sum += (x - b[i]) * (x - b[i])
	}
	return math.Sqrt(sum)
}

// A bound is the gain of a row when so many were chosen: at most that now.
type bound struct {
	row   int
	gain  float64
	round int
}

type gains []bound

func (g gains) Len() int { return len(g) }
func (g gains) Less(i, j int) bool {
	return g[i].gain > g[j].gain || g[i].gain == g[j].gain && g[i].row < g[j].row
}
func (g gains) Swap(i, j int) { g[i], g[j] = g[j], g[i] }
func (g *gains) Push(x any)   { *g = append(*g, x.(bound)) }
func (g *gains) Pop() any {
	last := (*g)[len(*g)-1]
	*g = (*g)[:len(*g)-1]
	return last
}
