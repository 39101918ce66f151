package conformal

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func setsOf(k int, labels ...[]int) *Sets {
	s := NewSets(len(labels), k)
	for i, l := range labels {
		for _, y := range l {
			s.Add(i, y)
		}
	}
	return s
}

func TestStrata(t *testing.T) {
	sets := setsOf(4, []int{0}, []int{0, 1}, nil, []int{0, 1, 2, 3}, []int{2})
	labels := []int{0, 2, 1, 3, 2}
	bySize, err := EvaluateSizes(sets, labels, SizeRanges)
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ low, k, n int }
	rows := func(s []Stratum) (out []row) {
		for _, s := range s {
			out = append(out, row{s.Low, s.Coverage.K, s.Coverage.N})
		}
		return out
	}
	if got, want := rows(bySize), []row{{0, 2, 3}, {2, 0, 1}, {4, 1, 1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("by size %v, want %v", got, want)
	}
	if v := Violation(bySize, MustLevel("0.1"), 0); v != 0.9 {
		t.Errorf("SSCV %v", v)
	}
	if v := Violation(bySize, MustLevel("0.1"), 2); math.Abs(v-(0.9-2.0/3)) > 1e-15 {
		t.Errorf("SSCV of two or more %v", v)
	}
	byGroup, err := EvaluateGroups(sets, labels, []int{5, -1, 5, -1, -1})
	if got, want := rows(byGroup), []row{{-1, 2, 3}, {5, 1, 2}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("by group %v, %v", got, err)
	}
	p, _ := Probabilities(5, 4, []float64{
		.7, .1, .1, .1, .4, .3, .2, .1, .7, .1, .1, .1, .25, .25, .25, .25, .1, .1, .7, .1})
	byRank, err := EvaluateDifficulty(sets, p, labels, []Range{{1, 1}, {2, 3}, {4, 4}})
	if got, want := rows(byRank), []row{{1, 2, 2}, {2, 0, 2}, {4, 1, 1}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("by difficulty %v, %v", got, err)
	}
	for q, want := range map[float64]int{0: 0, 0.2: 0, 0.21: 1, 0.5: 1, 0.8: 2, 1: 4} {
		if got := SizeQuantile(sets, q); got != want {
			t.Errorf("size quantile %v is %d, want %d", q, got, want)
		}
	}
	if _, err := EvaluateGroups(sets, labels, nil); err == nil {
		t.Error("no groups")
	}
}

// TestLowestMean holds the hull against all ranges.
func TestLowestMean(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 1))
	for range 3000 {
		n := 1 + r.IntN(18)
		least := 1 + r.IntN(n)
		prefix := make([]int, n+1)
		for i := range n {
			prefix[i+1] = prefix[i] + r.IntN(2)
		}
		mean := func(a, b int) float64 { return float64(prefix[b]-prefix[a]) / float64(b-a) }
		best := math.Inf(1)
		for a := range n {
			for b := a + least; b <= n; b++ {
				best = min(best, mean(a, b))
			}
		}
		a, b := lowestMean(prefix, least)
		if b-a < least || mean(a, b) != best {
			t.Fatalf("prefix %v, least %d: [%d, %d) has %v, best %v", prefix, least, a, b, mean(a, b), best)
		}
	}
}

func TestWorstSlice(t *testing.T) {
	r := rand.New(rand.NewPCG(62, 1))
	const n, d = 2000, 3
	x, covered := make([]float64, n*d), make([]bool, n)
	for i := range covered {
		for j := range d {
			x[i*d+j] = r.NormFloat64()
		}
		covered[i] = r.Float64() < 0.95
		if x[i*d] > 1 {
			covered[i] = r.Float64() < 0.4 // a bad tail
		}
	}
	slab, err := WorstSlice(x, d, covered, SliceOptions{Directions: 200})
	if err != nil {
		t.Fatal(err)
	}
	if slab.Coverage.Rate > 0.7 || slab.Direction[0]*slab.High < 0.5 && slab.Direction[0]*slab.Low < 0.5 {
		t.Errorf("%+v", slab)
	}
	for i := range covered {
		covered[i] = r.Float64() < 0.9
	}
	if slab, err = WorstSlice(x, d, covered, SliceOptions{Directions: 200}); err != nil || slab.Coverage.High < 0.9 || slab.Found.Rate > 0.88 {
		t.Errorf("without a bad slice: %+v, %v", slab, err)
	}
	if _, err := WorstSlice(x[:3], 3, covered[:1], SliceOptions{}); err == nil {
		t.Error("one sample")
	}
	if _, err := WorstSlice(x, d, covered, SliceOptions{Mass: 2}); err == nil {
		t.Error("mass 2")
	}
}

