package bench

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/kernel/cases"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// A Clock is how long a call takes on s's device, in seconds.
type Clock func(s *device.Stream, call func()) (float64, error)

// tuneTime is spent on a layout: there are some 1,200 of them.
const tuneTime = 40 * time.Millisecond

// MedianClock is the median of many calls by the device's events.
func MedianClock(s *device.Stream, call func()) (float64, error) {
	times, err := cases.MeasureFor(s, tuneTime, call)
	if err != nil {
		return 0, err
	}
	return times[len(times)/2].Seconds(), nil
}

// A Tuned is a convolution's product on a GPU and its fastest layout.
type Tuned struct {
	Choice     kernel.TileChoice
	Conv       kernel.Conv
	Best       kernel.ConvLayout
	Rule, Time float64 // seconds: of the rule's layout, and of the best
}

// leastGain is below what a layout is not worth a row: the rule holds for more than what was timed.
const leastGain = 1.03

// TuneConvs are the convolutions that a table of tiles is made from, each once: those of the networks that
// bench passes times and of ResNet-18 on images of 32×32 and, last, of 224×224; of the precisions those
// first that audits on GPUs compute in.
func TuneConvs(batch int) []kernel.Conv {
	var all []kernel.Conv
	add := func(convs ...kernel.Conv) {
		for _, g := range convs {
			if !slices.Contains(all, g) {
				all = append(all, g)
			}
		}
	}
	precisions := []kernel.Precision{kernel.BF16, kernel.TF32, kernel.F32}
	for _, p := range precisions {
		for _, s := range AllShapes() {
			if s.Spec.Arch == "convnet" || s.Name == "resnet18-w64" {
				add(s.Spec.Convs(batch, p)...)
			}
		}
	}
	for _, p := range precisions {
		for _, l := range ResNet18(batch, p) {
			add(l.Conv)
		}
	}
	return all
}

// Tune times every layout of the convolutions' products and returns the table of tiles with the rows of
// this GPU made new: where several products share a key, that of the one which saves the most time. A
// layout whose result differs from the rule's by more than sums in another order do is an error. With an
// error comes the table as far as was timed; rows of what was not stay.
func Tune(ctx context.Context, d *device.Device, convs []kernel.Conv, clock Clock, table []kernel.TileRow, emit func(Tuned) error) ([]kernel.TileRow, error) {
	info := d.Info()
	if info.Backend != "cuda" {
		return table, usage.Errorf("bench: tiles are chosen on GPUs, and this computes on %s: on a CPU there is nothing to tune", info.Name)
	}
	best := map[kernel.TileKey]Tuned{}
	stale := func(r kernel.TileRow) bool {
		_, timed := best[r.TileKey]
		return timed && r.SM == info.Capability
	}
	for _, g := range convs {
		for _, choice := range g.TileChoices(info.Capability) {
			var t Tuned
			err := d.Do(ctx, 1, func(s *device.Stream) (err error) {
				t, err = tune(s, g, choice, clock)
				return err
			})
			if err != nil {
				return mergeTiles(table, best, stale), fmt.Errorf("tune %s %s %s %s: %w", choice.Key.Pass, choice.Key.Precision, choice.Key.Form, shapeOf(g), err)
			}
			if err := emit(t); err != nil {
				return mergeTiles(table, best, stale), err
			}
			if was, ok := best[choice.Key]; !ok || t.Rule-t.Time > was.Rule-was.Time {
				best[choice.Key] = t
			}
		}
	}
	return mergeTiles(table, best, func(r kernel.TileRow) bool { return r.SM == info.Capability }), nil
}

// mergeTiles is the table without its stale rows, and with what was found.
func mergeTiles(table []kernel.TileRow, found map[kernel.TileKey]Tuned, stale func(kernel.TileRow) bool) []kernel.TileRow {
	rows := slices.DeleteFunc(slices.Clone(table), stale)
	for key, t := range found {
		if gain := t.Rule / t.Time; gain >= leastGain {
			rows = append(rows, kernel.TileRow{TileKey: key, ConvLayout: t.Best, Gain: gain})
		}
	}
	return rows
}

func tune(s *device.Stream, g kernel.Conv, choice kernel.TileChoice, clock Clock) (Tuned, error) {
	op := slices.Index([]string{"conv_forward", "conv_backward_data", "conv_backward_weight"}, choice.Key.Pass)
	dual := choice.Key.Form == "dual"
	m := newOperands(s, g)
	n := [...]int{forward: g.Out(), backwardData: g.In(), backwardWeight: g.Weights()}[op]
	result := tensor.NewDual(s, n)
	t := Tuned{Choice: choice, Conv: g}
	var want []float32
	for i, layout := range choice.Layouts {
		if err := s.Context().Err(); err != nil {
			return t, err
		}
		g.Layout = layout
		p := newProduct(op, g, dual, dual, true, dual)
		work := kernel.NewWorkspace(s, kernel.ConvBytes(s, g, dual))
		call := func() { p.launch(s, work, m, planes(result, true, dual)) }
		call()
		got := make([]float32, n)
		from := result.P
		if dual {
			from = result.T
		}
		if err := device.Download(s, got, from); err != nil {
			return t, err
		}
		if i == 0 {
			want = got
		} else if off := distance(got, want); !(off < 1e-4) {
			return t, fmt.Errorf("tile %s in %d parts is off by %.2g of the rule's result", layout.Tile, layout.Parts, off)
		}
		seconds, err := clock(s, call)
		if err != nil {
			return t, err
		}
		if i == 0 {
			t.Rule = seconds
		}
		if i == 0 || seconds < t.Time {
			t.Best, t.Time = layout, seconds
		}
	}
	return t, nil
}

// distance is ‖a − b‖ / ‖b‖.
func distance(a, b []float32) float64 {
	var off, size float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		off += d * d
		size += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(off / size)
}

// TuneTable writes products in columns, as they come.
func TuneTable(w io.Writer) func(Tuned) error {
	out, begun := &printer{w: w}, false
	return func(t Tuned) error {
		if !begun {
			out.printf("%-22s %-5s %-5s %-50s %10s %-12s %10s %6s\n", "pass", "prec", "form", "shape", "rule µs", "best", "µs", "gain")
			begun = true
		}
		k := t.Choice.Key
		out.printf("%-22s %-5s %-5s %-50s %10.1f %-12s %10.1f %6.2f\n", k.Pass, k.Precision, k.Form, shapeOf(t.Conv), 1e6*t.Rule,
			fmt.Sprintf("%s ×%d", t.Best.Tile, t.Best.Parts), 1e6*t.Time, t.Rule/t.Time)
		return out.err
	}
}
