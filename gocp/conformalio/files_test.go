package conformalio

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/internal/testfiles"
	"github.com/gocp/gocp/gocp/npy"
)

// TestColumns: a threshold records the columns it came from, and a table that has them in another order is
// refused, as are one column and rows whose number is not that of the labels.
func TestColumns(t *testing.T) {
	dir := t.TempDir()
	rows := strings.Repeat("0.5,1.5,0.25\n2.5,0.5,0.75\n0.25,0.5,3.5\n", 10)
	cal := testfiles.Text(t, filepath.Join(dir, "cal.csv"), "cat,dog,bird\n"+rows)
	labels := testfiles.Text(t, filepath.Join(dir, "y.txt"), strings.Repeat("1\n0\n2\n", 10))
	job := CalibrateJob{Input: Input{File: cal, Form: FormLogits}, Labels: labels, Score: conformal.Variant{Name: "hps"}, Miscoverage: conformal.MustLevel("0.1")}
	c, err := job.Calibrate()
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Sources[0].Columns; !slices.Equal(got, []string{"cat", "dog", "bird"}) {
		t.Errorf("columns %v", got)
	}
	out := filepath.Join(dir, "s.npy")
	predict := func(head string) error {
		in := Input{File: testfiles.Text(t, filepath.Join(dir, "test.csv"), head+rows), Form: FormLogits}
		_, err := PredictJob{Calibration: c, Input: in, Out: out}.Predict()
		return err
	}
	for _, head := range []string{"cat,dog,bird\n", "a,b,c\n", ""} {
		if err := predict(head); err != nil {
			t.Errorf("%q: %v", head, err)
		}
	}
	if err := predict("dog,cat,bird\n"); err == nil || !strings.Contains(err.Error(), "another order") {
		t.Errorf("swapped columns: %v", err)
	}
	job.Input.File = testfiles.Text(t, filepath.Join(dir, "long.csv"), "cat,dog,bird\n"+rows+"1.5,2.5,3.5\n")
	if _, err := job.Calibrate(); err == nil || !strings.Contains(err.Error(), "31 rows of 3 columns: cat, dog, bird") {
		t.Errorf("31 rows for 30 labels: %v", err)
	}
	job.Input.File = cal + ":cat"
	if _, err := job.Calibrate(); err == nil || !strings.Contains(err.Error(), "one column") {
		t.Errorf("one column: %v", err)
	}
}

// TestAllEqual: a file of zeros, as an array that was never filled, is calibrated on with a word about it.
func TestAllEqual(t *testing.T) {
	dir := t.TempDir()
	labels := testfiles.Text(t, filepath.Join(dir, "y.txt"), strings.Repeat("1\n0\n2\n", 10))
	job := CalibrateJob{Input: Input{Form: FormLogits}, Labels: labels, Score: conformal.Variant{Name: "hps"}, Miscoverage: conformal.MustLevel("0.1")}
	x := make([]float32, 30*3)
	for _, filled := range []bool{false, true} {
		x[4], x[7] = 0.5, 1.5
		if !filled {
			clear(x)
		}
		job.Input.File = testfiles.Npy(t, filepath.Join(dir, "z.npy"), npy.Float32(x, 30, 3))
		c, err := job.Calibrate()
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(strings.Join(c.Notes, "\n"), "all 30 calibration scores are equal"); said == filled {
			t.Errorf("filled %v: %q", filled, c.Notes)
		}
	}
}
