package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/metrics"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/telemetry"
	"github.com/gocp/gocp/gocp/telemetry/nvidia"
)

// watchInterval is the time between two samples of the devices.
const watchInterval = time.Second

func metricsFlag() cli.Flag {
	return &cli.StringFlag{Name: "metrics", Usage: "serve metrics for Prometheus on this port while it runs, such as :9400; for this machine alone unless a host is given"}
}

// watch is what sees long work from outside.
type watch struct {
	Progress progress.Reporter
	Meter    *telemetry.Meter
	Tally    *progress.Tally
}

// watched is watchedAll for work on one device.
func watched(c *cli.Context, f func(ctx context.Context, dev *device.Device, w watch) error) error {
	return watchedAll(c, func(ctx context.Context, devs []*device.Device, w watch) error { return f(ctx, devs[0], w) })
}

// watchedAll runs f with progress on stderr and a meter of the devices that it computes on, and serves
// both if --metrics says so.
func watchedAll(c *cli.Context, f func(ctx context.Context, devs []*device.Device, w watch) error) error {
	return onDevices(c, func(ctx context.Context, devs []*device.Device) (err error) {
		w := watch{Tally: new(progress.Tally)}
		sampler, absent := samplerOf(devs)
		w.Meter = telemetry.Start(ctx, sampler, watchInterval)
		defer func() { _ = w.Meter.Stop() }() // the work is done, whatever ails what watched it
		var server *metrics.Server
		if addr := c.String("metrics"); addr != "" {
			if server, err = metrics.Serve(ctx, addr, w.Meter, w.Tally); err != nil {
				return err
			}
			defer func() { err = first(err, server.Close()) }()
		}
		shown, stop := newReporter(c)
		defer stop()
		w.Progress = w.Tally.Watch(&announced{Reporter: shown, say: func(note func(string, ...any)) {
			note("%s", computesOn(devs))
			if server != nil {
				note("metrics: %s", server.URL)
			}
			if absent != nil {
				note("no telemetry of the GPU: %v", absent)
			}
		}})
		return f(ctx, devs, w)
	})
}

// samplerOf reads this machine and, where the devices are GPUs, those; absent is why it cannot.
func samplerOf(devs []*device.Device) (s telemetry.Sampler, absent error) {
	host := telemetry.NewHost(0)
	var ids []string
	for _, d := range devs {
		i := d.Info()
		if i.Backend != "cuda" {
			return host, nil
		}
		if i.UUID != "" {
			ids = append(ids, i.UUID)
		}
	}
	if len(ids) == 0 {
		return host, nvidia.ErrAbsent
	}
	gpus, err := nvidia.Open(nvidia.Library(), ids...)
	if err != nil {
		return host, err
	}
	return telemetry.Join(gpus, host), nil
}
