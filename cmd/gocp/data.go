package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/data/cifar10sample"
	"github.com/gocp/gocp/gocp/usage"
)

// demoData is the set that is embedded in the binary.
const demoData = cifar10sample.Name

func dataFlag() cli.Flag {
	return &cli.StringFlag{Name: "data", Value: demoData, Usage: "data set: a name of `gocp data list`, or a path"}
}

func dataCommand() *cli.Command {
	return &cli.Command{
		Name:  "data",
		Usage: "list, describe, fetch and export data sets",
		Subcommands: []*cli.Command{
			dataListCommand(),
			dataInfoCommand(),
		},
	}
}

func dataListCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "the data sets that gocp knows by name, and where they are",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			list := data.List()
			if c.Bool("json") {
				type known struct {
					Name  string `json:"name"`
					About string `json:"about"`
					Where string `json:"where"` // "" where it is not on this machine
					Fetch bool   `json:"fetch"`
				}
				out := make([]known, len(list))
				for i, k := range list {
					out[i] = known(k)
				}
				return printJSON(c.App.Writer, out)
			}
			t := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
			for _, k := range list {
				where := k.Where
				switch {
				case where == "" && k.Fetch:
					where = "not here: gocp data fetch " + k.Name
				case where == "":
					where = "not here"
				}
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", k.Name, where, k.About)
			}
			return t.Flush()
		},
	}
}

// foundData names the known sets that are on this machine.
func foundData() []string {
	var found []string
	for _, k := range data.List() {
		if k.Where != "" {
			found = append(found, k.Name)
		}
	}
	return found
}

// splitInfo is one split of a data set, for machines.
type splitInfo struct {
	Name    string   `json:"name"`
	Images  int      `json:"images"`
	Height  int      `json:"h"`
	Width   int      `json:"w"`
	Chans   int      `json:"c"`
	Classes []string `json:"classes"`
	Counts  []int    `json:"counts"` // images of each class
	SHA256  string   `json:"sha256"`
}

func dataInfoCommand() *cli.Command {
	return &cli.Command{
		Name:      "info",
		Usage:     "what a data set holds, by name or path",
		ArgsUsage: "NAME|PATH",
		Flags:     []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			name, err := oneArg(c, "the name of a data set or a path")
			if err != nil {
				return err
			}
			src, err := data.Open(name)
			if err != nil {
				return err
			}
			splits := make([]splitInfo, len(src.Splits))
			for i, d := range src.Splits {
				splits[i] = splitInfo{d.Name, d.Len(), d.H, d.W, d.C, d.Classes, d.Counts(), d.SHA256}
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, map[string]any{"name": src.Name, "origin": src.Origin, "splits": splits})
			}
			return printSplits(c.App.Writer, src, splits)
		},
	}
}

func printSplits(w io.Writer, src *data.Source, splits []splitInfo) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	line("%s\t%s", src.Name, src.Origin)
	for _, s := range splits {
		line("%s\t%d images of %d×%d×%d, %d classes", s.Name, s.Images, s.Height, s.Width, s.Chans, len(s.Classes))
		line("\tsha256 %s", s.SHA256)
	}
	if len(splits) > 0 {
		line("class\timages in each split")
		for k, class := range splits[0].Classes {
			counts := ""
			for _, s := range splits {
				counts += fmt.Sprintf("%8d", s.Counts[k])
			}
			line("%s\t%s", class, counts)
		}
	}
	return t.Flush()
}

// oneArg is the single argument of a command.
func oneArg(c *cli.Context, what string) (string, error) {
	switch c.NArg() {
	case 0:
		return "", usage.Errorf("%s needs %s", c.Command.HelpName, what)
	case 1:
		return c.Args().First(), nil
	}
	return "", usage.Errorf("%s takes one argument, but got %q too", c.Command.HelpName, c.Args().Get(1))
}
