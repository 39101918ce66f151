package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/data/cifar10sample"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/usage"
)

// demoData is the set that is embedded in the binary.
const demoData = cifar10sample.Name

func dataFlag() cli.Flag {
	return &cli.StringFlag{Name: "data", Value: demoData, Usage: "data set: a path, or a name that gocp data list shows"}
}

func dataCommand() *cli.Command {
	return &cli.Command{
		Name:  "data",
		Usage: "list, describe, check, fetch and export data sets",
		Subcommands: []*cli.Command{
			dataListCommand(),
			dataInfoCommand(),
			dataCheckCommand(),
			dataFetchCommand(),
			dataExportCommand(),
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
		Flags:     append(readingFlags(), jsonFlag()),
		Action: func(c *cli.Context) error {
			src, err := openArg(c)
			if err != nil {
				return err
			}
			splits := make([]splitInfo, len(src.Splits))
			for i, d := range src.Splits {
				splits[i] = splitInfo{d.Name, d.Len(), d.H, d.W, d.C, d.Classes, d.Counts(), d.SHA256}
			}
			if c.Bool("json") {
				out := map[string]any{"name": src.Name, "origin": src.Origin, "splits": splits}
				if len(src.Notes) > 0 {
					out["notes"] = src.Notes
				}
				if len(src.Skipped) > 0 {
					out["skipped"] = src.Skipped
				}
				return printJSON(c.App.Writer, out)
			}
			return printSplits(c.App.Writer, src, splits)
		},
	}
}

// openArg reads the set that the one argument names.
func openArg(c *cli.Context) (*data.Source, error) {
	name, err := oneArg(c, "the name of a data set or a path")
	if err != nil {
		return nil, err
	}
	r, err := reading(c)
	if err != nil {
		return nil, err
	}
	return r.Open(name)
}

func printSplits(w io.Writer, src *data.Source, splits []splitInfo) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	line("%s\t%s", src.Name, src.Origin)
	for _, s := range splits {
		line("%s\t%d images of %d×%d×%d, %d classes", s.Name, s.Images, s.Height, s.Width, s.Chans, len(s.Classes))
		line("\tsha256 %s", s.SHA256)
	}
	for _, n := range src.Notes {
		line("note\t%s", n)
	}
	for _, u := range src.Skipped {
		line("left out\t%s: %s", u.File, u.Why)
	}
	if len(splits) > 0 {
		line("class, by number and name\timages in each split")
		for k, class := range splits[0].Classes {
			counts := ""
			for _, s := range splits {
				counts += fmt.Sprintf("%8d", s.Counts[k])
			}
			line("%d %s\t%s", k, class, counts)
		}
	}
	return t.Flush()
}

func dataFetchCommand() *cli.Command {
	return &cli.Command{
		Name:      "fetch",
		Usage:     "download a published data set, verify it, and keep it for later",
		ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "folder for data sets", DefaultText: "$GOCP_DATA, or gocp/data in the user's cache"},
			quietFlag(),
		},
		Action: func(c *cli.Context) error {
			name, err := oneArg(c, "the name of a data set")
			if err != nil {
				return err
			}
			r, stop := newReporter(c)
			files := map[string]*download{}
			dir, err := data.Fetch(c.Context, name, c.String("dir"), func(file string, done, size int64) {
				f := files[file]
				if f == nil {
					f = &download{task: r.Phase(file, int(size>>10))} // in KiB
					files[file] = f
				}
				f.task.Add(int(done>>10) - f.done)
				f.done = int(done >> 10)
			})
			for _, f := range files {
				f.task.Done()
			}
			stop()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.App.Writer, "%s is in %s\n", name, dir)
			return err
		},
	}
}

type download struct {
	task progress.Task
	done int
}

func dataExportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write what a run's victims train on, or a data set, as .npz for other frameworks",
		ArgsUsage: "RUN|NAME|PATH",
		Description: "Of a run folder: the victim's training set, the poisons of each condition with the images they\n" +
			"replace, the calibration set, the test set and the targets, all images 8-bit [N,H,W,C].",
		Flags: append([]cli.Flag{
			outFlag(".npz file to write"),
			&cli.StringFlag{Name: "data", Usage: "data set of the run, if it has moved since"},
		}, readingFlags()...),
		Action: func(c *cli.Context) error {
			from, err := oneArg(c, "a run folder, the name of a data set or a path")
			if err != nil {
				return err
			}
			out := c.String("out")
			if err := first(needFlags(c, "out"), fresh(out)); err != nil {
				return err
			}
			_, set, runErr := experiment.LoadConfig(from)
			if runErr != nil && experiment.IsRun(from) {
				return runErr
			}
			if runErr != nil {
				// Not a run: a data set, or nothing that is known.
				if c.IsSet("data") {
					return idle("data", "a run folder, and "+from+" is none")
				}
				src, err := openArg(c)
				if err != nil {
					return err
				}
				return data.ExportSource(out, src)
			}
			if readAnew(c) {
				return usage.Errorf("%s is a run, which says itself how its data are read; leave those flags out", from)
			}
			if c.IsSet("data") {
				set.Name = c.String("data")
			}
			d, err := loadData(set)
			if err != nil {
				return err
			}
			v, err := experiment.Export(from, d)
			if err != nil {
				return err
			}
			return data.Export(out, v)
		},
	}
}

// fresh refuses to write over a file.
func fresh(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return usage.Errorf("%s exists already; give another name", path)
	}
	return nil
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
