// Sets makes conformal prediction sets from the logits of any classifier, without the rest of
// gocp: the package conformal is pure Go and needs neither a device nor a C compiler.
//
//	go run ./examples/sets logits.npz
//
// The archive holds logits (float32, [N, K]) and labels (integers, [N]), as numpy.savez writes
// them. The first half calibrates, the second half is predicted; without an archive the example
// makes up a classifier that is right about four times in five.
package main

import (
	"fmt"
	"log"
	"math/rand/v2"
	"os"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/npy"
)

func main() {
	log.SetFlags(0)
	logits, labels, k := invent(4000, 10)
	if len(os.Args) > 1 {
		var err error
		if logits, labels, k, err = load(os.Args[1]); err != nil {
			log.Fatal(err)
		}
	}
	if err := show(logits, labels, k); err != nil {
		log.Fatal(err)
	}
}

func show(logits []float32, labels []int, k int) error {
	half := len(labels) / 2
	cal, err := conformal.Softmax(half, k, logits[:half*k])
	if err != nil {
		return err
	}
	test, err := conformal.Softmax(len(labels)-half, k, logits[half*k:])
	if err != nil {
		return err
	}
	level, err := conformal.ParseLevel("0.1")
	if err != nil {
		return err
	}
	for _, name := range []string{"hps", "aps", "raps"} {
		v := conformal.Variant{Name: name, U: conformal.DrawSample, Lambda: 0.01, KReg: 2}
		scorer, err := conformal.NewScorer(v)
		if err != nil {
			return err
		}
		// u is drawn by the row of probabilities itself: a sample gets the same u whatever it is evaluated
		// beside, and one seed serves both parts.
		const seed = 1
		threshold, err := scorer.Calibrate(cal, labels[:half], v.RowUniforms(seed, cal), level)
		if err != nil {
			return err
		}
		sets, err := scorer.Predict(test, v.RowUniforms(seed, test), threshold)
		if err != nil {
			return err
		}
		m, err := conformal.Evaluate(sets, labels[half:])
		if err != nil {
			return err
		}
		fmt.Printf("%-5s τ = %.4f   coverage %.3f   mean size %.2f   empty %d\n",
			name, threshold.Tau, m.Coverage.Rate, m.MeanSize, m.Empty)
	}
	return nil
}

func load(path string) (logits []float32, labels []int, k int, err error) {
	z, err := npy.LoadZip(path)
	if err != nil {
		return nil, nil, 0, err
	}
	l, y := z.Get("logits"), z.Get("labels")
	if l == nil || y == nil || len(l.Shape) != 2 || len(y.Shape) != 1 || l.Shape[0] != y.Shape[0] {
		return nil, nil, 0, fmt.Errorf("%s: want logits of shape [N, K] and labels of shape [N]", path)
	}
	if logits, err = l.Float32s(); err != nil {
		return nil, nil, 0, fmt.Errorf("%s: logits: %w", path, err)
	}
	wide, err := y.Int64s()
	if err != nil {
		return nil, nil, 0, fmt.Errorf("%s: labels: %w", path, err)
	}
	labels = make([]int, len(wide))
	for i, v := range wide {
		labels[i] = int(v)
	}
	return logits, labels, l.Shape[1], nil
}

// invent draws logits that favour the true label.
func invent(n, k int) (logits []float32, labels []int, classes int) {
	r := rand.New(rand.NewPCG(1, 2))
	logits, labels = make([]float32, n*k), make([]int, n)
	for i := range labels {
		labels[i] = r.IntN(k)
		for j := range k {
			logits[i*k+j] = float32(r.NormFloat64())
		}
		logits[i*k+labels[i]] += 2.6
	}
	return logits, labels, k
}
