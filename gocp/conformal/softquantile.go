package conformal

import (
	"fmt"
	"math"
	"slices"
)

// SoftQuantile is a differentiable stand-in for the r-th smallest of n scores, the kernel quantile
//
//	τ̃ = Σ_i w_i s_(i),   w_i ∝ P((i + ½ − r)/h) − P((i − ½ − r)/h),   Σ_i w_i = 1
//
// with P the distribution function of Epanechnikov's kernel and h in ranks. For h ≤ ½ it is s_(r)
// itself. grad[i] is ∂τ̃/∂s_i, in the order of the input: the weight of the rank that s_i has.
// Sheather, Marron, JASA 1990.
func SoftQuantile(scores []float64, rank int, h float64) (tau float64, grad []float64, err error) {
	n := len(scores)
	if rank < 1 || rank > n {
		return 0, nil, fmt.Errorf("soft quantile: rank %d is not among %d scores", rank, n)
	}
	if !(h >= 0) {
		return 0, nil, fmt.Errorf("soft quantile: bandwidth %v: it must be at least 0", h)
	}
	order := make([]int, n)
	for i, s := range scores {
		if math.IsNaN(s) {
			return 0, nil, fmt.Errorf("soft quantile: score of row %d is NaN", i)
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case scores[a] < scores[b]:
			return -1
		case scores[a] > scores[b]:
			return 1
		}
		return a - b
	})
	grad = make([]float64, n)
	for i, at := range order {
		w := kernelWeight(i+1, n, rank, h)
		grad[at] = w
		if w != 0 {
			tau += w * scores[at]
		}
	}
	return tau, grad, nil
}

func kernelWeight(i, n, r int, h float64) float64 {
	if h <= 0.5 {
		if i == r {
			return 1
		}
		return 0
	}
	at := func(rank float64) float64 { return epanechnikov((rank - float64(r)) / h) }
	x := float64(i)
	return (at(x+0.5) - at(x-0.5)) / (at(float64(n)+0.5) - at(0.5))
}

// epanechnikov is the integral of ¾(1−t²) up to x.
func epanechnikov(x float64) float64 {
	x = max(-1, min(1, x))
	return 0.5 + 0.75*x - 0.25*x*x*x
}
