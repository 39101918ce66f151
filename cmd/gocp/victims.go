package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/trainer"
	"github.com/gocp/gocp/gocp/usage"
)

// victimOptions are of audits whose victims a program of the user's trains.
func victimOptions() []auditOption {
	type C = experiment.Config
	d := defaults
	line := func(name, help string, field func(*C) *[]string) auditOption {
		return auditOption{flag: &cli.StringFlag{Name: name, Usage: help}, set: func(c *cli.Context, cfg *C) (err error) {
			if *field(cfg), err = trainer.Split(c.String(name)); err != nil {
				return usage.Errorf("--%s: %w", name, err)
			}
			return nil
		}}
	}
	commanded := func(c *C) bool { return len(c.VictimCommand) > 0 }
	return under("Victims of another framework", []auditOption{
		line("victim-command", "a `COMMAND` that trains the victims and the benign models in gocp's place, such as 'python train.py'; no shell reads it",
			func(c *C) *[]string { return &c.VictimCommand }),
		line("reference-command", "another `COMMAND` for the benign models", func(c *C) *[]string { return &c.ReferenceCommand }),
		count("victims-at-once", "how many of them run side by side; does not change results", 1, &d, func(c *C) *int { return &c.VictimsAtOnce }).only("--victim-command", commanded),
		auditOption{
			flag: &cli.DurationFlag{Name: "victim-timeout", Usage: "how long each may take, such as 90s or 2h30m", DefaultText: "no end"},
			set: func(c *cli.Context, cfg *C) error {
				v := c.Duration("victim-timeout")
				if v <= 0 {
					return usage.Errorf("--victim-timeout is %v; it must be above 0", v)
				}
				cfg.VictimTimeout = v
				return nil
			},
		}.only("--victim-command", commanded),
	})
}

func victimsCommand() *cli.Command {
	return &cli.Command{
		Name:  "victims",
		Usage: "victims that a program of your own trains",
		Description: "gocp audit --victim-command COMMAND has models trained by a program in any framework, which reads\n" +
			"images and leaves logits in a folder (docs/victims.md).",
		Subcommands: []*cli.Command{victimsCheckCommand()},
	}
}

func victimsCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "try such a program on 64 images and say what is wrong",
		ArgsUsage: "COMMAND",
		Description: "gocp victims check 'python train.py' runs it three times as an audit does, on 64 images: twice with one\n" +
			"seed, then with another. No shell reads the command; write it in quotes.",
		Flags: append([]cli.Flag{
			dataFlag(), testSplitFlag(),
			&cli.DurationFlag{Name: "victim-timeout", Usage: "how long each run may take, such as 90s", DefaultText: "no end"},
			jsonFlag(),
		}, readingFlags()...),
		Before: refuse([]rule{func(c *cli.Context) error {
			if v := c.Duration("victim-timeout"); c.IsSet("victim-timeout") && v <= 0 {
				return usage.Errorf("--victim-timeout is %v; it must be above 0", v)
			}
			return nil
		}}),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usage.Errorf("gocp victims check takes one argument, the command in quotes: gocp victims check 'python train.py'")
			}
			words, err := trainer.Split(c.Args().First())
			if err != nil {
				return err
			}
			how, err := reading(c)
			if err != nil {
				return err
			}
			d, err := loadData(data.Ref{Name: c.String("data"), Reading: how})
			if err != nil {
				return err
			}
			t, err := experiment.TryCommand(c.Context, words, d, c.Duration("victim-timeout"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, t)
			}
			return printTrial(c, t)
		},
	}
}

func printTrial(c *cli.Context, t *experiment.CommandTrial) error {
	lines := []string{
		fmt.Sprintf("It works: %s", t.Command),
		fmt.Sprintf("Given %d images of %s (%d×%d×%d) to train on, %d to calibrate on, %d to test on, it left %s of %d classes.",
			t.Train, t.Data, t.H, t.W, t.C, t.Calibration, t.Test, t.Kind, t.Classes),
		fmt.Sprintf("%d of the %d test images are predicted right.", t.Right, t.Test),
		fmt.Sprintf("A run took %.1f s.", t.Seconds),
	}
	if !t.SameAgain {
		lines = append(lines, "The same seed gave other "+t.Kind+" the second time: an audit whose files are damaged could not make them again.")
	}
	if t.SameOther {
		lines = append(lines, "Another seed gave the same "+t.Kind+": if it does not read GOCP_SEED, all victims of a target are copies of one.")
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(c.App.Writer, line); err != nil {
			return err
		}
	}
	return nil
}
