package main

import (
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/usage"
)

// readingFlags say how a data set is read.
func readingFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "skip-unreadable", Usage: "leave out image files that cannot be read, and name them"},
		&cli.BoolFlag{Name: "coarse", Usage: "CIFAR-100: its 20 superclasses as labels"},
		&cli.StringFlag{Name: "resize", Usage: "scale images: `N` for the shorter side, or HxW; bilinear, antialiased, as torchvision's Resize"},
		&cli.StringFlag{Name: "crop", Usage: "then keep the middle: `N` or HxW"},
	}
}

// testSplitFlag is of commands that take their test images by themselves.
func testSplitFlag() cli.Flag {
	return &cli.StringFlag{Name: "test-split", Usage: "split to test on", DefaultText: "test, or val where there is no test"}
}

// reading is what readingFlags and testSplitFlag say.
func reading(c *cli.Context) (data.Reading, error) {
	r := data.Reading{Test: c.String("test-split"), SkipUnreadable: c.Bool("skip-unreadable"), Coarse: c.Bool("coarse")}
	for name, size := range map[string]*data.Size{"resize": &r.Resize, "crop": &r.Crop} {
		if !c.IsSet(name) {
			continue
		}
		var err error
		if *size, err = data.ParseSize(c.String(name)); err != nil {
			return r, usage.Errorf("--%s: %w", name, err)
		}
	}
	return r, nil
}

// readAnew tells whether a flag says how data are read.
func readAnew(c *cli.Context) bool {
	return slices.ContainsFunc(append(readingFlags(), testSplitFlag()), func(f cli.Flag) bool { return c.IsSet(f.Names()[0]) })
}

// loadData opens a data set for an audit.
func loadData(ref data.Ref) (experiment.Data, error) {
	name := ref.Name
	src, err := ref.Open()
	if err != nil {
		return experiment.Data{}, err
	}
	d := experiment.Data{Origin: origin(src, name), Embedded: isEmbedded(name), Reading: ref.Reading, Skipped: src.Skipped}
	for _, part := range []struct {
		split string
		set   **data.Dataset
	}{{"train", &d.Train}, {"test", &d.Test}} {
		s, err := src.Need(part.split)
		if err != nil {
			return experiment.Data{}, err
		}
		named := *s
		named.Name = name // what a resumed run opens again
		*part.set = &named
	}
	return d, nil
}

// origin is where a set came from, without this machine's folders; nothing where its name says it.
func origin(src *data.Source, name string) string {
	if src.Origin != name && !filepath.IsAbs(src.Origin) {
		return src.Origin // words
	}
	if base := filepath.Base(src.Origin); base != filepath.Base(name) {
		return base
	}
	return ""
}

func isEmbedded(name string) bool {
	return slices.ContainsFunc(data.List(), func(k data.Known) bool { return k.Name == name && k.Where == "embedded" })
}
