package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/vbauerster/mpb/v8/cwriter"

	"github.com/gocp/gocp/gocp/telemetry"
	"github.com/gocp/gocp/gocp/telemetry/nvidia"
	"github.com/gocp/gocp/gocp/usage"
)

// topProcesses is how many of the processor's processes are shown.
const topProcesses = 5

func topCommand() *cli.Command {
	return &cli.Command{
		Name:  "top",
		Usage: "show power, load, memory and heat of this machine's devices, and who uses them",
		Description: "On a terminal the picture is renewed each second until Ctrl-C. Elsewhere the lines follow one\n" +
			"another, with --json one document a line.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "show it once"},
			&cli.DurationFlag{Name: "interval", Value: time.Second, Usage: "time between two readings"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			every := c.Duration("interval")
			if every < 100*time.Millisecond {
				return usage.Errorf("--interval is %s; it must be at least 100ms", every)
			}
			s, absent := machineSampler()
			err := top(c.Context, c.App.Writer, s, topOptions{every: every, once: c.Bool("once"), json: c.Bool("json"), absent: absent})
			return first(err, s.Close())
		},
	}
}

// machineSampler reads all GPUs that there are, and the processor; absent is why there are none.
func machineSampler() (s telemetry.Sampler, absent error) {
	host := telemetry.NewHost(topProcesses)
	gpus, err := nvidia.Open(nvidia.Library())
	if err != nil {
		return host, err
	}
	return telemetry.Join(gpus, host), nil
}

type topOptions struct {
	every      time.Duration
	once, json bool
	absent     error // why there are no GPUs
}

// Top is one reading of all devices, for machines.
type Top struct {
	Time    time.Time           `json:"time"`
	Devices []telemetry.Reading `json:"devices"`
	Note    string              `json:"note,omitempty"`
}

// top shows readings until the context is done.
func top(ctx context.Context, w io.Writer, s telemetry.Sampler, o topOptions) error {
	t := time.NewTicker(o.every)
	defer t.Stop()
	screen := cwriter.New(w)
	for n := 0; ; n++ {
		select { // first, for much is told over a time
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := Top{Time: time.Now().Truncate(time.Millisecond), Devices: s.Sample()}
		if o.absent != nil {
			now.Note = o.absent.Error()
		}
		var err error
		switch {
		case o.json:
			err = printJSONLine(w, now)
		case screen.IsTerminal() && !o.once && os.Getenv("TERM") != "dumb":
			err = now.draw(screen)
		default:
			if n > 0 {
				fmt.Fprintln(w)
			}
			_, err = io.WriteString(w, now.text())
		}
		if err != nil || o.once {
			return err
		}
	}
}

// draw shows t in place of what was drawn before it.
func (t Top) draw(screen *cwriter.Writer) error {
	width, height, err := screen.GetTermSize()
	if err != nil {
		return err
	}
	if width <= 0 || height <= 0 { // a terminal that does not know its size
		width, height = 80, 24
	}
	lines := strings.SplitAfter(t.text(), "\n")
	lines = lines[:len(lines)-1]
	if len(lines) >= height { // what has left the screen cannot be drawn over
		lines = lines[:max(height-1, 0)]
	}
	for _, l := range lines {
		if r := []rune(strings.TrimSuffix(l, "\n")); len(r) > width {
			l = string(r[:width]) + "\n"
		}
		if _, err := screen.WriteString(l); err != nil {
			return err
		}
	}
	return screen.Flush(len(lines))
}

// absentText stands for what a device does not tell.
const absentText = "–"

func told[T any](v *T, format func(T) string) string {
	if v == nil {
		return absentText
	}
	return format(*v)
}

func percentText(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }

func (t Top) text() string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	// Errors of a buffer there are none.
	row := func(cells ...string) { _, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) }
	row("DEVICE", "POWER", "ENERGY", "LOAD", "MEMORY", "HEAT", "CLOCK", "HELD BACK BY", "ECC")
	users := 0
	for _, r := range t.Devices {
		if r.Lost != "" {
			row(r.Name, r.Lost)
			continue
		}
		power := told(r.Power, func(v float64) string { return fmt.Sprintf("%.0f W", v) })
		if r.Power != nil && r.PowerLimit != nil {
			power += fmt.Sprintf(" of %.0f", *r.PowerLimit)
		}
		memory := told(r.MemoryUsed, gib)
		if r.MemoryUsed != nil && r.MemoryTotal != nil {
			memory = fmt.Sprintf("%.1f of %s", float64(*r.MemoryUsed)/(1<<30), gib(*r.MemoryTotal))
		}
		ecc := absentText
		if r.Corrected != nil && r.Uncorrected != nil {
			ecc = fmt.Sprintf("%d corrected, %d not", *r.Corrected, *r.Uncorrected)
		}
		row(r.Name, power, told(r.Energy, func(v float64) string { return fmt.Sprintf("%.0f J", v) }), told(r.Utilization, percentText), memory,
			told(r.Temperature, func(v float64) string { return fmt.Sprintf("%.0f °C", v) }), told(r.Clock, func(v float64) string { return fmt.Sprintf("%.0f MHz", v) }),
			cmp.Or(strings.Join(r.Throttle, ", "), absentText), ecc)
		if r.Slice != "" {
			row("", r.Slice)
		}
		users += len(r.Processes)
	}
	_ = w.Flush()
	if users > 0 {
		b.WriteByte('\n')
		row("PID", "LOAD", "MEMORY", "DEVICE", "PROCESS")
		for _, r := range t.Devices {
			for _, p := range r.Processes {
				row(fmt.Sprint(p.PID), told(p.Utilization, percentText), told(p.Memory, mib), r.Kind, cmp.Or(p.Name, absentText))
			}
		}
		_ = w.Flush()
	}
	if t.Note != "" {
		fmt.Fprintf(&b, "\n%s\n", t.Note)
	}
	return b.String()
}

func mib(bytes uint64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }
