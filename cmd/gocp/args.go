package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/usage"
)

// permute moves the flags of a command before its arguments, so that `gocp report runs/demo --json`
// means what it says: the flag parser stops at the first argument. What follows "--" stays.
func permute(app *cli.App, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	flags, commands := app.Flags, app.Commands
	out := args[:1:1]
	rest := args[1:]
	for len(rest) > 0 { // down the tree of commands
		sub := find(commands, rest[0])
		if sub == nil {
			break
		}
		out = append(out, rest[0])
		rest = rest[1:]
		flags, commands = sub.Flags, sub.Subcommands
	}
	if len(commands) > 0 { // no command at the end: its own complaint is the better one
		return append(out, rest...), nil
	}
	var words []string
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		switch {
		case a == "--":
			words = append(words, rest[i+1:]...)
			i = len(rest)
		case len(a) < 2 || a[0] != '-':
			words = append(words, a)
		case strings.Contains(a, "=") || !takesValue(flags, a):
			out = append(out, a)
		case i+1 == len(rest):
			return nil, usage.Errorf("the flag %s needs a value", a)
		default:
			out = append(out, a, rest[i+1])
			i++
		}
	}
	if len(words) > 0 {
		out = append(out, "--")
	}
	return append(out, words...), nil
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue tells whether the flag written as arg is followed by its value.
func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				d, ok := f.(cli.DocGenerationFlag)
				return ok && d.TakesValue()
			}
		}
	}
	return false
}
