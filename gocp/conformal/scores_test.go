package conformal

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestGradients holds every gradient against central differences, to probabilities and through the
// softmax to logits. Rows are without ties, and steps small enough that no rank changes.
func TestGradients(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 1))
	const k, h = 7, 1e-6
	for _, v := range variants {
		s, err := NewScorer(v)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			z := make([]float64, k)
			for y := range z {
				z[y] = float64(y)/4 + 0.1*r.Float64() // far from ties
			}
			r.Shuffle(k, func(i, j int) { z[i], z[j] = z[j], z[i] })
			u := v.Uniforms(r.Uint64(), 0, 1, k)
			p, err := Softmax(1, k, z)
			if err != nil {
				t.Fatal(err)
			}
			at := func(p *Probs, y int) float64 {
				all, err := s.All(p, u)
				if err != nil {
					t.Fatal(err)
				}
				return all[y]
			}
			for y := range k {
				g, err := s.GradientTo(p, 0, y, u)
				if err != nil {
					t.Fatal(err)
				}
				for j := range k {
					up, down := Probs{N: 1, K: k, data: slices.Clone(p.data)}, Probs{N: 1, K: k, data: slices.Clone(p.data)}
					up.data[j] += h
					down.data[j] -= h
					if d := (at(&up, y) - at(&down, y)) / (2 * h); math.Abs(d-g[j]) > 1e-8 {
						t.Fatalf("%s: ∂S(%d)/∂p_%d is %v, differences say %v", v, y, j, g[j], d)
					}
				}
				SoftmaxBackward(g, p.Row(0))
				for j := range k {
					zu, zd := slices.Clone(z), slices.Clone(z)
					zu[j] += h
					zd[j] -= h
					pu, _ := Softmax(1, k, zu)
					pd, _ := Softmax(1, k, zd)
					if d := (at(pu, y) - at(pd, y)) / (2 * h); math.Abs(d-g[j]) > 1e-8 {
						t.Fatalf("%s: ∂S(%d)/∂z_%d is %v, differences say %v", v, y, j, g[j], d)
					}
				}
			}
		}
	}
}

// TestSoftQuantile: exact for h ≤ ½, weights that sum to 1 and follow differences, and an error
// that falls with h.
func TestSoftQuantile(t *testing.T) {
	r := rand.New(rand.NewPCG(22, 1))
	scores := make([]float64, 101)
	for i := range scores {
		scores[i] = r.NormFloat64()
	}
	sorted := slices.Sorted(slices.Values(scores))
	for _, rank := range []int{1, 2, 50, 91, 101} {
		last := math.Inf(1)
		for _, h := range []float64{32, 8, 2, 1, 0.5, 0} {
			tau, grad, err := SoftQuantile(scores, rank, h)
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for i, g := range grad {
				sum += g
				moved := slices.Clone(scores)
				moved[i] += 1e-9
				up, _, _ := SoftQuantile(moved, rank, h)
				if math.Abs((up-tau)/1e-9-g) > 1e-5 {
					t.Fatalf("rank %d, h %v: gradient %v, differences %v", rank, h, g, (up-tau)/1e-9)
				}
			}
			if math.Abs(sum-1) > 1e-12 {
				t.Errorf("rank %d, h %v: weights sum to %v", rank, h, sum)
			}
			gap := math.Abs(tau - sorted[rank-1])
			if h <= 0.5 && gap != 0 || rank == 1 && gap > last {
				t.Errorf("rank %d, h %v: off by %v", rank, h, gap)
			}
			last = gap
		}
	}
	for _, bad := range []struct {
		rank int
		h    float64
	}{{0, 1}, {102, 1}, {5, -1}, {5, math.NaN()}} {
		if _, _, err := SoftQuantile(scores, bad.rank, bad.h); err == nil {
			t.Errorf("rank %d, h %v went through", bad.rank, bad.h)
		}
	}
}

func TestTune(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 1))
	z, labels := logits(r, 400, 20, false)
	p, _ := Softmax(400, 20, z)
	level := MustLevel("0.1")
	v, tuning, err := TuneRAPS(Variant{Name: "raps"}, p, labels, nil, level)
	if err != nil {
		t.Fatal(err)
	}
	var ranks []int
	for i, y := range labels {
		ranks = append(ranks, RankOf(p.Row(i), y))
	}
	slices.Sort(ranks)
	if want, _ := level.Rank(400); v.KReg != ranks[want-1] {
		t.Errorf("k_reg %d, want %d", v.KReg, ranks[want-1])
	}
	if i := slices.Index(Lambdas, v.Lambda); i < 0 || tuning.MeanSize[i] != slices.Min(tuning.MeanSize) {
		t.Errorf("λ %v of %+v", v.Lambda, tuning)
	}
	if v, _, err := TuneSAPS(Variant{Name: "saps"}, p, labels, nil, level); err != nil || v.Lambda == 0 {
		t.Errorf("saps: %+v, %v", v, err)
	}
	if _, _, err := TuneRAPS(Variant{Name: "aps"}, p, labels, nil, level); err == nil {
		t.Error("aps was tuned")
	}
	if v, _, err := TuneRAPS(Variant{Name: "raps"}, &Probs{K: 3}, nil, nil, level); err != nil || v.KReg != 3 {
		t.Errorf("no samples: %+v, %v", v, err)
	}
}

