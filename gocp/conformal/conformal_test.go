package conformal

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

func TestRankIsExact(t *testing.T) {
	for _, c := range []struct {
		n    int
		eps  string
		want int
	}{
		{0, "0.1", 1}, {1, "0.1", 2}, {8, "0.1", 9}, {9, "0.1", 9}, {10, "0.1", 10},
		{99, "0.1", 90}, {100, "0.1", 91}, {499, "0.1", 450}, {500, "0.1", 451},
		{9, "0.7", 3}, {99, "0.3", 70}, // float: 10·(1−0.7) = 3.0000000000000004
		{999, "0.05", 950}, {1, "0.5", 1}, {2, "1/3", 2}, {5, "1/3", 4},
		{1<<40 - 1, "0.5", 1 << 39}, {9, "0.100", 9},
	} {
		got, err := MustLevel(c.eps).Rank(c.n)
		if err != nil || got != c.want {
			t.Errorf("rank(n=%d, ε=%s) = %d, %v; want %d", c.n, c.eps, got, err, c.want)
		}
	}
	// Against the definition, in rationals, over all ε = a/1000.
	for a := 1; a < 1000; a += 7 {
		l := MustLevel(fmt.Sprintf("0.%03d", a))
		for n := range 300 {
			got, _ := l.Rank(n)
			x := new(big.Rat).Mul(big.NewRat(int64(n+1), 1), big.NewRat(int64(1000-a), 1000))
			want := int(new(big.Int).Quo(x.Num(), x.Denom()).Int64())
			if !x.IsInt() {
				want++
			}
			if got != want {
				t.Fatalf("rank(n=%d, ε=%s) = %d, want %d", n, l, got, want)
			}
			if (got <= n) != (n >= l.MinCalibration()) {
				t.Fatalf("n=%d ε=%s: rank %d but MinCalibration %d", n, l, got, l.MinCalibration())
			}
		}
	}
}

func TestParseLevel(t *testing.T) {
	for _, s := range []string{"", "0", "1", "1.0", "0.0", "-0.1", "+0.1", "1e-1", "NaN", "inf", "0.1/2", "1/0",
		"2/1", "0x1p-3", "0..1", ".", "/", "1//3", "0,1", "0_1", strings.Repeat("0", 100) + ".1"} {
		if l, err := ParseLevel(s); err == nil {
			t.Errorf("%q was read as %s", s, l)
		}
	}
	for s, cov := range map[string]string{"0.1": "0.9", ".1": "0.9", "0.10": "0.90", "1/10": "9/10", "0.001": "0.999"} {
		l, err := ParseLevel(s)
		if err != nil || l.Coverage() != cov {
			t.Errorf("%q: coverage %q, %v; want %q", s, l.Coverage(), err, cov)
		}
		b, err := json.Marshal(l)
		var back Level
		if err != nil || json.Unmarshal(b, &back) != nil || back.String() != s {
			t.Errorf("%q does not survive JSON: %s", s, b)
		}
	}
	if _, err := (Level{}).Rank(3); err == nil {
		t.Error("the zero Level has a rank")
	}
}

func TestCalibrate(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		scores []float64
		eps    string
		tau    float64
		few    bool
	}{
		{[]float64{3, 1, 2}, "0.5", 2, false},
		{[]float64{1, 1, 1, 2}, "0.5", 1, false},
		{[]float64{2, 1, 2, 1, 2}, "0.5", 2, false},
		{[]float64{1}, "0.5", 1, false},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8}, "0.1", inf, true},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9}, "0.1", 9, false},
		{nil, "0.1", inf, true},
		{[]float64{1, inf, inf}, "0.25", inf, false},
	} {
		in := slices.Clone(c.scores)
		got, err := Calibrate(c.scores, MustLevel(c.eps))
		if err != nil || got.Tau != c.tau || got.TooFew() != c.few || got.N != len(in) {
			t.Errorf("Calibrate(%v, %s) = %+v, %v; want τ %v", in, c.eps, got, err, c.tau)
		}
		if !slices.Equal(in, c.scores) {
			t.Errorf("Calibrate changed its input %v", in)
		}
		b, err := json.Marshal(got)
		var back Threshold
		if err != nil || json.Unmarshal(b, &back) != nil || back != got {
			t.Errorf("%+v does not survive JSON: %s", got, b)
		}
	}
	if _, err := Calibrate([]float64{0, math.NaN()}, MustLevel("0.1")); err == nil || !strings.Contains(err.Error(), "row 1") {
		t.Errorf("NaN in row 1: %v", err)
	}
	for _, s := range []string{`{"tau":"x","rank":1,"n":1}`, `{"rank":1,"n":1}`, `{"tau":"nan"}`, `3`} {
		var th Threshold
		if json.Unmarshal([]byte(s), &th) == nil {
			t.Errorf("%s was read as a threshold", s)
		}
	}
}

