package conformal

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestExp holds exp against e^x in 200 bits, and the library's.
func TestExp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	worst := 0.0
	for i := range 3000 {
		x := -math.Exp(r.Float64()*14 - 7)
		if i%3 == 0 {
			x = -r.Float64()
		}
		if x < expLeast {
			continue
		}
		// Taylor's series of e^(x/2^20), squared 20 times.
		b := new(big.Float).SetPrec(240).SetMantExp(big.NewFloat(x), -20)
		b.SetPrec(240)
		sum, term := new(big.Float).SetPrec(240).SetInt64(1), new(big.Float).SetPrec(240).SetInt64(1)
		for j := int64(1); j < 24; j++ {
			term.Mul(term, b)
			term.Quo(term, new(big.Float).SetInt64(j))
			sum.Add(sum, term)
		}
		for range 20 {
			sum.Mul(sum, sum)
		}
		got := exp(x)
		want, _ := sum.Float64()
		d, _ := new(big.Float).Sub(sum, new(big.Float).SetFloat64(got)).Float64()
		ulps := math.Abs(d) / (math.Nextafter(want, 2) - want)
		worst = max(worst, ulps)
	}
	t.Logf("at most %.3f ulp", worst)
	if worst > 1 {
		t.Errorf("off by %.3f ulp", worst)
	}
	for x, want := range map[float64]float64{0: 1, math.Copysign(0, -1): 1, -709: 0, math.Inf(-1): 0, -0x1p-1074: 1, -1e-300: 1} {
		if got := exp(x); got != want {
			t.Errorf("exp(%v) = %v, want %v", x, got, want)
		}
	}
}

// row32 is a row of logits with the oddities that finite floats have.
func row32(r *rand.Rand, k int) []float32 {
	z := make([]float32, k)
	scale := []float32{0, 1e-40, 1, 20, 1e4, 1e37}[r.IntN(6)]
	for y := range z {
		z[y] = scale * float32(r.NormFloat64()) / 3
		switch r.IntN(12) {
		case 0:
			z[y] = z[r.IntN(y+1)]
		case 1:
			z[y] = math.Float32frombits(r.Uint32() % 100) // denormal
		case 2:
			z[y] = float32(math.Copysign(0, -1))
		}
	}
	return z
}

// everyBuild runs f with each kind of vector instructions that this processor has.
func everyBuild(t *testing.T, f func(t *testing.T)) {
	if !vector {
		t.Skip("no vector instructions here")
	}
	had := wide
	defer func() { vector, wide = true, had }()
	t.Run("AVX2", func(t *testing.T) {
		wide = false
		f(t)
	})
	if !had {
		return
	}
	t.Run("AVX-512", func(t *testing.T) {
		vector, wide = true, true
		f(t)
	})
}

// TestVectors holds the assembly against plain Go, over odd lengths and odd numbers, and checks that
// it writes nothing beyond its ends.
func TestVectors(t *testing.T) { everyBuild(t, testVectors) }

