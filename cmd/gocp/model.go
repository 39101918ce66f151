package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/checkpoint"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

func modelCommand() *cli.Command {
	return &cli.Command{
		Name:  "model",
		Usage: "describe model files and exchange them with other libraries",
		Subcommands: []*cli.Command{
			modelInfoCommand(),
			modelConvertCommand(),
		},
	}
}

// saidFlags say what files of other libraries do not.
func saidFlags() []cli.Flag {
	const heading = "What a model file of another library does not say"
	return []cli.Flag{
		&cli.StringFlag{Name: "arch", Usage: "its network: " + strings.Join(nn.Architectures(), ", "), Category: heading},
		&cli.StringFlag{Name: "stem", Usage: "how the network begins: cifar, imagenet", Category: heading},
		&cli.StringFlag{Name: "input", Usage: "the images it reads, channels x height x width, such as 3x32x32", Category: heading},
		&cli.StringFlag{Name: "mean", Usage: "of pixels in [0,1], by channel, such as 0.485,0.456,0.406", Category: heading},
		&cli.StringFlag{Name: "std", Usage: "likewise, the deviation that they are divided by", Category: heading},
		&cli.StringFlag{Name: "dropout", Usage: "rate of its dropout layers in training", DefaultText: "its architecture's", Category: heading},
	}
}

// said reads saidFlags.
func said(c *cli.Context) (s checkpoint.Said, err error) {
	s.Arch, s.Stem = c.String("arch"), c.String("stem")
	if v := c.String("input"); v != "" {
		parts := strings.Split(v, "x")
		if len(parts) != 3 {
			return s, usage.Errorf("--input is %q; it must be channels x height x width, such as 3x32x32", v)
		}
		for i, to := range []*int{&s.C, &s.H, &s.W} {
			if *to, err = strconv.Atoi(parts[i]); err != nil || *to < 1 {
				return s, usage.Errorf("--input is %q; it must be channels x height x width, such as 3x32x32", v)
			}
		}
	}
	for name, to := range map[string]*[]float64{"mean": &s.Mean, "std": &s.Std} {
		if v := c.String(name); v != "" {
			for _, word := range strings.Split(v, ",") {
				x, err := strconv.ParseFloat(strings.TrimSpace(word), 64)
				if err != nil {
					return s, usage.Errorf("--%s is %q; it must be a number for each channel, such as 0.485,0.456,0.406", name, v)
				}
				*to = append(*to, x)
			}
		}
	}
	if v := c.String("dropout"); v != "" {
		rate, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return s, usage.Errorf("--dropout is %q; it must be a rate, at least 0 and below 1", v)
		}
		s.Dropout = &rate
	}
	return s, nil
}

// fileArg is a command's one argument.
func fileArg(c *cli.Context) (string, error) {
	if c.Args().Len() != 1 {
		return "", usage.Errorf("gocp %s wants one FILE, and got %d", c.Command.FullName(), c.Args().Len())
	}
	return c.Args().First(), nil
}

func modelInfoCommand() *cli.Command {
	return &cli.Command{
		Name:        "info",
		Usage:       "what a model file holds: whose names, which network, what is missing",
		ArgsUsage:   "FILE",
		Description: "FILE is safetensors by the names of " + strings.Join(checkpoint.Libraries(), ", ") + ".",
		Flags:       append(saidFlags(), jsonFlag()),
		Action: func(c *cli.Context) error {
			file, err := fileArg(c)
			if err != nil {
				return err
			}
			s, err := said(c)
			if err != nil {
				return err
			}
			info, err := checkpoint.Inspect(file, s)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, info)
			}
			return printInfo(c.App.Writer, info)
		},
	}
}

func printInfo(w io.Writer, info *checkpoint.Info) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(what string, value any) { _, _ = fmt.Fprintf(t, "%s\t%v\n", what, value) }
	meta := info.Spec.Metadata()
	line("names of", info.Library)
	if info.Prefix != "" {
		line("prefix", info.Prefix+" (stripped)")
	}
	line("numbers", strings.Join(info.Stored, ", "))
	for _, key := range []string{"arch", "width", "batchnorm", "stem", "head", "dropout", "classes", "input", "mean", "std"} {
		switch v := meta[key]; {
		case info.Lacks(key):
			line(key, "not in the file: --"+key)
		case v != "":
			line(key, v)
		}
	}
	line("parameters", info.Spec.NumParams())
	return t.Flush()
}

func modelConvertCommand() *cli.Command {
	return &cli.Command{
		Name:      "convert",
		Usage:     "read a model of one library, write it for another",
		ArgsUsage: "FILE",
		Description: "FILE is safetensors by the names of " + strings.Join(checkpoint.Libraries(), ", ") + ". Without --to\n" +
			"the result has torchvision's, which are gocp's own, with the metadata that make it a model here.",
		Flags: append(append([]cli.Flag{
			outFlag("model file to write (safetensors)"),
			&cli.StringFlag{Name: "to", Usage: "by whose names: " + strings.Join(checkpoint.Libraries(), ", "), Value: checkpoint.Libraries()[0]},
		}, saidFlags()...), jsonFlag()),
		Action: func(c *cli.Context) error {
			if err := needFlags(c, "out"); err != nil {
				return err
			}
			file, err := fileArg(c)
			if err != nil {
				return err
			}
			s, err := said(c)
			if err != nil {
				return err
			}
			m, info, err := checkpoint.Load(file, s)
			if err != nil {
				return err
			}
			out, err := checkpoint.File(m, c.String("to"))
			if err != nil {
				return err
			}
			if err := out.Save(c.String("out")); err != nil {
				return fmt.Errorf("writing the model: %w", err)
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, map[string]any{"read": info, "out": c.String("out"), "to": c.String("to")})
			}
			return printConverted(c.App.Writer, info, c.String("out"), c.String("to"), out)
		},
	}
}

func printConverted(w io.Writer, info *checkpoint.Info, path, to string, out *safetensors.File) error {
	stripped := ""
	if info.Prefix != "" {
		stripped = fmt.Sprintf(", the prefix %s stripped", info.Prefix)
	}
	_, err := fmt.Fprintf(w, "%s: a %s by %s's names%s, written by %s's: %d tensors\n", path, info.Spec.Arch, info.Library, stripped, to, len(out.Tensors))
	if hint := checkpoint.Hint(info.Spec, to); hint != "" && err == nil {
		_, err = fmt.Fprintln(w, hint)
	}
	return err
}
