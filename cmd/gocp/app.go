package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// The exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitAgain       = 75 // EX_TEMPFAIL: unfinished, to be run again
	exitInterrupted = 130
)

// newApp is the tree of commands.
func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "gocp",
		Usage:     "what data poisoning does to conformal prediction",
		UsageText: "gocp COMMAND [flags]\n\ngocp audit --out runs/first    trains, attacks and measures; writes a report",
		Version:   version().String(),
		Commands: []*cli.Command{
			auditCommand(),
			collectCommand(),
			slurmCommand(),
			trainCommand(),
			calibrateCommand(),
			attackCommand(),
			evaluateCommand(),
			sweepCommand(),
			reportCommand(),
			benchCommand(),
			computeCommand(),
			conformalCommand(),
			dataCommand(),
			defendCommand(),
			modelCommand(),
			victimsCommand(),
			topCommand(),
			doctorCommand(),
			versionCommand(),
		},
		Writer:      stdout,
		ErrWriter:   stderr,
		HideVersion: true, // there is a command
		// Exit codes are run's business; cli would call os.Exit by itself.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	app.Action = wantCommand(app.Commands, cli.ShowAppHelp)
	app.OnUsageError = explainFlags
	prepare(app.Commands)
	return app
}

// prepare gives every command the same manners with wrong flags and names.
func prepare(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = explainFlags
		c.HideHelpCommand = true
		if len(c.Subcommands) > 0 {
			c.Action = wantCommand(c.Subcommands, cli.ShowSubcommandHelp)
			prepare(c.Subcommands)
			continue
		}
		rules := c.Before
		c.Before = func(ctx *cli.Context) error {
			if err := hollow(ctx); err != nil || rules == nil {
				return err
			}
			return rules(ctx)
		}
	}
}

// run is main without the process: it returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signals()
	defer stop()
	code := runUntil(ctx, args, stdout, stderr)
	if code == exitAgain && warned(ctx) {
		requeue(stderr)
	}
	return code
}

// runUntil is run without the process's signals: it ends when the context does.
func runUntil(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	args, err := permute(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	return status(err, stderr)
}

// status prints err, if any, as one line and returns what the process exits with.
func status(err error, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	// Messages are one line each, even if a file name or a library put a line break into them.
	text := strings.Join(strings.Fields(err.Error()), " ")
	text = strings.Replace(text, context.Canceled.Error(), "interrupted", 1)
	fmt.Fprintf(stderr, "gocp: %s\n", text)
	var unfinished later
	switch {
	case errors.As(err, &unfinished):
		return exitAgain
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case usage.Is(err):
		return exitUsage
	}
	return exitFailed
}

// wantCommand is the action of a command that only groups others: alone, it shows help.
func wantCommand(commands []*cli.Command, help cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() == 0 {
			return help(c)
		}
		var names []string
		for _, sub := range commands {
			if !sub.Hidden && sub.Name != "help" {
				names = append(names, sub.Name)
			}
		}
		return unknown("command", c.Args().First(), names)
	}
}

// unknown is the error for a name that is not one of those known.
func unknown(kind, name string, known []string) error {
	return usage.Errorf("there is no %s %q; known: %s", kind, name, strings.Join(known, ", "))
}

// explainFlags turns the flag parser's complaint into a sentence.
func explainFlags(c *cli.Context, err error, _ bool) error {
	var flags []cli.Flag
	if c.Command != nil {
		flags = c.Command.Flags
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: "); ok {
		return unknown("flag", "--"+strings.TrimLeft(name, "-"), flagNames(flags))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: "); ok {
		return usage.Errorf("the flag --%s needs a value", strings.TrimLeft(name, "-"))
	}
	return usage.Errorf("%s", strings.TrimSuffix(text, ": parse error"))
}

func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		if f == cli.HelpFlag {
			continue
		}
		names = append(names, "--"+f.Names()[0])
	}
	slices.Sort(names)
	return names
}

// first is the first error among errs: a user mends one thing at a time.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// noArgs refuses arguments that a command has no use for.
func noArgs(c *cli.Context) error {
	if c.NArg() > 0 {
		return usage.Errorf("%s takes no argument, but got %q", c.Command.HelpName, c.Args().First())
	}
	return nil
}

// printJSONLine writes v for machines, as one line.
func printJSONLine(w io.Writer, v any) error {
	b, err := strictjson.Marshal(v)
	if err == nil {
		_, err = w.Write(append(b, '\n'))
	}
	return err
}

// printJSON writes v for machines.
func printJSON(w io.Writer, v any) error {
	b, err := strictjson.Indent(v, "  ")
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}
