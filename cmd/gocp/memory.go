package main

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/usage"
)

func memoryFlag() cli.Flag {
	return &cli.StringFlag{Name: "memory", Usage: "what jobs may take on a device, all at once, such as 4GiB; does not change results", DefaultText: "three quarters of what is free"}
}

// memory is the value of memoryFlag, 0 without one.
func memory(c *cli.Context) (int64, error) {
	if !c.IsSet("memory") {
		return 0, nil
	}
	bytes, ok := parseBytes(c.String("memory"))
	if !ok {
		return 0, usage.Errorf("--memory is %q, no size such as 4GiB, 1.5GB or 800MiB", c.String("memory"))
	}
	return bytes, nil
}

var units = map[string]float64{"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

// parseBytes reads a size with a unit.
func parseBytes(text string) (bytes int64, ok bool) {
	digits := strings.TrimRight(text, "KMGTiB ")
	unit, known := units[strings.TrimSpace(text[len(digits):])]
	v, err := strconv.ParseFloat(digits, 64)
	if v *= unit; err != nil || !known || !(v >= 1 && v < 1<<62) {
		return 0, false
	}
	return int64(v), true
}