// direct computes a score from its definition in method.md §2, with no shared code.
func direct(v Variant, p []float64, y int, u float64) float64 {
	rank, s := 1, 0.0
	for j := range p {
		if p[j] > p[y] || (p[j] == p[y] && j < y) {
			rank++
			s += p[j]
		}
	}
	switch v.Name {
	case "hps":
		return 1 - p[y]
	case "aps":
		return s + u*p[y]
	case "margin":
		other := 0.0
		if len(p) > 1 {
			other = math.Inf(-1)
		}
		for j := range p {
			if j != y {
				other = math.Max(other, p[j])
			}
		}
		return other - p[y]
	case "saps":
		if rank == 1 {
			return u * p[y]
		}
		return slices.Max(p) + v.Lambda*(float64(rank-2)+u)
	}
	return s + u*p[y] + v.Lambda*math.Max(0, float64(rank-v.KReg))
}

var variants = []Variant{
	{Name: "hps"},
	{Name: "aps"},
	{Name: "aps", U: DrawSample},
	{Name: "aps", U: DrawLabel},
	{Name: "raps", Lambda: 0.1, KReg: 2},
	{Name: "raps", Lambda: 0.05, KReg: 0, U: DrawSample},
	{Name: "raps", U: DrawLabel},
	{Name: "aps", Nonempty: true},
	{Name: "saps", Lambda: 0.1},
	{Name: "saps", Lambda: 0.02, U: DrawLabel},
	{Name: "margin"},
}

// logits draws a table whose labels follow the model's own probabilities, with repeated rows and
// repeated logits so that ties are everywhere.
func logits(r *rand.Rand, n, k int, tied bool) ([]float64, []int) {
	z := make([]float64, n*k)
	labels := make([]int, n)
	for i := range n {
		for y := range k {
			z[i*k+y] = 2 * r.NormFloat64()
			if tied {
				z[i*k+y] = math.Round(z[i*k+y])
			}
		}
		labels[i] = r.IntN(k)
		if q := r.Float64(); q < 0.7 { // right more often than not
			labels[i] = Top(z[i*k : (i+1)*k])
		}
	}
	return z, labels
}

func TestScoresFollowTheirDefinitions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, v := range variants {
		for _, k := range []int{1, 2, 3, 10, 65, 130} {
			n := 20
			z, labels := logits(r, n, k, k%2 == 0)
			p, err := Softmax(n, k, z)
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewScorer(v)
			if err != nil {
				t.Fatal(err)
			}
			u := v.Uniforms(7, 0, n, k)
			all, err := s.All(p, u)
			if err != nil {
				t.Fatal(err)
			}
			lab, err := s.Labelled(p, labels, u)
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				for y := range k {
					ui := 1.0
					switch v.U {
					case DrawSample:
						ui = u[i]
					case DrawLabel:
						ui = u[i*k+y]
					}
					// The sum runs in another order, so the last bits may differ.
					if d := math.Abs(all[i*k+y] - direct(v, p.Row(i), y, ui)); d > 1e-13 {
						t.Fatalf("%s k=%d row %d label %d: off by %g", v, k, i, y, d)
					}
				}
				if lab[i] != all[i*k+labels[i]] {
					t.Fatalf("%s: Labelled and All disagree in row %d", v, i)
				}
			}
		}
	}
}

func TestTiesGoByLabelIndex(t *testing.T) {
	p, err := Probabilities(1, 4, []float64{0.25, 0.25, 0.25, 0.25})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := NewScorer(Variant{Name: "aps"})
	got, err := s.All(p, nil)
	if err != nil || !slices.Equal(got, []float64{0.25, 0.5, 0.75, 1}) {
		t.Errorf("APS of a uniform row: %v, %v", got, err)
	}
	if p.Top(0) != 0 {
		t.Errorf("top label %d", p.Top(0))
	}
}

