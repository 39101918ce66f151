package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/bench"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/kernel/cases"
	"github.com/gocp/gocp/gocp/telemetry"
	"github.com/gocp/gocp/gocp/usage"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:        "bench",
		Usage:       "time kernels and passes",
		Subcommands: []*cli.Command{benchKernelsCommand(), benchPassesCommand(), benchRooflineCommand()},
	}
}

func benchPassesCommand() *cli.Command {
	var shapes []string
	for _, s := range bench.AllShapes() {
		shapes = append(shapes, s.Name)
	}
	usual := len(bench.Shapes())
	return &cli.Command{
		Name:  "passes",
		Usage: "time crafting, Hessian-vector, training and per-sample steps (bench/README.md defines the columns)",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "shape", Usage: "only these: " + strings.Join(shapes[:usual], ", ") + "; or of " + strings.Join(shapes[usual:], ", ")},
			&cli.StringSliceFlag{Name: "pass", Usage: "only these: " + strings.Join(bench.Passes(), ", ")},
			&cli.StringSliceFlag{Name: "precision", Usage: "only these: " + strings.Join(kernel.Precisions(), ", ") + " (GPUs); without it f32 and bf16"},
			batchFlag(),
			&cli.IntSliceFlag{Name: "beside", Usage: "so many side by side, the cores shared out (default: 1, and one a core)"},
			&cli.Float64Flag{Name: "seconds", Value: 1, Usage: "of timing a row"},
			goFormatFlag(),
			jsonFlag(),
			deviceFlag(),
		},
		Before: refuse([]rule{apart("go", "json"), above0("batch"), above0("seconds")}),
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
	o := bench.Options{Shapes: c.StringSlice("shape"), Passes: c.StringSlice("pass"), Batch: c.Int("batch"), Beside: c.IntSlice("beside"), Seconds: c.Float64("seconds")}
	for _, p := range c.StringSlice("precision") {
		precision, err := kernel.ParsePrecision(p)
		if err != nil {
			return err
		}
		o.Precisions = append(o.Precisions, precision)
	}
	d, err := device.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	defer warnDisturbed(c, d)()
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

// warnDisturbed says on stderr what keeps the GPU's times from being steady, now and when the function
// that it returns is called: a card is often throttled only after a while.
func warnDisturbed(c *cli.Context, d *device.Device) func() {
	sampler, _ := samplerOf([]*device.Device{d}) // without telemetry nothing is known
	said := map[string]bool{}
	look := func() {
		for _, why := range telemetry.Disturbances(sampler.Sample(), os.Getpid()) {
			if !said[why] {
				said[why] = true
				_, _ = fmt.Fprintf(c.App.ErrWriter, "gocp: %s\n", why)
			}
		}
	}
	look()
	return func() {
		look()
		_ = sampler.Close()
	}
}

func goFormatFlag() cli.Flag {
	return &cli.BoolFlag{Name: "go", Usage: "print Go's benchmark format, for benchstat"}
}

func benchKernelsCommand() *cli.Command {
	return &cli.Command{
		Name:      "kernels",
		Usage:     "time kernels, one by one or all, in floats and in dual numbers (bench/README.md defines the columns)",
		ArgsUsage: "[NAME…]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tune", Usage: "time every tile of convolutions on this GPU instead, and write what it is fastest with into `FILE` (gocp/kernel/convtiles.csv), for its architecture"},
			batchFlag(),
			goFormatFlag(),
			jsonFlag(),
			deviceFlag(),
		},
		Before: refuse([]rule{apart("go", "json"), above0("batch"), only("--tune", func(c *cli.Context) bool { return c.IsSet("tune") }, "batch")}),
		Action: runBenchKernels,
	}
}

func batchFlag() cli.Flag {
	return &cli.IntFlag{Name: "batch", Value: bench.Batch, Usage: "images in a batch"}
}

