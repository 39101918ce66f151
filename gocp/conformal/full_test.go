package conformal

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// featureData draws samples around class centres; every fourth row repeats another one.
func featureData(r *rand.Rand, n, d, k int) (x []float64, labels []int) {
	centres := rand.New(rand.NewPCG(99, 99))
	c := make([]float64, k*d)
	for i := range c {
		c[i] = 1.2 * centres.NormFloat64()
	}
	for i := range n {
		y := r.IntN(k)
		if i%4 == 3 {
			j := r.IntN(i)
			x = append(x, x[j*d:(j+1)*d]...)
			labels = append(labels, labels[j])
			continue
		}
		for j := range d {
			x = append(x, c[y*d+j]+r.NormFloat64())
		}
		labels = append(labels, y)
	}
	return x, labels
}

// ridgeRefit fits a ridge head from scratch and returns the outputs for one row.
func ridgeRefit(x []float64, labels []int, d, k int, lambda float64, skip int, query []float64) []float64 {
	var rows []float64
	var ys []int
	for i, y := range labels {
		if i != skip {
			rows = append(rows, x[i*d:(i+1)*d]...)
			ys = append(ys, y)
		}
	}
	a := mat.NewDense(d, d, nil)
	b := mat.NewDense(d, k, nil)
	for i, y := range ys {
		for p := range d {
			for q := range d {
				a.Set(p, q, a.At(p, q)+rows[i*d+p]*rows[i*d+q])
			}
			b.Set(p, y, b.At(p, y)+rows[i*d+p])
		}
	}
	for p := range d {
		a.Set(p, p, a.At(p, p)+lambda)
	}
	w := new(mat.Dense)
	if err := w.Solve(a, b); err != nil {
		panic(err)
	}
	out := make([]float64, k)
	for y := range k {
		for p := range d {
			out[y] += query[p] * w.At(p, y)
		}
	}
	return out
}

// TestFullRidgeIsBruteForce refits the head n+1 times for every candidate.
func TestFullRidgeIsBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 1))
	for _, c := range []struct{ n, d, k int }{{0, 3, 2}, {1, 2, 2}, {12, 3, 3}, {25, 6, 4}, {9, 12, 2}, {6, 2, 1}} {
		for _, score := range []HeadScore{Residual, Lead} {
			x, labels := featureData(r, c.n, c.d, c.k)
			const m, lambda = 3, 0.7
			test, _ := featureData(r, m, c.d, c.k)
			if c.n > 3 {
				copy(test, x[:c.d]) // a test sample that equals a calibration one
			}
			level := MustLevel("0.3")
			f, err := NewFullRidge(x, c.n, c.d, labels, c.k, RidgeOptions{Lambda: lambda, Score: score})
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Predict(test, m, level)
			if err != nil {
				t.Fatal(err)
			}
			for i := range m {
				q := test[i*c.d : (i+1)*c.d]
				for y := range c.k {
					all, ys := append(slices.Clone(x), q...), append(slices.Clone(labels), y)
					s := make([]float64, c.n+1)
					dst := make([]float64, c.k)
					for j := range s {
						headScores(dst, ridgeRefit(all, ys, c.d, c.k, lambda, j, all[j*c.d:(j+1)*c.d]), score)
						s[j] = dst[ys[j]]
					}
					count := 1
					for _, v := range s[:c.n] {
						if v >= s[c.n]-1e-9*(1+math.Abs(s[c.n])) {
							count++
						}
					}
					if want := float64(count) / float64(c.n+1); got.P[i*c.k+y] != want {
						t.Errorf("%+v %s: p-value of test %d, candidate %d is %v, refits say %v", c, score, i, y, got.P[i*c.k+y], want)
					}
					if in := level.below(count, c.n+1); in != got.Sets.Has(i, y) {
						t.Errorf("%+v %s: candidate %d of test %d", c, score, y, i)
					}
				}
			}
		}
	}
}

// softmaxRefit minimises L by plain Newton steps to the end.
func softmaxRefit(x []float64, labels []int, d, k int, lambda float64) func(query []float64) []float64 {
	s := &FullSoftmax{n: len(labels) - 1, d: d, k: k, opt: SoftmaxOptions{Lambda: lambda}, labels: labels}
	s.x.Rows, s.x.Cols, s.x.Stride, s.x.Data = len(labels), d, d, x
	f := s.newFit(len(labels))
	f.evaluate()
	for range 60 {
		if err := f.factor(); err != nil {
			panic(err)
		}
		if !f.step() {
			break
		}
	}
	return func(q []float64) []float64 {
		z := make([]float64, k)
		for y := range k {
			for p := range d {
				z[y] += q[p] * f.w[p*k+y]
			}
		}
		out := make([]float64, k)
		if err := SoftmaxRow(out, z); err != nil {
			panic(err)
		}
		return out
	}
}

