// Package testkit holds what the tests of several packages begin with: a device, images that a few
// steps learn from, and the distance of two results.
package testkit

import (
	"math"
	"testing"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/rng"
)

// Open opens the device until the test ends.
func Open(t testing.TB) *device.Device {
	t.Helper()
	d, err := device.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Relative is ‖a − b‖ / ‖b‖.
func Relative(a, b []float32) float64 {
	var d, n float64
	for i := range b {
		d += float64(a[i]-b[i]) * float64(a[i]-b[i])
		n += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(d / n)
}

// Quarters are images whose class is the quarter that is likely to be the brightest: quarters have a
// brightness of their own at random, so that no classifier can be sure.
func Quarters(t testing.TB, name string, n int, seed uint64) *data.Dataset {
	t.Helper()
	const side, classes = 12, 4
	src := rng.New(seed, 0)
	var pixels []uint8
	var labels []int32
	for range n {
		y := src.Intn(classes)
		labels = append(labels, int32(y))
		var level [classes]float64
		for q := range level {
			level[q] = 120 + 25*float64(src.Normal())
		}
		level[y] += 45
		for r := range side {
			for c := range side {
				v := level[2*(2*r/side)+2*c/side] + 8*float64(src.Normal())
				pixels = append(pixels, uint8(math.Max(0, math.Min(255, v))))
			}
		}
	}
	d, err := data.New(name, side, side, 1, pixels, labels, []string{"nw", "ne", "sw", "se"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
