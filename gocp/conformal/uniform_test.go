package conformal

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// farFromUniform is √n·D of Kolmogorov and Smirnov; above 1.95 once in a thousand times.
func farFromUniform(u []float64) float64 {
	sorted := slices.Sorted(slices.Values(u))
	worst := 0.0
	for i, x := range sorted {
		worst = max(worst, math.Abs(x-(float64(i)+0.5)/float64(len(sorted))))
	}
	return worst * math.Sqrt(float64(len(sorted)))
}

// TestRowUniforms: u of a row is uniform, has nothing to do with the row's probabilities or with u under
// another seed, and depends on nothing but the row's numbers and the seed.
func TestRowUniforms(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	for _, k := range []int{1, 2, 10, 257} {
		const n = 4000
		z := make([]float32, n*k)
		for i := range z {
			z[i] = float32(2 * r.NormFloat64())
		}
		wide := make([]float64, len(z))
		for i, v := range z {
			wide[i] = float64(v)
		}
		p, _ := Softmax(n, k, z)
		q, _ := Softmax(n, k, wide)
		for _, v := range []Variant{{Name: "aps", U: DrawSample}, {Name: "aps", U: DrawLabel}} {
			u := v.RowUniforms(3, p)
			if !slices.Equal(u, v.RowUniforms(3, q)) {
				t.Errorf("%s, %d labels: the same logits in float32 and float64 have another u", v, k)
			}
			width := len(u) / n
			half, _ := Softmax(n/2, k, z[n/2*k:])
			if !slices.Equal(v.RowUniforms(3, half), u[n/2*width:]) {
				t.Errorf("%s, %d labels: u of the second half alone differs", v, k)
			}
			if k == 1 { // one row in two thousand forms: probability 1
				if slices.Min(u) != slices.Max(u) {
					t.Errorf("%s: rows that are alike have u from %v to %v", v, slices.Min(u), slices.Max(u))
				}
				continue
			}
			if d := farFromUniform(u); d > 1.95 {
				t.Errorf("%s, %d labels: √n·D = %.2f from uniform", v, k, d)
			}
			first, other, top := make([]float64, n), v.RowUniforms(4, p), make([]float64, n)
			for i := range n {
				first[i], top[i] = u[i*width], p.At(i, p.Top(i))
				other[i] = other[i*width]
			}
			for name, x := range map[string][]float64{"another seed": other[:n], "the largest probability": top} {
				if c := correlation(first, x) * math.Sqrt(n); math.Abs(c) > 3.3 {
					t.Errorf("%s, %d labels: u and %s correlate, z = %.2f", v, k, name, c)
				}
			}
		}
		if v := (Variant{Name: "aps"}); v.RowUniforms(1, p) != nil {
			t.Error("u of a variant without draws")
		}
	}
	zeros, _ := Probabilities(2, 2, []float64{1, 0, 1, math.Copysign(0, -1)})
	if u := (Variant{Name: "aps", U: DrawSample}).RowUniforms(1, zeros); u[0] != u[1] {
		t.Error("−0 is another number than 0")
	}
}

func correlation(a, b []float64) float64 {
	n := float64(len(a))
	ma, mb := 0.0, 0.0
	for i := range a {
		ma += a[i] / n
		mb += b[i] / n
	}
	aa, bb, ab := 0.0, 0.0, 0.0
	for i := range a {
		aa += (a[i] - ma) * (a[i] - ma)
		bb += (b[i] - mb) * (b[i] - mb)
		ab += (a[i] - ma) * (b[i] - mb)
	}
	return ab / math.Sqrt(aa*bb)
}

// TestRepeatedRowsCover: where rows repeat (here all are alike; models of discrete features have few), sets cover
// because a row has one u wherever it stands. With draws of their own for calibration and prediction the
// same rows do not, which is why there is one seed.
func TestRepeatedRowsCover(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 2))
	const n, m, seeds = 99, 50, 400
	level := MustLevel("0.1")
	v := Variant{Name: "aps", U: DrawSample}
	s, _ := NewScorer(v)
	part := func(n int) (*Probs, []int) {
		data, labels := make([]float64, 0, 2*n), make([]int, n)
		for i := range n {
			data = append(data, .6, .4)
			if r.Float64() > .6 {
				labels[i] = 1
			}
		}
		p, err := Probabilities(n, 2, data)
		if err != nil {
			t.Fatal(err)
		}
		return p, labels
	}
	covered := func(testSeed func(seed uint64) uint64) float64 {
		in := 0
		for seed := range uint64(seeds) {
			p, labels := part(n)
			th, err := s.Calibrate(p, labels, v.RowUniforms(seed, p), level)
			if err != nil {
				t.Fatal(err)
			}
			q, truth := part(m)
			sets, err := s.Predict(q, v.RowUniforms(testSeed(seed), q), th)
			if err != nil {
				t.Fatal(err)
			}
			for i, y := range truth {
				if sets.Has(i, y) {
					in++
				}
			}
		}
		return float64(in) / (seeds * m)
	}
	one := covered(func(seed uint64) uint64 { return seed })
	two := covered(func(seed uint64) uint64 { return seed + 1e9 })
	t.Logf("coverage %.3f; with two seeds %.3f", one, two)
	if one < 0.9-0.01 {
		t.Errorf("coverage %.3f of repeated rows", one)
	}
	if two > 0.85 {
		t.Errorf("coverage %.3f with two seeds: the reason for one is gone", two)
	}
}
