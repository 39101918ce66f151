package conformal

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestPoisonedThreshold enumerates every attack on small calibration sets.
func TestPoisonedThreshold(t *testing.T) {
	r := rand.New(rand.NewPCG(51, 1))
	extremes := []float64{math.Inf(-1), 2.5, math.Inf(1)}
	for range 60 {
		n, k := r.IntN(6), r.IntN(3)
		level := MustLevel([]string{"0.1", "0.3", "0.5", "0.8"}[r.IntN(4)])
		scores := make([]float64, n)
		for i := range scores {
			scores[i] = float64(r.IntN(5))
		}
		tau := func(s []float64) float64 {
			th, err := Calibrate(s, level)
			if err != nil {
				t.Fatal(err)
			}
			return th.Tau
		}
		for _, attack := range []Attack{Replace, Insert, Delete} {
			want := Interval{math.Inf(1), math.Inf(-1)}
			var try func(s []float64, from, left int)
			try = func(s []float64, from, left int) {
				v := tau(s)
				want = Interval{min(want.Low, v), max(want.High, v)}
				if left == 0 {
					return
				}
				switch attack {
				case Replace:
					for i := from; i < len(s); i++ {
						for _, e := range extremes {
							c := slices.Clone(s)
							c[i] = e
							try(c, i+1, left-1)
						}
					}
				case Insert:
					for _, e := range extremes {
						try(append(slices.Clone(s), e), 0, left-1)
					}
				case Delete:
					for i := range s {
						try(slices.Delete(slices.Clone(s), i, i+1), 0, left-1)
					}
				}
			}
			try(scores, 0, k)
			got, err := PoisonedThreshold(scores, level, attack, k)
			if err != nil || got != want {
				t.Fatalf("%s %d of %v at %s: %v, %v; enumeration %v", attack, k, scores, level, got, err, want)
			}
		}
		for s := -0.5; s <= 5; s += 0.5 {
			radius, in, err := PoisonRadius(scores, level, s)
			if err != nil || in != (s <= tau(scores)) || radius < 0 || radius > n {
				t.Fatalf("radius %d, in %v, %v", radius, in, err)
			}
			for k := range n + 1 {
				iv, _ := PoisonedThreshold(scores, level, Replace, k)
				certain := in && s <= iv.Low || !in && s > iv.High
				if certain != (k <= radius) {
					t.Fatalf("s=%v in %v of %v at %s: radius %d, but %d replaced are certain: %v", s, in, scores, level, radius, k, certain)
				}
			}
		}
	}
	if _, err := PoisonedThreshold(nil, MustLevel("0.1"), "x", 1); err == nil {
		t.Error("an unknown attack")
	}
	if _, err := PoisonedThreshold([]float64{math.NaN()}, MustLevel("0.1"), Replace, 1); err == nil {
		t.Error("NaN")
	}
}

// TestFlippedThreshold enumerates every assignment of labels.
func TestFlippedThreshold(t *testing.T) {
	r := rand.New(rand.NewPCG(52, 1))
	for range 150 {
		n, k, flips := 1+r.IntN(5), 1+r.IntN(3), r.IntN(4)
		level := MustLevel([]string{"0.2", "0.4", "0.7"}[r.IntN(3)])
		scores, labels := make([]float64, n*k), make([]int, n)
		for i := range scores {
			scores[i] = float64(r.IntN(7))
		}
		for i := range labels {
			labels[i] = r.IntN(k)
		}
		want := Interval{math.Inf(1), math.Inf(-1)}
		own := make([]float64, n)
		var try func(i, left int)
		try = func(i, left int) {
			if i == n {
				th, _ := Calibrate(own, level)
				want = Interval{min(want.Low, th.Tau), max(want.High, th.Tau)}
				return
			}
			for y := range k {
				cost := 1
				if y == labels[i] {
					cost = 0
				}
				if cost <= left {
					own[i] = scores[i*k+y]
					try(i+1, left-cost)
				}
			}
		}
		try(0, flips)
		got, err := FlippedThreshold(scores, labels, k, level, flips)
		if err != nil || got != want {
			t.Fatalf("%d flips of %v, %v at %s: %v, %v; enumeration %v", flips, labels, scores, level, got, err, want)
		}
	}
	if _, err := FlippedThreshold([]float64{1, 2}, []int{0}, 2, MustLevel("0.1"), -1); err == nil {
		t.Error("negative flips")
	}
}

