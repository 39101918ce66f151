package conformal_test

import (
	"fmt"
	"log"

	"github.com/gocp/gocp/gocp/conformal"
)

// Calibrate on one part of the data, predict on another.
func Example() {
	// Logits of nine calibration samples over three labels, and their true labels.
	cal := []float32{
		4, 1, 0, 0, 3, 1, 1, 0, 4, 2, 1, 0, 0, 5, 1, 1, 2, 3, 3, 0, 1, 1, 4, 0, 2, 2, 4,
	}
	labels := []int{0, 1, 2, 0, 1, 1, 0, 1, 2}

	scorer, err := conformal.NewScorer(conformal.Variant{Name: "hps"})
	if err != nil {
		log.Fatal(err)
	}
	p, err := conformal.Softmax(9, 3, cal)
	if err != nil {
		log.Fatal(err)
	}
	threshold, err := scorer.Calibrate(p, labels, nil, conformal.MustLevel("0.2"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("rank %d of %d, τ = %.3f\n", threshold.Rank, threshold.N, threshold.Tau)

	test, err := conformal.Softmax(2, 3, []float32{5, 0, 0, 1.2, 1.1, 0.9})
	if err != nil {
		log.Fatal(err)
	}
	sets, err := scorer.Predict(test, nil, threshold)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sets.Labels(0), sets.Labels(1))
	// Output:
	// rank 8 of 9, τ = 0.335
	// [0] []
}

// Ranks are exact: in floating point 10·(1−0.7) is a little more than 3.
func ExampleLevel_Rank() {
	level := conformal.MustLevel("0.7")
	r, _ := level.Rank(9)
	fmt.Println(r, level.Coverage(), conformal.MustLevel("0.1").MinCalibration())
	// Output: 3 0.3 9
}

// With n too small the threshold is infinite, and the result says so.
func ExampleCalibrate() {
	t, err := conformal.Calibrate([]float64{0.3, 0.1, 0.2}, conformal.MustLevel("0.1"))
	fmt.Println(t.Tau, t.Rank, t.N, t.TooFew(), err)
	// Output: +Inf 4 3 true <nil>
}

func ExampleHPS() {
	show(conformal.Variant{Name: "hps"})
	// Output: hps: [0.40 0.70 0.90]
}

func ExampleAPS() {
	show(conformal.Variant{Name: "aps"})
	// Output: aps, u = 1: [0.60 0.90 1.00]
}

func ExampleRAPS() {
	show(conformal.Variant{Name: "raps", Lambda: 0.1, KReg: 1})
	// Output: raps (λ 0.1, k_reg 1), u = 1: [0.60 1.00 1.20]
}

func show(v conformal.Variant) {
	s, err := conformal.NewScorer(v)
	if err != nil {
		log.Fatal(err)
	}
	p, err := conformal.Probabilities(1, 3, []float64{0.6, 0.3, 0.1})
	if err != nil {
		log.Fatal(err)
	}
	scores, err := s.All(p, s.Variant().RowUniforms(1, p))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %.2f\n", s.Variant(), scores)
}

// The band in which the coverage of 2000 test samples must lie, 500 calibration samples given.
func ExampleCoverageLaw() {
	law := conformal.CoverageLaw{N: 500, Rank: 451, M: 2000}
	low, high := law.Band(0.95)
	fmt.Printf("%.3f in [%.3f, %.3f]\n", law.Mean(), float64(low)/2000, float64(high)/2000)
	// Output: 0.900 in [0.869, 0.928]
}

// confident is a score of one's own: the gap to the most probable label.
type confident struct{}

func (confident) Scores(dst []float64, r *conformal.Row) {
	top := r.P[r.Order()[0]]
	for y, p := range r.P {
		dst[y] = top - p
	}
}

// A score needs one method, and a name for results to record.
func ExampleRegister() {
	conformal.Register("gap", func(conformal.Variant) (conformal.Score, error) { return confident{}, nil })
	show(conformal.Variant{Name: "gap"})
	// Output: gap: [0.00 0.30 0.50]
}

func ExampleSAPS() {
	show(conformal.Variant{Name: "saps", Lambda: 0.1})
	// Output: saps (λ 0.1), u = 1: [0.60 0.70 0.80]
}

func ExampleMargin() {
	show(conformal.Variant{Name: "margin"})
	// Output: margin: [-0.30 0.30 0.50]
}

// Thresholds of a test sample that is four times as frequent as in calibration, and of one that is
// half as frequent.
func ExampleWeighted() {
	w, err := conformal.NewWeighted([]float64{0.1, 0.2, 0.3, 0.4, 0.5}, []float64{1, 1, 1, 4, 4})
	if err != nil {
		log.Fatal(err)
	}
	often, _ := w.Tau(4, conformal.MustLevel("0.4"))
	seldom, _ := w.Tau(0.5, conformal.MustLevel("0.4"))
	fmt.Println(often, seldom)
	// Output: 0.5 0.4
}

// A threshold for each class; a class with too few samples gets that of all together.
func ExampleCalibrateCells() {
	scores := []float64{0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9}
	labels := []int{0, 0, 0, 1, 1, 1, 2}
	t, err := conformal.CalibrateCells(scores, labels, nil, 3, conformal.MustLevel("0.25"),
		conformal.Conditioning{By: conformal.ByClass, Below: conformal.BelowMarginal})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range t.Cells {
		fmt.Printf("%d %d %v %q\n", c.Key, c.N, c.Threshold.Tau, c.Fallback)
	}
	// Output:
	// 0 3 0.3 ""
	// 1 3 0.8 ""
	// 2 1 0.8 "marginal"
}

func ExamplePValues() {
	v, err := conformal.NewPValues([]float64{0.1, 0.2, 0.2, 0.3})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.P(0.2), v.Smoothed(0.2, 0.5), v.Inside(0.2, conformal.MustLevel("0.8")))
	// Output: 0.8 0.5 false
}

