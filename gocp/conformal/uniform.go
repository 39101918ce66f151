package conformal

import "fmt"

// Uniforms draws u for samples first … first+n−1 of k labels: nil, n or n·k values in [0,1), as
// the variant asks. The draws are counter-based: u of a sample depends on the seed, the sample's
// number and the label alone, so benign and poisoned models see the same u whatever is evaluated
// beside it.
func (v Variant) Uniforms(seed uint64, first, n, k int) []float64 {
	switch v.U {
	case DrawSample:
		u := make([]float64, n)
		for i := range u {
			u[i] = uniform(seed, uint64(first+i), 0)
		}
		return u
	case DrawLabel:
		u := make([]float64, n*k)
		for i := range n {
			for y := range k {
				u[i*k+y] = uniform(seed, uint64(first+i), 1+uint64(y))
			}
		}
		return u
	}
	return nil
}

// draw is the u of one label of one sample.
func (v Variant) draw(seed uint64, sample, label int) float64 {
	switch v.U {
	case DrawSample:
		return uniform(seed, uint64(sample), 0)
	case DrawLabel:
		return uniform(seed, uint64(sample), 1+uint64(label))
	}
	return 1
}

// uniform hashes (seed, sample, label) with the SplitMix64 finaliser (Steele, Lea, Flood, OOPSLA
// 2014) and keeps the upper 53 bits.
func uniform(seed, sample, label uint64) float64 {
	const golden = 0x9e3779b97f4a7c15
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
