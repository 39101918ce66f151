package cases

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// A Row is the timing of one case on one shape, in floats or in dual numbers, with what is wrong.
type Row struct {
	Name      string        `json:"name"`
	Shape     string        `json:"shape"`
	Backend   string        `json:"backend"`
	ISA       string        `json:"isa"`
	Precision string        `json:"precision"` // f32, bf16 or tf32; dual f32 and so on in dual numbers
	Threads   int           `json:"threads"`
	Runs      int           `json:"runs"`
	Median    time.Duration `json:"median_ns"`
	P99       time.Duration `json:"p99_ns"`
	Bytes     float64       `json:"bytes"`    // that the launch must move
	FLOPs     float64       `json:"flops"`    // that it must do
	MaxError  float64       `json:"maxError"` // of outputs, as a share of their largest reference
	Wrong     int           `json:"wrong"`    // elements outside the case's tolerance
}

// GBs is the rate of the bytes that must move, in 10⁹ bytes a second.
func (r Row) GBs() float64 { return r.Bytes / max(r.Median.Seconds(), 1e-9) * 1e-9 }

// GFLOPs is the rate of the operations that must be done, in 10⁹ a second.
func (r Row) GFLOPs() float64 { return r.FLOPs / max(r.Median.Seconds(), 1e-9) * 1e-9 }

// Share is the time that the limits allow at least, divided by the median. It can exceed 1 where
// the data stay in a cache.
func (r Row) Share(l Limits) float64 {
	t := max(r.Bytes/l.BytesPerSecond, r.FLOPs/l.FLOPsPerSecond)
	return t / max(r.Median.Seconds(), 1e-9)
}

// GoBench is the row as a line of Go's benchmark format.
func (r Row) GoBench() string {
	name := strings.NewReplacer(" ", ",", "/", "_").Replace(r.Shape)
	return fmt.Sprintf("BenchmarkKernel/%s/%s/%s-%d\t%d\t%d ns/op\t%.2f GB/s\t%.2f GFLOP/s\t%d wrong",
		r.Name, strings.ReplaceAll(r.Precision, " ", "-"), name, r.Threads, r.Runs, r.Median.Nanoseconds(), r.GBs(), r.GFLOPs(), r.Wrong)
}

// Limits are a device's rates: of a copy much larger than its caches, bytes read and written, and of
// the best product of matrices here.
type Limits struct {
	BytesPerSecond, FLOPsPerSecond float64
}

// benchTime is spent on the runs of a row, in between minRuns and maxRuns.
const (
	benchTime = 300 * time.Millisecond
	minRuns   = 10
	maxRuns   = 500
)

// MeasureLimits measures the limits on a stream of the given width, 0 for all cores.
func MeasureLimits(ctx context.Context, d *device.Device, width int) (Limits, error) {
	var l Limits
	err := d.Do(ctx, width, func(s *device.Stream) error {
		const bytes = 64 << 20
		a, b := s.Alloc(bytes), s.Alloc(bytes)
		s.Memset32(a, 0, bytes/4)
		times, err := Measure(s, func() { s.Copy(b, a, bytes) })
		if err != nil {
			return err
		}
		l.BytesPerSecond = 2 * bytes / times[0].Seconds()
		g := kernel.Conv{N: 512, H: 1, W: 1, C: 1024, K: 1024, R: 1, S: 1, Stride: 1}
		x, w, y := tensor.New(s, g.In()), tensor.New(s, g.Weights()), tensor.New(s, g.Out())
		work := kernel.NewWorkspace(s, kernel.ConvBytes(s, g, false))
		s.Memset32(x.P, 0, g.In())
		s.Memset32(w.P, 0, g.Weights())
		if times, err = Measure(s, func() { kernel.ConvForward(s, work, g, x, w, y) }); err != nil {
			return err
		}
		l.FLOPsPerSecond = float64(g.FLOPs()) / times[0].Seconds()
		return nil
	})
	return l, err
}

// Bench times a case on a shape on all cores: a row in floats, and one in dual numbers with every
// tangent present if the case has them.
func Bench(ctx context.Context, d *device.Device, c Case, sh Shape) ([]Row, error) {
	return BenchOn(ctx, d, 0, c, sh)
}

// BenchOn is Bench on a stream of the given width.
func BenchOn(ctx context.Context, d *device.Device, width int, c Case, sh Shape) ([]Row, error) {
	p := c.New(sh, newRand(c, sh))
	modes := []mode{{}}
	if p.differentiable() {
		k := &checker{p: p, r: newRand(c, sh)}
		modes = append(modes, mode{dual: true, tangents: k.direction()})
	}
	want := p.reference(nil, 0)
	var rows []Row
	for _, m := range modes {
		info := d.Info()
		row := Row{Name: c.Name, Shape: c.Label(sh), Backend: info.Backend, ISA: info.ISA, Precision: c.Precision,
			Bytes: p.Bytes, FLOPs: p.FLOPs}
		if row.Precision == "" {
			row.Precision = "f32"
		}
		if m.dual {
			row.Precision = "dual " + row.Precision
			cost := p.dual()
			row.Bytes, row.FLOPs = cost.Bytes, cost.FLOPs
		}
		err := d.Do(ctx, width, func(s *device.Stream) error {
			row.Threads = s.Width()
			checked, err := p.run(s, m)
			if err != nil {
				return err
			}
			e := p.outputs(checked, want)
			row.MaxError, row.Wrong = e.Max, e.Wrong
			b := p.bind(s, m)
			times, err := Measure(s, func() { p.Run(s, b) })
			if err != nil {
				return err
			}
			row.Runs, row.Median, row.P99 = len(times), times[len(times)/2], times[len(times)*99/100]
			return nil
		})
		if err != nil {
			return rows, fmt.Errorf("case %s %s: %w", c.Name, c.Label(sh), err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Measure times f on the device's clock, after a few runs to warm up, and sorts the times.
func Measure(s *device.Stream, f func()) ([]time.Duration, error) { return MeasureFor(s, benchTime, f) }

// MeasureFor is Measure in about as much time as is given, for work of which there is a lot.
func MeasureFor(s *device.Stream, budget time.Duration, f func()) ([]time.Duration, error) {
	for range 3 {
		f()
	}
	if err := s.Sync(); err != nil {
		return nil, err
	}
	from, to := s.Event(), s.Event()
	var times []time.Duration
	for start := time.Now(); len(times) < maxRuns && (len(times) < minRuns || time.Since(start) < budget); {
		if err := s.Context().Err(); err != nil {
			return nil, err
		}
		from.Record()
		f()
		to.Record()
		t, err := to.Elapsed(from)
		if err != nil {
			return nil, err
		}
		times = append(times, t)
	}
	slices.Sort(times)
	return times, nil
}