// TestPValues holds {y : S ≤ τ} against the other definition of the same set,
// (1 + #{s_i ≥ S})/(n+1) > ε in rationals, on scores full of ties.
func TestPValues(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		n := r.IntN(25)
		cal := make([]float64, n)
		for i := range cal {
			cal[i] = float64(r.IntN(6))
		}
		a := 1 + r.IntN(99)
		l := MustLevel(fmt.Sprintf("0.%02d", a))
		th, err := Calibrate(cal, l)
		if err != nil {
			t.Fatal(err)
		}
		for s := -1.0; s <= 7; s++ {
			above := 1
			for _, c := range cal {
				if c >= s {
					above++
				}
			}
			if in, want := s <= th.Tau, above*100 > a*(n+1); in != want {
				t.Fatalf("n=%d ε=%s s=%v cal=%v: in set %v, p-value says %v", n, l, s, cal, in, want)
			}
		}
	}
}

func TestSetsAreNestedInEpsilon(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, v := range variants {
		n, k := 120, 7
		z, labels := logits(r, n, k, true)
		p, _ := Softmax(n, k, z)
		s, _ := NewScorer(v)
		u := v.Uniforms(1, 0, n, k)
		var last *Sets
		for _, eps := range []string{"0.001", "0.01", "0.05", "0.1", "0.2", "0.5", "0.9", "0.999"} {
			th, err := s.Calibrate(p, labels, u, MustLevel(eps))
			if err != nil {
				t.Fatal(err)
			}
			sets, err := s.Predict(p, u, th)
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if v.Nonempty && sets.Size(i) == 0 {
					t.Fatalf("%s: set %d is empty", v, i)
				}
				for _, y := range sets.Labels(i) {
					if last != nil && !last.Has(i, y) {
						t.Fatalf("%s: label %d of row %d is in the set at ε=%s, not at a smaller ε", v, y, i, eps)
					}
				}
			}
			last = sets
		}
	}
}

func TestPermutationInvariance(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, v := range variants {
		n, k := 60, 9
		z, labels := logits(r, n, k, false) // without ties: those go by index, which relabelling moves
		u := v.Uniforms(1, 0, n, k)
		run := func(z []float64, labels []int, u []float64) (Threshold, *Sets) {
			p, _ := Softmax(n, k, z)
			s, _ := NewScorer(v)
			th, err := s.Calibrate(p, labels, u, MustLevel("0.2"))
			if err != nil {
				t.Fatal(err)
			}
			sets, err := s.Predict(p, u, th)
			if err != nil {
				t.Fatal(err)
			}
			return th, sets
		}
		th, sets := run(z, labels, u)
		rows, names := r.Perm(n), r.Perm(k)
		z2, labels2, u2 := make([]float64, n*k), make([]int, n), slices.Clone(u)
		for i := range n {
			labels2[rows[i]] = names[labels[i]]
			for y := range k {
				z2[rows[i]*k+names[y]] = z[i*k+y]
				if v.U == DrawLabel {
					u2[rows[i]*k+names[y]] = u[i*k+y]
				}
			}
			if v.U == DrawSample {
				u2[rows[i]] = u[i]
			}
		}
		th2, sets2 := run(z2, labels2, u2)
		// Softmax sums in another order, so τ may move in its last bits.
		if math.Abs(th.Tau-th2.Tau) > 1e-12 {
			t.Errorf("%s: τ %v became %v", v, th.Tau, th2.Tau)
		}
		differ := 0
		for i := range n {
			for y := range k {
				if sets.Has(i, y) != sets2.Has(rows[i], names[y]) {
					differ++
				}
			}
		}
		if differ > 1 { // the sample at τ itself may fall on either side
			t.Errorf("%s: %d memberships changed", v, differ)
		}
	}
}

