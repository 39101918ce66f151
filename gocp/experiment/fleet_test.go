package experiment

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
)

// The host engine opened twice is two devices.
func TestAuditOnSeveralDevices(t *testing.T) {
	one, two := testkit.Open(t), testkit.Open(t)
	root := t.TempDir()
	c := tiny()
	c.Repeats, c.Workers = 2, 3
	audit(t, one, c, filepath.Join(root, "one"))
	if _, err := Audit(context.Background(), one, c, tinyData(t), Options{Dir: filepath.Join(root, "two"), Version: "test", More: []*device.Device{two}}); err != nil {
		t.Fatal(err)
	}
	if a, b := contents(t, filepath.Join(root, "one")), contents(t, filepath.Join(root, "two")); a != b {
		t.Errorf("one device:\n%s\ntwo devices:\n%s", a, b)
	}
}

func TestFleetSpreads(t *testing.T) {
	devices := []*device.Device{testkit.Open(t), testkit.Open(t), testkit.Open(t)}
	f, err := newFleet(devices...)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	at := map[*device.Device]int{}
	all := make(chan struct{})
	var wg sync.WaitGroup
	for range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			err := f.Do(context.Background(), 1, func(s *device.Stream) error {
				mu.Lock()
				at[s.Device()]++
				if at[devices[0]]+at[devices[1]]+at[devices[2]] == 6 {
					close(all)
				}
				mu.Unlock()
				<-all
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	for i, d := range devices {
		if at[d] != 2 {
			t.Errorf("device %d had %d jobs of 6", i, at[d])
		}
	}
	for i, n := range f.running {
		if n != 0 {
			t.Errorf("device %d is left with %d", i, n)
		}
	}
}

func TestDifferentKinds(t *testing.T) {
	a := device.Info{Backend: "cuda", Name: "H100", FastBF16: true}
	b := a
	b.Index, b.UUID = 1, "GPU-1"
	if !SameKind(a, b) {
		t.Error("two of one kind are not")
	}
	b.Name = "A100"
	if SameKind(a, b) {
		t.Error("two of different kinds are one")
	}
}
