package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/report"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "write the report of a finished run again, and print its table",
		ArgsUsage: "DIR",
		Flags:     []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			dir, err := oneArg(c, "the folder of a finished run")
			if err != nil {
				return err
			}
			res, err := result.Load(dir)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return usage.Errorf("%s holds no finished run (no %s); if it was interrupted, gocp audit --resume --out %s finishes it", dir, result.File, dir)
			case err != nil:
				return usage.Errorf("%s: %w", dir, err)
			}
			if err := writeReport(dir, res); err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, res)
			}
			if err := report.Text(c.App.Writer, res); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.App.Writer, "\nReport: %s\n", filepath.Join(dir, reportFile))
			return err
		},
	}
}
