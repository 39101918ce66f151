package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/defense"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/report"
	"github.com/gocp/gocp/gocp/usage"
)

func defendCommand() *cli.Command {
	return &cli.Command{
		Name:        "defend",
		Usage:       "find samples of a training set that look poisoned",
		Subcommands: []*cli.Command{defendFilter(), defendCompare()},
	}
}

const defendInput = "What a model makes of the training samples comes from files of any framework (--features, --labels, and\n" +
	"--logits for losses), or from a model of gocp's on images (--model, --data)."

func defendFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "features", Usage: "file of features, a row for each training sample, such as penultimate activations"},
		&cli.StringFlag{Name: "labels", Usage: "file of the training labels, from 0"},
		&cli.StringFlag{Name: "logits", Usage: "file of the model's logits for the training samples; their losses are a filter"},
		&cli.StringFlag{Name: "images", Usage: "file of the training images for the page: .npy, 8-bit, samples × height × width × channels"},
		&cli.StringFlag{Name: "model", Aliases: []string{"m"}, Usage: "model file, instead of those"},
		dataFlag(), splitFlag("train"), takeFlag("take", "images to look at", ":"), shuffleFlag(), threadsFlag(),
		&cli.StringFlag{Name: "method", Usage: strings.Join(defense.Names(), ", ") + "; several with commas", DefaultText: "all that the input allows"},
		&cli.StringFlag{Name: "budget", Value: "0.01", Usage: "share of the samples to reckon with as poisons"},
		&cli.IntFlag{Name: "neighbours", Usage: "of deep-knn", DefaultText: "twice the poisons"},
		&cli.Float64Flag{Name: "cluster-share", Value: defense.DefaultClusterShare, Usage: "of activation-clustering: largest share of a class that a cluster of poisons has"},
		seedFlag(), pageFlag(),
		&cli.IntFlag{Name: "workers", Usage: "parts in work side by side; results do not depend on it", DefaultText: "all cores"},
		&cli.StringFlag{Name: "header", Usage: "whether a first line of numbers in a text file holds names: yes, no", DefaultText: "by what it holds"},
		deviceFlag(), quietFlag(), jsonFlag(),
	}, append(readingFlags(), saidFlags()...)...)
}

// defendRules are of flags that do nothing beside others.
func defendRules() []rule {
	fromModel := []string{"data", "split", "take", "shuffle", "threads"}
	for _, f := range append(readingFlags(), saidFlags()...) {
		fromModel = append(fromModel, f.Names()[0])
	}
	uses := func(method string) func(*cli.Context) bool {
		return func(c *cli.Context) bool {
			list := methods(c)
			return len(list) == 0 || slices.Contains(list, method)
		}
	}
	return []rule{
		shuffled(), above0("neighbours", "cluster-share"), apart("model", "features"), apart("model", "labels"), apart("model", "logits"), apart("model", "header"),
		only("--model", given("model"), fromModel...),
		only("deep-knn", uses("deep-knn"), "neighbours"),
		only("activation-clustering", uses("activation-clustering"), "cluster-share", "seed"),
		apart("model", "images"), only("--report", given("report"), "images"),
	}
}

// methods are those that --method names.
func methods(c *cli.Context) (list []string) {
	if !c.IsSet("method") {
		return nil
	}
	for _, m := range strings.Split(c.String("method"), ",") {
		list = append(list, strings.TrimSpace(m))
	}
	return list
}

func defendFilter() *cli.Command {
	return &cli.Command{
		Name:  "filter",
		Usage: "drop what looks poisoned, with reasons; no poisons need be known",
		UsageText: "gocp defend filter --method deep-knn --features f.npy --labels y.npy --budget 0.02 --out flagged.csv --report page.html\n" +
			"gocp defend filter --model m.safetensors --data cifar10 --out flagged.csv",
		Description: defendInput,
		Flags:       append([]cli.Flag{outFlag("CSV file of the flagged samples: position, label, filter, rank, score, reason")}, defendFlags()...),
		Before:      refuse(readingRules(), defendRules()),
		Action: func(c *cli.Context) error {
			if err := needFlags(c, "out"); err != nil {
				return err
			}
			return defend(c, func(f *experiment.Filtered) error { return f.WriteCSV(c.String("out")) })
		},
	}
}

