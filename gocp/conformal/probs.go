package conformal

import (
	"fmt"
	"math"
)

// Probs is a table of probabilities: N samples × K labels, row after row. Softmax and
// Probabilities make one and check every entry, so nothing later needs to.
type Probs struct {
	N, K int
	data []float64
}

// Row returns the probabilities of sample i; do not change them.
func (p *Probs) Row(i int) []float64 { return p.data[i*p.K : (i+1)*p.K : (i+1)*p.K] }

// At returns the probability of label y of sample i.
func (p *Probs) At(i, y int) float64 { return p.data[i*p.K+y] }

// Top returns the label of greatest probability of sample i, ties by label index.
func (p *Probs) Top(i int) int { return Top(p.Row(i)) }

// shape checks that n rows of k entries are in fact there.
func shape(what string, n, k, have int) error {
	if n < 0 || k < 1 || have%k != 0 || have/k != n {
		return fmt.Errorf("%s: %d values are not %d rows of %d labels", what, have, n, k)
	}
	return nil
}

// Softmax turns logits into probabilities in float64, p_y = exp(z_y − max z) / Σ_j exp(z_j − max z),
// with the same bits on every machine; below e⁻⁷⁰⁸ of the largest they are 0.
// A logit of −∞, as of a class that is masked, has probability 0. One that is NaN or +∞, or a row of −∞
// alone, is an error that names its row and label.
func Softmax[T ~float32 | ~float64](n, k int, logits []T) (*Probs, error) {
	if err := shape("logits", n, k, len(logits)); err != nil {
		return nil, err
	}
	p := &Probs{N: n, K: k, data: make([]float64, n*k)}
	for i := range n {
		if err := SoftmaxRow(p.Row(i), logits[i*k:(i+1)*k]); err != nil {
			return nil, fmt.Errorf("logits of row %d: %w", i, err)
		}
	}
	return p, nil
}

// SoftmaxRow is Softmax for one row, for those who stream.
func SoftmaxRow[T ~float32 | ~float64](dst []float64, z []T) error {
	if len(dst) != len(z) {
		return fmt.Errorf("%d logits for %d labels", len(z), len(dst))
	}
	top, odd := math.Inf(-1), 0.0
	for _, v := range z {
		f := float64(v)
		odd += f - f // NaN for what is not finite
		top = max(top, f)
	}
	if odd != 0 {
		for y, v := range z {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 1) {
				return fmt.Errorf("label %d is %v", y, f)
			}
		}
		if math.IsInf(top, -1) {
			return fmt.Errorf("all labels are %v", top)
		}
	}
	inverse := 1 / expSum(dst, z, top)
	for y := range dst {
		dst[y] *= inverse
	}
	return nil
}

// SumTolerance is how far the sum of a row given as probabilities may be from 1: float32 rows of
// a few thousand labels stay well inside, logits taken for probabilities do not.
const SumTolerance = 1e-3

// Probabilities takes rows that are probabilities already. A negative, NaN or infinite entry, or a
// row that does not sum to 1 within SumTolerance, is an error that names the row.
func Probabilities[T ~float32 | ~float64](n, k int, probs []T) (*Probs, error) {
	if err := shape("probabilities", n, k, len(probs)); err != nil {
		return nil, err
	}
	p := &Probs{N: n, K: k, data: make([]float64, n*k)}
	for i := range n {
		if err := ProbabilityRow(p.Row(i), probs[i*k:(i+1)*k]); err != nil {
			return nil, fmt.Errorf("probabilities of row %d: %w", i, err)
		}
	}
	return p, nil
}

// ProbabilityRow is Probabilities for one row, for those who stream.
func ProbabilityRow[T ~float32 | ~float64](dst []float64, probs []T) error {
	if len(dst) != len(probs) {
		return fmt.Errorf("%d probabilities for %d labels", len(probs), len(dst))
	}
	sum := 0.0
	for y, v := range probs {
		f := float64(v)
		if !(f >= 0) || math.IsInf(f, 1) { // catches NaN
			return fmt.Errorf("label %d is %v, no probability: are they logits?", y, f)
		}
		dst[y] = f
		sum += f
	}
	if math.Abs(sum-1) > SumTolerance {
		return fmt.Errorf("they sum to %v, not 1: are they logits?", sum)
	}
	return nil
}