// Smoothed scores of one input over four draws of the noise, and how far it can move.
func ExampleRSCP() {
	r := conformal.RSCP{Base: conformal.Variant{Name: "hps"}, Sigma: 0.5}
	var draws []*conformal.Probs
	for _, p := range []float64{0.9, 0.8, 0.85, 0.95} {
		t, err := conformal.Probabilities(1, 2, []float64{p, 1 - p})
		if err != nil {
			log.Fatal(err)
		}
		draws = append(draws, t)
	}
	s, err := r.Smooth(draws, nil)
	if err != nil {
		log.Fatal(err)
	}
	radius, in := s.Radius(conformal.Threshold{Tau: 0, Rank: 9, N: 9}, 0, 0)
	fmt.Printf("%.3f %.3f %.3f %v\n", s.Mean, s.Score(0, 0), radius, in)
	// Output: [0.125 0.875] -1.150 0.575 true
}

// Two folds: each sample is scored, and each test sample judged, by models that did not see it.
func ExampleCross() {
	s, err := conformal.NewScorer(conformal.Variant{Name: "hps"})
	if err != nil {
		log.Fatal(err)
	}
	table := func(rows ...float64) *conformal.Probs {
		p, err := conformal.Probabilities(len(rows)/2, 2, rows)
		if err != nil {
			log.Fatal(err)
		}
		return p
	}
	c, err := conformal.NewCross(s, table(.9, .1, .3, .7, .6, .4, .2, .8), []int{0, 1, 0, 1}, []int{0, 0, 1, 1}, nil)
	if err != nil {
		log.Fatal(err)
	}
	sets, err := c.Predict([]*conformal.Probs{table(.8, .2), table(.7, .3)}, nil, conformal.MustLevel("0.4"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sets.Labels(0))
	// Output: [0]
}

// Every candidate refit, every sample left out, and not one refit run.
func ExampleFullRidge() {
	x := []float64{1, 0, 1.2, 0.1, 0.9, -0.1, 0, 1, 0.1, 1.1, -0.1, 0.9}
	h, err := conformal.NewFullRidge(x, 6, 2, []int{0, 0, 0, 1, 1, 1}, 2, conformal.RidgeOptions{Lambda: 0.1})
	if err != nil {
		log.Fatal(err)
	}
	f, err := h.Predict([]float64{1, 0.05}, 1, conformal.MustLevel("0.2"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Sets.Labels(0))
	// Output: [0]
}

// How far the threshold can be moved by replacing one calibration sample of nine.
func ExamplePoisonedThreshold() {
	scores := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9}
	iv, err := conformal.PoisonedThreshold(scores, conformal.MustLevel("0.4"), conformal.Replace, 1)
	radius, in, _ := conformal.PoisonRadius(scores, conformal.MustLevel("0.4"), 3.5)
	fmt.Println(iv.Low, iv.High, radius, in, err)
	// Output: 5 7 2 true <nil>
}

// Sets that miss at most 40 % of a sample's true labels on average.
func ExampleControlMissed() {
	truth := conformal.NewSets(3, 2)
	for _, c := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {2, 1}} {
		truth.Add(c[0], c[1])
	}
	t, err := conformal.ControlMissed([]float64{0.1, 0.6, 0.2, 0.9, 0.8, 0.3}, truth, conformal.MustLevel("0.4"))
	fmt.Println(t.Tau, err)
	// Output: 0.3 <nil>
}

