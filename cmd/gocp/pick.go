package main

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/usage"
)

// takeFlag is a flag that names a range of images, such as 0:4500.
func takeFlag(name, help, value string) cli.Flag {
	return &cli.StringFlag{Name: name, Value: value, Usage: help + ", as FIRST:END of the shuffled split; 4500: means from there on"}
}

func splitFlag(value string) cli.Flag {
	return &cli.StringFlag{Name: "split", Value: value, Usage: "split of the data set"}
}

func shuffleFlag() cli.Flag {
	return &cli.Uint64Flag{Name: "shuffle", Usage: "seed of the order that ranges refer to; ranges apart have no image in common"}
}

func threadsFlag() cli.Flag {
	return &cli.IntFlag{Name: "threads", Value: 1, Usage: "threads that share a pass; the last bits depend on it"}
}

func seedFlag() cli.Flag {
	return &cli.Uint64Flag{Name: "seed", Usage: "seed of everything that is drawn"}
}

func outFlag(help string) cli.Flag {
	return &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: help}
}

// shuffled says that --shuffle picks other images, so with all of them it does nothing.
func shuffled() rule {
	return only("--take of a part of the split", func(c *cli.Context) bool {
		first, end, err := parseRange(c.String("take"))
		return err != nil || first > 0 || end >= 0
	}, "shuffle")
}

// threads is the value of threadsFlag.
func threads(c *cli.Context) (int, error) {
	n := c.Int("threads")
	if n < 1 {
		return 0, usage.Errorf("--threads is %d; it must be at least 1", n)
	}
	return n, nil
}

// pick is the images that --data, --split, --shuffle and a range flag name.
func pick(c *cli.Context, take, split string) (experiment.Pick, error) {
	p := experiment.Pick{Data: c.String("data"), Split: split, Seed: c.Uint64("shuffle")}
	var err error
	if p.Reading, err = reading(c); err != nil {
		return p, err
	}
	first, end, err := parseRange(c.String(take))
	if err != nil {
		return p, usage.Errorf("--%s: %w", take, err)
	}
	p.First, p.Count = first, end-first
	if end < 0 {
		p.Count = 0
	}
	return p, nil
}

// parseRange reads FIRST:END; either may be absent, an absent END is −1.
func parseRange(s string) (first, end int, err error) {
	bad := func() (int, int, error) {
		return 0, 0, usage.Errorf("%q is no range such as 0:4500, :4500 or 4500:", s)
	}
	a, b, ok := strings.Cut(s, ":")
	if !ok {
		return bad()
	}
	end = -1
	if a != "" {
		if first, err = strconv.Atoi(a); err != nil || first < 0 {
			return bad()
		}
	}
	if b != "" {
		if end, err = strconv.Atoi(b); err != nil || end <= first {
			return bad()
		}
	}
	return first, end, nil
}

// needFlags reports the first of these flags that was not given.
func needFlags(c *cli.Context, names ...string) error {
	for _, n := range names {
		if !c.IsSet(n) {
			return usage.Errorf("%s needs --%s", c.Command.HelpName, n)
		}
	}
	return nil
}
