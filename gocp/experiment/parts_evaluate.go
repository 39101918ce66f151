package experiment

import (
	"context"
	"fmt"
	"slices"

	"github.com/gocp/gocp/gocp/checkpoint"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/usage"
)

// EvaluateJob makes prediction sets and holds them against the labels.
type EvaluateJob struct {
	Model       string          // file
	Said        checkpoint.Said // what the file does not say
	Calibration string          // file
	Images      Pick
	Show        []int // images of the split whose sets are listed
	Threads     int
}

// Evaluation is what came of an EvaluateJob.
type Evaluation struct {
	Model     string              `json:"model_sha256"`
	Images    Pick                `json:"images"`
	Data      string              `json:"data_sha256"`
	Classes   []string            `json:"class_names"`
	Score     conformal.Variant   `json:"score"`
	Threshold conformal.Threshold `json:"threshold"`
	Accuracy  float64             `json:"accuracy"`
	Metrics   conformal.Metrics   `json:"metrics"`
	Shown     []ShownSet          `json:"shown,omitempty"`
}

// ShownSet is the prediction set of one image.
type ShownSet struct {
	Index     int     `json:"index"` // in the split
	Label     int     `json:"label"`
	Predicted int     `json:"predicted"`
	Prob      float64 `json:"prob"` // of the predicted label
	Set       []int   `json:"set"`
}

// EvaluateModel measures a calibrated model.
func EvaluateModel(ctx context.Context, dev *device.Device, j EvaluateJob) (*Evaluation, error) {
	c, err := ReadCalibration(j.Calibration)
	if err != nil {
		return nil, err
	}
	scorer, err := conformal.NewScorer(c.Score)
	if err != nil {
		return nil, usage.Errorf("%s: %w", j.Calibration, err)
	}
	if err := decide(&c.Precision, dev); err != nil { // the threshold is one of that rounding
		return nil, usage.Errorf("%s: %w", j.Calibration, err)
	}
	p, err := newQuestion(j.Model, j.Said, j.Images)
	if err != nil {
		return nil, err
	}
	j.Images.Split = p.set.Name
	if j.Images.Data == c.Images.Data && j.Images.Split == c.Images.Split && overlap(j.Images, c.Images) {
		return nil, usage.Errorf("%s was calibrated on some of these images; evaluate on others", j.Calibration)
	}
	if p.sum != c.Model {
		return nil, usage.Errorf("%s was made for another model than %s", j.Calibration, j.Model)
	}
	for _, at := range j.Show {
		if !slices.Contains(p.Index, at) {
			return nil, usage.Errorf("image %d of %s is not among those that are evaluated", at, j.Images.Split)
		}
	}
	said, err := p.ask(ctx, dev, c.Precision, j.Threads)
	if err != nil {
		return nil, err
	}
	k := len(p.Classes)
	probs, err := conformal.Softmax(p.Len(), k, said.Logits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.Model, err)
	}
	sets, err := scorer.Predict(probs, scorer.Variant().RowUniforms(c.Seed, probs), c.Threshold)
	if err != nil {
		return nil, err
	}
	e := &Evaluation{Model: p.sum, Images: j.Images, Data: p.SHA256, Classes: p.Classes, Score: scorer.Variant(),
		Threshold: c.Threshold, Accuracy: accuracy(said.Logits, p.Labels, k)}
	if e.Metrics, err = conformal.Evaluate(sets, ints(p.Labels)); err != nil {
		return nil, err
	}
	for _, at := range j.Show {
		i := slices.Index(p.Index, at)
		top := probs.Top(i)
		e.Shown = append(e.Shown, ShownSet{Index: at, Label: int(p.Labels[i]), Predicted: top, Prob: probs.At(i, top), Set: sets.Labels(i)})
	}
	return e, nil
}
