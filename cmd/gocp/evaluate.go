package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/usage"
)

func evaluateCommand() *cli.Command {
	return &cli.Command{
		Name:  "evaluate",
		Usage: "coverage, set sizes and accuracy of a calibrated model",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Aliases: []string{"m"}, Usage: "model file"},
			&cli.StringFlag{Name: "calibration", Usage: "calibration file, as gocp calibrate writes it"},
			dataFlag(), splitFlag("test"), takeFlag("take", "images to evaluate on", ":"), shuffleFlag(),
			&cli.StringFlag{Name: "show", Usage: "images of the split whose sets to list, such as 3,17"},
			threadsFlag(), deviceFlag(), jsonFlag(),
		}, slices.Concat(readingFlags(), saidFlags())...),
		Before: refuse([]rule{shuffled()}),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "model", "calibration")); err != nil {
				return err
			}
			images, err := pick(c, "take", c.String("split"))
			if err != nil {
				return err
			}
			about, err := said(c)
			if err != nil {
				return err
			}
			job := experiment.EvaluateJob{Model: c.String("model"), Said: about, Calibration: c.String("calibration"), Images: images}
			if job.Threads, err = threads(c); err != nil {
				return err
			}
			if c.IsSet("show") {
				if job.Show, err = parseInts(c.String("show")); err != nil {
					return usage.Errorf("--show: %w", err)
				}
			}
			var e *experiment.Evaluation
			err = onDevice(c, func(ctx context.Context, dev *device.Device) error {
				e, err = experiment.EvaluateModel(ctx, dev, job)
				return err
			})
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, e)
			}
			return printEvaluation(c.App.Writer, e)
		},
	}
}

func printEvaluation(w io.Writer, e *experiment.Evaluation) error {
	var b strings.Builder
	m := e.Metrics
	fmt.Fprintf(&b, "%d images, %s, τ = %.6g\n", m.N, e.Score, e.Threshold.Tau)
	fmt.Fprintf(&b, "coverage   %.4f  (95 %% interval %.4f to %.4f)\n", m.Coverage.Rate, m.Coverage.Low, m.Coverage.High)
	fmt.Fprintf(&b, "accuracy   %.4f\n", e.Accuracy)
	fmt.Fprintf(&b, "mean size  %.4f  (%d empty, %d with one label)\n", m.MeanSize, m.Empty, m.Singleton)
	for size, n := range m.Sizes {
		if n > 0 {
			fmt.Fprintf(&b, "  %2d labels %6d\n", size, n)
		}
	}
	for k, p := range m.Classes {
		fmt.Fprintf(&b, "  %-16s coverage %.4f of %d\n", e.Classes[k], p.Rate, p.N)
	}
	for _, s := range e.Shown {
		names := make([]string, len(s.Set))
		for i, y := range s.Set {
			names[i] = e.Classes[y]
		}
		fmt.Fprintf(&b, "image %d (%s): predicted %s with %.3f, set {%s}\n", s.Index, e.Classes[s.Label], e.Classes[s.Predicted], s.Prob, strings.Join(names, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