// TestSoftmaxGradient holds gradient and Hessian of the head against central differences.
func TestSoftmaxGradient(t *testing.T) {
	r := rand.New(rand.NewPCG(42, 1))
	const n, d, k, h = 9, 3, 4, 1e-5
	x, labels := featureData(r, n, d, k)
	s := &FullSoftmax{n: n, d: d, k: k, opt: SoftmaxOptions{Lambda: 0.3}, labels: labels}
	s.x.Rows, s.x.Cols, s.x.Stride, s.x.Data = n, d, d, x
	f := s.newFit(n)
	for i := range f.w {
		f.w[i] = r.NormFloat64()
	}
	f.evaluate()
	if err := f.factor(); err != nil {
		t.Fatal(err)
	}
	grad := slices.Clone(f.grad)
	hess := new(mat.SymDense)
	f.chol.ToSym(hess)
	for i := range f.w {
		at := f.w[i]
		f.w[i] = at + h
		f.evaluate()
		up, gup := f.value, slices.Clone(f.grad)
		f.w[i] = at - h
		f.evaluate()
		down, gdown := f.value, slices.Clone(f.grad)
		f.w[i] = at
		if want := (up - down) / (2 * h); math.Abs(want-grad[i]) > 1e-7 {
			t.Errorf("gradient %d: %v, differences %v", i, grad[i], want)
		}
		for j := range f.w {
			if want := (gup[j] - gdown[j]) / (2 * h); math.Abs(want-hess.At(i, j)) > 1e-7 {
				t.Errorf("Hessian %d %d: %v, differences %v", i, j, hess.At(i, j), want)
			}
		}
	}
}

// TestFullSoftmaxIsBruteForce refits the head to the end for every candidate.
func TestFullSoftmaxIsBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(43, 1))
	unsettled, candidates := 0, 0
	for _, c := range []struct{ n, d, k int }{{0, 2, 2}, {1, 2, 2}, {20, 3, 3}, {40, 4, 5}} {
		for _, score := range []HeadScore{Residual, Lead} {
			for _, lambda := range []float64{0.01, 1} {
				x, labels := featureData(r, c.n, c.d, c.k)
				const m = 3
				test, _ := featureData(r, m, c.d, c.k)
				test[0] *= 30 // far out: the Hessian at hand fits badly
				level := MustLevel("0.2")
				f, err := NewFullSoftmax(x, c.n, c.d, labels, c.k, SoftmaxOptions{Lambda: lambda, Score: score})
				if err != nil {
					t.Fatal(err)
				}
				got, err := f.Predict(test, m, level)
				if err != nil {
					t.Fatal(err)
				}
				unsettled += got.Unsettled
				candidates += m * c.k
				for i := range m {
					q := test[i*c.d : (i+1)*c.d]
					for y := range c.k {
						all, ys := append(slices.Clone(x), q...), append(slices.Clone(labels), y)
						probs := softmaxRefit(all, ys, c.d, c.k, lambda)
						dst := make([]float64, c.k)
						score1 := func(j int) float64 {
							headScores(dst, probs(all[j*c.d:(j+1)*c.d]), score)
							return dst[ys[j]]
						}
						own, count := score1(c.n), 1
						for j := range c.n {
							if score1(j) >= own-1e-9 {
								count++
							}
						}
						if in := level.below(count, c.n+1); in != got.Sets.Has(i, y) {
							t.Errorf("%+v %s λ=%v: candidate %d of test %d: in the set %v, refits %v", c, score, lambda, y, i, !in, in)
						}
					}
				}
			}
		}
	}
	if unsettled*10 > candidates {
		t.Errorf("%d of %d candidates unsettled", unsettled, candidates)
	}
}

