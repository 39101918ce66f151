package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/report"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "write the report of a finished run again, and print its table",
		ArgsUsage: "DIR",
		Flags: []cli.Flag{jsonFlag(),
			&cli.StringFlag{Name: "figures", Usage: "folder to write the report's figures to, one file each"},
			&cli.StringFlag{Name: "format", Value: "svg", Usage: "of the figures: " + strings.Join(report.Formats(), ", ")}},
		Action: func(c *cli.Context) error {
			dir, err := oneArg(c, "the folder of a finished run")
			if err != nil {
				return err
			}
			if c.IsSet("format") && c.String("figures") == "" {
				return usage.Errorf("--format is of the files that --figures writes, and there is no --figures")
			}
			res, err := result.Load(dir)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return usage.Errorf("%s holds no finished run (no %s); if it was interrupted, gocp audit --resume --out %s finishes it", dir, result.File, dir)
			case err != nil:
				return usage.Errorf("%s: %w", dir, err)
			}
			if err := writeFigures(c, res); err != nil {
				return err
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

// writeFigures writes the figures that --figures asks for, into a folder that it makes.
func writeFigures(c *cli.Context, res *result.Result) error {
	out := c.String("figures")
	if out == "" {
		return nil
	}
	figures, err := report.Figures(res, c.String("format"))
	if err != nil {
		return err
	}
	switch err := os.MkdirAll(out, 0o777); {
	case errors.Is(err, syscall.ENOTDIR):
		return usage.Errorf("%s is no folder, and figures need one", out)
	case err != nil:
		return atomicfile.Explain(out, err)
	}
	for _, f := range figures {
		if err := atomicfile.WriteBytes(filepath.Join(out, f.Name), f.Content); err != nil {
			return err
		}
	}
	return nil
}