// Votes of five models for three labels, three calibration parts, and what one poisoned part of the
// training data can change.
func ExampleRPS() {
	counts := []int{5, 0, 0, 4, 1, 0, 0, 5, 0, 1, 4, 0, 0, 0, 5, 0, 1, 4, 5, 0, 0, 0, 4, 1, 1, 0, 4}
	cal, err := conformal.NewVotes(9, 3, counts)
	if err != nil {
		log.Fatal(err)
	}
	r, err := conformal.NewRPS(cal, []int{0, 0, 1, 1, 2, 2, 0, 1, 2}, []int{0, 1, 2, 0, 1, 2, 0, 1, 2}, 3, conformal.MustLevel("0.4"), conformal.VoteMajority)
	if err != nil {
		log.Fatal(err)
	}
	test, err := conformal.NewVotes(2, 3, []int{5, 0, 0, 2, 3, 0})
	if err != nil {
		log.Fatal(err)
	}
	got, err := r.Predict(test, 1, 0)
	if err != nil {
		log.Fatal(err)
	}
	for i := range 2 {
		fmt.Println(got.Sets.Labels(i), "loses no label:", got.CoverageReliable(i), "gains none:", got.SizeReliable(i))
	}
	// Output:
	// [0] loses no label: false gains none: true
	// [] loses no label: true gains none: false
}

