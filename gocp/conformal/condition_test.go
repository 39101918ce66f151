package conformal

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestPValuesAgreeWithThresholds: p > ε, in integers, is S ≤ τ; smoothed p-values are uniform even
// where everything ties.
func TestPValuesAgreeWithThresholds(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 1))
	for range 500 {
		n := r.IntN(25)
		cal := make([]float64, n)
		for i := range cal {
			cal[i] = float64(r.IntN(6))
		}
		l := MustLevel(fmt.Sprintf("0.%02d", 1+r.IntN(99)))
		th, _ := Calibrate(cal, l)
		v, err := NewPValues(cal)
		if err != nil {
			t.Fatal(err)
		}
		for s := -1.0; s <= 7; s += 0.5 {
			above, equal := 0, 0
			for _, c := range cal {
				if c > s {
					above++
				} else if c == s {
					equal++
				}
			}
			if a, e := v.Counts(s); a != above || e != equal {
				t.Fatalf("counts of %v in %v: %d, %d", s, cal, a, e)
			}
			if v.Inside(s, l) != (s <= th.Tau) {
				t.Fatalf("n=%d ε=%s s=%v", n, l, s)
			}
			if p, sm := v.P(s), v.Smoothed(s, 1); math.Abs(p-sm) > 1e-15 {
				t.Fatalf("u = 1: %v and %v", p, sm)
			}
		}
	}
	const rounds, n = 20000, 9
	below := 0
	for range rounds {
		cal := make([]float64, n)
		for i := range cal {
			cal[i] = float64(r.IntN(3))
		}
		v, _ := NewPValues(cal)
		if v.Smoothed(float64(r.IntN(3)), r.Float64()) <= 0.3 {
			below++
		}
	}
	if z := (float64(below) - 0.3*rounds) / math.Sqrt(rounds*0.21); math.Abs(z) > 4.5 {
		t.Errorf("P(p ≤ 0.3) = %v", float64(below)/rounds)
	}
	if _, err := NewPValues([]float64{1, math.NaN()}); err == nil || !strings.Contains(err.Error(), "row 1") {
		t.Errorf("NaN: %v", err)
	}
}

// TestWeighted holds the weighted threshold against its definition in rationals, and against
// Calibrate when all weights are equal, also those that no float64 sum gets right.
func TestWeighted(t *testing.T) {
	r := rand.New(rand.NewPCG(32, 1))
	for round := range 800 {
		n := r.IntN(20)
		scores, weights := make([]float64, n), make([]float64, n)
		for i := range scores {
			scores[i] = float64(r.IntN(8))
			weights[i] = float64(r.IntN(5)) / 10
			if round%2 == 0 {
				weights[i] = 0.1
			}
		}
		l := MustLevel(fmt.Sprintf("0.%d", 1+r.IntN(9)))
		w := 0.1
		c, err := NewWeighted(scores, weights)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Tau(w, l)
		if err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 {
			if th, _ := Calibrate(scores, l); th.Tau != got {
				t.Fatalf("equal weights: %v, Calibrate %v (n=%d, ε=%s)", got, th.Tau, n, l)
			}
		}
		total := new(big.Rat).SetFloat64(w)
		for _, x := range weights {
			total.Add(total, new(big.Rat).SetFloat64(x))
		}
		need := new(big.Rat).Mul(total, new(big.Rat).Sub(big.NewRat(1, 1), l.eps))
		want := math.Inf(1)
		for _, s := range scores {
			sum := new(big.Rat)
			for i := range scores {
				if scores[i] <= s {
					sum.Add(sum, new(big.Rat).SetFloat64(weights[i]))
				}
			}
			if sum.Cmp(need) >= 0 {
				want = min(want, s)
			}
		}
		if got != want {
			t.Fatalf("scores %v weights %v ε=%s: τ %v, want %v", scores, weights, l, got, want)
		}
	}
	for _, bad := range [][]float64{{-1, 1}, {math.NaN(), 1}, {math.Inf(1), 1}, {1}, {math.MaxFloat64, math.MaxFloat64}} {
		if _, err := NewWeighted([]float64{1, 2}, bad); err == nil {
			t.Errorf("weights %v went through", bad)
		}
	}
	c, _ := NewWeighted([]float64{1}, []float64{0})
	if tau, err := c.Tau(0, MustLevel("0.1")); err != nil || !math.IsInf(tau, 1) {
		t.Errorf("no weight at all: %v, %v", tau, err)
	}
	if _, err := c.Tau(-1, MustLevel("0.1")); err == nil {
		t.Error("negative test weight")
	}
}

