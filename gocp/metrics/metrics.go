package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/telemetry"
	"github.com/gocp/gocp/gocp/usage"
)

// A Server answers GET /metrics.
type Server struct {
	// URL is where the metrics are.
	URL string

	cancel context.CancelFunc
	ended  chan error
	once   sync.Once
	err    error
}

// Serve listens on addr and serves until the context is done or Close is called. addr is ":9400",
// "9400" or "host:9400"; without a host it is reached from this machine only. Port 0 is any free
// one. An address that cannot be listened on is a usage error.
func Serve(ctx context.Context, addr string, m *telemetry.Meter, t *progress.Tally) (*Server, error) {
	if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, usage.Errorf("metrics: %q is no address; :9400 or 0.0.0.0:9400 are", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, usage.Errorf("metrics: %q is no port; it is a number from 1 to 65535", port)
	} else if host == "" {
		host = "127.0.0.1"
		port = strconv.FormatUint(n, 10)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, usage.Errorf("metrics: %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&devices{m}, &work{t}, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	s := &Server{URL: fmt.Sprintf("http://%s/metrics", listener.Addr()), ended: make(chan error, 1)}
	ctx, s.cancel = context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { _ = server.Close() }) // Serve says how it went
	go func() { s.ended <- server.Serve(listener) }()
	return s, nil
}

// Close stops serving.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.cancel()
		if err := <-s.ended; !errors.Is(err, http.ErrServerClosed) {
			s.err = err
		}
	})
	return s.err
}

// devices are the Meter's last readings.
type devices struct{ meter *telemetry.Meter }

// Describe names nothing beforehand: devices differ in what they say.
func (*devices) Describe(chan<- *prometheus.Desc) {}

var labels = []string{"kind", "device", "name"}

func describe(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("gocp_"+name, help, append(labels[:len(labels):len(labels)], more...), nil)
}

var (
	up          = describe("device_up", "1 while the device can be read.")
	power       = describe("power_watts", "Power.")
	powerLimit  = describe("power_limit_watts", "The power that the device keeps to.")
	energy      = describe("energy_joules_total", "Energy since the run began.")
	utilization = describe("utilization_ratio", "Share of the time that the device works.")
	memoryUsed  = describe("memory_used_bytes", "Memory in use, by everyone.")
	memoryTotal = describe("memory_total_bytes", "Memory.")
	clock       = describe("clock_hertz", "Clock.")
	memoryClock = describe("memory_clock_hertz", "Clock of the memory.")
	temperature = describe("temperature_celsius", "Temperature.")
	processes   = describe("device_processes", "Processes that use the device.")
	throttled   = describe("throttled", "1 while the device is held back for this reason.", "reason")
	ecc         = describe("ecc_errors_total", "Errors of the memory since the driver was loaded.", "severity")
)

func (d *devices) Collect(out chan<- prometheus.Metric) {
	for _, r := range d.meter.Last() {
		send := func(desc *prometheus.Desc, kind prometheus.ValueType, v float64, more ...string) {
			out <- prometheus.MustNewConstMetric(desc, kind, v, append([]string{r.Kind, r.ID, r.Name}, more...)...)
		}
		gauge := func(desc *prometheus.Desc, v *float64, unit float64) {
			if v != nil {
				send(desc, prometheus.GaugeValue, *v*unit)
			}
		}
		if r.Lost != "" {
			send(up, prometheus.GaugeValue, 0)
			continue
		}
		send(up, prometheus.GaugeValue, 1)
		gauge(power, r.Power, 1)
		gauge(powerLimit, r.PowerLimit, 1)
		gauge(utilization, r.Utilization, 1)
		gauge(clock, r.Clock, 1e6)
		gauge(memoryClock, r.MemoryClock, 1e6)
		gauge(temperature, r.Temperature, 1)
		if r.Energy != nil {
			send(energy, prometheus.CounterValue, *r.Energy)
		}
		if r.MemoryUsed != nil {
			send(memoryUsed, prometheus.GaugeValue, float64(*r.MemoryUsed))
		}
		if r.MemoryTotal != nil {
			send(memoryTotal, prometheus.GaugeValue, float64(*r.MemoryTotal))
		}
		if r.Kind == "gpu" {
			send(processes, prometheus.GaugeValue, float64(len(r.Processes)))
		}
		for _, why := range r.Throttle {
			send(throttled, prometheus.GaugeValue, 1, why)
		}
		if r.Corrected != nil {
			send(ecc, prometheus.CounterValue, float64(*r.Corrected), "corrected")
		}
		if r.Uncorrected != nil {
			send(ecc, prometheus.CounterValue, float64(*r.Uncorrected), "uncorrected")
		}
	}
}

// work is a Tally.
type work struct{ tally *progress.Tally }

// Describe names nothing beforehand: kinds of work differ in what they count.
func (*work) Describe(chan<- *prometheus.Desc) {}

var (
	phaseUnits = prometheus.NewDesc("gocp_phase_units", "Units of work of a phase, those that are left when a run is resumed.", []string{"phase"}, nil)
	phaseDone  = prometheus.NewDesc("gocp_phase_units_done", "Units of work of a phase that are done.", []string{"phase"}, nil)
)

func (w *work) Collect(out chan<- prometheus.Metric) {
	for _, p := range w.tally.Phases() {
		if p.Total > 0 {
			out <- prometheus.MustNewConstMetric(phaseUnits, prometheus.GaugeValue, float64(p.Total), p.Phase)
		}
		out <- prometheus.MustNewConstMetric(phaseDone, prometheus.GaugeValue, float64(p.Done), p.Phase)
	}
	for name, n := range w.tally.Counts() {
		kind, words := prometheus.GaugeValue, strings.ReplaceAll(name, "_", " ")
		if strings.HasSuffix(name, "_total") {
			kind, words = prometheus.CounterValue, strings.TrimSuffix(words, " total")
		}
		desc := prometheus.NewDesc("gocp_"+name, "Of this run: "+words+".", nil, nil)
		out <- prometheus.MustNewConstMetric(desc, kind, float64(n))
	}
}