// reachable calls f with every row of votes that control over b models can bring about.
func reachable(votes []int, b int, f func([]int)) {
	seen := map[string]bool{}
	var try func(v []int, left int)
	try = func(v []int, left int) {
		key := ""
		for _, c := range v {
			key += string(rune(c)) + ","
		}
		if key += string(rune(left)); seen[key] {
			return
		}
		seen[key] = true
		f(v)
		if left == 0 {
			return
		}
		for from := range v {
			for to := range v {
				if from != to && v[from] > 0 {
					w := slices.Clone(v)
					w[from]--
					w[to]++
					try(w, left-1)
				}
			}
		}
	}
	try(votes, b)
}

// TestPoisonedCells enumerates every attack on small calibration sets with thresholds by class, group
// and cluster: the ranges are reached where cells have no fallback, and hold where they have.
func TestPoisonedCells(t *testing.T) {
	r := rand.New(rand.NewPCG(53, 1))
	extremes := []float64{math.Inf(-1), 2.5, math.Inf(1)}
	for trial := range 400 {
		n, k, budget := 1+r.IntN(4), 2+r.IntN(2), r.IntN(3)
		level := MustLevel([]string{"0.3", "0.4", "0.7"}[r.IntN(3)])
		c := Conditioning{By: []Condition{ByClass, ByGroup, ByCluster}[trial%3], Below: []Below{BelowInfinite, BelowMarginal}[r.IntN(2)], MinCell: r.IntN(3)}
		if c.By == ByCluster {
			c.Clusters = []int{0, 1, 0}[:k]
		}
		scores, labels, groups := make([]float64, n*k), make([]int, n), make([]int, n)
		for i := range scores {
			scores[i] = float64(r.IntN(7))
		}
		for i := range labels {
			labels[i], groups[i] = r.IntN(k), r.IntN(2)
		}
		truth := func() []float64 {
			own := make([]float64, n)
			for i, y := range labels {
				own[i] = scores[i*k+y]
			}
			return own
		}
		check := func(name string, got *CellIntervals, err error, want map[[2]int]Interval) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			for at, w := range want {
				iv := got.Of(at[0], at[1])
				exact := c.Below == BelowInfinite
				if exact && iv != w || iv.Low > w.Low || iv.High < w.High {
					t.Fatalf("%s: %d of %v, labels %v, groups %v at %s by %s, below %d %s: label %d of group %d %v; enumeration %v", name, budget, scores, labels, groups, level, c.By, c.MinCell, c.Below, at[0], at[1], iv, w)
				}
			}
		}
		record := func(want map[[2]int]Interval, own []float64, labels, groups []int) {
			th, err := CalibrateCells(own, labels, groups, k, level, c)
			if err != nil {
				t.Fatal(err)
			}
			for y := range k {
				for g := range 3 {
					w, ok := want[[2]int{y, g}]
					if !ok {
						w = Interval{math.Inf(1), math.Inf(-1)}
					}
					tau := th.Of(y, g).Tau
					want[[2]int{y, g}] = Interval{min(w.Low, tau), max(w.High, tau)}
				}
			}
		}
		own := truth()

		replaced := map[[2]int]Interval{}
		s, l, g := slices.Clone(own), slices.Clone(labels), slices.Clone(groups)
		var replace func(from, left int)
		replace = func(from, left int) {
			record(replaced, s, l, g)
			if left == 0 {
				return
			}
			for i := from; i < n; i++ {
				a, b, d := s[i], l[i], g[i]
				for _, e := range extremes {
					for y := range k {
						for group := range 3 {
							s[i], l[i], g[i] = e, y, group
							replace(i+1, left-1)
						}
					}
				}
				s[i], l[i], g[i] = a, b, d
			}
		}
		replace(0, budget)
		got, err := PoisonedCells(own, labels, groups, k, level, c, budget)
		check("replaced", got, err, replaced)

		flipped := map[[2]int]Interval{}
		before := slices.Clone(labels)
		var flip func(i, left int)
		flip = func(i, left int) {
			if i == n {
				record(flipped, truth(), labels, groups)
				return
			}
			for y := range k {
				cost := 1
				if y == before[i] {
					cost = 0
				}
				if cost <= left {
					labels[i] = y
					flip(i+1, left-cost)
				}
			}
			labels[i] = before[i]
		}
		flip(0, budget)
		copy(labels, before)
		got, err = FlippedCells(scores, labels, groups, k, level, c, budget)
		check("flipped", got, err, flipped)

		// A label is certain or impossible for all attacks, or else open.
		certain, possible, err := got.Certify(scores, groups)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			for y := range k {
				iv, v := flipped[[2]int{y, groups[i]}], scores[i*k+y]
				if certain.Has(i, y) && v > iv.Low || !possible.Has(i, y) && v <= iv.High {
					t.Fatalf("label %d of row %d: certain %v, possible %v, score %v in %v", y, i, certain.Has(i, y), possible.Has(i, y), v, iv)
				}
			}
		}
	}
	c := Conditioning{By: ByClass, Below: BelowPool, MinCell: 3}
	if _, err := PoisonedCells([]float64{1, 2, 3}, []int{0, 0, 0}, nil, 1, MustLevel("0.5"), c, 1); err == nil {
		t.Error("a cell that can fall into the pool")
	}
	if _, err := FlippedCells([]float64{1, 2, 3}, []int{0, 0, 0}, nil, 1, MustLevel("0.5"), c, 0); err != nil {
		t.Error(err)
	}
	if _, err := FlippedCells([]float64{1, math.NaN()}, []int{0}, nil, 2, MustLevel("0.5"), Conditioning{}, 0); err == nil {
		t.Error("NaN")
	}
	got, err := PoisonedCells([]float64{1, 2}, nil, []int{0, 1}, 2, MustLevel("0.5"), Conditioning{By: ByGroup}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := got.Certify([]float64{1, 2}, nil); err == nil {
		t.Error("no groups")
	}
	if _, _, err := got.Certify([]float64{1}, []int{0}); err == nil {
		t.Error("half a row")
	}
	if _, _, err := got.Certify([]float64{1, math.NaN()}, []int{0}); err == nil {
		t.Error("NaN")
	}
}

