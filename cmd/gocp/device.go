package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/slurm"
	"github.com/gocp/gocp/gocp/usage"
)

var devices = []string{"auto", "cpu", "cuda"}

func deviceFlag() cli.Flag {
	return &cli.StringFlag{
		Name:  "device",
		Value: "auto",
		Usage: "where to compute: " + strings.Join(devices, ", "),
	}
}

// useDevice makes the process one that computes where --device says. gorgonia.org/cu chooses
// before main runs, by GOCP_DEVICE, so a different choice replaces the process by itself with the
// variable set.
func useDevice(c *cli.Context) error {
	if !c.IsSet("device") {
		return nil
	}
	want := c.String("device")
	if !slices.Contains(devices, want) {
		return unknown("device", want, devices)
	}
	if os.Getenv("GOCP_DEVICE") == want {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("--device: finding this program: %w", err)
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOCP_DEVICE=") })
	env = append(env, "GOCP_DEVICE="+want)
	if want == "cuda" {
		// Without a GPU the binding ends the process before main, in words of its own: ask first.
		try := exec.CommandContext(c.Context, self, "version")
		try.Env = env
		if said, err := try.CombinedOutput(); err != nil {
			why, _, _ := strings.Cut(strings.TrimPrefix(string(said), "gocp: GOCP_DEVICE=cuda: "), "\n")
			return fmt.Errorf("--device cuda: %s; gocp doctor says what there is", why)
		}
	}
	if err := syscall.Exec(self, os.Args, env); err != nil {
		return fmt.Errorf("--device: starting %s again: %w", self, err)
	}
	return nil
}

// onDevice opens the device that --device names for the length of f.
func onDevice(c *cli.Context, f func(ctx context.Context, dev *device.Device) error) error {
	return onDevices(c, func(ctx context.Context, devs []*device.Device) error { return f(ctx, devs[0]) })
}

func devicesFlag() cli.Flag {
	return &cli.StringFlag{Name: "devices", Usage: "spread the work over these devices, such as 0,1, or all of one kind; does not change results", DefaultText: "all"}
}

// onDevices opens the devices that --device and --devices name for the length of f; a command
// without --devices has one.
func onDevices(c *cli.Context, f func(ctx context.Context, devs []*device.Device) error) (err error) {
	if err := useDevice(c); err != nil {
		return err
	}
	n, err := device.Count()
	if err != nil {
		return err
	}
	indices, chosen := []int{0}, false
	if slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "devices") }) {
		if indices, chosen, err = deviceList(c.String("devices"), n); err != nil {
			return err
		}
	}
	var devs []*device.Device
	defer func() { // after a failure that ended a context, closing it fails too and says nothing new
		for _, d := range devs {
			err = first(err, d.Close())
		}
	}()
	for _, i := range indices {
		d, err := device.OpenAt(i)
		if err != nil {
			return err
		}
		if d.Info().Backend == "cuda" {
			if err := slurm.Current().AllowGPU(); err != nil {
				return first(d.Close(), err)
			}
		}
		// Those that were not asked for by number take part only if they are like the first.
		if !chosen && len(devs) > 0 && !experiment.SameKind(devs[0].Info(), d.Info()) {
			if err := d.Close(); err != nil {
				return err
			}
			continue
		}
		devs = append(devs, d)
	}
	return f(c.Context, devs)
}

// deviceList reads --devices where there are n; chosen tells whether it names any.
func deviceList(text string, n int) (indices []int, chosen bool, err error) {
	if text == "" || text == "all" {
		for i := range n {
			indices = append(indices, i)
		}
		return indices, false, nil
	}
	if indices, err = parseInts(text); err != nil {
		return nil, false, usage.Errorf("--devices: %w", err)
	}
	for k, i := range indices {
		if i < 0 || i >= n {
			return nil, false, usage.Errorf("--devices: there is no device %d; they are counted from 0 to %d", i, n-1)
		}
		if slices.Contains(indices[:k], i) {
			return nil, false, usage.Errorf("--devices: device %d is there twice", i)
		}
	}
	return indices, true, nil
}

// announced says what computes before the first phase begins: input that is wrong is one line alone.
type announced struct {
	progress.Reporter
	once sync.Once
	say  func(note func(format string, args ...any))
}

func (a *announced) Phase(name string, total int) progress.Task {
	a.once.Do(func() { a.say(a.Note) })
	return a.Reporter.Phase(name, total)
}

// computesOn names the devices, and why it is those.
func computesOn(devs []*device.Device) string {
	var names []string
	for _, d := range devs {
		names = append(names, d.Info().Name)
	}
	text := fmt.Sprintf("computes on %s (%s)", strings.Join(names, ", "), devs[0].Info().Why)
	if image, ok := device.Image(); ok && devs[0].Info().Backend == "cuda" && os.Getenv("GOCP_IMAGE") == "" && image.Translated(devs[0].Info().Capability) {
		text += "; its driver first translates this build's PTX, which takes a while"
	}
	return text
}
