package bench

import (
	"context"
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
	rows, err := Tune(context.Background(), d, convs, clock, func(u Tuned) error { seen = append(seen, u); return nil })
	if d.Info().Backend != "cuda" {
		if !usage.Is(err) {
			t.Errorf("on a CPU: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 4 || len(seen) != len(rows) {
		t.Fatalf("%d rows of %d products", len(rows), len(seen))
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
	old := []kernel.TileRow{{TileKey: kernel.TileKey{SM: 1}}, {TileKey: kernel.TileKey{SM: d.Info().Capability}}}
	if merged := MergeTiles(old, rows, d.Info().Capability); len(merged) != 1+len(rows) || merged[0].SM != 1 {
		t.Errorf("merged to %v", merged)
	}
}