func runBenchKernels(c *cli.Context) (err error) {
	if err := useDevice(c); err != nil {
		return err
	}
	all := cases.All()
	if c.NArg() > 0 {
		var names []string
		for _, k := range all {
			names = append(names, k.Name)
		}
		for _, name := range c.Args().Slice() {
			if !slices.Contains(names, name) {
				slices.Sort(names)
				return unknown("kernel", name, slices.Compact(names))
			}
		}
		all = slices.DeleteFunc(all, func(k cases.Case) bool { return !slices.Contains(c.Args().Slice(), k.Name) })
	}
	d, err := device.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	defer warnDisturbed(c, d)()
	if c.IsSet("tune") {
		return tuneTiles(c, d)
	}
	w := c.App.Writer
	if c.Bool("go") {
		return benchKernels(c.Context, d, all, func(r cases.Row) error {
			_, err := fmt.Fprintln(w, r.GoBench())
			return err
		})
	}
	limits, err := cases.MeasureLimits(c.Context, d, 0)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		rows := []kernelRow{}
		if err := benchKernels(c.Context, d, all, func(r cases.Row) error {
			rows = append(rows, kernelRow{r, r.GBs(), r.GFLOPs(), r.Share(limits)})
			return nil
		}); err != nil {
			return err
		}
		return printJSON(w, rows)
	}
	if _, err := fmt.Fprintf(w, "limits: copy %.1f GB/s, product %.0f GFLOP/s\n", limits.BytesPerSecond*1e-9, limits.FLOPsPerSecond*1e-9); err != nil {
		return err
	}
	return benchKernels(c.Context, d, all, kernelTable(w, limits))
}

// tuneTiles brings the table of tiles in a file up to date for this GPU.
func tuneTiles(c *cli.Context, d *device.Device) error {
	path := c.String("tune")
	if c.NArg() > 0 || c.Bool("json") || c.Bool("go") {
		return usage.Errorf("--tune times all convolutions and prints a table: it goes with no kernel's name, --json or --go")
	}
	if strings.HasPrefix(d.Info().Name, "ptxemu ") {
		return usage.Errorf("--tune on %s: the emulator's times say nothing of a GPU", d.Info().Name)
	}
	var table []kernel.TileRow
	switch old, err := os.ReadFile(path); {
	case err == nil:
		if table, err = kernel.ReadTiles(bytes.NewReader(old)); err != nil {
			return usage.Errorf("--tune %s: %w", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return usage.Errorf("--tune: %w", err)
	}
	// What was timed before an interruption is kept.
	timed := 0
	show := bench.TuneTable(c.App.Writer)
	table, tuned := bench.Tune(c.Context, d, bench.TuneConvs(c.Int("batch")), bench.MedianClock, table, func(t bench.Tuned) error {
		timed++
		return show(t)
	})
	if tuned != nil && timed == 0 {
		return tuned
	}
	if err := atomicfile.Write(path, func(w io.Writer) error { return kernel.WriteTiles(w, table) }); err != nil {
		return atomicfile.Explain(path, err)
	}
	rows := 0
	for _, r := range table {
		if r.SM == d.Info().Capability {
			rows++
		}
	}
	if _, err := fmt.Fprintf(c.App.Writer, "%s: %d products timed, %d rows for sm_%d\n", path, timed, rows, d.Info().Capability); err != nil {
		return err
	}
	return tuned
}

// kernelRow is a row with its rates, for machines.
type kernelRow struct {
	cases.Row
	GBs   float64 `json:"gb_s"`
	FLOPS float64 `json:"gflop_s"`
	Share float64 `json:"share_of_limit"`
}

func benchKernels(ctx context.Context, d *device.Device, all []cases.Case, emit func(cases.Row) error) error {
	for _, k := range all {
		for _, shape := range k.Benches {
			rows, err := cases.Bench(ctx, d, k, shape)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if err := emit(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// kernelTable writes rows as they come, in columns.
func kernelTable(w io.Writer, limits cases.Limits) func(cases.Row) error {
	const line = "%-20s %-36s %-9s %-4s %10s %10s %8s %9s %6s %9s %5s\n"
	first := true
	return func(r cases.Row) error {
		if first {
			first = false
			if _, err := fmt.Fprintf(w, line, "kernel", "shape", "precision", "host", "median µs", "p99 µs", "GB/s", "GFLOP/s", "limit", "error", "wrong"); err != nil {
				return err
			}
		}
		micro := func(ns int64) string { return fmt.Sprintf("%.1f", float64(ns)*1e-3) }
		_, err := fmt.Fprintf(w, line, r.Name, r.Shape, r.Precision, r.Backend, micro(r.Median.Nanoseconds()), micro(r.P99.Nanoseconds()),
			fmt.Sprintf("%.1f", r.GBs()), fmt.Sprintf("%.1f", r.GFLOPs()), fmt.Sprintf("%.0f%%", 100*r.Share(limits)), fmt.Sprintf("%.1e", r.MaxError), fmt.Sprint(r.Wrong))
		return err
	}
}