// TestWeightedCoverage: under covariate shift with known likelihood ratio the weighted sets cover;
// the unweighted ones do not.
func TestWeightedCoverage(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 1))
	level := MustLevel("0.2")
	const rounds, n = 3000, 60
	weighted, plain := 0, 0
	for range rounds {
		// x is 0 or 1, P(x=1) = 0.2 in calibration and 0.8 in test; scores are larger at x = 1.
		draw := func(p float64) (score, w float64) {
			if r.Float64() < p {
				return 2 + r.Float64(), 0.8 / 0.2
			}
			return r.Float64(), 0.2 / 0.8
		}
		s, w := make([]float64, n), make([]float64, n)
		for i := range s {
			s[i], w[i] = draw(0.2)
		}
		c, _ := NewWeighted(s, w)
		score, weight := draw(0.8)
		tau, err := c.Tau(weight, level)
		if err != nil {
			t.Fatal(err)
		}
		if score <= tau {
			weighted++
		}
		if th, _ := Calibrate(s, level); score <= th.Tau {
			plain++
		}
	}
	if NewProportion(weighted, rounds, 0.999).High < 0.8 || NewProportion(plain, rounds, 0.999).High > 0.7 {
		t.Errorf("coverage %d weighted, %d plain of %d", weighted, plain, rounds)
	}
}

