package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// revision is set by the linker (see the Makefile).
var revision = ""

// Version is what this binary was made of.
type Version struct {
	Gocp     string            `json:"gocp"`
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	GPU      string            `json:"gpu"` // the GPU code in this binary
	Modules  map[string]string `json:"modules"`
}

func (v Version) String() string {
	return fmt.Sprintf("%s, %s, %s", v.Gocp, v.Go, v.Platform)
}

// version reads what the linker and the Go tool left in the binary.
func version() Version {
	v := Version{
		Gocp:     revision,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		GPU:      gpuCode(),
		Modules:  map[string]string{},
	}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range info.Deps {
			v.Modules[m.Path] = m.Version
		}
	}
	if v.Gocp == "" {
		v.Gocp = "unknown"
		if ok && info.Main.Version != "" {
			v.Gocp = info.Main.Version
		}
	}
	return v
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print what this binary was made of",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, version())
			}
			_, err := fmt.Fprintf(c.App.Writer, "gocp %s\n%s\n", version(), gpuCode())
			return err
		},
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON, for machines"}
}
