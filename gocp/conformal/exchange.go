package conformal

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Exchangeability is a permutation test of the assumption that everything rests on.
type Exchangeability struct {
	// KS is the Kolmogorov–Smirnov distance between the two samples of scores, and P its p-value.
	KS float64 `json:"ks"`
	P  float64 `json:"p"`
	// RankSum is the mean rank of test scores less that of calibration scores, as a share of n + m:
	// above 0 when test scores are the larger. RankP is its two-sided p-value.
	RankSum      float64 `json:"rank_sum"`
	RankP        float64 `json:"rank_p"`
	Permutations int     `json:"permutations"`
}

// TestExchangeable asks whether calibration and test scores, those of true labels, could be one
// sample in random order. It reassigns the pooled scores to the two parts at random; p-values
// (1 + #{as extreme})/(1 + permutations) are exact under exchangeability, ties included.
func TestExchangeable(calibration, test []float64, permutations int, seed uint64) (Exchangeability, error) {
	n, m := len(calibration), len(test)
	if n == 0 || m == 0 {
		return Exchangeability{}, fmt.Errorf("exchangeability of %d calibration and %d test scores: neither may be empty", n, m)
	}
	if permutations < 1 {
		return Exchangeability{}, errors.New("exchangeability: at least one permutation is needed")
	}
	pool := slices.Concat(calibration, test)
	order := make([]int, n+m)
	for i, s := range pool {
		if math.IsNaN(s) {
			return Exchangeability{}, fmt.Errorf("exchangeability: score %d is NaN", i)
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case pool[a] < pool[b]:
			return -1
		case pool[a] > pool[b]:
			return 1
		}
		return 0
	})
	// Along the sorted pool: which part a score is from, where runs of ties end, and midranks.
	isTest := make([]bool, n+m)
	last := make([]bool, n+m)
	rank := make([]float64, n+m)
	for i, at := range order {
		isTest[i] = at >= n
		last[i] = i+1 == n+m || pool[order[i+1]] != pool[at]
	}
	for from := 0; from < n+m; {
		to := from
		for !last[to] {
			to++
		}
		for i := from; i <= to; i++ {
			rank[i] = float64(from+to)/2 + 1
		}
		from = to + 1
	}
	// In whole numbers, so that equal arrangements compare as equal: n·m·KS, and twice the rank sum.
	statistics := func() (ks int, sum float64) {
		a, b := 0, 0
		for i, t := range isTest {
			if t {
				b++
				sum += 2 * rank[i]
			} else {
				a++
			}
			if last[i] {
				ks = max(ks, a*m-b*n, b*n-a*m)
			}
		}
		return ks, sum
	}
	centre := float64(m) * float64(n+m+1) // of twice the rank sum
	ks, sum := statistics()
	out := Exchangeability{KS: float64(ks) / (float64(n) * float64(m)), Permutations: permutations,
		RankSum: (sum - centre) / 2 * (1/float64(m) + 1/float64(n)) / float64(n+m)}
	rng := rand.New(rand.NewPCG(seed, 0))
	aboveKS, aboveSum := 1, 1
	for range permutations {
		rng.Shuffle(len(isTest), func(i, j int) { isTest[i], isTest[j] = isTest[j], isTest[i] })
		k, s := statistics()
		if k >= ks {
			aboveKS++
		}
		if math.Abs(s-centre) >= math.Abs(sum-centre) {
			aboveSum++
		}
	}
	out.P = float64(aboveKS) / float64(permutations+1)
	out.RankP = float64(aboveSum) / float64(permutations+1)
	return out, nil
}
