package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/usage"
)

func attackCommand() *cli.Command {
	options := slices.Concat(sharedOptions(), goalOptions(), scoreOptions(attack.ScoreNames()), craftOptions())
	return &cli.Command{
		Name:  "attack",
		Usage: "craft poisons on models of one's own, for chosen targets",
		Description: "gocp attack --surrogate a.safetensors --take :4500 --calibration 4500:5000 --target 17 --out poisons\n" +
			"takes images 0 to 4499 of the shuffled training split as what poisons are made from and the next 500\n" +
			"to calibrate on; targets are images of the test split.",
		Flags: append([]cli.Flag{
			outFlag("folder to write: manifest with labels, 8-bit images before and after, δ"),
			&cli.StringSliceFlag{Name: "surrogate", Usage: "model file; give several for an ensemble"},
			&cli.StringFlag{Name: "target", Usage: "images of the test split whose sets are to change, such as 3,17"},
			dataFlag(), testSplitFlag(), takeFlag("take", "training images that poisons are made from", ":"),
			takeFlag("calibration", "training images to calibrate on", ""), shuffleFlag(),
			threadsFlag(), memoryFlag(), metricsFlag(), deviceFlag(), jsonFlag(), quietFlag(),
		}, slices.Concat(readingFlags(), flagsOf(options), saidFlags())...),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "out", "target", "calibration")); err != nil {
				return err
			}
			if len(c.StringSlice("surrogate")) == 0 {
				return usage.Errorf("%s needs --surrogate", c.Command.HelpName)
			}
			about, err := said(c)
			if err != nil {
				return err
			}
			job := experiment.AttackJob{Surrogates: c.StringSlice("surrogate"), Said: about, Out: c.String("out")}
			if job.Pool, err = pick(c, "take", "train"); err != nil {
				return err
			}
			if job.Calibration, err = pick(c, "calibration", "train"); err != nil {
				return err
			}
			if job.Targets, err = parseInts(c.String("target")); err != nil {
				return usage.Errorf("--target: %w", err)
			}
			if job.Threads, err = threads(c); err != nil {
				return err
			}
			if job.Memory, err = memory(c); err != nil {
				return err
			}
			var cfg experiment.Config
			if err := apply(c, options, &cfg); err != nil {
				return err
			}
			whole := cfg.WithDefaults()
			if err := wanted(c, options, &whole); err != nil {
				return err
			}
			job.Goal, job.Score, job.Miscoverage, job.Budget = cfg.Goal, cfg.Score, cfg.Miscoverage, cfg.Budget
			job.Craft, job.Precision, job.Seed = cfg.Craft, cfg.Precision, cfg.Seed
			var b *attack.Bundle
			err = watched(c, func(ctx context.Context, dev *device.Device, w watch) error {
				b, err = experiment.AttackModels(ctx, dev, job, w.Progress)
				return err
			})
			if err != nil {
				return err
			}
			largest, mean := b.Spread()
			if c.Bool("json") {
				return printJSON(c.App.Writer, map[string]any{"folder": job.Out, "poisons": b.Before.Len(), "max_abs_255": largest,
					"mean_abs_255": mean, "sha256": b.Hash(), "targets": b.Targets, "crafting": b.Report})
			}
			var did []string
			if b.Turned != nil {
				did = append(did, "labels turned")
			}
			if b.Epsilon255 > 0 {
				did = append(did, fmt.Sprintf("pixels moved by at most %d/255, %.1f/255 on average", largest, mean))
			}
			_, err = fmt.Fprintf(c.App.Writer, "%s: %d poisons, %s\n", job.Out, b.Before.Len(), strings.Join(did, ", "))
			return err
		},
	}
}