// TestTestExchangeable: uniform p-values under exchangeability, ties or not, and power when the
// scores shift.
func TestTestExchangeable(t *testing.T) {
	r := rand.New(rand.NewPCG(63, 1))
	const rounds = 400
	below, rankBelow, found := 0, 0, 0
	for range rounds {
		a, b, c := make([]float64, 30), make([]float64, 20), make([]float64, 40)
		for i := range a {
			a[i] = float64(r.IntN(8))
		}
		for i := range b {
			b[i] = float64(r.IntN(8))
		}
		for i := range c {
			c[i] = float64(r.IntN(8)) + 3
		}
		e, err := TestExchangeable(a, b, 99, r.Uint64())
		if err != nil {
			t.Fatal(err)
		}
		if e.P <= 0.1 {
			below++
		}
		if e.RankP <= 0.1 {
			rankBelow++
		}
		shifted, _ := TestExchangeable(a, c, 99, r.Uint64())
		if shifted.P <= 0.05 && shifted.RankP <= 0.05 && shifted.RankSum > 0 {
			found++
		}
	}
	for _, k := range []int{below, rankBelow} {
		if NewProportion(k, rounds, 0.9999).Low > 0.1 {
			t.Errorf("P(p ≤ 0.1) = %v", float64(k)/rounds)
		}
	}
	if rankBelow < rounds/20 || found < rounds*8/10 {
		t.Errorf("%d of %d below 0.1, %d shifts found", rankBelow, rounds, found)
	}
	e, err := TestExchangeable([]float64{1, 2}, []float64{3, 4}, 9, 1)
	if err != nil || e.KS != 1 || e.RankSum != 0.5 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := TestExchangeable(nil, []float64{1}, 9, 1); err == nil {
		t.Error("no calibration scores")
	}
}

func TestCompareSizes(t *testing.T) {
	benign := setsOf(4, []int{0, 1}, []int{0, 1, 2, 3}, nil, []int{1})
	victim := setsOf(4, []int{0}, []int{0, 1}, []int{1}, nil)
	c, err := CompareSizes(benign, victim)
	if err != nil {
		t.Fatal(err)
	}
	near := func(name string, got, want float64) {
		if math.Abs(got-want) > 1e-12 {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	near("ratio of means", c.OfMeans, 3.0/7)
	near("mean of ratios", c.MeanOf, (0.5+0.5+1)/3)
	near("filled", c.Filled, 3.0/8)
	near("ceiling", c.Ceiling, 4.0/8)
	near("normalised", c.Normalised, 0.75)
	if c.Skipped != 1 || c.EmptyBenign != 1 || c.EmptyVictim != 1 {
		t.Errorf("%+v", c)
	}
	// The delta method against the bootstrap.
	r := rand.New(rand.NewPCG(64, 1))
	const n = 200
	b, v := NewSets(n, 8), NewSets(n, 8)
	for i := range n {
		for y := range 1 + r.IntN(8) {
			b.Add(i, y)
			if r.Float64() < 0.7 {
				v.Add(i, y)
			}
		}
	}
	c, _ = CompareSizes(b, v)
	bs, vs := b.Sizes(), v.Sizes()
	var sum, square [3]float64
	const boot = 2000
	for range boot {
		x, y, filledX, filledY := 0, 0, 0, 0
		for range n {
			i := r.IntN(n)
			x += bs[i]
			y += vs[i]
			filledX += max(1, bs[i])
			filledY += max(1, vs[i])
		}
		for i, q := range []float64{1 - float64(y)/float64(x), 1 - float64(filledY)/float64(filledX), float64(filledX-filledY) / float64(filledX-n)} {
			sum[i] += q
			square[i] += q * q
		}
	}
	for i, got := range []float64{c.OfMeansSE, c.FilledSE, c.NormalisedSE} {
		if se := math.Sqrt(square[i]/boot - sum[i]/boot*sum[i]/boot); math.Abs(se/got-1) > 0.15 {
			t.Errorf("standard error %d: %v, bootstrap %v", i, got, se)
		}
	}
	if _, err := CompareSizes(b, benign); err == nil {
		t.Error("sets of other samples")
	}
	p, _ := Probabilities(2, 2, []float64{.9, .1, .2, .8})
	q, _ := Probabilities(2, 2, []float64{.8, .2, .6, .4})
	if got, err := Consistency(p, q, 0.95); err != nil || got.K != 1 || got.N != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}
