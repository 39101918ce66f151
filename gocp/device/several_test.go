package device

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// childSeveral works on all devices at once.
func childSeveral(first *Device) error {
	n, err := Count()
	if err != nil {
		return err
	}
	devs := []*Device{first}
	for i := 1; i < n; i++ {
		d, err := OpenAt(i)
		if err != nil {
			return err
		}
		defer func() { _ = d.Close() }()
		devs = append(devs, d)
	}
	got := make([][]float32, 4*n)
	errs := make([]error, len(got))
	var wg sync.WaitGroup
	for i := range got {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = devs[i%n].Do(context.Background(), 1, func(s *Stream) error {
				x := s.Alloc(8)
				Upload(s, x, []float32{float32(i), 1})
				for range 50 {
					s.Launch("shift", 1, 32, I32(2), P(x), F32(1))
				}
				got[i] = make([]float32, 2)
				return Download(s, got[i], x)
			})
		}()
	}
	wg.Wait()
	for _, d := range devs {
		fmt.Println(d.Info().Index, d.Info().UUID)
	}
	fmt.Println(got)
	_, beyond := OpenAt(n)
	fmt.Println(beyond)
	return errors.Join(errs...)
}

func TestSeveralDevices(t *testing.T) {
	library, image := fake(t)
	stdout, stderr, code := child(t, "several", "GOCP_DEVICE=cuda", "GOCP_LIBCUDA="+library, "GOCP_IMAGE="+image, "FAKE_DEVICES=2")
	want := "0 GPU-10101010-1010-1010-1010-101010101010\n1 GPU-11111111-1111-1111-1111-111111111111\n" +
		"[[50 51] [51 51] [52 51] [53 51] [54 51] [55 51] [56 51] [57 51]]\ndevice: open device 2: InvalidDevice\n"
	if code != 0 || stdout != want {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	for i := range 2 {
		if line := fmt.Sprintf("released device %d after 200 launches with 0 bytes in use", i); !strings.Contains(stderr, line) {
			t.Errorf("no %q in\n%s", line, stderr)
		}
	}
	// Memory of one device is nothing to another.
	if stdout, _, code := child(t, "foreign", "GOCP_DEVICE=cuda", "GOCP_LIBCUDA="+library, "GOCP_IMAGE="+image, "FAKE_DEVICES=2"); code != 3 || !strings.Contains(stdout, "launch shift") {
		t.Errorf("code %d: %s", code, stdout)
	}
}

// childForeign launches on memory of another device.
func childForeign(first *Device) error {
	second, err := OpenAt(1)
	if err != nil {
		return err
	}
	defer func() { _ = second.Close() }()
	return first.Do(context.Background(), 1, func(a *Stream) error {
		x := a.Alloc(8)
		done := make(chan error)
		go func() {
			done <- second.Do(context.Background(), 1, func(b *Stream) error {
				b.Launch("shift", 1, 32, I32(2), P(x), F32(1))
				return b.Sync()
			})
		}()
		return <-done
	})
}

func TestOneHostDevice(t *testing.T) {
	if n, err := Count(); err != nil || open(t).Info().Backend == "host" && n != 1 {
		t.Errorf("%d devices, %v", n, err)
	}
}
