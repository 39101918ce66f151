package conformal

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestTablesAgree: a stream gives the scores and sets that the table in memory gives, whatever the
// number of workers, and partial selection the bits that full scores give.
func TestTablesAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(71, 1))
	for _, k := range []int{1, 3, 64, 65, 1000} {
		n := 70000/k + 3
		if k < 64 {
			n = 300
		}
		z := make([]float32, n*k)
		labels := make([]int, n)
		for i := range z {
			z[i] = float32(3 * r.NormFloat64())
			if i%3 == 0 {
				z[i] = float32(math.Round(float64(z[i])))
			}
		}
		for i := range labels {
			labels[i] = r.IntN(k)
		}
		p, err := Softmax(n, k, z)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range variants {
			s, _ := NewScorer(v)
			const seed = 5
			u := v.RowUniforms(seed, p)
			want, err := s.Labelled(p, labels, u)
			if err != nil {
				t.Fatal(err)
			}
			full, err := s.All(p, u)
			if err != nil {
				t.Fatal(err)
			}
			for i, y := range labels {
				if want[i] != full[i*k+y] {
					t.Fatalf("%s K=%d: score of row %d is %v alone, %v among all", v, k, i, want[i], full[i*k+y])
				}
			}
			for _, cond := range []Conditioning{{}, {By: ByClass, Below: BelowMarginal}, {By: ByGroup}} {
				groups := make([]int, n)
				for i := range groups {
					groups[i] = i % 3
				}
				th, err := CalibrateCells(want, labels, groups, k, MustLevel("0.2"), cond)
				if err != nil {
					t.Fatal(err)
				}
				sets, err := s.PredictCells(p, u, th, groups)
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					for y := range k {
						in := full[i*k+y] <= th.Of(y, groups[i]).Tau
						if in != sets.Has(i, y) && !(v.Nonempty && sets.Size(i) == 1) {
							t.Fatalf("%s K=%d: label %d of row %d: full scores say %v", v, k, y, i, in)
						}
					}
				}
				for _, workers := range []int{1, 3} {
					o := Stream{Workers: workers, Seed: seed}
					table := Logits[float32]{N: n, K: k, Data: z}
					got, err := s.LabelledTable(table, labels, o)
					if err != nil || !slices.Equal(got, want) {
						t.Fatalf("%s K=%d, %d workers: %v", v, k, workers, err)
					}
					next := 0
					err = s.PredictTable(table, th, groups, o, func(first int, got *Sets) error {
						if first != next {
							t.Fatalf("block at %d, expected %d", first, next)
						}
						for i := range got.N {
							if !slices.Equal(got.Bits(i), sets.Bits(next+i)) {
								t.Fatalf("%s K=%d: set %d differs", v, k, next+i)
							}
						}
						next += got.N
						return nil
					})
					if err != nil || next != n {
						t.Fatalf("%d rows of %d: %v", next, n, err)
					}
				}
			}
		}
	}
}

func TestTableErrors(t *testing.T) {
	s, _ := NewScorer(Variant{Name: "hps"})
	const n, k = 9000, 20
	z := make([]float64, n*k)
	z[8000*k+7] = math.NaN()
	table := Logits[float64]{N: n, K: k, Data: z}
	_, err := s.LabelledTable(table, make([]int, n), Stream{})
	if err == nil || !strings.Contains(err.Error(), "row 8000") || !strings.Contains(err.Error(), "label 7") {
		t.Errorf("%v", err)
	}
	z[8000*k+7] = 0
	ctx, cancel := context.WithCancel(context.Background())
	seen := 0
	err = Each(s, table, Stream{Context: ctx, Workers: 2}, func(Block) (int, error) { return 0, nil }, func(Block, int) error {
		seen++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) && seen != 3 {
		t.Errorf("cancelled after %d blocks: %v", seen, err)
	}
	stop := errors.New("stop")
	if err := Each(s, table, Stream{}, func(Block) (int, error) { return 0, nil }, func(Block, int) error { return stop }); err != stop {
		t.Errorf("%v", err)
	}
	if err := Each(s, Logits[float64]{K: 3}, Stream{}, func(Block) (int, error) { return 0, nil }, func(Block, int) error { return stop }); err != nil {
		t.Errorf("no rows: %v", err)
	}
}

// TestRowOrder: K = 10,000, tied and denormal probabilities, in the same order as sorting.
func TestRowOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(72, 1))
	for _, k := range []int{1, 2, 64, 65, 200, 10000} {
		for _, scale := range []float64{0, 1, 30, 800} {
			z := make([]float64, k)
			for y := range z {
				z[y] = math.Round(scale*r.NormFloat64()*4) / 4
			}
			p := make([]float64, k)
			if err := SoftmaxRow(p, z); err != nil {
				t.Fatal(err)
			}
			want := make([]int, k)
			for y := range want {
				want[y] = y
			}
			slices.SortStableFunc(want, func(a, b int) int {
				switch {
				case p[a] > p[b]:
					return -1
				case p[a] < p[b]:
					return 1
				}
				return 0
			})
			var row Row
			row.Reset(p, nil)
			for _, m := range []int{1, k / 2, k} {
				if got := row.leading(m); !slices.Equal(got[:m], want[:m]) {
					t.Fatalf("K=%d, scale %v: the first %d labels are not in order", k, scale, m)
				}
			}
		}
	}
}

