package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

func trainCommand() *cli.Command {
	options := slices.Concat(recipeOptions(), sharedOptions(), modelOptions(), defenseOptions(train.Defenses()))
	return &cli.Command{
		Name:  "train",
		Usage: "train a model, with poisons among its images if asked",
		Description: "gocp train --take :4500 --out m.safetensors trains on 4500 images of the training split. With\n" +
			"--poisons each poison takes the place of the image it was made from, or of another of its class.",
		Flags: append([]cli.Flag{
			outFlag("model file to write (safetensors)"),
			dataFlag(), splitFlag("train"), takeFlag("take", "images to train on", ":"), shuffleFlag(),
			&cli.StringFlag{Name: "poisons", Usage: "folder of poisons, as gocp attack and gocp audit write them"},
			threadsFlag(), metricsFlag(), deviceFlag(), jsonFlag(), quietFlag(),
		}, slices.Concat(readingFlags(), flagsOf(options))...),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "out")); err != nil {
				return err
			}
			images, err := pick(c, "take", c.String("split"))
			if err != nil {
				return err
			}
			var cfg experiment.Config
			if err := apply(c, options, &cfg); err != nil {
				return err
			}
			if name := cfg.Defense; name != "" && !slices.Contains(train.Defenses(), name) {
				return usage.Errorf("--defense %s is none of training (there are %s); what filters drop shows gocp defend filter", name, strings.Join(train.Defenses(), ", "))
			}
			whole := cfg.WithDefaults()
			if err := wanted(c, options, &whole); err != nil {
				return err
			}
			job := experiment.TrainJob{Images: images, Poisons: c.String("poisons"), Model: cfg.Victim, Train: cfg.VictimTrain, Defense: whole.Training,
				Precision: cfg.Precision, Seed: cfg.Seed, Out: c.String("out")}
			if job.Threads, err = threads(c); err != nil {
				return err
			}
			var t *experiment.Trained
			err = watched(c, func(ctx context.Context, dev *device.Device, w watch) error {
				t, err = experiment.TrainModel(ctx, dev, job, w.Progress)
				return err
			})
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, t)
			}
			_, err = fmt.Fprintf(c.App.Writer, "%s: trained on %d images, %d of them poisons; accuracy on them %.3f\n", t.File, t.Images, t.Poisoned, t.Accuracy)
			if t.Epsilon != nil {
				_, err = fmt.Fprintf(c.App.Writer, "privacy: ε = %.4g at δ = %g, by Rényi differential privacy, for a sample more or less\n", *t.Epsilon, t.Delta)
			}
			if t.Dropped != nil {
				_, err = fmt.Fprintf(c.App.Writer, "%s dropped %d images, %d of them poisons\n", job.Defense.Name, t.Dropped.Samples, t.Dropped.Poisons)
			}
			if err != nil || t.Poisoned == 0 {
				return err
			}
			var parts []string
			for _, s := range t.Split {
				parts = append(parts, fmt.Sprintf("%d of %d of class %d", s.Count, s.Of, s.Label))
			}
			_, err = fmt.Fprintf(c.App.Writer, "poisons: %s; %d replace the image they were made from, %d another one of their class\n",
				strings.Join(parts, ", "), t.InOwnPlace, t.Poisoned-t.InOwnPlace)
			return err
		},
	}
}
