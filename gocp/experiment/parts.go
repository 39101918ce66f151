package experiment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// The parts of an audit one by one, each reading and writing files: train a model, calibrate it,
// craft poisons, evaluate prediction sets. Each computes on a stream whose width is its Threads,
// 1 if that is 0: the last bits of what it computes depend on that number, on no other.

// fits reports, as a usage error, images that a model does not read.
func fits(m *nn.Model, file string, d *data.Dataset) error {
	if m.H != d.H || m.W != d.W || m.C != d.C || m.Classes != len(d.Classes) {
		return usage.Errorf("%s reads images of %dx%dx%d and has %d classes; the data have %dx%dx%d and %d", file, m.H, m.W, m.C, m.Classes, d.H, d.W, d.C, len(d.Classes))
	}
	return nil
}

// fresh refuses to write over a file or folder.
func fresh(path string) error {
	if path == "" {
		return usage.Errorf("no output was named")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return usage.Errorf("%s exists already; give another name", path)
	}
	return nil
}

func hashFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// predict runs a model file on picked images.
func predict(ctx context.Context, dev *device.Device, file string, pick Pick, precisionName string, threads int) (p picked, logits []float32, sum string, err error) {
	m, err := nn.Load(file)
	if err != nil {
		return p, nil, "", err
	}
	if p, err = pick.open(); err != nil {
		return p, nil, "", err
	}
	if err := fits(m, file, p.Dataset); err != nil {
		return p, nil, "", err
	}
	if sum, err = hashFile(file); err != nil {
		return p, nil, "", err
	}
	err = dev.Do(ctx, max(threads, 1), func(s *device.Stream) error {
		out, err := train.Predict(s, m, p.Images, precision(precisionName))
		logits = out.Logits
		return err
	})
	return p, logits, sum, err
}

// accuracy is the share of rows whose largest logit is that of their label.
func accuracy(logits []float32, labels []int32, k int) float64 {
	right := 0
	for i, y := range labels {
		row := logits[i*k : (i+1)*k]
		best := 0
		for c, z := range row {
			if z > row[best] {
				best = c
			}
		}
		if best == int(y) {
			right++
		}
	}
	return float64(right) / float64(len(labels))
}
