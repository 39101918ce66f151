package experiment

import (
	"context"
	"sync"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/usage"
)

// A fleet is the devices that jobs are spread over. What a job computes does not depend on which one
// it got: they are of one kind, and every job has a stream, and so a context, of its own.
type fleet struct {
	mu      sync.Mutex
	devices []*device.Device
	running []int // by device
}

// newFleet refuses devices of different kinds: their bits may differ.
func newFleet(devices ...*device.Device) (*fleet, error) {
	first := devices[0].Info()
	for _, d := range devices[1:] {
		if i := d.Info(); !SameKind(first, i) {
			return nil, usage.Errorf("devices %d (%s) and %d (%s) are of different kinds; the results of a run would depend on which did what", first.Index, first.Name, i.Index, i.Name)
		}
	}
	return &fleet{devices: devices, running: make([]int, len(devices))}, nil
}

// SameKind tells whether two devices compute the same bits.
func SameKind(a, b device.Info) bool {
	return a.Backend == b.Backend && a.Name == b.Name && a.FastBF16 == b.FastBF16
}

// Do is device.Do on the device that has the least to do.
func (f *fleet) Do(ctx context.Context, width int, work func(s *device.Stream) error) error {
	f.mu.Lock()
	best := 0
	for i, n := range f.running {
		if n < f.running[best] {
			best = i
		}
	}
	f.running[best]++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.running[best]--
		f.mu.Unlock()
	}()
	return f.devices[best].Do(ctx, width, work)
}
