package main

import (
	"math"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/usage"
)

// A flag that would do nothing beside the others is refused: who gave it expected something of it. What
// a flag needs stands beside the flags of its command, as rules that are tried before its action.

// rule tells what is wrong with the flags that were given, nil if nothing is.
type rule func(c *cli.Context) error

// idle is the error for a flag that does nothing without what it goes with.
func idle(flag, with string) error {
	return usage.Errorf("--%s does nothing here: it goes with %s", flag, with)
}

// only says that flags do something where when holds, which the words with describe.
func only(with string, when func(c *cli.Context) bool, flags ...string) rule {
	return func(c *cli.Context) error {
		for _, f := range flags {
			if c.IsSet(f) && !when(c) {
				return idle(f, with)
			}
		}
		return nil
	}
}

// apart says that at most one of these flags is given.
func apart(flags ...string) rule {
	return func(c *cli.Context) error {
		given := slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return !c.IsSet(f) })
		if len(given) > 1 {
			return usage.Errorf("--%s and --%s exclude each other", given[0], given[1])
		}
		return nil
	}
}

// above0 says that these numbers, if given, are above 0: the zero that stands for a default is no value.
func above0(flags ...string) rule {
	return func(c *cli.Context) error {
		for _, f := range flags {
			if !c.IsSet(f) {
				continue
			}
			switch v := c.Value(f).(type) {
			case int:
				if v < 1 {
					return usage.Errorf("--%s is %d; it must be at least 1", f, v)
				}
			case float64:
				if !(v > 0) || math.IsInf(v, 1) {
					return usage.Errorf("--%s is %g; it must be a number above 0", f, v)
				}
			}
		}
		return nil
	}
}

// refuse tries lists of rules before a command's action.
func refuse(rules ...[]rule) cli.BeforeFunc {
	return func(c *cli.Context) error {
		for _, r := range slices.Concat(rules...) {
			if err := r(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// given tells whether a flag was given, is whether its value is one of a list, either with its default.
func given(flag string) func(*cli.Context) bool {
	return func(c *cli.Context) bool { return c.IsSet(flag) }
}

func is(flag string, values ...string) func(*cli.Context) bool {
	return func(c *cli.Context) bool { return slices.Contains(values, c.String(flag)) }
}

// orList is "a, b or c".
func orList(words []string) string {
	if n := len(words) - 1; n > 0 {
		return strings.Join(words[:n], ", ") + " or " + words[n]
	}
	return words[0]
}

// hollow reports a flag that was given as an empty text, which stands for one that was not given.
func hollow(c *cli.Context) error {
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if !c.IsSet(name) {
			continue
		}
		switch f.(type) {
		case *cli.StringFlag:
			if c.String(name) == "" {
				return usage.Errorf("the flag --%s needs a value", name)
			}
		case *cli.StringSliceFlag:
			if slices.ContainsFunc(c.StringSlice(name), func(s string) bool { return strings.TrimSpace(s) == "" }) {
				return usage.Errorf("the flag --%s needs a value", name)
			}
		}
	}
	return nil
}
