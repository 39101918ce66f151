package conformal

import "fmt"

// DrawnByRow names the rule of RowUniforms in what is recorded.
const DrawnByRow = "row"

// RowUniforms draws u for the rows of p: nil, N or N·K values in [0,1), as the variant asks. They depend
// on the seed and on the row's own probabilities alone (by a hash of them; and on the label with
// DrawLabel), so the score stays one fixed function of a row and a label, and all that holds of
// such functions holds of it: for every seed, with rows that repeat, for each model of a
// cross-conformal set and each draw of RSCP's noise. Calibrate and predict with the same seed.
func (v Variant) RowUniforms(seed uint64, p *Probs) []float64 {
	if !v.Randomized() {
		return nil
	}
	u, key := v.room(p.N, p.K), newRowHash(p.K)
	for i := range p.N {
		u = v.draws(u, seed, key.of(p.Row(i), 1), p.K)
	}
	return u
}

// Uniforms draws u for samples number first … first+n−1 of k labels, as RowUniforms does by row. They
// depend on the seed, the sample's number and the label alone, whatever the model says of it: for those
// who know their samples by number and compare models on the same ones. Samples that calibrate and
// samples that are predicted need numbers, or seeds, of their own.
func (v Variant) Uniforms(seed uint64, first, n, k int) []float64 {
	if !v.Randomized() {
		return nil
	}
	u := v.room(n, k)
	for i := range n {
		u = v.draws(u, seed, uint64(first+i), k)
	}
	return u
}

// room is an empty slice with room for the draws of n samples of k labels.
func (v Variant) room(n, k int) []float64 {
	if v.U == DrawLabel {
		n *= k
	}
	return make([]float64, 0, n)
}

// draws appends the draws of one sample to u.
func (v Variant) draws(u []float64, seed, sample uint64, k int) []float64 {
	switch v.U {
	case DrawSample:
		return append(u, uniform(seed, sample, 0))
	case DrawLabel:
		for y := range k {
			u = append(u, uniform(seed, sample, 1+uint64(y)))
		}
	}
	return u
}

// draw is the u of one label of one sample.
func (v Variant) draw(seed, sample uint64, label int) float64 {
	switch v.U {
	case DrawSample:
		return uniform(seed, sample, 0)
	case DrawLabel:
		return uniform(seed, sample, 1+uint64(label))
	}
	return 1
}

const golden = 0x9e3779b97f4a7c15

// uniform hashes (seed, sample, label) with the SplitMix64 finaliser (Steele, Lea, Flood, OOPSLA
// 2014) and keeps the upper 53 bits.
func uniform(seed, sample, label uint64) float64 {
	h := mix64(seed + golden)
	h = mix64(h + (sample+1)*golden)
	h = mix64(h + (label+1)*golden)
	return float64(h>>11) * 0x1p-53
}

func mix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// rowU returns the part of u that belongs to sample i, after checkU.
func (v Variant) rowU(u []float64, i, k int) []float64 {
	switch v.U {
	case DrawSample:
		return u[i : i+1]
	case DrawLabel:
		return u[i*k : (i+1)*k]
	}
	return nil
}

// checkU checks the length and the range of given draws.
func (v Variant) checkU(u []float64, n, k int) error {
	want := 0
	switch v.U {
	case DrawSample:
		want = n
	case DrawLabel:
		want = n * k
	}
	if len(u) != want {
		return fmt.Errorf("%d draws of u for %d rows of %d labels: score %s wants %d", len(u), n, k, v, want)
	}
	for i, x := range u {
		if !(x >= 0 && x <= 1) {
			return fmt.Errorf("u of row %d is %v: it must lie in [0, 1]", i*n/want, x)
		}
	}
	return nil
}
