package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/experiment"
)

func dataCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "look for copies, missing classes and empty images in a data set",
		ArgsUsage: "NAME|PATH",
		Description: "Exact copies of images inside and between splits, with equal and with different labels; classes that a\n" +
			"split lacks; images of one colour; with --skip-unreadable also files that cannot be read.",
		Flags: append(readingFlags(), jsonFlag()),
		Action: func(c *cli.Context) error {
			src, err := openArg(c)
			if err != nil {
				return err
			}
			f := data.Check(src)
			if c.Bool("json") {
				return printJSON(c.App.Writer, f)
			}
			return f.WriteText(c.App.Writer)
		},
	}
}

// tellFindings says in short what is wrong with the data of an audit.
func tellFindings(c *cli.Context, d experiment.Data) {
	f := data.Check(&data.Source{Splits: []*data.Dataset{part(d.Train, "train"), part(d.Test, "test")}, Skipped: d.Skipped})
	for _, line := range f.Summary() {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "data: %s\n", line)
	}
}

// part is d under a name.
func part(d *data.Dataset, name string) *data.Dataset {
	p := *d
	p.Name = name
	return &p
}
