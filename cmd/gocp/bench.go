package main

import (
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/bench"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/usage"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:        "bench",
		Usage:       "time kernels and passes",
		Subcommands: []*cli.Command{benchPassesCommand()},
	}
}

func benchPassesCommand() *cli.Command {
	var shapes []string
	for _, s := range bench.Shapes() {
		shapes = append(shapes, s.Name)
	}
	return &cli.Command{
		Name:  "passes",
		Usage: "time crafting, Hessian-vector, training and per-sample steps (bench/README.md defines the columns)",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "shape", Usage: "only these: " + strings.Join(shapes, ", ")},
			&cli.StringSliceFlag{Name: "pass", Usage: "only these: " + strings.Join(bench.Passes(), ", ")},
			&cli.StringSliceFlag{Name: "precision", Usage: "only these: " + strings.Join(precisions, ", ")},
			&cli.IntSliceFlag{Name: "beside", Usage: "so many side by side, the cores shared out (default: 1, and one a core)"},
			&cli.Float64Flag{Name: "seconds", Value: 1, Usage: "of timing a row"},
			&cli.BoolFlag{Name: "go", Usage: "print Go's benchmark format, for benchstat"},
			jsonFlag(),
			deviceFlag(),
		},
		Action: runBenchPasses,
	}
}

func runBenchPasses(c *cli.Context) (err error) {
	if err := noArgs(c); err != nil {
		return err
	}
	if err := useDevice(c); err != nil {
		return err
	}
	o := bench.Options{Shapes: c.StringSlice("shape"), Passes: c.StringSlice("pass"), Beside: c.IntSlice("beside"), Seconds: c.Float64("seconds")}
	if o.Seconds == 0 {
		return usage.Errorf("--seconds is 0; it must be above 0")
	}
	for _, p := range c.StringSlice("precision") {
		switch p {
		case "f32":
			o.Precisions = append(o.Precisions, kernel.F32)
		case "bf16":
			o.Precisions = append(o.Precisions, kernel.BF16)
		default:
			return unknown("precision", p, precisions)
		}
	}
	d, err := device.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	w := c.App.Writer
	switch {
	case c.Bool("json"):
		rows := []bench.Row{}
		if err := bench.Run(c.Context, d, o, func(r bench.Row) error { rows = append(rows, r); return nil }); err != nil {
			return err
		}
		return printJSON(w, rows)
	case c.Bool("go"):
		return bench.Run(c.Context, d, o, bench.GoFormat(w))
	}
	return bench.Run(c.Context, d, o, bench.Table(w))
}
