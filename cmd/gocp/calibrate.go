package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
)

func calibrateCommand() *cli.Command {
	options := scoreOptions(conformal.Names())
	return &cli.Command{
		Name:  "calibrate",
		Usage: "find a model's threshold on images it was not trained on",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Aliases: []string{"m"}, Usage: "model file"},
			outFlag("calibration file to write (JSON)"),
			dataFlag(), splitFlag("train"), takeFlag("take", "images to calibrate on", ":"), shuffleFlag(), seedFlag(),
			&cli.StringFlag{Name: "precision", Value: "f32", Usage: precisionHelp},
			threadsFlag(), deviceFlag(), jsonFlag(),
		}, slices.Concat(readingFlags(), flagsOf(options), saidFlags())...),
		Before: refuse([]rule{shuffled()}),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "model", "out")); err != nil {
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
			whole := cfg.WithDefaults()
			if err := wanted(c, options, &whole); err != nil {
				return err
			}
			about, err := said(c)
			if err != nil {
				return err
			}
			job := experiment.CalibrateJob{Model: c.String("model"), Said: about, Images: images, Score: cfg.Score, Miscoverage: cfg.Miscoverage,
				Precision: c.String("precision"), Seed: c.Uint64("seed"), Out: c.String("out")}
			if job.Threads, err = threads(c); err != nil {
				return err
			}
			var cal *experiment.Calibration
			err = onDevice(c, func(ctx context.Context, dev *device.Device) error {
				cal, err = experiment.CalibrateModel(ctx, dev, job)
				return err
			})
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, cal)
			}
			_, err = fmt.Fprintf(c.App.Writer, "%s: %s, miscoverage %s: τ = %.6g, the score of rank %d among %d; accuracy on these images %.3f\n",
				job.Out, cal.Score, cal.Miscoverage, cal.Threshold.Tau, cal.Threshold.Rank, cal.Threshold.N, cal.Accuracy)
			return err
		},
	}
}
