package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/usage"
)

func dataCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "look for copies, near copies, missing classes and empty images",
		ArgsUsage: "NAME|PATH|RUN",
		Description: "Of a data set: exact copies of images inside and between splits, with equal and with different labels;\n" +
			"classes that a split lacks; images of one colour; with --skip-unreadable also files that cannot be read.\n" +
			"With --model, or for the targets of a RUN: the training images that the model's features find nearest\n" +
			"to each test image, copies first; --pictures writes the pairs side by side.",
		Flags: append(readingFlags(),
			testSplitFlag(),
			&cli.StringFlag{Name: "model", Usage: "model whose features compare test and training images", DefaultText: "none; of a RUN its first surrogate"},
			&cli.IntFlag{Name: "near", Value: 10, Usage: "pairs to show"},
			&cli.StringFlag{Name: "pictures", Usage: "`FOLDER` for PNG files of these pairs"},
			&cli.StringFlag{Name: "data", Usage: "data set of the run, if it has moved since"},
			deviceFlag(), jsonFlag()),
		Action: dataCheck,
	}
}

// pair is a test image with the nearest training image, for people and machines.
type pair struct {
	experiment.Near
	Of      data.Place `json:"of"`
	To      data.Place `json:"to"`
	Picture string     `json:"picture,omitempty"`
}

func dataCheck(c *cli.Context) error {
	name, err := oneArg(c, "the name of a data set, a path or a run folder")
	if err != nil {
		return err
	}
	if c.Int("near") < 1 {
		return usage.Errorf("--near is %d; it must be at least 1", c.Int("near"))
	}
	var found *data.Findings
	var of, among *data.Dataset
	model := c.String("model")
	if _, set, runErr := experiment.LoadConfig(name); runErr == nil {
		if readAnew(c) {
			return usage.Errorf("%s is a run, which says itself how its data are read; leave those flags out", name)
		}
		if c.IsSet("data") {
			set.Name = c.String("data")
		}
		d, err := loadData(set)
		if err != nil {
			return err
		}
		v, err := experiment.Export(name, d)
		if err != nil {
			return err
		}
		found, of, among = findings(d), v.Targets, part(v.Train, "victim train")
		if model == "" {
			model = experiment.SurrogateFile(name)
		}
	} else {
		if c.IsSet("data") {
			return usage.Errorf("--data is for run folders; %s is none", name)
		}
		src, err := openArg(c)
		if err != nil {
			return err
		}
		found = data.Check(src)
		if model != "" {
			if among, err = src.Need("train"); err != nil {
				return err
			}
			if of, err = src.Need("test"); err != nil {
				return err
			}
		}
	}
	for _, flag := range []string{"near", "pictures", "device", "test-split"} {
		if model == "" && c.IsSet(flag) {
			return usage.Errorf("--%s needs --model", flag)
		}
	}
	var pairs []pair
	if model != "" {
		if pairs, err = nearPairs(c, model, of, among); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, struct {
			*data.Findings
			Near []pair `json:"near,omitempty"`
		}{found, pairs})
	}
	return first(found.WriteText(c.App.Writer), writePairs(c.App.Writer, pairs))
}

func nearPairs(c *cli.Context, model string, of, among *data.Dataset) ([]pair, error) {
	dir := c.String("pictures")
	if dir != "" {
		if err := fresh(dir); err != nil {
			return nil, err
		}
	}
	var near []experiment.Near
	err := onDevice(c, func(ctx context.Context, dev *device.Device) (err error) {
		near, err = experiment.Nearest(ctx, dev, model, of, among)
		return err
	})
	if err != nil {
		return nil, err
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return nil, atomicfile.Explain(dir, err)
		}
	}
	var pairs []pair
	for i, n := range near[:min(len(near), c.Int("near"))] {
		p := pair{Near: n, Of: of.Place(n.Image), To: among.Place(n.Nearest)}
		if dir != "" {
			p.Picture = filepath.Join(dir, fmt.Sprintf("%03d.png", i))
			b, err := attack.EncodePNG(beside(of, n.Image, among, n.Nearest), of.H, 2*of.W, of.C)
			if err != nil {
				return nil, err
			}
			if err := atomicfile.WriteBytes(p.Picture, b); err != nil {
				return nil, err
			}
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// beside is two images in one, side by side.
func beside(a *data.Dataset, i int, b *data.Dataset, j int) []uint8 {
	var out []uint8
	n := a.W * a.C
	for y := range a.H {
		out = append(append(out, a.Image(i)[y*n:(y+1)*n]...), b.Image(j)[y*n:(y+1)*n]...)
	}
	return out
}

func writePairs(w io.Writer, pairs []pair) error {
	if len(pairs) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, "nearest training images by the model's features (0: the same, about 1: no connection)")
	for _, p := range pairs {
		what := "alike"
		switch {
		case p.Levels == 0 && p.Same:
			what = "EXACT COPY"
		case p.Levels == 0:
			what = "EXACT COPY, labels differ"
		case !p.Same:
			what = "labels differ"
		}
		_, e := fmt.Fprintf(w, "  %.3f  pixels %5.1f/255  %v  %v  %s %s\n", p.Distance, p.Levels, p.Of, p.To, what, p.Picture)
		err = first(err, e)
	}
	return err
}

// findings of what an audit runs on.
func findings(d experiment.Data) *data.Findings {
	return data.Check(&data.Source{Splits: []*data.Dataset{part(d.Train, "train"), part(d.Test, "test")}, Skipped: d.Skipped})
}

// tellFindings says in short what is wrong with the data of an audit.
func tellFindings(c *cli.Context, d experiment.Data) {
	for _, line := range findings(d).Summary() {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "data: %s\n", line)
	}
}

// part is d under a name.
func part(d *data.Dataset, name string) *data.Dataset {
	p := *d
	p.Name = name
	return &p
}
