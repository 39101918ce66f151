package conformal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// TestCoverageOfManySplits draws exchangeable splits for each method, score and condition and holds
// the number of test samples covered against the law of its rank: summed over the splits it must lie
// within what chance allows, and where the law is exact, at most 5 % of the splits outside its 95 %
// band, ties aside. There are 10,000 splits and a few minutes of them with GOCP_LONG=1 (make
// check-full), a hundredth otherwise.
func TestCoverageOfManySplits(t *testing.T) {
	splits := 100
	if os.Getenv("GOCP_LONG") != "" {
		splits = 10000
	}
	cells, outside := 0, 0
	for number, c := range coverageCells(t) {
		r := rand.New(rand.NewPCG(uint64(number), 77))
		// Errors of one split depend on each other, so the variance is that of the splits' sums.
		sum, square, beyond, banded := 0.0, 0.0, 0, 0
		for split := range splits {
			s := c.split(r, split)
			d := float64(s.covered) - s.expected
			sum += d
			square += d * d
			if s.law != nil {
				banded++
				if low, high := s.law.Band(Confidence); s.covered < low || s.covered > high {
					beyond++
				}
			}
		}
		score := sum / math.Sqrt(square)
		cells++
		if score < -1.96 || score > 1.96 && !c.above {
			outside++
		}
		if score < -4 || score > 4 && !c.above {
			t.Errorf("%s: %.1f standard errors from the law", c.name, score)
		}
		// The band holds at least 95 %; what is beyond it must not be more, but for chance.
		if !c.above && float64(beyond) > 0.05*float64(banded)+4*math.Sqrt(0.05*0.95*float64(banded)) {
			t.Errorf("%s: %d of %d splits outside the 95 %% band", c.name, beyond, banded)
		}
		t.Logf("%s: %.2f standard errors, %d of %d splits outside the band", c.name, score, beyond, banded)
	}
	if limit := 0.05*float64(cells) + 2*math.Sqrt(0.05*0.95*float64(cells)); float64(outside) > limit {
		t.Errorf("%d of %d cells outside the 95 %% band", outside, cells)
	}
}

// coverageSplit is what one split showed.
type coverageSplit struct {
	covered  int
	expected float64
	law      *CoverageLaw // of covered, where it is known
}

type coverageCell struct {
	name  string
	above bool // more than the law is right: ties, or a guarantee from below
	split func(r *rand.Rand, number int) coverageSplit
}

// population draws rows with labels. Tied ones come from a few rows that repeat, with logits that
// repeat within a row.
func population(r *rand.Rand, n, k int, tied bool) (*Probs, []int) {
	z, labels := logits(r, n, k, tied)
	if tied {
		pool, own := logits(rand.New(rand.NewPCG(5, 5)), 12, k, true)
		for i := range n {
			if j := r.IntN(24); j < 12 {
				copy(z[i*k:(i+1)*k], pool[j*k:(j+1)*k])
				labels[i] = own[j]
			}
		}
	}
	p, err := Softmax(n, k, z)
	if err != nil {
		panic(err)
	}
	return p, labels
}

