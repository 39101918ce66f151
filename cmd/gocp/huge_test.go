package main

import (
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestHugeNumbers: the largest whole number, for each flag that takes one, is used or refused; it never panics
// and never takes memory for what will not come. With GOCP_LONG beside every value of every other flag.
func TestHugeNumbers(t *testing.T) {
	dir := t.TempDir()
	lineFiles(t, dir)
	t.Chdir(dir)
	l := newLines(t)
	for _, f := range fuzzed {
		c := l.commands[f.command]
		base := append(strings.Fields(f.command), f.args...)
		for _, huge := range c.Flags {
			switch huge.(type) {
			case *cli.IntFlag, *cli.Uint64Flag, *cli.IntSliceFlag:
			default:
				continue
			}
			name := huge.Names()[0]
			if name == "splits" { // they are drawn, one by one, until somebody interrupts
				continue
			}
			args := append(base[:len(base):len(base)], "--"+name+"=9223372036854775807")
			l.run(t, args, f.long)
			if os.Getenv("GOCP_LONG") == "" {
				continue
			}
			for _, other := range c.Flags {
				if other == cli.HelpFlag || other.Names()[0] == name {
					continue
				}
				tried := []string{"true"}
				if d, ok := other.(cli.DocGenerationFlag); ok && d.TakesValue() {
					tried = values(f.command, other)
				}
				for _, v := range tried {
					l.run(t, append(args[:len(args):len(args)], "--"+other.Names()[0]+"="+v), f.long)
				}
			}
		}
	}
}