// TestCoverage draws many exchangeable splits. The number covered of M test samples has the law
// CoverageLaw; the mean over splits must lie within 4.5 of its standard errors, from above only
// where the scores tie.
func TestCoverage(t *testing.T) {
	const splits, n, m, k = 300, 60, 40, 5
	for _, v := range variants {
		for _, eps := range []string{"0.1", "0.25"} {
			for _, tied := range []bool{false, true} {
				r := rand.New(rand.NewPCG(9, uint64(len(eps))))
				s, _ := NewScorer(v)
				level := MustLevel(eps)
				covered := 0
				var law CoverageLaw
				for split := range splits {
					z, labels := logits(r, n+m, k, tied)
					u := v.Uniforms(11, split*(n+m), n+m, k)
					cut := func(rows int) []float64 {
						switch v.U {
						case DrawSample:
							return u[:rows]
						case DrawLabel:
							return u[:rows*k]
						}
						return nil
					}
					cal, _ := Softmax(n, k, z[:n*k])
					test, _ := Softmax(m, k, z[n*k:])
					uc := cut(n)
					th, err := s.Calibrate(cal, labels[:n], uc, level)
					if err != nil {
						t.Fatal(err)
					}
					law = CoverageLaw{N: n, Rank: th.Rank, M: m}
					sets, err := s.Predict(test, u[len(uc):], th)
					if err != nil {
						t.Fatal(err)
					}
					got, err := Evaluate(sets, labels[n:])
					if err != nil {
						t.Fatal(err)
					}
					covered += got.Coverage.K
				}
				mean := float64(covered) / float64(splits*m)
				z := (mean - law.Mean()) / (law.StdDev() / math.Sqrt(splits))
				if z < -4.5 || (z > 4.5 && !tied && !v.Nonempty) {
					t.Errorf("%s ε=%s tied=%v: coverage %.4f, expected %.4f (z = %.1f)", v, eps, tied, mean, law.Mean(), z)
				}
			}
		}
	}
}

func TestCoverageLaw(t *testing.T) {
	for _, l := range []CoverageLaw{{N: 9, Rank: 9, M: 20}, {N: 99, Rank: 90, M: 50}, {N: 500, Rank: 451, M: 2000}, {N: 5, Rank: 6, M: 10}} {
		sum, mean, sq := 0.0, 0.0, 0.0
		for k := range l.M + 1 {
			p := l.Prob(k)
			sum += p
			mean += p * float64(k)
			sq += p * float64(k) * float64(k)
		}
		m := float64(l.M)
		if math.Abs(sum-1) > 1e-9 || math.Abs(mean/m-l.Mean()) > 1e-9 {
			t.Errorf("%+v: mass %v, mean %v, want 1, %v", l, sum, mean/m, l.Mean())
		}
		if sd := math.Sqrt(math.Max(0, sq-mean*mean)) / m; math.Abs(sd-l.StdDev()) > 1e-6 {
			t.Errorf("%+v: standard deviation %v, want %v", l, sd, l.StdDev())
		}
		lo, hi := l.Band(0.95)
		in := 0.0
		for k := lo; k <= hi; k++ {
			in += l.Prob(k)
		}
		if in < 0.95-1e-9 {
			t.Errorf("%+v: band [%d, %d] holds %v", l, lo, hi, in)
		}
	}
}

func TestClopperPearson(t *testing.T) {
	for _, c := range []struct {
		k, n      int
		low, high float64
	}{ // the closed forms at the ends
		{0, 10, 0, 1 - math.Pow(0.025, 0.1)},
		{10, 10, math.Pow(0.025, 0.1), 1},
	} {
		lo, hi := ClopperPearson(c.k, c.n, 0.95)
		if math.Abs(lo-c.low) > 1e-9 || math.Abs(hi-c.high) > 1e-9 {
			t.Errorf("%d of %d: [%v, %v], want [%v, %v]", c.k, c.n, lo, hi, c.low, c.high)
		}
	}
	// Elsewhere the defining equations: P(X ≥ k; low) = P(X ≤ k; high) = α/2.
	for _, c := range [][2]int{{7, 20}, {1, 1000}, {1801, 2000}, {449, 500}} {
		k, n := c[0], c[1]
		lo, hi := ClopperPearson(k, n, 0.95)
		atLeast := 1 - distuv.Binomial{N: float64(n), P: lo}.CDF(float64(k-1))
		atMost := distuv.Binomial{N: float64(n), P: hi}.CDF(float64(k))
		if math.Abs(atLeast-0.025) > 1e-6 || math.Abs(atMost-0.025) > 1e-6 {
			t.Errorf("%d of %d: tails %v and %v, want 0.025", k, n, atLeast, atMost)
		}
	}
	// Its coverage is at least nominal: sum the binomial over the k whose interval holds p.
	for _, p := range []float64{0.02, 0.3, 0.5, 0.9} {
		const n = 30
		in := 0.0
		for k := range n + 1 {
			if lo, hi := ClopperPearson(k, n, 0.9); lo <= p && p <= hi {
				in += math.Exp(lchoose(n, float64(k))) * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
			}
		}
		if in < 0.9 {
			t.Errorf("p=%v: coverage of the interval %v", p, in)
		}
	}
	for _, bad := range [][2]int{{-1, 5}, {6, 5}, {0, 0}} {
		if lo, hi := ClopperPearson(bad[0], bad[1], 0.95); lo != 0 || hi != 1 {
			t.Errorf("%v: [%v, %v]", bad, lo, hi)
		}
	}
}

