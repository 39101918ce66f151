package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/usage"
)

// An option is a flag that sets one field of a configuration T. A flag that is not given leaves
// the field alone, so that the library's defaults, or a configuration file, stand.
type option[T any] struct {
	flag cli.Flag
	set  func(c *cli.Context, cfg *T) error
	// with says what the flag goes with, if it does nothing without, and when whether that is there.
	with string
	when func(cfg *T) bool
}

// only says that an option does something where when holds of the whole configuration.
func (o option[T]) only(with string, when func(cfg *T) bool) option[T] {
	o.with, o.when = with, when
	return o
}

// flagsOf are the flags of a table of options.
func flagsOf[T any](options []option[T]) []cli.Flag {
	var flags []cli.Flag
	for _, o := range options {
		flags = append(flags, o.flag)
	}
	return flags
}

// under puts options under a heading of the help.
func under[T any](heading string, options []option[T]) []option[T] {
	for _, o := range options {
		switch f := o.flag.(type) {
		case *cli.StringFlag:
			f.Category = heading
		case *cli.IntFlag:
			f.Category = heading
		case *cli.Float64Flag:
			f.Category = heading
		case *cli.BoolFlag:
			f.Category = heading
		case *cli.DurationFlag:
			f.Category = heading
		}
	}
	return options
}

// wanted reports the first flag that was given and does nothing in the configuration that came out.
func wanted[T any](c *cli.Context, options []option[T], cfg *T) error {
	for _, o := range options {
		if name := o.flag.Names()[0]; c.IsSet(name) && o.when != nil && !o.when(cfg) {
			return idle(name, o.with)
		}
	}
	return nil
}

// apply puts the flags that were given into cfg.
func apply[T any](c *cli.Context, options []option[T], cfg *T) error {
	for _, o := range options {
		if !c.IsSet(o.flag.Names()[0]) {
			continue
		}
		if err := o.set(c, cfg); err != nil {
			return err
		}
	}
	return nil
}

func text[T any](name, help string, defaults *T, field func(*T) *string) option[T] {
	return option[T]{
		flag: &cli.StringFlag{Name: name, Usage: help, DefaultText: *field(defaults)},
		set: func(c *cli.Context, cfg *T) error {
			v := c.String(name)
			if v == "" {
				return usage.Errorf("the flag --%s needs a value", name)
			}
			*field(cfg) = v
			return nil
		},
	}
}

func count[T any](name, help string, least int, defaults *T, field func(*T) *int) option[T] {
	return option[T]{
		flag: &cli.IntFlag{Name: name, Usage: help, DefaultText: strconv.Itoa(*field(defaults))},
		set: func(c *cli.Context, cfg *T) error {
			v := c.Int(name)
			if v < least {
				return usage.Errorf("--%s is %d; it must be at least %d", name, v, least)
			}
			*field(cfg) = v
			return nil
		},
	}
}

// number is a flag for a float. In the configurations zero stands for the default; where zero is a
// value of its own, none is what the configuration calls it.
func number[T any](name, help string, none float64, defaults *T, field func(*T) *float64) option[T] {
	return upTo(math.MaxFloat64, name, help, none, defaults, field)
}

// upTo is number with another bound, such as +∞.
func upTo[T any](most float64, name, help string, none float64, defaults *T, field func(*T) *float64) option[T] {
	return option[T]{
		flag: &cli.Float64Flag{Name: name, Usage: help, DefaultText: strconv.FormatFloat(math.Max(*field(defaults), 0), 'g', -1, 64)},
		set: func(c *cli.Context, cfg *T) error {
			v := c.Float64(name)
			switch {
			case math.IsNaN(v) || v < 0 || v == 0 && none == 0 || v > most:
				return usage.Errorf("--%s is %g; it must be a number above 0", name, v)
			case v == 0:
				v = none
			}
			*field(cfg) = v
			return nil
		},
	}
}

func truth[T any](name, help string, field func(*T) *bool) option[T] {
	return option[T]{
		flag: &cli.BoolFlag{Name: name, Usage: help},
		set: func(c *cli.Context, cfg *T) error {
			*field(cfg) = c.Bool(name)
			return nil
		},
	}
}

func seed[T any](help string, field func(*T) *uint64) option[T] {
	return option[T]{
		flag: &cli.Uint64Flag{Name: "seed", Usage: help},
		set: func(c *cli.Context, cfg *T) error {
			*field(cfg) = c.Uint64("seed")
			return nil
		},
	}
}

// words is a flag for a list such as cat,dog.
func words[T any](name, help string, field func(*T) *[]string) option[T] {
	return option[T]{
		flag: &cli.StringFlag{Name: name, Usage: help},
		set: func(c *cli.Context, cfg *T) error {
			*field(cfg) = nil
			for word := range strings.SplitSeq(c.String(name), ",") {
				if word = strings.TrimSpace(word); word == "" {
					return usage.Errorf("--%s is %q, no list such as cat,dog or 3,5", name, c.String(name))
				}
				*field(cfg) = append(*field(cfg), word)
			}
			return nil
		},
	}
}

func parseInts(s string) ([]int, error) {
	var out []int
	for _, word := range strings.Split(s, ",") {
		v, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil {
			return nil, fmt.Errorf("%q is no list of whole numbers such as 3,5,8", s)
		}
		out = append(out, v)
	}
	return out, nil
}