func defendCompare() *cli.Command {
	return &cli.Command{
		Name:        "compare",
		Usage:       "measure filters where the poisons are known: precision, recall, ROC",
		UsageText:   "gocp defend compare --features f.npy --labels y.npy --poisons at.npy --budget 0.02 --report page.html",
		Description: defendInput,
		Flags:       append([]cli.Flag{&cli.StringFlag{Name: "poisons", Usage: "file of the positions of the poisons, from 0"}}, defendFlags()...),
		Before:      refuse(readingRules(), defendRules()),
		Action: func(c *cli.Context) error {
			if err := needFlags(c, "poisons"); err != nil {
				return err
			}
			return defend(c, nil)
		},
	}
}

// defend runs the filters and hands what they say to write, the page and the output.
func defend(c *cli.Context, write func(f *experiment.Filtered) error) error {
	if err := noArgs(c); err != nil {
		return err
	}
	need := []string{"features", "labels"}
	if c.IsSet("model") {
		need = nil
	}
	if err := needFlags(c, need...); err != nil {
		return err
	}
	job := experiment.FilterJob{Features: c.String("features"), Labels: c.String("labels"), Logits: c.String("logits"), Header: c.String("header"),
		Model: c.String("model"), Methods: methods(c), Known: c.String("poisons"), Pixels: c.String("images"),
		Options: defense.Options{Neighbours: c.Int("neighbours"), ClusterShare: c.Float64("cluster-share"), Seed: c.Uint64("seed")}}
	for _, m := range job.Methods {
		if _, err := defense.Lookup(m); err != nil {
			return usage.Errorf("--method: %w", err)
		}
	}
	var err error
	if job.Budget, err = conformal.ParseLevel(c.String("budget")); err != nil {
		return usage.Errorf("--budget is %q; it must be a decimal or a fraction between 0 and 1", c.String("budget"))
	}
	if job.Model != "" {
		if job.Images, err = pick(c, "take", c.String("split")); err != nil {
			return err
		}
		if job.Said, err = said(c); err != nil {
			return err
		}
	}
	if job.Threads, err = threads(c); err != nil {
		return err
	}
	r, done := newReporter(c)
	var f *experiment.Filtered
	err = onDevice(c, func(ctx context.Context, dev *device.Device) error {
		job.Run = defense.Run{Context: ctx, Device: dev, Workers: c.Int("workers"), Progress: r}
		f, err = job.Filter()
		return err
	})
	done()
	if err != nil {
		return err
	}
	if write != nil {
		if err := write(f); err != nil {
			return err
		}
	}
	if err := page(c, func(w io.Writer, about report.About) error {
		about.Sources = f.Sources
		return report.WriteFiltered(w, &f.Filtered, func(sample int) ([]byte, error) {
			pixels, h, w, c, ok := f.Picture(sample)
			if !ok {
				return nil, nil
			}
			return attack.EncodePNG(pixels, h, w, c)
		}, about)
	}); err != nil {
		return err
	}
	return show(c, f, func(w io.Writer) { printFiltered(w, f) })
}

func printFiltered(w io.Writer, f *experiment.Filtered) {
	fmt.Fprintf(w, "%d samples of %d features, %d classes; %d poisons reckoned with\n", f.Samples, f.Columns, len(f.Classes), f.Poisons)
	for _, m := range f.Methods {
		fmt.Fprintf(w, "%-22s drops %d: %s\n", m.Method, len(m.Flagged), m.Says)
		if k := m.Known; k != nil {
			fmt.Fprintf(w, "%-22s %d of %d poisons, %d clean samples: precision %.3f, recall %.3f, area under ROC %.3f\n", "", k.PoisonsDropped, k.Poisons, k.CleanDropped, k.Precision, k.Recall, k.AUC)
		}
	}
}