func testVectors(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 5))
	for trial := range 3000 {
		k := 1 + r.IntN(140)
		z := row32(r, k)
		top := float64(slices.Max(z))
		doubles := make([]float64, k)
		for y, v := range z {
			doubles[y] = float64(v)
		}
		a, b, c := make([]float64, k+1), make([]float64, k), make([]float64, k)
		a[k] = 7
		vector = true
		sa, sc := expSum(a[:k], z, top), expSum(c, doubles, top)
		vector = false
		sb := expSum(b, z, top)
		if sa != sb || sc != sb || !slices.Equal(a[:k], b) || !slices.Equal(c, b) || a[k] != 7 {
			t.Fatalf("trial %d, %d labels: sums %v and %v with vectors, %v without", trial, k, sa, sc, sb)
		}
		if masked := r.IntN(k); float64(z[masked]) < top { // −∞ has the exponential 0 in every build
			zm, dm := slices.Clone(z), slices.Clone(doubles)
			zm[masked], dm[masked] = float32(math.Inf(-1)), math.Inf(-1)
			vector = true
			sa, sc := expSum(a[:k], zm, top), expSum(c, dm, top)
			vector = false
			sb, b := expSum(b, zm, top), slices.Clone(b)
			if sa != sb || sc != sb || !slices.Equal(a[:k], b) || !slices.Equal(c, b) || b[masked] != 0 {
				t.Fatalf("trial %d, label %d of %d masked: sums %v and %v with vectors, %v without", trial, masked, k, sa, sc, sb)
			}
			expSum(b, z, top)
		}
		sb = expSum(b, z, top)
		hash := newRowHash(k)
		vector = true
		h := hash.of(b, 1/sb)
		vector = false
		if want := hash.of(b, 1/sb); h != want {
			t.Fatalf("hash of %d labels: %x with vectors, %x without", k, h, want)
		}
		for y := range c {
			c[y] = b[y] * (1 / sb)
		}
		if want := hash.of(c, 1); h != want {
			t.Fatalf("hash of %d labels: %x of exponentials, %x of probabilities", k, h, want)
		}
		if got, odd := top32(&z[0], k); float64(got) != top || odd != 0 {
			t.Fatalf("top of %v: %v, odd %d", z, got, odd)
		}
		f := fast{k: k}
		if got := f.sum(z, float32(top)); math.Abs(got-sb) > expError32(k)*sb {
			t.Fatalf("%d labels: Σ exp is %v, single precision says %v", k, sb, got)
		}
		low, high := z[r.IntN(k)], z[r.IntN(k)]
		low, high = min(low, high), max(low, high)
		bits := make([]uint64, (k+63)/64+1)
		bits[len(bits)-1] = 99
		odd, some := between32(&z[0], k, low, high, &bits[0]) != 0, false
		for y, v := range z {
			some = some || v >= low && v < high
			if (bits[y/64]>>(y%64)&1 == 1) != (v >= high) {
				t.Fatalf("bit %d of %v ≥ %v", y, v, high)
			}
		}
		if odd != some || bits[len(bits)-1] != 99 {
			t.Fatalf("between %v and %v in %v: %t", low, high, z, odd)
		}
		e := make([]float64, (k+31)&^31)
		for y := range e {
			e[y] = -1
			if y < k {
				e[y] = b[y]
			}
		}
		v := b[r.IntN(k)]
		sum, count := above64(&e[0], len(e), v)
		clear(bits)
		bits[len(bits)-1] = 99
		bits64(&e[0], len(e), v, &bits[0])
		wantSum, wantCount := 0.0, 0.0
		for y, x := range b {
			if x >= v {
				wantSum += x
				wantCount++
			}
			if (bits[y/64]>>(y%64)&1 == 1) != (x >= v) {
				t.Fatalf("bit %d of %v ≥ %v", y, x, v)
			}
		}
		if math.Abs(sum-wantSum) > 1e-14*wantSum || count != wantCount || bits[len(bits)-1] != 99 {
			t.Fatalf("above %v: %v of %v, want %v of %v", v, sum, count, wantSum, wantCount)
		}
		z[r.IntN(k)] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0x7f800001), math.Float32frombits(0xffffffff)}[r.IntN(5)]
		if _, odd := top32(&z[0], k); odd == 0 {
			t.Fatalf("%v went through", z)
		}
	}
}

// TestFastIsExact holds thresholds and sets of the fast way against those by the definition, to the
// bit: ties, duplicated rows, wild scales, masked labels, every level, cells, draws of u.
func TestFastIsExact(t *testing.T) { everyBuild(t, testFastIsExact) }

func testFastIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	list := []Variant{{Name: "hps"}, {Name: "hps", Nonempty: true}, {Name: "aps"}, {Name: "aps", Nonempty: true}, {Name: "aps", U: DrawSample}, {Name: "aps", U: DrawLabel},
		{Name: "raps", Lambda: 0.01, KReg: 2}, {Name: "raps", Lambda: 3, U: DrawSample}, {Name: "raps", Lambda: 0, U: DrawLabel}, {Name: "saps", Lambda: 0.1}}
	for trial := range 400 {
		n, k := 1+r.IntN(120), 1+r.IntN(200)
		table := Logits[float32]{N: n, K: k}
		labels, groups := make([]int, n), make([]int, n)
		for i := range n {
			row := row32(r, k)
			if i > 0 && r.IntN(4) == 0 {
				row = table.Data[(i-1)*k : i*k]
			}
			if trial%3 == 0 && r.IntN(2) == 0 { // logits of −∞, one left as it is
				row = slices.Clone(row)
				keep := r.IntN(k)
				for y := range row {
					if y != keep && r.IntN(3) == 0 {
						row[y] = float32(math.Inf(-1))
					}
				}
			}
			labels[i], groups[i] = r.IntN(k), r.IntN(3)
			if r.IntN(2) == 0 {
				labels[i] = slices.Index(row, slices.Max(row))
			}
			table.Data = append(table.Data, row...)
		}
		v := list[trial%len(list)]
		s, err := NewScorer(v)
		if err != nil {
			t.Fatal(err)
		}
		level := MustLevel([]string{"0.1", "0.5", "0.01", "0.9"}[r.IntN(4)])
		by := []Condition{Marginal, ByClass, ByGroup}[r.IntN(3)]
		run := func() (*Thresholds, [][]int) {
			th, err := s.CalibrateTable(table, labels, groups, level, Conditioning{By: by}, Stream{Seed: 5})
			if err != nil {
				t.Fatal(err)
			}
			var sets [][]int
			err = s.PredictTable(table, th, groups, Stream{Seed: 5}, func(first int, b *Sets) error {
				if first != len(sets) {
					t.Fatalf("block of row %d after %d", first, len(sets))
				}
				for i := range b.N {
					sets = append(sets, b.Labels(i))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return th, sets
		}
		vector = true
		th, sets := run()
		vector = false
		wantTh, want := run()
		if fmt.Sprint(th) != fmt.Sprint(wantTh) {
			t.Fatalf("trial %d, %s by %s, %d × %d: thresholds\n%v\n%v", trial, v, by, n, k, th, wantTh)
		}
		for i := range want {
			if !slices.Equal(sets[i], want[i]) {
				t.Fatalf("trial %d, %s by %s, row %d of %d labels: %v, want %v (τ %v)", trial, v, by, i, k, sets[i], want[i], th.All)
			}
		}
	}
}

// TestManyNearTau: where many scores lie within the bound of τ, and are computed again in blocks, thresholds
// and ties are those of the definition too; also where those rows are few and far apart.
func TestManyNearTau(t *testing.T) {
	everyBuild(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(6, 5))
		const n, k = 300000, 3
		for name, step := range map[string]float64{"many": 1, "some": 0.5} {
			table, labels := Logits[float32]{N: n, K: k}, make([]int, n)
			for i := range n {
				for range k {
					table.Data = append(table.Data, float32(math.Round(r.NormFloat64()/step)*step))
				}
				labels[i] = r.IntN(k)
			}
			for _, v := range []Variant{{Name: "hps"}, {Name: "aps", U: DrawSample}} {
				s, _ := NewScorer(v)
				for _, c := range []Conditioning{{}, {By: ByClass}} {
					run := func(with bool) *Thresholds {
						vector = with
						th, err := s.CalibrateTable(table, labels, nil, MustLevel("0.1"), c, Stream{Workers: 2, Seed: 3})
						if err != nil {
							t.Fatal(err)
						}
						return th
					}
					got, want := run(true), run(false)
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("%s, %s by %s: %v\nwant %v", name, v, c.By, got, want)
					}
					if v.Name == "hps" && (got.Ties <= fewExact || (name == "many") != (got.Ties > n/16)) {
						t.Errorf("%s: %d scores tie with τ", name, got.Ties)
					}
				}
			}
		}
	})
}
