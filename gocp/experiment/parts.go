package experiment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/checkpoint"
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

// fresh refuses to write over a file or folder, and what could not be written after the work either.
func fresh(path string) error {
	if path == "" {
		return usage.Errorf("no output was named")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return usage.Errorf("%s exists already; give another name", path)
	}
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return usage.Errorf("%s: its folder does not exist; make it first", path)
	case err != nil:
		return usage.Errorf("%s: %w", path, err)
	case !info.IsDir():
		return usage.Errorf("%s: %s is no folder", path, dir)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return atomicfile.Explain(path, err)
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

// A question is a model file and the images that it is asked about.
type question struct {
	picked
	model *nn.Model
	sum   string // SHA-256 of the file
}

func newQuestion(file string, said checkpoint.Said, pick Pick) (*question, error) {
	m, _, err := checkpoint.Load(file, said)
	if err != nil {
		return nil, err
	}
	p, err := pick.open()
	if err != nil {
		return nil, err
	}
	if err := fits(m, file, p.Dataset); err != nil {
		return nil, err
	}
	sum, err := hashFile(file)
	return &question{p, m, sum}, err
}

// ask returns what the model says.
func (q *question) ask(ctx context.Context, dev *device.Device, precisionName string, threads int) (out train.Outputs, err error) {
	err = dev.Do(ctx, max(threads, 1), func(s *device.Stream) error {
		out, err = train.Predict(s, q.model, q.Images, precision(precisionName))
		return err
	})
	return out, err
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
