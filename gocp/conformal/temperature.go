package conformal

import (
	"fmt"
	"math"
)

// FitTemperature returns the T > 0 that minimises the mean cross entropy of softmax(z/T), by
// Newton's method on 1/T, in which it is convex, kept inside a shrinking bracket (Guo, Pleiss, Sun,
// Weinberger, ICML 2017). Samples that fit a temperature must not calibrate a threshold.
func FitTemperature[T ~float32 | ~float64](n, k int, logits []T, labels []int) (float64, error) {
	if err := shape("logits", n, k, len(logits)); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, fmt.Errorf("temperature: no samples")
	}
	if err := checkLabels(labels, n, k); err != nil {
		return 0, fmt.Errorf("temperature: %w", err)
	}
	p, scaled := make([]float64, k), make([]float64, k)
	// slope and curvature of the mean cross entropy in b = 1/T: E[z] − z_y and Var[z] under softmax(bz).
	at := func(b float64) (slope, curvature float64, err error) {
		for i, y := range labels {
			z := logits[i*k : (i+1)*k]
			for j, v := range z {
				scaled[j] = b * float64(v)
			}
			if err := SoftmaxRow(p, scaled); err != nil {
				return 0, 0, fmt.Errorf("logits of row %d: %w", i, err)
			}
			mean, square := 0.0, 0.0
			if math.IsInf(float64(z[y]), -1) {
				return 0, 0, fmt.Errorf("logits of row %d: that of its own label is −∞, and no temperature helps", i)
			}
			for j, v := range z {
				if p[j] == 0 { // −∞ among them
					continue
				}
				d := float64(v) - float64(z[y]) // relative to z_y, against cancellation
				mean += p[j] * d
				square += p[j] * d * d
			}
			slope += mean
			curvature += square - mean*mean
		}
		return slope / float64(n), curvature / float64(n), nil
	}
	const least, most = 1e-3, 1e3 // of 1/T
	low, high := least, most
	b := 1.0
	for range 200 {
		slope, curvature, err := at(b)
		if err != nil {
			return 0, err
		}
		if slope > 0 {
			high = b
		} else {
			low = b
		}
		next := b - slope/curvature
		if !(next > low && next < high) {
			next = math.Sqrt(low * high)
		}
		if math.Abs(next-b) <= 1e-12*b || high/low < 1+1e-12 {
			b = next
			break
		}
		b = next
	}
	return 1 / b, nil
}
