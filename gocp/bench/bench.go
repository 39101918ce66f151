package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/usage"
)

// Batch is the batch of every pass unless another is asked for.
const Batch = 128

// A Shape is a network to time.
type Shape struct {
	Name string
	Spec nn.Spec
}

// Shapes are the networks that are timed unless others are asked for: the ConvNet's.
func Shapes() []Shape {
	spec := func(c, side, width int, stem string) nn.Spec {
		s := nn.Spec{Arch: "convnet", Width: width, Classes: 10, C: c, H: side, W: side, Stem: stem}
		for range c {
			s.Mean, s.Std = append(s.Mean, 0.5), append(s.Std, 0.25)
		}
		return s
	}
	return []Shape{
		{"28x28x1-w32", spec(1, 28, 32, nn.StemPool)},
		{"32x32x3-w64", spec(3, 32, 64, nn.StemPool)},
		{"32x32x3-w16-stride", spec(3, 32, 16, nn.StemStride)},
	}
}

// AllShapes are those, and every other architecture on images of 32×32: as it was published, and with a
// quarter of the channels, with batch norm where that is open.
func AllShapes() []Shape {
	all := Shapes()
	for _, name := range nn.Architectures() {
		a, err := nn.Lookup(name)
		if err != nil || name == "convnet" {
			continue
		}
		for _, width := range []int{a.Width, max(1, a.Width/4)} {
			s := nn.Spec{Arch: name, Width: width, Classes: 10, C: 3, H: 32, W: 32, BatchNorm: a.Norm != nn.NormNever,
				Mean: []float64{0.5, 0.5, 0.5}, Std: []float64{0.25, 0.25, 0.25}}.WithDefaults()
			all = append(all, Shape{fmt.Sprintf("%s-w%d", name, width), s})
		}
	}
	return all
}

// Passes are the names of what is timed.
func Passes() []string { return []string{"craft", "hvp", "ggn", "train", "norms"} }

// Options of a run; zero values are the defaults.
type Options struct {
	Shapes     []string           // of AllShapes; nil: Shapes
	Passes     []string           // nil: all
	Precisions []kernel.Precision // nil: f32 and bf16
	Batch      int                // images; 0: Batch
	Seconds    float64            // of timing a row; 0: 1
	Beside     []int              // how many side by side; nil: 1, and one for each core
}

// A Row is one pass in one arrangement.
type Row struct {
	Pass      string `json:"pass"`
	Shape     string `json:"shape"`
	Backend   string `json:"backend"`
	ISA       string `json:"isa"`
	Precision string `json:"precision"`
	Batch     int    `json:"batch"`
	Beside    int    `json:"beside"`  // how many ran side by side
	Threads   int    `json:"threads"` // of each

	Times  []float64 `json:"times_ms"` // per step: a step's own time divided by Beside
	Median float64   `json:"median_ms"`
	P99    float64   `json:"p99_ms"`
	CPU    float64   `json:"cpu_ms"`  // processor time of a step, all threads: a busy machine changes it little
	GFLOP  float64   `json:"gflop"`   // of a step's convolutions and linear layers
	GFLOPS float64   `json:"gflop_s"` // of the whole step

	ConvMedian float64 `json:"conv_median_ms"` // the same convolutions alone
	ConvShare  float64 `json:"conv_share"`     // ConvMedian / Median: the share of the limit that is reached
	ConvGFLOPS float64 `json:"conv_gflop_s"`

	Error float64 `json:"error"` // relative, of the check that belongs to the pass
	Wrong int     `json:"wrong"` // 1 if it is above the check's tolerance
}