// A softmax head, refit for every candidate by a few Newton steps.
func ExampleFullSoftmax() {
	x := []float64{1, 0, 1.2, 0.1, 0.9, -0.1, 0, 1, 0.1, 1.1, -0.1, 0.9}
	h, err := conformal.NewFullSoftmax(x, 6, 2, []int{0, 0, 0, 1, 1, 1}, 2, conformal.SoftmaxOptions{Lambda: 0.1})
	if err != nil {
		log.Fatal(err)
	}
	f, err := h.Predict([]float64{1.1, 0.02}, 1, conformal.MustLevel("0.3"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Sets.Labels(0), "open:", f.Unsettled)
	// Output:
	// [0] open: 0
}

// Labels whose scores are alike share a threshold; which ones are, a part of its own decides.
func ExampleCluster() {
	var scores []float64
	var labels []int
	for i := range 400 {
		y := i % 4
		labels = append(labels, y)
		scores = append(scores, float64(i)/1000+float64(y%2)) // labels 1 and 3 are hard
	}
	clusters, err := conformal.Cluster(scores[:200], labels[:200], 4, conformal.MustLevel("0.1"), conformal.ClusterOptions{Clusters: 2})
	if err != nil {
		log.Fatal(err)
	}
	t, err := conformal.CalibrateCells(scores[200:], labels[200:], nil, 4, conformal.MustLevel("0.1"),
		conformal.Conditioning{By: conformal.ByCluster, Clusters: clusters})
	if err != nil {
		log.Fatal(err)
	}
	for y := range 4 {
		fmt.Printf("%d: %.3f\n", y, t.Of(y, 0).Tau)
	}
	// Output:
	// 0: 0.380
	// 1: 1.381
	// 2: 0.380
	// 3: 1.381
}

// Float32 logits of any number of rows, calibrated and predicted in blocks.
func ExampleScorer_PredictTable() {
	table := conformal.Logits[float32]{N: 4, K: 2, Data: []float32{2, 0, 0, 1, 3, 0, 0.5, 0}}
	s, err := conformal.NewScorer(conformal.Variant{Name: "hps"})
	if err != nil {
		log.Fatal(err)
	}
	th, err := s.CalibrateTable(table, []int{0, 1, 0, 1}, nil, conformal.MustLevel("0.4"), conformal.Conditioning{}, conformal.Stream{})
	if err != nil {
		log.Fatal(err)
	}
	err = s.PredictTable(table, th, nil, conformal.Stream{}, func(first int, sets *conformal.Sets) error {
		for i := range sets.N {
			fmt.Println(first+i, sets.Labels(i))
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0 [0]
	// 1 [1]
	// 2 [0]
	// 3 []
}

// Thresholds by class when one calibration label may be wrong: a label of a test sample whose score is
// at most Low is in the set whoever chose that label, one above High never is.
func ExampleFlippedCells() {
	// Scores of three labels for six calibration samples, and the true labels.
	scores := []float64{.1, .8, .9, .2, .7, .9, .3, .9, .8, .9, .1, .7, .8, .3, .9, .9, .4, .6}
	labels := []int{0, 0, 0, 1, 1, 1}
	cells, err := conformal.FlippedCells(scores, labels, nil, 3, conformal.MustLevel("0.5"), conformal.Conditioning{By: conformal.ByClass}, 1)
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range cells.Cells {
		fmt.Println(c.Key, c.N, c.Low, c.High)
	}
	certain, possible, err := cells.Certify([]float64{.15, .35, .95}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(certain.Labels(0), possible.Labels(0))
	// Output:
	// 0 3 0.2 0.3
	// 1 3 0.3 0.4
	// 2 0 0.6 +Inf
	// [0] [0 1 2]
}

// How much smaller the sets of a poisoned model are, as a share of what there was to take away.
func ExampleCompareSizes() {
	benign, victim := conformal.NewSets(3, 4), conformal.NewSets(3, 4)
	for i, sizes := range [][2]int{{3, 1}, {2, 1}, {4, 2}} {
		for y := range sizes[0] {
			benign.Add(i, y)
		}
		for y := range sizes[1] {
			victim.Add(i, y)
		}
	}
	c, err := conformal.CompareSizes(benign, victim)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.2f ± %.2f, normalised %.2f ± %.2f\n", c.OfMeans, c.OfMeansSE, c.Normalised, c.NormalisedSE)
	// Output: 0.56 ± 0.06, normalised 0.83 ± 0.13
}

// Float32 logits and their widening to float64 give the same scores to the bit; logits that are rounded to
// float32 move each score a little, and a set where a score was that near to τ.
func ExampleCalibrate_rounding() {
	s, err := conformal.NewScorer(conformal.Variant{Name: "hps"})
	if err != nil {
		log.Fatal(err)
	}
	wide := []float64{1.00000001, 0, 2, 0.1}
	narrow := make([]float32, len(wide))
	widened := make([]float64, len(wide))
	for i, v := range wide {
		narrow[i] = float32(v)
		widened[i] = float64(narrow[i])
	}
	tau := func(p *conformal.Probs, err error) float64 {
		if err != nil {
			log.Fatal(err)
		}
		t, err := s.Calibrate(p, []int{0, 0}, nil, conformal.MustLevel("0.5"))
		if err != nil {
			log.Fatal(err)
		}
		return t.Tau
	}
	a, b, c := tau(conformal.Softmax(2, 2, wide)), tau(conformal.Softmax(2, 2, narrow)), tau(conformal.Softmax(2, 2, widened))
	fmt.Println(b == c, a == b, a-b < 1e-7)
	// Output: true false true
}