// TestVoteBounds enumerates every change of b votes.
func TestVoteBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(53, 1))
	for range 200 {
		k, models, b := 1+r.IntN(4), 1+r.IntN(7), r.IntN(4)
		votes := make([]int, k)
		for range models {
			votes[r.IntN(k)]++
		}
		dst := make([]float64, k)
		for y := range k {
			low, high := math.Inf(1), math.Inf(-1)
			reachable(votes, min(b, models), func(v []int) {
				VoteScore(dst, v, models)
				low, high = min(low, dst[y]), max(high, dst[y])
			})
			gl, gh := VoteBounds(votes, models, y, b)
			if math.Abs(gl-low) > 1e-12 || math.Abs(gh-high) > 1e-12 {
				t.Fatalf("votes %v, label %d, %d models: [%v, %v], enumeration [%v, %v]", votes, y, b, gl, gh, low, high)
			}
		}
	}
}

func TestNeededVotes(t *testing.T) {
	for _, c := range []struct {
		k    int
		eps  string
		want int
	}{
		// P(Bin(1, .9) ≤ 0) = 0.1 ≤ 0.1; P(Bin(40, .9) ≤ 32) = 0.0419, ≤ 33 is 0.0995, ≤ 34 is 0.206.
		{1, "0.1", 0}, {40, "0.1", 33}, {2, "0.5", 0}, {1, "0.05", 0},
	} {
		if got := NeededVotes(c.k, MustLevel(c.eps)); got != c.want {
			t.Errorf("%d parts at %s: %d, want %d", c.k, c.eps, got, c.want)
		}
	}
}