func coverageCells(t *testing.T) []coverageCell {
	const n, m, k = 40, 10, 3
	level := MustLevel("0.1")
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	var cells []coverageCell

	// Split conformal prediction: every score, every condition.
	for _, v := range variants {
		if v.Nonempty {
			continue // covers more by design
		}
		s, err := NewScorer(v)
		must(err)
		for _, c := range []Conditioning{{By: Marginal}, {By: ByClass}, {By: ByGroup}, {By: ByGroup, MinCell: 22, Below: BelowPool}, {By: ByCluster, Clusters: []int{0, 1, 0}}} {
			for _, tied := range []bool{false, true} {
				name := fmt.Sprintf("%s by %s %s, tied %t", v, c.By, c.Below, tied)
				// With u = 1 the last label of every row scores 1: a tie of its own.
				above := tied || !v.Randomized() && (v.Name == "aps" || v.Name == "raps" || v.Name == "saps")
				cells = append(cells, coverageCell{name, above, func(r *rand.Rand, split int) coverageSplit {
					p, labels := population(r, n+m, k, tied)
					groups := make([]int, n+m)
					for i := range groups {
						groups[i] = r.IntN(2)
					}
					all, err := s.Labelled(p, labels, v.RowUniforms(uint64(split), p))
					must(err)
					th, err := CalibrateCells(all[:n], labels[:n], groups[:n], k, level, c)
					must(err)
					var out coverageSplit
					if c.By == Marginal && !above {
						out.law = &CoverageLaw{N: n, Rank: th.All.Rank, M: m}
					}
					for i := n; i < n+m; i++ {
						cell := th.Of(labels[i], groups[i])
						if all[i] <= cell.Tau {
							out.covered++
						}
						out.expected += min(1, float64(cell.Rank)/float64(cell.N+1))
					}
					return out
				}})
			}
		}
	}

	// Clusters that a part of its own chose.
	cells = append(cells, coverageCell{"clusters from scores", false, func(r *rand.Rand, _ int) coverageSplit {
		p, labels := population(r, 60+n+m, 6, false)
		s, err := NewScorer(Variant{Name: "hps"})
		must(err)
		all, err := s.Labelled(p, labels, nil)
		must(err)
		clusters, err := Cluster(all[:60], labels[:60], 6, level, ClusterOptions{Clusters: 2})
		must(err)
		th, err := CalibrateCells(all[60:60+n], labels[60:60+n], nil, 6, level, Conditioning{By: ByCluster, Clusters: clusters})
		must(err)
		var out coverageSplit
		for i := 60 + n; i < 60+n+m; i++ {
			if clusters[labels[i]] < 0 {
				continue // the null cluster has the marginal threshold: nothing is promised given it
			}
			cell := th.Of(labels[i], 0)
			if all[i] <= cell.Tau {
				out.covered++
			}
			out.expected += min(1, float64(cell.Rank)/float64(cell.N+1))
		}
		return out
	}})

	// Weights: likelihood ratios of two kinds of samples, twice as frequent in the test.
	cells = append(cells, coverageCell{"weighted, shifted", true, func(r *rand.Rand, _ int) coverageSplit {
		s, err := NewScorer(Variant{Name: "hps"})
		must(err)
		kind := func(odds float64) float64 { // weight of a sample of a kind drawn at these odds
			if r.Float64() < odds {
				return 2
			}
			return 1
		}
		weights := make([]float64, n+m)
		p, labels := population(r, n+m, k, false)
		for i := range weights {
			weights[i] = kind(1.0 / 3)
			if i >= n {
				weights[i] = kind(0.5)
			}
			if weights[i] == 2 { // hard samples
				labels[i] = r.IntN(k)
			}
		}
		all, err := s.Labelled(p, labels, nil)
		must(err)
		w, err := NewWeighted(all[:n], weights[:n])
		must(err)
		out := coverageSplit{expected: 0.9 * m}
		for i := n; i < n+m; i++ {
			tau, err := w.Tau(weights[i], level)
			must(err)
			if all[i] <= tau {
				out.covered++
			}
		}
		return out
	}})

	// RSCP over draws of noise, without and with a correction.
	for _, correction := range []Correction{CorrectNone, CorrectHoeffding, CorrectBernstein} {
		cells = append(cells, coverageCell{"rscp " + string(correction), correction != CorrectNone, func(r *rand.Rand, _ int) coverageSplit {
			_, labels := population(r, n+m, k, false)
			draws := make([]*Probs, 4)
			for j := range draws {
				z := make([]float64, (n+m)*k)
				for i := range z {
					z[i] = r.NormFloat64()
					if i%k == labels[i/k] {
						z[i]++
					}
				}
				var err error
				draws[j], err = Softmax(n+m, k, z)
				must(err)
			}
			rscp := RSCP{Base: Variant{Name: "hps"}, Sigma: 1, Correction: correction, Beta: MustLevel("0.01")}
			part := func(from, to int) *Smoothed {
				var some []*Probs
				for _, p := range draws {
					some = append(some, &Probs{N: to - from, K: k, data: p.data[from*k : to*k]})
				}
				s, err := rscp.Smooth(some, nil)
				must(err)
				return s
			}
			th, err := rscp.Calibrate(part(0, n), labels[:n], level)
			must(err)
			sets, err := rscp.Predict(part(n, n+m), th, 0)
			must(err)
			out := coverageSplit{expected: m * min(1, float64(th.Rank)/(n+1))}
			if correction == CorrectNone {
				out.law = &CoverageLaw{N: n, Rank: th.Rank, M: m}
			}
			out.covered = covers(sets, labels[n:])
			return out
		}})
	}

	// Votes on calibration parts, by the rule that is proven.
	cells = append(cells, coverageCell{"rps, majority", true, func(r *rand.Rand, _ int) coverageSplit {
		const parts, models, n = 3, 9, 90
		counts, labels, part := make([]int, (n+m)*k), make([]int, n+m), make([]int, n)
		for i := range labels {
			labels[i] = r.IntN(k)
			for range models {
				y := labels[i]
				if r.Float64() < 0.4 {
					y = r.IntN(k)
				}
				counts[i*k+y]++
			}
		}
		for i := range part {
			part[i] = r.IntN(parts)
		}
		cal, err := NewVotes(n, k, counts[:n*k])
		must(err)
		test, err := NewVotes(m, k, counts[n*k:])
		must(err)
		rps, err := NewRPS(cal, labels[:n], part, parts, MustLevel("0.2"), VoteMajority)
		must(err)
		got, err := rps.Predict(test, 0, 0)
		must(err)
		return coverageSplit{covered: covers(got.Sets, labels[n:]), expected: 0.8 * m}
	}})

	// Cross-conformal prediction with a model, nearest class means, that is trained for each fold.
	for _, tied := range []bool{false, true} {
		for _, minmax := range []bool{false, true} {
			cells = append(cells, coverageCell{fmt.Sprintf("cross-conformal, min-max %t, tied %t", minmax, tied), true, func(r *rand.Rand, _ int) coverageSplit {
				const n, d, folds = 30, 2, 5
				x, labels := blobs(r, n+m, d, k, tied)
				s, err := NewScorer(Variant{Name: "hps"})
				must(err)
				fold := make([]int, n)
				data := make([]float64, n*k)
				models := make([]*Probs, folds)
				for f := range folds {
					means := classMeans(x, labels[:n], d, k, func(i int) bool { return i%folds != f })
					q := meansProbs(x, n+m, d, means)
					for i := range n {
						if fold[i] = i % folds; fold[i] == f {
							copy(data[i*k:(i+1)*k], q.Row(i))
						}
					}
					models[f] = &Probs{N: m, K: k, data: q.data[n*k:]}
				}
				c, err := NewCross(s, &Probs{N: n, K: k, data: data}, labels[:n], fold, nil)
				must(err)
				predict, floor := c.Predict, CrossFloor(level, n, folds)
				if minmax {
					predict, floor = c.PredictMinMax, 0.9
				}
				sets, err := predict(models, nil, level)
				must(err)
				return coverageSplit{covered: covers(sets, labels[n:]), expected: floor * m}
			}})
		}
	}

	// Full conformal prediction: the rank of the test sample's score among all is uniform.
	for _, tied := range []bool{false, true} {
		for _, score := range []HeadScore{Residual, Lead} {
			cells = append(cells, coverageCell{fmt.Sprintf("full, ridge head, %s, tied %t", score, tied), tied, func(r *rand.Rand, _ int) coverageSplit {
				const n, d = 14, 2
				x, labels := blobs(r, n+1, d, k, tied)
				h, err := NewFullRidge(x[:n*d], n, d, labels[:n], k, RidgeOptions{Lambda: 1, Bias: true, Score: score})
				must(err)
				got, err := h.Predict(x[n*d:], 1, MustLevel("0.2"))
				must(err)
				return coverageSplit{covered: covers(got.Sets, labels[n:]), expected: 12.0 / 15}
			}})
		}
		cells = append(cells, coverageCell{fmt.Sprintf("full, softmax head, tied %t", tied), tied, func(r *rand.Rand, _ int) coverageSplit {
			const n, d = 9, 1
			x, labels := blobs(r, n+1, d, k, tied)
			h, err := NewFullSoftmax(x[:n*d], n, d, labels[:n], k, SoftmaxOptions{Lambda: 1, Bias: true})
			must(err)
			got, err := h.Predict(x[n*d:], 1, MustLevel("0.2"))
			must(err)
			return coverageSplit{covered: covers(got.Sets, labels[n:]), expected: 8.0 / 10}
		}})
	}
	return cells
}

