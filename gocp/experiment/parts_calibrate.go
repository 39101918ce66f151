package experiment

import (
	"context"
	"fmt"
	"os"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/checkpoint"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// CalibrateJob finds a model's threshold.
type CalibrateJob struct {
	Model       string          // file
	Said        checkpoint.Said // what the file does not say
	Images      Pick
	Score       conformal.Variant
	Miscoverage string
	Precision   string
	Seed        uint64 // of u
	Threads     int
	Out         string // calibration file to write
}

// Calibration is a calibration file: a threshold and all that it depends on.
type Calibration struct {
	Schema      int                 `json:"schema"`
	Model       string              `json:"model_sha256"`
	Images      Pick                `json:"images"`
	Data        string              `json:"data_sha256"`
	Score       conformal.Variant   `json:"score"`
	Seed        uint64              `json:"seed"`
	DrawnBy     string              `json:"u_drawn_by,omitempty"` // conformal.DrawnByRow, for a score that draws u
	Miscoverage string              `json:"miscoverage"`
	Precision   string              `json:"precision"`
	Threshold   conformal.Threshold `json:"threshold"`
	Accuracy    float64             `json:"accuracy"`
}

// CalibrateModel calibrates a model on images it was not trained on and writes the threshold.
func CalibrateModel(ctx context.Context, dev *device.Device, j CalibrateJob) (*Calibration, error) {
	orDefault(&j.Score.Name, "hps")
	orDefault(&j.Miscoverage, "0.1")
	if err := decide(&j.Precision, dev); err != nil {
		return nil, err
	}
	scorer, err := conformal.NewScorer(j.Score)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	level, err := conformal.ParseLevel(j.Miscoverage)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	if err := fresh(j.Out); err != nil {
		return nil, err
	}
	p, err := newQuestion(j.Model, j.Said, j.Images)
	if err != nil {
		return nil, err
	}
	j.Images.Split = p.set.Name // by whatever name it was asked for
	if n := level.MinCalibration(); p.Len() < n {
		return nil, usage.Errorf("%d calibration images are too few for miscoverage %s, which needs at least %d", p.Len(), j.Miscoverage, n)
	}
	said, err := p.ask(ctx, dev, j.Precision, j.Threads)
	if err != nil {
		return nil, err
	}
	v := scorer.Variant()
	probs, err := conformal.Softmax(p.Len(), len(p.Classes), said.Logits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.Model, err)
	}
	c := &Calibration{Schema: 1, Model: p.sum, Images: j.Images, Data: p.SHA256, Score: v, Seed: j.Seed,
		Miscoverage: j.Miscoverage, Precision: j.Precision, Accuracy: accuracy(said.Logits, p.Labels, len(p.Classes))}
	if v.Randomized() {
		c.DrawnBy = conformal.DrawnByRow
	}
	if c.Threshold, err = scorer.Calibrate(probs, ints(p.Labels), v.RowUniforms(j.Seed, probs), level); err != nil {
		return nil, err
	}
	b, err := strictjson.Indent(c, " ")
	if err != nil {
		return nil, err
	}
	return c, atomicfile.WriteBytes(j.Out, b)
}

// ReadCalibration reads a calibration file.
func ReadCalibration(path string) (*Calibration, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, usage.Errorf("calibration: %w", err)
	}
	c := new(Calibration)
	if err := strictjson.Unmarshal(b, c); err != nil {
		return nil, usage.Errorf("%s is no calibration file: %w", path, err)
	}
	if c.Schema != 1 {
		return nil, usage.Errorf("%s has schema %d; this gocp reads schema 1", path, c.Schema)
	}
	if c.Score.Randomized() && c.DrawnBy != conformal.DrawnByRow {
		return nil, usage.Errorf("%s: its u was drawn by the number of an image, here it is by the row of probabilities: calibrate again", path)
	}
	return c, nil
}