// TestCells: thresholds are those of the cells' own scores, small cells follow their rule, and all
// of it survives JSON.
func TestCells(t *testing.T) {
	scores := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 30}
	labels := []int{0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3}
	level := MustLevel("0.25") // a cell needs 3
	inf := math.Inf(1)
	for _, c := range []struct {
		below Below
		want  []float64 // of labels 0 … 4
	}{
		{BelowInfinite, []float64{4, 9, inf, inf, inf}},
		{BelowMarginal, []float64{4, 9, 9, 9, 9}},
		{BelowPool, []float64{4, 9, inf, inf, inf}},
	} {
		th, err := CalibrateCells(scores, labels, nil, 5, level, Conditioning{By: ByClass, Below: c.below})
		if err != nil {
			t.Fatal(err)
		}
		for y, want := range c.want {
			if got := th.Of(y, 0).Tau; got != want {
				t.Errorf("%s: τ of label %d is %v, want %v", c.below, y, got, want)
			}
		}
		b, err := json.Marshal(th)
		back := new(Thresholds)
		if err != nil || json.Unmarshal(b, back) != nil || !reflect.DeepEqual(back, th) || back.Check() != nil {
			t.Errorf("does not survive JSON: %s, %v", b, err)
		}
	}
	groups := []int{7, 7, 7, -3, -3, -3, 7, -3, 7, 99, 99}
	th, err := CalibrateCells(scores, nil, groups, 5, level, Conditioning{By: ByGroup, Below: BelowPool, MinCell: 3})
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c, d := th.Of(0, 7).Tau, th.Of(0, -3).Tau, th.Of(0, 99).Tau, th.Of(0, 5).Tau; a != 9 || b != 8 || c != inf || d != inf {
		t.Errorf("groups: %v %v %v %v", a, b, c, d)
	}
	th, err = CalibrateCells(scores, labels, nil, 5, level, Conditioning{By: ByCluster, Clusters: []int{0, 1, 0, -1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c := th.Of(2, 0).Tau, th.Of(4, 0).Tau, th.Of(3, 0).Tau; a != 20 || b != 9 || c != 9 {
		t.Errorf("clusters: %v %v %v", a, b, c)
	}
	for _, bad := range []Conditioning{{By: "x"}, {Below: "x"}, {MinCell: -1}, {By: ByCluster}, {By: ByCluster, Clusters: []int{0, 0, 0, 0, -2}}} {
		if _, err := CalibrateCells(scores, labels, groups, 5, level, bad); err == nil {
			t.Errorf("%+v went through", bad)
		}
	}
	if _, err := CalibrateCells(scores, nil, nil, 5, level, Conditioning{By: ByGroup}); err == nil {
		t.Error("no groups")
	}
}

// TestConditionalCoverage draws exchangeable splits with classes of unequal difficulty: coverage
// given the class, the group and the cluster is at least 1−ε up to chance, where the marginal
// threshold leaves one class far below.
func TestConditionalCoverage(t *testing.T) {
	const rounds, n, m, k = 250, 160, 60, 4
	level := MustLevel("0.2")
	s, _ := NewScorer(Variant{Name: "aps", U: DrawSample})
	clusters := []int{0, 1, 0, 1}
	for _, by := range []Condition{Marginal, ByClass, ByGroup, ByCluster} {
		r := rand.New(rand.NewPCG(34, 1))
		var in, all [k]int
		for round := range rounds {
			z := make([]float64, (n+m)*k)
			labels, groups := make([]int, n+m), make([]int, n+m)
			for i := range labels {
				y := r.IntN(k)
				labels[i], groups[i] = y, y%2
				for j := range k {
					z[i*k+j] = r.NormFloat64()
				}
				if y%2 == 0 {
					z[i*k+y] += 3 // easy
				}
			}
			cal, _ := Softmax(n, k, z[:n*k])
			test, _ := Softmax(m, k, z[n*k:])
			u := s.Variant().Uniforms(5, round*(n+m), n+m, k)
			scores, err := s.Labelled(cal, labels[:n], u[:n])
			if err != nil {
				t.Fatal(err)
			}
			c := Conditioning{By: by}
			if by == ByCluster {
				c.Clusters = clusters
			}
			th, err := CalibrateCells(scores, labels[:n], groups[:n], k, level, c)
			if err != nil {
				t.Fatal(err)
			}
			sets, err := s.PredictCells(test, u[n:], th, groups[n:])
			if err != nil {
				t.Fatal(err)
			}
			for i, y := range labels[n:] {
				cell := y
				if by != ByClass {
					cell = y % 2
				}
				all[cell]++
				if sets.Has(i, y) {
					in[cell]++
				}
			}
		}
		worst := 1.0
		for c := range in {
			if all[c] > 0 {
				worst = min(worst, float64(in[c])/float64(all[c]))
			}
		}
		switch {
		case by == Marginal && worst > 0.75:
			t.Errorf("marginal: worst class covered at %.3f: the test says nothing", worst)
		case by != Marginal && worst < 0.785:
			t.Errorf("%s: worst cell covered at %.3f", by, worst)
		}
	}
}

// TestCluster finds two kinds of labels, and sends rare ones to the null cluster.
func TestCluster(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 1))
	const k = 30
	var scores []float64
	var labels []int
	for y := range k {
		n := 100
		if y == 7 {
			n = 4
		}
		for range n {
			s := r.Float64()
			if y%3 == 0 {
				s = 0.8 + s/5
			}
			scores = append(scores, s)
			labels = append(labels, y)
		}
	}
	got, err := Cluster(scores, labels, k, MustLevel("0.1"), ClusterOptions{Clusters: 2})
	if err != nil {
		t.Fatal(err)
	}
	for y, c := range got {
		want := 1
		switch {
		case y == 7:
			want = -1
		case y%3 == 0:
			want = 0
		}
		if c != want {
			t.Errorf("label %d in cluster %d, want %d", y, c, want)
		}
	}
	again, _ := Cluster(scores, labels, k, MustLevel("0.1"), ClusterOptions{Clusters: 2})
	if !slices.Equal(got, again) {
		t.Error("not the same clusters twice")
	}
	if auto, err := Cluster(scores, labels, k, MustLevel("0.1"), ClusterOptions{}); err != nil || slices.Max(auto) < 0 {
		t.Errorf("by rule: %v, %v", auto, err)
	}
	if none, err := Cluster(nil, nil, 3, MustLevel("0.1"), ClusterOptions{}); err != nil || !slices.Equal(none, []int{-1, -1, -1}) {
		t.Errorf("no samples: %v, %v", none, err)
	}
}
