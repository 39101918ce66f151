package bench

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/usage"
)

// All layouts have one result, and the table gets the fastest by the clock: here one that favours the
// last, for the emulator has no times.
func TestTune(t *testing.T) {
	d := testkit.Open(t)
	convs := []kernel.Conv{{N: 2, H: 14, W: 14, C: 12, K: 20, R: 3, S: 3, Stride: 1, Pad: 1, Precision: kernel.TF32}}
	var seen []Tuned
	calls := 0
	clock := func(s *device.Stream, call func()) (float64, error) {
		call()
		calls++
		return 1 / float64(calls), s.Err()
	}
	sm := d.Info().Capability
	old := []kernel.TileRow{{TileKey: kernel.TileKey{SM: 1}}, {TileKey: kernel.TileKey{SM: sm}}}
	merged, err := Tune(context.Background(), d, convs, clock, old, func(u Tuned) error { seen = append(seen, u); return nil })
	if d.Info().Backend != "cuda" {
		if !usage.Is(err) {
			t.Errorf("on a CPU: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	// The rows of other GPUs stay, those of this one are made new.
	rows := merged[1:]
	if len(rows) < 4 || len(seen) != len(rows) || merged[0] != old[0] {
		t.Fatalf("%d rows of %d products, first %+v", len(rows), len(seen), merged[0])
	}
	for _, r := range rows {
		if r.SM != d.Info().Capability || r.Gain <= 1 {
			t.Errorf("%+v", r)
		}
	}
	for _, u := range seen {
		if last := u.Choice.Layouts[len(u.Choice.Layouts)-1]; u.Best != last || u.Time >= u.Rule {
			t.Errorf("%+v: the last layout was the fastest", u)
		}
	}
	// Interrupted after the first product: its row is new, what was not timed stays.
	stop := errors.New("enough")
	n := 0
	part, err := Tune(context.Background(), d, convs, clock, merged, func(Tuned) error {
		if n++; n > 1 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || len(part) != len(merged) || part[0] != old[0] {
		t.Errorf("interrupted: %v, %d rows of %d", err, len(part), len(merged))
	}
	changed := 0
	for _, r := range part {
		if !slices.Contains(merged, r) {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("%d rows are new, want that of the product that was timed", changed)
	}
}