// TestFullCoverage: sets of both heads cover at 1−ε, on data with repeated rows too.
func TestFullCoverage(t *testing.T) {
	r := rand.New(rand.NewPCG(44, 1))
	const rounds, n, m, d, k = 400, 19, 1, 3, 3
	level := MustLevel("0.2")
	for _, score := range []HeadScore{Residual, Lead} {
		ridge, softmax := 0, 0
		for round := range rounds {
			x, labels := featureData(r, n+m, d, k)
			// featureData repeats earlier rows, so only a random order is exchangeable.
			order := r.Perm(n + m)
			px, py := make([]float64, 0, len(x)), make([]int, 0, n+m)
			for _, i := range order {
				px = append(px, x[i*d:(i+1)*d]...)
				py = append(py, labels[i])
			}
			f, err := NewFullRidge(px[:n*d], n, d, py[:n], k, RidgeOptions{Lambda: 0.1, Bias: true, Score: score})
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Predict(px[n*d:], m, level)
			if err != nil {
				t.Fatal(err)
			}
			if got.Sets.Has(0, py[n]) {
				ridge++
			}
			if round%2 == 0 {
				g, err := NewFullSoftmax(px[:n*d], n, d, py[:n], k, SoftmaxOptions{Lambda: 0.5, Bias: true, Score: score})
				if err != nil {
					t.Fatal(err)
				}
				got, err := g.Predict(px[n*d:], m, level)
				if err != nil {
					t.Fatal(err)
				}
				if got.Sets.Has(0, py[n]) {
					softmax++
				}
			}
		}
		if NewProportion(ridge, rounds, 0.9999).High < 0.8 || NewProportion(softmax, rounds/2, 0.9999).High < 0.8 {
			t.Errorf("%s: ridge covers %d of %d, softmax %d of %d", score, ridge, rounds, softmax, rounds/2)
		}
	}
}

func TestHeadErrors(t *testing.T) {
	x := []float64{1, 2, 3, 4}
	for _, err := range []error{
		second(NewFullRidge(x, 2, 2, []int{0, 1}, 2, RidgeOptions{})),
		second(NewFullRidge(x, 2, 2, []int{0, 2}, 2, RidgeOptions{Lambda: 1})),
		second(NewFullRidge(x, 3, 2, []int{0, 1}, 2, RidgeOptions{Lambda: 1})),
		second(NewFullRidge([]float64{1, math.NaN(), 3, 4}, 2, 2, []int{0, 1}, 2, RidgeOptions{Lambda: 1})),
		second(NewFullRidge(x, 2, 2, []int{0, 1}, 2, RidgeOptions{Lambda: 1, Score: "x"})),
		second(NewFullSoftmax(x, 2, 2, []int{0, 1}, 0, SoftmaxOptions{Lambda: 1})),
		second(NewFullSoftmax(x, 2, 2, []int{0, 1}, 2, SoftmaxOptions{Lambda: math.Inf(1)})),
	} {
		if err == nil {
			t.Error("went through")
		}
	}
}

// TestCrossIsCVPlus holds Predict against the definitions of cross-conformal prediction and CV+.
func TestCrossIsCVPlus(t *testing.T) {
	r := rand.New(rand.NewPCG(45, 1))
	const n, m, k, folds = 23, 9, 4, 5
	level := MustLevel("0.2")
	for _, v := range []Variant{{Name: "aps", U: DrawSample}, {Name: "hps"}, {Name: "hps", Nonempty: true}} {
		s, _ := NewScorer(v)
		z, labels := logits(r, n, k, true)
		p, _ := Softmax(n, k, z)
		fold := make([]int, n)
		for i := range fold {
			fold[i] = i % folds
		}
		u := v.RowUniforms(1, p)
		c, err := NewCross(s, p, labels, fold, u)
		if err != nil {
			t.Fatal(err)
		}
		var models []*Probs
		var scores, ut [][]float64
		for range folds {
			z, _ := logits(r, m, k, true)
			q, _ := Softmax(m, k, z)
			w := v.RowUniforms(1, q)
			a, _ := s.All(q, w)
			models, scores, ut = append(models, q), append(scores, a), append(ut, w)
		}
		cal, _ := s.Labelled(p, labels, u)
		sets, err := c.Predict(models, ut, level)
		if err != nil {
			t.Fatal(err)
		}
		minmax, err := c.PredictMinMax(models, ut, level)
		if err != nil {
			t.Fatal(err)
		}
		for i := range m {
			for y := range k {
				less := 0
				for j := range n {
					if cal[j] < scores[fold[j]][i*k+y] {
						less++
					}
				}
				want := 10*less < 8*(n+1) // CV+
				if sets.Has(i, y) != want && !(v.Nonempty && sets.Size(i) == 1) {
					t.Fatalf("%s: label %d of row %d", v, y, i)
				}
				if sets.Has(i, y) && !minmax.Has(i, y) && !v.Nonempty {
					t.Fatalf("%s: min-max leaves out label %d of row %d", v, y, i)
				}
			}
			if v.Nonempty && sets.Size(i) == 0 {
				t.Fatal("an empty set")
			}
		}
		if _, err := NewCross(s, p, labels, fold[1:], u); err == nil {
			t.Error("too few folds")
		}
		fold[0] = folds + 1
		if _, err := NewCross(s, p, labels, fold, u); err == nil {
			t.Error("an empty fold")
		}
		if _, err := c.Predict(models[1:], ut, level); err == nil {
			t.Error("too few models")
		}
		if _, err := c.Predict(models, ut[1:], level); err == nil {
			t.Error("u for too few models")
		}
	}
	if f := CrossFloor(MustLevel("0.1"), 100, 100); math.Abs(f-0.8) > 1e-12 {
		t.Errorf("jackknife+: %v", f)
	}
	if f := CrossFloor(MustLevel("0.1"), 1000, 10); !(f < 0.8 && f > 0.78) {
		t.Errorf("CV+: %v", f)
	}
}

