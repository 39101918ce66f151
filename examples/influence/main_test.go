package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/data/cifar10sample"
	"github.com/gocp/gocp/gocp/device"
)

// Where training has one minimum, second order predicts what a small replacement does to it within 5 %, and first order does not
// within 20 %, whichever step it takes.
func TestSecondOrderPredicts(t *testing.T) {
	dev := open(t)
	src, err := data.Open(cifar10sample.Name)
	if err != nil {
		t.Fatal(err)
	}
	d := src.Split("train")
	rows, err := experiment(context.Background(), dev, d, pick(d, 0, 400), pick(d, 400, 600), 0.3, []float64{0.01})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.replaced != 4 || !(r.theta[1] <= 0.05) || !(r.score[1] <= 0.05) || !(r.theta[0] > 0.2) || !(r.score[0] > 0.2) {
			t.Errorf("%s of %d images: parameters off by %.3f and %.3f, scores by %.3f and %.3f", r.what, r.replaced, r.theta[0], r.theta[1], r.score[0], r.score[1])
		}
	}
}

func TestRun(t *testing.T) {
	var out bytes.Buffer
	figure := filepath.Join(t.TempDir(), "influence.svg")
	if err := run(context.Background(), open(t), &out, 200, 0.5, []float64{0.02}, figure); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(figure); err != nil || !bytes.Contains(b, []byte("<svg")) {
		t.Errorf("no figure: %v", err)
	}
	if !bytes.Contains(out.Bytes(), []byte("dropped")) {
		t.Error(out.String())
	}
}

func open(t *testing.T) *device.Device {
	t.Helper()
	d, err := device.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
