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
	scores, err := s.All(p, s.Variant().Uniforms(1, 0, p.N, p.K))
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
