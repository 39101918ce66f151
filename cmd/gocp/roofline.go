package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/bench"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel/cases"
)

func benchRooflineCommand() *cli.Command {
	return &cli.Command{
		Name:  "roofline",
		Usage: "lower bounds in time of kernels and crafting steps on GPUs, from counts and data sheets (docs/gpu.md)",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "group", Usage: "only these: " + strings.Join(rooflineGroups(), ", ")},
			&cli.BoolFlag{Name: "count", Usage: "count on the emulator instead, and print the table of counts (scripts/counts.sh)"},
			jsonFlag(),
			deviceFlag(),
		},
		Before: refuse([]rule{apart("count", "group"), apart("count", "json"), only("--count", given("count"), "device")}),
		Action: runBenchRoofline,
	}
}

// counts is the group of what the emulator counted.
const counts = "counts"

func rooflineGroups() []string { return append(bench.Groups(), counts) }

// rooflineReport is for machines.
type rooflineReport struct {
	Note   string              `json:"note"`
	GPUs   []bench.GPU         `json:"gpus"`
	Rows   []bench.RooflineRow `json:"rows"`
	Counts []bench.Count       `json:"counts"`
}

func runBenchRoofline(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	if c.Bool("count") {
		return onDevice(c, func(ctx context.Context, d *device.Device) error {
			var all []bench.Count
			err := bench.Emulated(ctx, d, cases.All(), func(n bench.Count) error { all = append(all, n); return nil })
			if err != nil {
				return err
			}
			return bench.WriteCounts(c.App.Writer, all)
		})
	}
	groups := c.StringSlice("group")
	for _, g := range groups {
		if !slices.Contains(rooflineGroups(), g) {
			return unknown("group", g, rooflineGroups())
		}
	}
	wanted := func(g string) bool { return len(groups) == 0 || slices.Contains(groups, g) }
	r := rooflineReport{Note: bench.BoundNote, GPUs: bench.GPUs(), Rows: []bench.RooflineRow{}, Counts: []bench.Count{}}
	for _, g := range bench.Groups() {
		if wanted(g) {
			r.Rows = append(r.Rows, bench.Roofline(r.GPUs, g)...)
		}
	}
	if wanted(counts) {
		n, err := bench.Counts()
		if err != nil {
			return err
		}
		r.Counts = append(r.Counts, n...)
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, r)
	}
	if err := bench.RooflineTable(c.App.Writer, r.GPUs, r.Rows); err != nil || len(r.Counts) == 0 {
		return err
	}
	return bench.CountTable(c.App.Writer, r.Counts)
}