// TestRPS attacks: within the radii every poisoned set lies between Certain and Possible, and
// without attack the sets cover.
func TestRPS(t *testing.T) {
	for _, rule := range []VoteRule{VoteBinomial, VoteMajority} {
		testRPS(t, rule)
	}
}

func testRPS(t *testing.T, rule VoteRule) {
	r := rand.New(rand.NewPCG(54, 1))
	const n, m, k, models, parts = 400, 300, 4, 25, 4
	level := MustLevel("0.2")
	draw := func(n int) (*Votes, []int) {
		counts, labels := make([]int, n*k), make([]int, n)
		for i := range labels {
			labels[i] = r.IntN(k)
			sure := r.Float64()
			for range models {
				y := labels[i]
				if r.Float64() > sure {
					y = r.IntN(k)
				}
				counts[i*k+y]++
			}
		}
		v, err := NewVotes(n, k, counts)
		if err != nil {
			t.Fatal(err)
		}
		return v, labels
	}
	attack := func(v *Votes, b int) *Votes {
		counts := slices.Clone(v.counts)
		for i := range v.N {
			row := counts[i*k : (i+1)*k]
			to := r.IntN(k)
			for range b {
				if from := r.IntN(k); row[from] > 0 {
					row[from]--
					row[to]++
				}
			}
		}
		out, err := NewVotes(v.N, k, counts)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	cal, labels := draw(n)
	test, truth := draw(m)
	part := make([]int, n)
	for i := range part {
		part[i] = Part([]byte{byte(i), byte(i >> 8)}, parts)
	}
	rps, err := NewRPS(cal, labels, part, parts, level, rule)
	if err != nil {
		t.Fatal(err)
	}
	for _, radii := range [][2]int{{0, 0}, {2, 0}, {0, 1}, {3, 1}} {
		got, err := rps.Predict(test, radii[0], radii[1])
		if err != nil {
			t.Fatal(err)
		}
		if radii == [2]int{} {
			e, _ := Evaluate(got.Sets, truth)
			floor := 0.8
			if rule == VoteBinomial {
				floor = 0.77 // its parts do not vote independently
			}
			if e.Coverage.High < floor {
				t.Errorf("%s: coverage %+v", rule, e.Coverage)
			}
			for i := range m {
				if !got.CoverageReliable(i) || !got.SizeReliable(i) {
					t.Fatal("not certain without an attack")
				}
			}
		}
		for range 10 {
			badCal := attack(cal, radii[0])
			badLabels := slices.Clone(labels)
			for i := range badLabels {
				if part[i] < radii[1] {
					badLabels[i] = r.IntN(k)
				}
			}
			bad, err := NewRPS(badCal, badLabels, part, parts, level, rule)
			if err != nil {
				t.Fatal(err)
			}
			sets, err := bad.Predict(attack(test, radii[0]), 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range m {
				for y := range k {
					if in := sets.Sets.Has(i, y); got.Certain.Has(i, y) && !in || in && !got.Possible.Has(i, y) {
						t.Fatalf("radii %v: label %d of row %d broke its certificate", radii, y, i)
					}
				}
			}
		}
	}
	if _, err := NewVotes(2, 2, []int{1, 1, 3, 0}); err == nil {
		t.Error("rows of different sums")
	}
	if _, err := rps.Predict(test, -1, 0); err == nil {
		t.Error("a negative radius")
	}
	part[0] = parts
	if _, err := NewRPS(cal, labels, part, parts, level, rule); err == nil {
		t.Error("a part too many")
	}
}
