package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/slurm"
)

func collectCommand() *cli.Command {
	return &cli.Command{
		Name:      "collect",
		Usage:     "join what the shards of a run have done into its result and report",
		ArgsUsage: "DIR",
		Description: "Trains and crafts nothing: where jobs are missing it names them and ends with status 75. It runs on a\n" +
			"device of the kind that the shards ran on, and gives the bytes that one process would have given.",
		Flags: []cli.Flag{dataFlag(), takeOverFlag(), deviceFlag(), jsonFlag(), quietFlag()},
		Action: func(c *cli.Context) error {
			dir, err := oneArg(c, "the folder of a run")
			if err != nil {
				return err
			}
			return collect(c, dir)
		},
	}
}

func collect(c *cli.Context, dir string) error {
	cfg, set, err := experiment.LoadConfig(dir)
	if err != nil {
		return err
	}
	if c.IsSet("data") {
		set.Name = c.String("data")
	}
	d, err := loadData(set)
	if err != nil {
		return err
	}
	var res *result.Result
	err = watched(c, func(ctx context.Context, dev *device.Device, w watch) error {
		res, err = experiment.Collect(ctx, dev, cfg, d, experiment.Options{
			Dir: dir, Progress: w.Progress, Version: version().Gocp, Meter: w.Meter, Tally: w.Tally, TakeOver: c.Bool("take-over"), Life: slurm.Current().Life(),
		})
		return err
	})
	if err != nil {
		return again(err)
	}
	return showResult(c, dir, res)
}