// TestControlMissed: one label each gives Calibrate; several give the definition; and a table of
// losses gives the same.
func TestControlMissed(t *testing.T) {
	r := rand.New(rand.NewPCG(46, 1))
	for range 400 {
		n, k := 1+r.IntN(20), 1+r.IntN(6)
		level := MustLevel([]string{"0.1", "0.25", "0.5", "1/3"}[r.IntN(4)])
		scores := make([]float64, n*k)
		for i := range scores {
			scores[i] = float64(r.IntN(12))
		}
		truth, single := NewSets(n, k), NewSets(n, k)
		own := make([]float64, n)
		for i := range n {
			y := r.IntN(k)
			own[i] = scores[i*k+y]
			single.Add(i, y)
			truth.Add(i, y)
			for range r.IntN(k) {
				truth.Add(i, r.IntN(k))
			}
		}
		th, _ := Calibrate(own, level)
		if got, err := ControlMissed(scores, single, level); err != nil || got.Tau != th.Tau {
			t.Fatalf("one label each: %v, %v; Calibrate %v", got.Tau, err, th.Tau)
		}
		got, err := ControlMissed(scores, truth, level)
		if err != nil {
			t.Fatal(err)
		}
		missed := func(i int, t float64) float64 {
			out := 0
			for _, y := range truth.Labels(i) {
				if scores[i*k+y] > t {
					out++
				}
			}
			return float64(out) / float64(truth.Size(i))
		}
		want := math.Inf(1)
		for tau := 11.0; tau >= 0; tau-- {
			sum := 1.0
			for i := range n {
				sum += missed(i, tau)
			}
			if sum <= level.Float()*float64(n+1)+1e-9 {
				want = tau
			}
		}
		// The definition's threshold may lie between scores of true labels; the sets agree on them.
		for i := range n {
			if missed(i, got.Tau) != missed(i, want) {
				t.Fatalf("τ %v, definition %v", got.Tau, want)
			}
		}
		losses := make([]float64, n*12)
		for i := range n {
			for g := range 12 {
				losses[i*12+g] = missed(i, float64(g))
			}
		}
		g, err := ControlRisk(losses, n, 12, 1, level)
		if err != nil {
			t.Fatal(err)
		}
		sum := 1.0
		for i := range n {
			if g < 12 {
				sum += losses[i*12+g]
			}
		}
		if g < 12 && sum > level.Float()*float64(n+1)+1e-9 || (g == 12) != math.IsInf(got.Tau, 1) {
			t.Fatalf("setting %d, threshold %v", g, got.Tau)
		}
	}
	for _, bad := range [][]float64{{0.5, 0.7}, {2, 1}, {math.NaN(), 0}, {1}} {
		if _, err := ControlRisk(bad, 1, 2, 1, MustLevel("0.1")); err == nil {
			t.Errorf("losses %v went through", bad)
		}
	}
	if _, err := ControlMissed([]float64{1}, NewSets(1, 1), MustLevel("0.1")); err == nil {
		t.Error("a row without labels")
	}
}

// BenchmarkFullRidge is 500 test points of 10 candidates on 2,000 samples of 512 features.
func BenchmarkFullRidge(b *testing.B) {
	const n, m, d, k = 2000, 500, 512, 10
	r := rand.New(rand.NewPCG(1, 1))
	x, labels := featureData(r, n+m, d, k)
	for b.Loop() {
		h, err := NewFullRidge(x[:n*d], n, d, labels[:n], k, RidgeOptions{Lambda: 1})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.Predict(x[n*d:], m, MustLevel("0.1")); err != nil {
			b.Fatal(err)
		}
	}
}
