// Package trainertest has a program that trains (docs/victims.md), for tests of those who start one: the
// test's own program.
package trainertest

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/strictjson"
)

// asTrainer is the first argument with which a test's program trains a model (docs/victims.md).
const asTrainer = "as-trainer"

// Misbehave is the environment's word for what such a program does wrong: nan, fail or slow.
const Misbehave = "GOCP_TEST_MISBEHAVE"

// Main does not come back in a process that was started by Words. It is called first
// in TestMain.
func Main() {
	if len(os.Args) < 2 || os.Args[1] != asTrainer {
		return
	}
	if err := centroids(slices.Contains(os.Args, "probabilities")); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	os.Exit(0)
}

// Words are a command that trains: this process's program, whose TestMain calls Main. With the argument
// probabilities it leaves these; others it does not look at.
func Words(args ...string) []string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return append([]string{path, asTrainer}, args...)
}

// centroids is a classifier by the distances to the classes' mean images, and a little of the seed.
func centroids(probabilities bool) error {
	wrong := os.Getenv(Misbehave)
	switch wrong {
	case "fail":
		return errors.New("ValueError: as asked for")
	case "slow":
		time.Sleep(time.Hour)
	}
	b, err := os.ReadFile("job.json")
	if err != nil {
		return err
	}
	var job struct {
		Seed    uint64   `json:"seed"`
		Classes []string `json:"classes"`
		Train   int      `json:"train"`
		H       int      `json:"height"`
		W       int      `json:"width"`
		C       int      `json:"channels"`
	}
	if err := strictjson.Unmarshal(b, &job); err != nil {
		return err
	}
	fmt.Printf("%s%s\n", b, strings.Join(os.Args[1:], " ")) // all that it is told
	if os.Getenv("GOCP_SEED") != strconv.FormatUint(job.Seed, 10) {
		return fmt.Errorf("seed %s, job.json says %d", os.Getenv("GOCP_SEED"), job.Seed)
	}
	arrays := map[string]*npy.Array{}
	for _, name := range []string{"train_images", "train_labels", "calibration_images", "test_images"} {
		if arrays[name], err = npy.Load(name + ".npy"); err != nil {
			return err
		}
	}
	labels, err := arrays["train_labels"].Int64s()
	if err != nil {
		return err
	}
	k, size := len(job.Classes), job.H*job.W*job.C
	count := make([]float64, k)
	for _, y := range labels {
		count[y]++
	}
	mean := make([]float64, k*size)
	for i, y := range labels {
		for j := range size {
			mean[int(y)*size+j] += float64(arrays["train_images"].Data[i*size+j]) / count[y]
		}
	}
	src := rng.New(job.Seed, 0)
	for _, part := range []string{"calibration", "test"} {
		x := arrays[part+"_images"]
		n := x.Shape[0]
		out := make([]float64, n*k)
		for i := range n {
			sum := 0.0
			for y := range k {
				d := 0.0
				for j := range size {
					v := float64(x.Data[i*size+j]) - mean[y*size+j]
					d += v * v
				}
				out[i*k+y] = float64(src.Normal())/4 - d/float64(size)/200
				sum += math.Exp(out[i*k+y])
			}
			for y := range k {
				if probabilities {
					out[i*k+y] = math.Exp(out[i*k+y]) / sum
				}
			}
		}
		if wrong == "nan" && part == "test" {
			out[k+1] = math.NaN()
		}
		kind := map[bool]string{true: "probabilities", false: "logits"}[probabilities]
		err := atomicfile.Write(part+"_"+kind+".npy", func(w io.Writer) error { return npy.Write(w, npy.Float64(out, n, k)) })
		if err != nil {
			return err
		}
	}
	return nil
}
