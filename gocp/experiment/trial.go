package experiment

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/trainer"
)

// CommandTrial is what came of trying a command that is to train victims.
type CommandTrial struct {
	Command     string  `json:"command"`
	Data        string  `json:"data"`
	H           int     `json:"height"`
	W           int     `json:"width"`
	C           int     `json:"channels"`
	Classes     int     `json:"classes"`
	Train       int     `json:"train"` // images, as the next two
	Calibration int     `json:"calibration"`
	Test        int     `json:"test"`
	Kind        string  `json:"kind"` // what it left: logits or probabilities
	Seconds     float64 `json:"seconds"`
	Right       int     `json:"right"`             // test images that are predicted right
	SameAgain   bool    `json:"same_seed_same"`    // the same seed gave the same bytes
	SameOther   bool    `json:"another_seed_same"` // another seed did too
}

// triedImages is how many images a command is tried on, if there are not more classes. It calibrates and
// tests on other numbers of them, so that a mix-up shows.
const triedImages = 64

// TryCommand has a command train as an audit does, on few images: twice with one seed, then with another.
// What is wrong with it is one sentence; then the folder of the last run stays and is named.
func TryCommand(ctx context.Context, words []string, d Data, limit time.Duration) (*CommandTrial, error) {
	c, err := trainer.Resolve(words)
	if err != nil {
		return nil, err
	}
	k := len(d.Train.Classes)
	n := max(triedImages, 2*k)
	drawn, _, err := data.Split(d.Train, data.Draw{Balanced: true}, data.Part{Name: "training", N: n}, data.Part{Name: "calibration", N: n * 3 / 4})
	if err != nil {
		return nil, err
	}
	test, _, err := data.Split(d.Test, data.Draw{}, data.Part{Name: "test", N: min(n/2, d.Test.Len())})
	if err != nil {
		return nil, err
	}
	job := trainer.Job{H: d.Train.H, W: d.Train.W, C: d.Train.C, Classes: d.Train.Classes, Train: drawn[0].Images, Labels: drawn[0].Labels,
		Calibration: drawn[1].Images, Test: test[0].Images}
	root, err := os.MkdirTemp("", "gocp-victims-")
	if err != nil {
		return nil, err
	}
	start := time.Now()
	var answers []*trainer.Answer
	for i, seed := range []uint64{1, 1, 2} {
		job.Seed = seed
		dir := filepath.Join(root, fmt.Sprint(i))
		a, err := c.Train(ctx, dir, job, trainer.Options{Limit: limit})
		if err != nil {
			if ctx.Err() != nil {
				_ = os.RemoveAll(root)
				return nil, err
			}
			return nil, fmt.Errorf("%w; its folder is %s", err, dir)
		}
		answers = append(answers, a)
	}
	t := &CommandTrial{Command: c.String(), Data: filepath.Base(d.Train.Name), H: job.H, W: job.W, C: job.C, Classes: k,
		Train: n, Calibration: len(drawn[1].Labels), Test: len(test[0].Labels), Kind: answers[0].Kind, Seconds: time.Since(start).Seconds() / float64(len(answers))}
	_, probs, err := answers[0].Probs()
	if err != nil {
		return nil, err
	}
	for i, y := range test[0].Labels {
		if probs.Top(i) == int(y) {
			t.Right++
		}
	}
	same := func(a, b *trainer.Answer) bool {
		return a.Kind == b.Kind && slices.Equal(a.Calibration, b.Calibration) && slices.Equal(a.Test, b.Test)
	}
	t.SameAgain, t.SameOther = same(answers[0], answers[1]), same(answers[0], answers[2])
	return t, os.RemoveAll(root)
}
