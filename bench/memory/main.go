// Memory runs two steps of training or of crafting in a process of its own and prints how many KiB
// the process had before there was a model, how many at most, how many of these are arrays that crafting
// has on the device, and what it said of its memory. It is gocp's side of bench/memory_peers.py.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/train"
)

const steps = 2

func main() {
	log.SetFlags(0)
	spec := nn.Spec{Classes: 10, C: 3, H: 32, W: 32, Mean: []float64{.5, .5, .5}, Std: []float64{.25, .25, .25}}
	flag.StringVar(&spec.Arch, "arch", "resnet18", "architecture")
	flag.IntVar(&spec.Width, "width", 0, "its width")
	flag.StringVar(&spec.Stem, "stem", "", "its stem")
	flag.BoolVar(&spec.BatchNorm, "batchnorm", false, "with batch norm, where that is open")
	pass := flag.String("pass", "train", "train or craft")
	batch := flag.Int("batch", 128, "batch of training, or number of poisons")
	limit := flag.Int64("memory", 0, "bytes that crafting may take; 0: as many as it likes")
	flag.Parse()
	if err := run(spec.WithDefaults(), *pass, *batch, *limit); err != nil {
		log.Fatal(err)
	}
}

func run(spec nn.Spec, pass string, n int, limit int64) error {
	dev, err := device.Open()
	if err != nil {
		return err
	}
	before, err := status("VmRSS")
	if err != nil {
		return err
	}
	var note string
	var used int64 // on the device, while crafting
	err = dev.Do(context.Background(), 1, func(s *device.Stream) error {
		m, err := nn.New(spec, 1)
		if err != nil {
			return err
		}
		switch pass {
		case "train":
			set := images(spec, steps*n, spec.Classes)
			return train.Run(s, m, train.Set{Images: set.Pixels, Labels: set.Labels}, train.Config{Epochs: 1, Batch: n}, train.Options{})
		case "craft":
			note, used, err = craft(s, m, n, limit)
			return err
		}
		return fmt.Errorf("no pass is called %q", pass)
	})
	if err != nil {
		return err
	}
	peak, err := status("VmHWM")
	if err != nil {
		return err
	}
	_, err = fmt.Println(before, peak, used>>10, note)
	return err
}

// craft makes n poisons on one surrogate.
func craft(s *device.Stream, m *nn.Model, n int, limit int64) (note string, used int64, err error) {
	p := &attack.Problem{
		Surrogates: []attack.Surrogate{{Name: "memory", Model: m, Calibration: images(m.Spec, 30, m.Classes)}},
		Score:      conformal.Variant{Name: "hps"}, Level: conformal.MustLevel("0.1"),
		Targets: []attack.Target{{Image: images(m.Spec, 1, 1).Pixels, Aim: attack.Aim{Remove: []int{1}, Keep: -1, Inside: -1}}},
		Pool:    images(m.Spec, n, 1), Classes: []int{0}, Count: n,
		Memory: attack.Memory{Limit: limit, Note: func(format string, args ...any) { note = fmt.Sprintf(format, args...) }},
	}
	v, err := attack.NewSolver(s, p, attack.Config{Steps: steps, Margin: 1, Align: attack.AlignPoison})
	if err != nil {
		return "", 0, err
	}
	bases := make([]int, n)
	for i := range bases {
		bases[i] = i
	}
	_, err = v.Craft(bases, func() { used = s.InUse() })
	return note, used, err
}

// images draws n random images with labels of k classes.
func images(spec nn.Spec, n, k int) attack.Images {
	r := rng.New(1, uint64(n))
	m := attack.Images{H: spec.H, W: spec.W, C: spec.C, Pixels: make([]uint8, n*spec.H*spec.W*spec.C), Labels: make([]int32, n)}
	for i := range m.Pixels {
		m.Pixels[i] = uint8(r.Intn(256))
	}
	for i := range m.Labels {
		m.Labels[i] = int32(r.Intn(k))
	}
	return m
}

// status is a number of KiB in /proc/self/status.
func status(name string) (int, error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if w := strings.Fields(lines.Text()); len(w) > 1 && w[0] == name+":" {
			return strconv.Atoi(w[1])
		}
	}
	return 0, errors.New("/proc/self/status has no " + name)
}