// gaussModel is a two-dimensional input with linear logits; noise on the input can be drawn.
type gaussModel struct{ w [][2]float64 }

func (m gaussModel) probs(x [][2]float64) *Probs {
	z := make([]float64, 0, len(x)*len(m.w))
	for _, v := range x {
		for _, w := range m.w {
			z = append(z, w[0]*v[0]+w[1]*v[1])
		}
	}
	p, err := Softmax(len(x), len(m.w), z)
	if err != nil {
		panic(err)
	}
	return p
}

// TestRSCP: with corrections the robust sets cover inputs moved by δ in the direction that hurts
// most; a larger δ, or a correction, never shrinks a set; radii agree with the robust sets.
func TestRSCP(t *testing.T) {
	r := rand.New(rand.NewPCG(24, 1))
	m := gaussModel{w: [][2]float64{{3, 0}, {-1.5, 2.6}, {-1.5, -2.6}}}
	const n, test, draws, sigma, delta = 300, 300, 64, 0.4, 0.2
	sample := func(n int) (x [][2]float64, y []int) {
		for range n {
			c := r.IntN(3)
			x = append(x, [2]float64{m.w[c][0]/3 + 0.6*r.NormFloat64(), m.w[c][1]/3 + 0.6*r.NormFloat64()})
			y = append(y, c)
		}
		return x, y
	}
	noisy := func(x [][2]float64) []*Probs {
		var out []*Probs
		for range draws {
			moved := make([][2]float64, len(x))
			for i := range x {
				moved[i] = [2]float64{x[i][0] + sigma*r.NormFloat64(), x[i][1] + sigma*r.NormFloat64()}
			}
			out = append(out, m.probs(moved))
		}
		return out
	}
	calX, calY := sample(n)
	testX, testY := sample(test)
	for i, y := range testY { // away from the true class
		l := math.Hypot(m.w[y][0], m.w[y][1])
		testX[i][0] -= delta * m.w[y][0] / l
		testX[i][1] -= delta * m.w[y][1] / l
	}
	calDraws, testDraws := noisy(calX), noisy(testX)
	var plain int
	for _, base := range []Variant{{Name: "hps"}, {Name: "aps"}, {Name: "raps", Lambda: .1, KReg: 1}, {Name: "saps", Lambda: .2}, {Name: "margin"}} {
		for _, c := range []Correction{CorrectNone, CorrectHoeffding, CorrectBernstein} {
			rs := RSCP{Base: base, Sigma: sigma, Correction: c, Beta: MustLevel("0.01")}
			cal, err := rs.Smooth(calDraws, nil)
			if err != nil {
				t.Fatal(err)
			}
			te, err := rs.Smooth(testDraws, nil)
			if err != nil {
				t.Fatal(err)
			}
			th, err := rs.Calibrate(cal, calY, MustLevel("0.1"))
			if err != nil {
				t.Fatal(err)
			}
			want := "0.1"
			if rs.corrected() {
				want = "0.08"
			}
			if rank, _ := MustLevel(want).Rank(n); th.Rank != rank {
				t.Fatalf("%s %s: rank %d, want %d", base, c, th.Rank, rank)
			}
			sets, err := rs.Predict(te, th, delta)
			if err != nil {
				t.Fatal(err)
			}
			zero, _ := rs.Predict(te, th, 0)
			e, _ := Evaluate(sets, testY)
			if e.Coverage.High < 0.9 {
				t.Errorf("%s %s: coverage %+v of moved inputs", base, c, e.Coverage)
			}
			for i := range test {
				for y := range 3 {
					if zero.Has(i, y) && !sets.Has(i, y) {
						t.Fatalf("%s %s: a larger radius took label %d out of row %d", base, c, y, i)
					}
					radius, in := te.Radius(th, i, y)
					if radius < 0 || math.IsNaN(radius) {
						t.Fatalf("radius %v", radius)
					}
					if !in && c == CorrectNone && (radius <= delta) != sets.Has(i, y) && math.Abs(radius-delta) > 1e-9 {
						t.Fatalf("%s: radius %v of label %d of row %d, but robust set says %v", base, radius, y, i, sets.Has(i, y))
					}
				}
			}
			if c == CorrectNone {
				plain = int(e.MeanSize * test)
			} else if int(e.MeanSize*test) < plain {
				t.Errorf("%s %s: smaller sets than without a correction", base, c)
			}
		}
	}
	for _, bad := range []RSCP{
		{Base: Variant{Name: "hps"}},
		{Base: Variant{Name: "hps"}, Sigma: 1, Correction: "x"},
		{Base: Variant{Name: "hps"}, Sigma: 1, Correction: CorrectHoeffding},
		{Base: Variant{Name: "nope"}, Sigma: 1},
	} {
		if _, err := bad.Smooth(calDraws, nil); err == nil {
			t.Errorf("%+v went through", bad)
		}
	}
	rs := RSCP{Base: Variant{Name: "hps"}, Sigma: 1, Correction: CorrectHoeffding, Beta: MustLevel("0.05")}
	cal, _ := rs.Smooth(calDraws[:2], nil)
	if _, err := rs.Calibrate(cal, calY, MustLevel("0.1")); err == nil || !strings.Contains(err.Error(), "leaves nothing") {
		t.Errorf("2β = ε: %v", err)
	}
	if _, err := rs.Smooth(nil, nil); err == nil {
		t.Error("no draws")
	}
}