// Run times what o asks for and hands each row to emit as it is done.
func Run(ctx context.Context, d *device.Device, o Options, emit func(Row) error) error {
	if o.Precisions == nil {
		o.Precisions = []kernel.Precision{kernel.F32, kernel.BF16}
	}
	if o.Batch == 0 {
		o.Batch = Batch
	}
	if o.Batch < 1 {
		return usage.Errorf("bench: a batch of %d images; at least 1 is needed", o.Batch)
	}
	if o.Seconds == 0 {
		o.Seconds = 1
	}
	if !(o.Seconds > 0 && o.Seconds <= 3600) {
		return usage.Errorf("bench: %g seconds a row; it must be above 0 and at most 3600", o.Seconds)
	}
	cores := d.Info().Cores
	if o.Beside == nil {
		o.Beside = slices.Compact([]int{1, cores})
	}
	names := func(shapes []Shape) (out []string) {
		for _, s := range shapes {
			out = append(out, s.Name)
		}
		return out
	}
	if o.Shapes == nil {
		o.Shapes = names(Shapes())
	}
	if err := known("shape", o.Shapes, names(AllShapes())); err != nil {
		return err
	}
	if err := known("pass", o.Passes, Passes()); err != nil {
		return err
	}
	for _, p := range o.Precisions {
		if err := p.On(d.Info()); err != nil {
			return err
		}
	}
	for _, shape := range AllShapes() {
		for _, pass := range Passes() {
			if !slices.Contains(o.Shapes, shape.Name) || o.Passes != nil && !slices.Contains(o.Passes, pass) {
				continue
			}
			for _, precision := range o.Precisions {
				for _, beside := range o.Beside {
					if beside < 1 {
						return usage.Errorf("bench: %d side by side; at least 1 is needed", beside)
					}
					r := Row{Pass: pass, Shape: shape.Name, Backend: d.Info().Backend, ISA: d.Info().ISA,
						Precision: precision.String(), Batch: o.Batch, Beside: beside, Threads: max(1, cores/beside)}
					if err := r.run(ctx, d, shape.Spec, precision, o.Seconds); err != nil {
						return fmt.Errorf("bench %s %s %s: %w", pass, shape.Name, precision, err)
					}
					if err := emit(r); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func known(what string, asked, names []string) error {
	for _, a := range asked {
		if !slices.Contains(names, a) {
			return usage.Errorf("bench: there is no %s %q (known: %s)", what, a, strings.Join(names, ", "))
		}
	}
	return nil
}

func (r *Row) run(ctx context.Context, d *device.Device, spec nn.Spec, precision kernel.Precision, seconds float64) error {
	j := job{spec: spec, batch: r.Batch, precision: precision}
	work := passes[r.Pass]
	var err error
	if r.Times, r.CPU, err = side(ctx, d, r.Beside, r.Threads, seconds, func(s *device.Stream, tick func(int)) error { return work.run(s, j, tick) }); err != nil {
		return err
	}
	products := work.products(spec.Convs(r.Batch, precision))
	conv, _, err := side(ctx, d, r.Beside, r.Threads, seconds/2, func(s *device.Stream, tick func(int)) error { return convolve(s, products, tick) })
	if err != nil {
		return err
	}
	for _, p := range products {
		r.GFLOP += float64(p.count*p.g.FLOPs()) * 1e-9
	}
	r.Median, r.P99, r.ConvMedian = quantile(r.Times, 0.5), quantile(r.Times, 0.99), quantile(conv, 0.5)
	r.GFLOPS, r.ConvGFLOPS = r.GFLOP/r.Median*1e3, r.GFLOP/r.ConvMedian*1e3
	r.ConvShare = r.ConvMedian / r.Median
	err = d.Do(ctx, r.Threads, func(s *device.Stream) error {
		r.Error, err = work.check(s, j)
		return err
	})
	if !(r.Error <= tolerance(precision)) {
		r.Wrong = 1
	}
	return err
}

// tolerance of the checks: two ways to one number in float32, or with products of rounded factors
// whose ways round differently.
func tolerance(p kernel.Precision) float64 {
	switch p {
	case kernel.BF16:
		return 5e-2
	case kernel.TF32:
		return 1e-2
	}
	return 1e-3
}

// quantile is the order statistic at share q of times.
func quantile(times []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// A runner does steps on s until the stream's context ends, and says after each how many are done
// since the last time.
type runner func(s *device.Stream, tick func(steps int)) error

// warmUp is how many ticks pass before the clock starts.
const warmUp = 2

// side runs as many as beside runners at once, each on threads cores. It returns their steps' times
// in milliseconds, divided by beside, and the processor time of a step.
func side(ctx context.Context, d *device.Device, beside, threads int, seconds float64, run runner) (times []float64, cpu float64, err error) {
	var ready, done sync.WaitGroup
	ready.Add(beside)
	clocks, errs := make([]clock, beside), make([]error, beside)
	for i := range beside {
		done.Add(1)
		go func() {
			defer done.Done()
			ctx, enough := context.WithCancel(ctx)
			defer enough()
			c := &clocks[i]
			*c = clock{ready: &ready, seconds: seconds, enough: enough}
			err := d.Do(ctx, threads, func(s *device.Stream) error {
				return run(s, func(steps int) {
					if s.Sync() == nil {
						c.tick(steps)
					}
				})
			})
			if !c.started { // it failed: let the others go on to their end
				ready.Done()
			}
			if !c.enoughTimed() {
				errs[i] = err
			}
		}()
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, 0, err
	}
	for _, c := range clocks {
		if !c.enoughTimed() {
			return nil, 0, fmt.Errorf("a runner ended before it was timed")
		}
		for _, t := range c.times {
			times = append(times, t/float64(beside))
		}
	}
	// Until the first had enough, all of them ran.
	c := clocks[0]
	return times, c.cpu * 1e3 / float64(len(c.times)*beside), nil
}

// cpuTime is the processor time of this process so far, in seconds.
func cpuTime() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return math.NaN()
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) * 1e-9
}

// A clock times the steps between ticks, and calls enough when it has timed them for long enough.
type clock struct {
	ready       *sync.WaitGroup
	seconds     float64
	enough      func()
	started     bool
	ticks       int
	start, last time.Time
	cpu0, cpu   float64 // processor time of the whole process: at the start, and since then
	times       []float64
}

func (c *clock) enoughTimed() bool {
	return c.last.Sub(c.start).Seconds() >= c.seconds && len(c.times) >= 3
}

func (c *clock) tick(steps int) {
	now := time.Now()
	c.ticks++
	switch {
	case c.enoughTimed() || c.ticks < warmUp:
		return
	case !c.started: // all start together
		c.started = true
		c.ready.Done()
		c.ready.Wait()
		c.cpu0 = cpuTime()
		c.start = time.Now()
		c.last = c.start
		return
	}
	c.cpu = cpuTime() - c.cpu0
	for range steps {
		c.times = append(c.times, now.Sub(c.last).Seconds()*1e3/float64(steps))
	}
	c.last = now
	if c.enoughTimed() {
		c.enough()
	}
}

// Table writes rows as they come, in columns.
func Table(w io.Writer) func(Row) error {
	const line = "%-6s %-20s %-5s %4s %2s×%-2s %9s %9s %9s %9s %7s %9s %9s %5s\n"
	first := true
	return func(r Row) error {
		if first {
			first = false
			if _, err := fmt.Fprintf(w, line, "pass", "shape", "prec", "host", "n", "t", "median ms", "p99 ms", "CPU ms", "GFLOP/s", "convs", "conv GF/s", "error", "wrong"); err != nil {
				return err
			}
		}
		n := func(v float64, digits int) string {
			if math.IsNaN(v) {
				return "-"
			}
			return fmt.Sprintf("%.*f", digits, v)
		}
		_, err := fmt.Fprintf(w, line, r.Pass, r.Shape, r.Precision, r.Backend, fmt.Sprint(r.Beside), fmt.Sprint(r.Threads),
			n(r.Median, 2), n(r.P99, 2), n(r.CPU, 2), n(r.GFLOPS, 1), n(100*r.ConvShare, 1)+"%", n(r.ConvGFLOPS, 1), fmt.Sprintf("%.1e", r.Error), fmt.Sprint(r.Wrong))
		return err
	}
}

// GoFormat writes rows in Go's benchmark format, for benchstat: each step is a line.
func GoFormat(w io.Writer) func(Row) error {
	first := true
	return func(r Row) error {
		if first {
			first = false
			if _, err := fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: github.com/gocp/gocp/gocp/bench\n", runtime.GOOS, runtime.GOARCH); err != nil {
				return err
			}
		}
		for _, t := range r.Times {
			if _, err := fmt.Fprintf(w, "BenchmarkPass/%s/%s/%s/%dx%d 1 %.0f ns/op %.2f GFLOP/s %.2e error %d wrong\n",
				r.Pass, r.Shape, r.Precision, r.Beside, r.Threads, t*1e6, r.GFLOP/t*1e3, r.Error, r.Wrong); err != nil {
				return err
			}
		}
		return nil
	}
}
