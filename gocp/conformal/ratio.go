package conformal

import (
	"fmt"
	"math"
)

// SizeChange compares sets of the same samples under two models, benign and victim. Reduction is
// positive when the victim's sets are smaller; the expansion ratio is its negative.
type SizeChange struct {
	N      int     `json:"n"`
	Benign float64 `json:"benign"` // mean sizes
	Victim float64 `json:"victim"`
	// OfMeans is (mean |C_benign| − mean |C_victim|)/mean |C_benign|, with its standard error over
	// the pairs by the delta method.
	OfMeans   float64 `json:"ratio_of_means"`
	OfMeansSE float64 `json:"ratio_of_means_se"`
	// MeanOf is the mean of (|C_benign| − |C_victim|)/|C_benign| over the samples whose benign set is
	// not empty; Skipped counts the others.
	MeanOf   float64 `json:"mean_of_ratios"`
	MeanOfSE float64 `json:"mean_of_ratios_se"`
	Skipped  int     `json:"skipped"`
	// Filled is OfMeans with every empty set counted as one label, so that emptying a set earns
	// nothing beyond reducing it to one label.
	Filled   float64 `json:"ratio_filled"`
	FilledSE float64 `json:"ratio_filled_se"`
	// Ceiling is what Filled would be with every victim set at one label, and Normalised is
	// Filled/Ceiling: 1 when nothing more could be taken away. Both are 0 when all benign sets have
	// one label. Standard errors are over the pairs, by the delta method.
	Ceiling      float64 `json:"ceiling"`
	Normalised   float64 `json:"normalised"`
	NormalisedSE float64 `json:"normalised_se"`
	// EmptyBenign and EmptyVictim count empty sets.
	EmptyBenign int `json:"empty_benign"`
	EmptyVictim int `json:"empty_victim"`
}

// CompareSizes computes the change of size from benign to victim sets.
func CompareSizes(benign, victim *Sets) (SizeChange, error) {
	if benign.N != victim.N || benign.K != victim.K {
		return SizeChange{}, fmt.Errorf("compare: %d benign sets over %d labels and %d victim sets over %d", benign.N, benign.K, victim.N, victim.K)
	}
	c := SizeChange{N: benign.N}
	if c.N == 0 {
		return c, nil
	}
	b, v := benign.Sizes(), victim.Sizes()
	var filledB, filledV, ratios, squares float64
	for i := range b {
		c.Benign += float64(b[i])
		c.Victim += float64(v[i])
		filledB += float64(max(1, b[i]))
		filledV += float64(max(1, v[i]))
		if v[i] == 0 {
			c.EmptyVictim++
		}
		if b[i] == 0 {
			c.EmptyBenign++
			c.Skipped++
			continue
		}
		r := float64(b[i]-v[i]) / float64(b[i])
		ratios += r
		squares += r * r
	}
	n := float64(c.N)
	c.Benign /= n
	c.Victim /= n
	if c.Benign > 0 {
		q := c.Victim / c.Benign
		c.OfMeans = 1 - q
		sum := 0.0
		for i := range b {
			d := (float64(v[i]) - q*float64(b[i])) / c.Benign
			sum += d * d
		}
		if c.N > 1 {
			c.OfMeansSE = math.Sqrt(sum / (n - 1) / n)
		}
	}
	if m := n - float64(c.Skipped); m > 0 {
		c.MeanOf = ratios / m
		if m > 1 {
			c.MeanOfSE = math.Sqrt(max(0, squares-m*c.MeanOf*c.MeanOf) / (m - 1) / m)
		}
	}
	c.Filled = (filledB - filledV) / filledB
	if c.Ceiling = (filledB - n) / filledB; c.Ceiling > 0 {
		c.Normalised = c.Filled / c.Ceiling
	}
	if c.N > 1 {
		// Of the ratio Σ(b − v)/Σ(b − floor), with a floor of 0 or of 1.
		se := func(ratio, below float64) float64 {
			sum := 0.0
			for i := range b {
				x, y := float64(max(1, b[i])), float64(max(1, v[i]))
				d := x - y - ratio*(x-below)
				sum += d * d
			}
			return math.Sqrt(sum/(n-1)/n) / (filledB/n - below)
		}
		c.FilledSE = se(c.Filled, 0)
		if c.Ceiling > 0 {
			c.NormalisedSE = se(c.Normalised, 1)
		}
	}
	return c, nil
}

// Consistency is the share of samples with the same predicted label under two models.
func Consistency(a, b *Probs, confidence float64) (Proportion, error) {
	if a.N != b.N || a.K != b.K {
		return Proportion{}, fmt.Errorf("consistency: %d rows of %d labels and %d of %d", a.N, a.K, b.N, b.K)
	}
	same := 0
	for i := range a.N {
		if a.Top(i) == b.Top(i) {
			same++
		}
	}
	return NewProportion(same, a.N, confidence), nil
}