func TestUniforms(t *testing.T) {
	v := Variant{Name: "aps", U: DrawLabel}
	n, k := 3000, 10
	u := v.Uniforms(42, 0, n, k)
	if tail := v.Uniforms(42, n-5, 5, k); !slices.Equal(tail, u[(n-5)*k:]) {
		t.Error("u of a sample depends on what is drawn beside it")
	}
	if slices.Equal(u[:k], v.Uniforms(43, 0, 1, k)) {
		t.Error("u does not depend on the seed")
	}
	sorted := slices.Clone(u)
	sort.Float64s(sorted)
	worst := 0.0
	for i, x := range sorted {
		if x < 0 || x >= 1 {
			t.Fatalf("u = %v", x)
		}
		worst = math.Max(worst, math.Abs(x-(float64(i)+0.5)/float64(len(sorted))))
	}
	if d := worst * math.Sqrt(float64(len(sorted))); d > 1.95 { // Kolmogorov–Smirnov, level 0.001
		t.Errorf("Kolmogorov–Smirnov distance √n·D = %.2f", d)
	}
	if got := (Variant{Name: "aps"}).Uniforms(1, 0, 5, 5); got != nil {
		t.Errorf("u of a variant without draws: %v", got)
	}
}

func TestErrorsNameTheRow(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	ok, _ := Softmax(2, 2, []float32{1, 2, 3, 4})
	aps, _ := NewScorer(Variant{Name: "aps", U: DrawSample})
	for _, c := range []struct {
		want string
		err  error
	}{
		{"row 1: label 0 is NaN", second(Softmax(2, 2, []float64{1, 2, nan, 4}))},
		{"row 0: label 1 is +Inf", second(Softmax(2, 2, []float64{1, inf, 3, 4}))},
		{"row 1: all labels are -Inf", second(Softmax(2, 2, []float64{1, 2, -inf, -inf}))},
		{"are not 2 rows of 2", second(Softmax(2, 2, []float64{1, 2, 3}))},
		{"are not 1 rows of 0", second(Softmax[float64](1, 0, nil))},
		{"row 1: label 0 is -0.5", second(Probabilities(2, 2, []float64{0.5, 0.5, -0.5, 1.5}))},
		{"row 0: they sum to 3", second(Probabilities(1, 2, []float64{1, 2}))},
		{"row 0: label 0 is NaN", second(Probabilities(1, 2, []float64{nan, 1}))},
		{"label of row 1 is 2", second(aps.Labelled(ok, []int{0, 2}, []float64{0, 0}))},
		{"1 labels for 2 rows", second(aps.Labelled(ok, []int{0}, []float64{0, 0}))},
		{"wants 2", second(aps.All(ok, nil))},
		{"u of row 1 is NaN", second(aps.All(ok, []float64{0, nan}))},
		{"is NaN", second(aps.Predict(ok, []float64{0, 0}, Threshold{Tau: nan}))},
		{"known are aps, hps, margin, raps, saps", second(NewScorer(Variant{Name: "hsp"}))},
		{"known are one, sample, label", second(NewScorer(Variant{Name: "hps", U: "x"}))},
		{"lambda is NaN", second(NewScorer(Variant{Name: "raps", Lambda: nan}))},
		{"k_reg is -1", second(NewScorer(Variant{Name: "raps", KReg: -1}))},
		{"2 labels for 0 rows", second(Evaluate(NewSets(0, 3), []int{0, 1}))},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("error %v does not say %q", c.err, c.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

type flat struct{}

func (flat) Scores(dst []float64, r *Row) {
	for y := range dst {
		dst[y] = math.NaN()
	}
}

func TestRegister(t *testing.T) {
	Register("test-flat", func(Variant) (Score, error) { return flat{}, nil })
	defer func() {
		registry.Lock()
		delete(registry.m, "test-flat")
		registry.Unlock()
	}()
	s, err := NewScorer(Variant{Name: "test-flat"})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := Softmax(1, 2, []float64{0, 0})
	if _, err := s.All(p, nil); err == nil || !strings.Contains(err.Error(), "row 0, label 0 is NaN") {
		t.Errorf("a score that gives NaN: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a second score of one name did not panic")
		}
	}()
	Register("hps", func(Variant) (Score, error) { return HPS{}, nil })
}

func TestSets(t *testing.T) {
	s := NewSets(3, 130)
	for _, y := range []int{129, 0, 64, 63, 64} {
		s.Add(1, y)
	}
	if got := s.Labels(1); !slices.Equal(got, []int{0, 63, 64, 129}) || s.Size(1) != 4 {
		t.Errorf("labels %v, size %d", got, s.Size(1))
	}
	if s.Size(0) != 0 || s.Size(2) != 0 || s.Labels(0) == nil || s.Has(0, 64) || !s.Has(1, 129) {
		t.Error("sets run into each other")
	}
	if !slices.Equal(s.Sizes(), []int{0, 4, 0}) {
		t.Errorf("sizes %v", s.Sizes())
	}
}

func TestEvaluate(t *testing.T) {
	s := NewSets(4, 3)
	s.Add(0, 0)
	s.Add(1, 0)
	s.Add(1, 1)
	s.Add(2, 2)
	m, err := Evaluate(s, []int{0, 2, 2, 1})
	if err != nil {
		t.Fatal(err)
	}
	if m.Coverage.K != 2 || m.Empty != 1 || m.Singleton != 2 || m.MeanSize != 1 || !slices.Equal(m.Sizes, []int{1, 2, 1, 0}) {
		t.Errorf("%+v", m)
	}
	for y, want := range [][2]int{{1, 1}, {0, 1}, {1, 2}} {
		if c := m.Classes[y]; c.K != want[0] || c.N != want[1] {
			t.Errorf("class %d: %d of %d, want %v", y, c.K, c.N, want)
		}
	}
	if m, err := Evaluate(NewSets(0, 2), nil); err != nil || m.Coverage.Low != 0 || m.Coverage.High != 1 {
		t.Errorf("nothing at all: %+v, %v", m, err)
	}
}

func TestOneLabelOneSample(t *testing.T) {
	p, err := Softmax(1, 1, []float32{3})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variants {
		s, _ := NewScorer(v)
		u := v.Uniforms(1, 0, 1, 1)
		th, err := s.Calibrate(p, []int{0}, u, MustLevel("0.1"))
		if err != nil || !th.TooFew() {
			t.Fatalf("%s: %+v, %v", v, th, err)
		}
		sets, err := s.Predict(p, u, th)
		if err != nil || !sets.Has(0, 0) {
			t.Errorf("%s: the only label is not in the set: %v", v, err)
		}
	}
}

func BenchmarkPredict(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, v := range []Variant{{Name: "hps"}, {Name: "aps", U: DrawSample}, {Name: "raps", Lambda: 0.1, KReg: 2}} {
		for _, k := range []int{10, 1000} {
			n := 100000 / k
			z, labels := logits(r, n, k, false)
			p, _ := Softmax(n, k, z)
			s, _ := NewScorer(v)
			u := v.Uniforms(1, 0, n, k)
			th, err := s.Calibrate(p, labels, u, MustLevel("0.1"))
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/K=%d", v.Name, k), func(b *testing.B) {
				b.SetBytes(int64(8 * n * k))
				for b.Loop() {
					if _, err := s.Predict(p, u, th); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestMasked: a logit of −∞ is a probability of 0, and changes nothing for the others.
func TestMasked(t *testing.T) {
	inf := math.Inf(-1)
	p, err := Softmax(1, 4, []float64{1, inf, 2, inf})
	if err != nil {
		t.Fatal(err)
	}
	want, err := Softmax(1, 2, []float64{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Row(0); got[0] != want.At(0, 0) || got[1] != 0 || got[2] != want.At(0, 1) || got[3] != 0 {
		t.Errorf("%v, want %v between zeros", got, want.Row(0))
	}
	masked, plain := []float64{1, inf, 0.5, 3, inf, 0, 2, inf, 1.5}, []float64{1, -1e6, 0.5, 3, -1e6, 0, 2, -1e6, 1.5}
	labels := []int{2, 0, 2}
	a, err := FitTemperature(3, 3, masked, labels)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := FitTemperature(3, 3, plain, labels); err != nil || math.Abs(a-b) > 1e-9*b {
		t.Errorf("temperature %v, want %v, %v", a, b, err)
	}
	if _, err := FitTemperature(3, 3, masked, []int{2, 1, 2}); err == nil || !strings.Contains(err.Error(), "row 1") {
		t.Errorf("a temperature for a label that is masked: %v", err)
	}
}
