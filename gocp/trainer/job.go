package trainer

import (
	"io"
	"os"
	"path/filepath"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/strictjson"
)

// Protocol is the version of what the program finds and leaves.
const Protocol = 1

// Names in a job's folder.
const (
	jobFile           = "job.json"
	trainImages       = "train_images.npy"
	trainLabels       = "train_labels.npy"
	calibrationImages = "calibration_images.npy"
	testImages        = "test_images.npy"
	// OutputFile has what the program wrote on its standard output and error.
	OutputFile = "output.txt"
)

// MaxSeed is above all seeds: random number generators take those of 31 bits everywhere.
const MaxSeed = 1 << 31

// A Job is a model to train and images to ask it about. Pixels lie as height × width × channels.
type Job struct {
	H, W, C           int
	Classes           []string
	Seed              uint64 // below MaxSeed
	Train             []uint8
	Labels            []int32 // of Train
	Calibration, Test []uint8
}

// about is job.json. Nothing in it depends on the condition, nor on what the model is for.
type about struct {
	Protocol    int      `json:"protocol"`
	Seed        uint64   `json:"seed"`
	Classes     []string `json:"classes"`
	H           int      `json:"height"`
	W           int      `json:"width"`
	C           int      `json:"channels"`
	Train       int      `json:"train"`
	Calibration int      `json:"calibration"`
	Test        int      `json:"test"`
}

func (j Job) images(pixels []uint8) int { return len(pixels) / (j.H * j.W * j.C) }

// write fills the folder, which is new.
func (j Job) write(dir string) error {
	array := func(pixels []uint8) *npy.Array { return npy.Uint8(pixels, j.images(pixels), j.H, j.W, j.C) }
	labels := make([]int64, len(j.Labels))
	for i, y := range j.Labels {
		labels[i] = int64(y)
	}
	for name, a := range map[string]*npy.Array{trainImages: array(j.Train), trainLabels: npy.Int64(labels, len(labels)),
		calibrationImages: array(j.Calibration), testImages: array(j.Test)} {
		if err := atomicfile.Write(filepath.Join(dir, name), func(w io.Writer) error { return npy.Write(w, a) }); err != nil {
			return err
		}
	}
	b, err := strictjson.Indent(about{Protocol, j.Seed, j.Classes, j.H, j.W, j.C, len(j.Labels), j.images(j.Calibration), j.images(j.Test)}, " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, jobFile), b, 0o666)
}