func TestTemperature(t *testing.T) {
	r := rand.New(rand.NewPCG(73, 1))
	const n, k = 4000, 5
	z, labels := make([]float64, n*k), make([]int, n)
	p := make([]float64, k)
	for i := range n {
		row := z[i*k : (i+1)*k]
		for y := range row {
			row[y] = 6 * r.NormFloat64()
		}
		if err := TemperedRow(p, row, 2.5); err != nil {
			t.Fatal(err)
		}
		at := r.Float64()
		for y, v := range p {
			if at -= v; at < 0 {
				labels[i] = y
				break
			}
		}
	}
	temp, err := FitTemperature(n, k, z, labels)
	if err != nil || math.Abs(temp-2.5) > 0.2 {
		t.Errorf("temperature %v, %v; drawn at 2.5", temp, err)
	}
	loss := func(t float64) float64 {
		sum := 0.0
		for i, y := range labels {
			_ = TemperedRow(p, z[i*k:(i+1)*k], t)
			sum -= math.Log(p[y])
		}
		return sum
	}
	if l := loss(temp); l > loss(temp*1.001) || l > loss(temp/1.001) {
		t.Error("not a minimum")
	}
	for i := range labels { // all right: the colder the better
		labels[i] = Top(z[i*k : (i+1)*k])
	}
	if temp, err := FitTemperature(n, k, z, labels); err != nil || temp > 0.1 {
		t.Errorf("%v, %v", temp, err)
	}
	if _, err := FitTemperature(0, k, z[:0], nil); err == nil {
		t.Error("no samples")
	}
	if err := TemperedRow(p, z[:k], -1); err == nil {
		t.Error("a temperature of -1")
	}
}

// BenchmarkTable is what a million rows cost, by the row: softmax, calibration score and set.
func BenchmarkTable(b *testing.B) {
	const n, k = 4000, 1000
	r := rand.New(rand.NewPCG(1, 1))
	z, labels := make([]float32, n*k), make([]int, n)
	for i := range z {
		z[i] = float32(r.NormFloat64())
	}
	for i := range labels { // a model that is right four times in five
		labels[i] = r.IntN(k)
		z[i*k+labels[i]] += float32(4 + 5*r.Float64())
	}
	table := Logits[float32]{N: n, K: k, Data: z}
	for _, v := range []Variant{{Name: "hps"}, {Name: "aps", U: DrawSample}, {Name: "raps", Lambda: 0.01, KReg: 5, U: DrawSample}} {
		s, err := NewScorer(v)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(v.Name, func(b *testing.B) {
			b.SetBytes(2 * 4 * n * k)
			for b.Loop() {
				th, err := s.CalibrateTable(table, labels, nil, MustLevel("0.1"), Conditioning{}, Stream{Workers: 1})
				if err != nil {
					b.Fatal(err)
				}
				if err := s.PredictTable(table, th, nil, Stream{Workers: 1}, func(int, *Sets) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
	}
}

// TestRoundingToFloat32: float32 logits give the sets of the same numbers in float64 to the bit, from 1
// label to 10,000; logits that are rounded to float32 give the sets of those that are not, except for
// labels whose score lies within that rounding of τ.
func TestRoundingToFloat32(t *testing.T) {
	r := rand.New(rand.NewPCG(72, 1))
	for _, k := range []int{1, 2, 30, 10000} {
		n := max(4, 3000/k)
		wide, narrow, widened := make([]float64, n*k), make([]float32, n*k), make([]float64, n*k)
		labels := make([]int, n)
		most := 0.0
		for i := range wide {
			wide[i] = 3 * r.NormFloat64()
			narrow[i] = float32(wide[i])
			widened[i] = float64(narrow[i])
			most = max(most, math.Abs(wide[i]))
		}
		for i := range labels {
			labels[i] = r.IntN(k)
		}
		// A logit moves by half an ulp at most, so a sum of probabilities by twice that, and τ as much.
		near := 8 * most * 0x1p-24
		for _, v := range variants {
			s, _ := NewScorer(v)
			run := func(p *Probs, err error) (Threshold, *Sets, []float64) {
				if err != nil {
					t.Fatal(err)
				}
				u := v.RowUniforms(5, p)
				th, err := s.Calibrate(p, labels, u, MustLevel("0.3"))
				if err != nil {
					t.Fatal(err)
				}
				sets, err := s.Predict(p, u, th)
				if err != nil {
					t.Fatal(err)
				}
				scores, err := s.All(p, u)
				if err != nil {
					t.Fatal(err)
				}
				return th, sets, scores
			}
			th, sets, scores := run(Softmax(n, k, wide))
			th32, sets32, _ := run(Softmax(n, k, narrow))
			th64, sets64, _ := run(Softmax(n, k, widened))
			if th32 != th64 || !slices.Equal(sets32.bits, sets64.bits) {
				t.Fatalf("%s, %d labels: the same numbers in two types give %v and %v", v, k, th32, th64)
			}
			table := Logits[float32]{N: n, K: k, Data: narrow}
			cells, err := s.CalibrateTable(table, labels, nil, MustLevel("0.3"), Conditioning{}, Stream{Seed: 5})
			if err != nil || cells.All != th32 {
				t.Fatalf("%s, %d labels: table %v, %v; %v", v, k, cells, err, th32)
			}
			if v.Randomized() { // other numbers have another u
				continue
			}
			moved := 0
			for i := range n {
				for y := range k {
					if sets.Has(i, y) == sets32.Has(i, y) {
						continue
					}
					moved++
					if d := math.Abs(scores[i*k+y] - th.Tau); d > near && !v.Nonempty {
						t.Errorf("%s: label %d of row %d is %g from τ, and rounding moved it", v, y, i, d)
					}
				}
			}
			if moved > 0 {
				t.Logf("%s, %d labels: rounding moved %d memberships", v, k, moved)
			}
		}
	}
}
