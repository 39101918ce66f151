package trainer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/npy"
)

// What an answer may be given as.
const (
	Logits        = "logits"
	Probabilities = "probabilities"
)

// An Answer is what a trained model says of the calibration and the test images.
type Answer struct {
	Kind              string // Logits or Probabilities
	K                 int    // classes
	Calibration, Test []float64
}

// Probs are the probabilities, by softmax where the answer is logits.
func (a *Answer) Probs() (calibration, test *conformal.Probs, err error) {
	of := conformal.Softmax[float64]
	if a.Kind == Probabilities {
		of = conformal.Probabilities[float64]
	}
	if calibration, err = of(len(a.Calibration)/a.K, a.K, a.Calibration); err != nil {
		return nil, nil, fmt.Errorf("calibration_%s.npy: %w", a.Kind, err)
	}
	if test, err = of(len(a.Test)/a.K, a.K, a.Test); err != nil {
		return nil, nil, fmt.Errorf("test_%s.npy: %w", a.Kind, err)
	}
	return calibration, test, nil
}

// read reads and checks what a program left. Its errors follow the program's name.
func read(dir string, j Job) (*Answer, error) {
	a := &Answer{K: len(j.Classes)}
	there := func(part, kind string) bool {
		_, err := os.Stat(filepath.Join(dir, part+"_"+kind+".npy"))
		return !errors.Is(err, fs.ErrNotExist)
	}
	for _, part := range []string{"calibration", "test"} {
		switch l, p := there(part, Logits), there(part, Probabilities); {
		case l && p:
			return nil, fmt.Errorf("left both %s_logits.npy and %[1]s_probabilities.npy; one of them is due", part)
		case !l && !p:
			return nil, fmt.Errorf("ended well but left no %s_logits.npy (or %[1]s_probabilities.npy)%s", part, others(dir))
		case a.Kind == "" && l, a.Kind == Logits && l:
			a.Kind = Logits
		case a.Kind == "", a.Kind == Probabilities && p:
			a.Kind = Probabilities
		default:
			return nil, fmt.Errorf("left calibration_%s.npy but no test_%[1]s.npy; both are to be of one kind", a.Kind)
		}
	}
	for _, x := range []struct {
		part string
		n    int
		dst  *[]float64
	}{{"calibration", j.images(j.Calibration), &a.Calibration}, {"test", j.images(j.Test), &a.Test}} {
		name := x.part + "_" + a.Kind + ".npy"
		arr, err := npy.Load(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("left a %s that cannot be read: %s", name, strings.TrimPrefix(err.Error(), filepath.Join(dir, name)+": "))
		}
		if len(arr.Shape) != 2 || arr.Shape[0] != x.n || arr.Shape[1] != a.K {
			return nil, fmt.Errorf("left %s of shape %s; %s is due, a row for each image of %s_images.npy and a column for each class", name, shape(arr.Shape), shape([]int{x.n, a.K}), x.part)
		}
		if arr.Type != "f2" && arr.Type != "f4" && arr.Type != "f8" {
			return nil, fmt.Errorf("left %s of type %s; floating-point numbers are due", name, arr.Type)
		}
		*x.dst = make([]float64, arr.Len())
		if err := npy.Float64s(*x.dst, arr.Type, arr.Data); err != nil {
			return nil, fmt.Errorf("left %s: %s", name, err)
		}
	}
	if _, _, err := a.Probs(); err != nil {
		return nil, fmt.Errorf("left %s", err)
	}
	return a, nil
}

func shape(dims []int) string {
	words := make([]string, len(dims))
	for i, d := range dims {
		words[i] = fmt.Sprint(d)
	}
	return "(" + strings.Join(words, ", ") + ")"
}

// others names the files that a program left beside its job.
func others(dir string) string {
	entries, _ := os.ReadDir(dir) // the sentence is right without it
	var names []string
	for _, e := range entries {
		switch e.Name() {
		case jobFile, trainImages, trainLabels, calibrationImages, testImages, OutputFile:
		default:
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return "; it left no file at all"
	}
	return "; it left " + strings.Join(names, ", ")
}
