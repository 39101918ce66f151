package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/device"
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
			return usage.Errorf("--device cuda: %s; gocp doctor says what there is", why)
		}
	}
	if err := syscall.Exec(self, os.Args, env); err != nil {
		return fmt.Errorf("--device: starting %s again: %w", self, err)
	}
	return nil
}

// onDevice opens the device that --device names for the length of f.
func onDevice(c *cli.Context, f func(ctx context.Context, dev *device.Device) error) error {
	if err := useDevice(c); err != nil {
		return err
	}
	dev, err := device.Open()
	if err != nil {
		return err
	}
	return errors.Join(f(c.Context, dev), dev.Close())
}