func covers(sets *Sets, labels []int) int {
	in := 0
	for i, y := range labels {
		if sets.Has(i, y) {
			in++
		}
	}
	return in
}

// blobs draws samples around class centres; tied ones on a grid, so that rows repeat.
func blobs(r *rand.Rand, n, d, k int, tied bool) (x []float64, labels []int) {
	for range n {
		y := r.IntN(k)
		for j := range d {
			v := 1.5*math.Cos(float64(2*y+3*j)) + r.NormFloat64()
			if tied {
				v = math.Round(v)
			}
			x = append(x, v)
		}
		labels = append(labels, y)
	}
	return x, labels
}

func classMeans(x []float64, labels []int, d, k int, use func(int) bool) []float64 {
	means, count := make([]float64, k*d), make([]float64, k)
	for i, y := range labels {
		if use(i) {
			count[y]++
			for j := range d {
				means[y*d+j] += x[i*d+j]
			}
		}
	}
	for y := range k {
		for j := range d {
			means[y*d+j] /= max(1, count[y])
		}
	}
	return means
}

func meansProbs(x []float64, n, d int, means []float64) *Probs {
	k := len(means) / d
	z := make([]float64, n*k)
	for i := range n {
		for y := range k {
			for j := range d {
				z[i*k+y] -= (x[i*d+j] - means[y*d+j]) * (x[i*d+j] - means[y*d+j]) / 2
			}
		}
	}
	p, err := Softmax(n, k, z)
	if err != nil {
		panic(err)
	}
	return p
}

// TestMissedOfManySplits: the mean share of missed labels stays within ε.
func TestMissedOfManySplits(t *testing.T) {
	splits := 200
	if os.Getenv("GOCP_LONG") != "" {
		splits = 10000
	}
	const n, m, k = 30, 5, 4
	r := rand.New(rand.NewPCG(31, 77))
	sum, square := 0.0, 0.0
	for range splits {
		scores, truth := make([]float64, (n+m)*k), NewSets(n+m, k)
		for i := range n + m {
			truth.Add(i, r.IntN(k))
			truth.Add(i, r.IntN(k))
			for y := range k {
				scores[i*k+y] = math.Round(8*r.NormFloat64()) / 4
				if truth.Has(i, y) {
					scores[i*k+y] -= 2
				}
			}
		}
		cal := NewSets(n, k)
		copy(cal.bits, truth.bits[:len(cal.bits)])
		th, err := ControlMissed(scores[:n*k], cal, MustLevel("0.2"))
		if err != nil {
			t.Fatal(err)
		}
		d := -0.2 * m
		for i := n; i < n+m; i++ {
			labels := truth.Labels(i)
			for _, y := range labels {
				if scores[i*k+y] > th.Tau {
					d += 1 / float64(len(labels))
				}
			}
		}
		sum += d
		square += d * d
	}
	if z := sum / math.Sqrt(square); z > 4 {
		t.Errorf("%.1f standard errors above ε", z)
	} else {
		t.Logf("%.2f standard errors from ε", z)
	}
}
