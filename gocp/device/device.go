package device

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/cpu"
	"gorgonia.org/cu"

	"github.com/gocp/gocp/csrc"
)

// A Device is the one that this process computes on. Its methods may be called from many
// goroutines at once.
type Device struct {
	info    Info
	cu      cu.Device
	context cu.CUContext
	image   *image
	kinds   map[string]string // of the host kernels' parameters

	waits    bool       // for every launch: a GPU under GOCP_CHECK=1
	oneByOne sync.Mutex // then one launch at a time

	mu        sync.Mutex
	functions map[string]*function
	running   int // calls of Do
	closed    bool
}

// A function is a kernel that can be launched.
type function struct {
	cu    cu.Function
	name  string
	kinds string // of its parameters, one letter each (csrc.Kernels)
	known bool   // kinds is
}

// Info describes a device.
type Info struct {
	Backend       string `json:"backend"` // "host" or "cuda"
	Index         int    `json:"index"`   // among the devices that this process sees
	Name          string `json:"name"`
	UUID          string `json:"uuid,omitempty"`       // as NVML and nvidia-smi write it: GPU-…, of a MIG slice MIG-…
	Why           string `json:"why"`                  // one line: what was taken, and why
	ISA           string `json:"isa,omitempty"`        // which build of the host kernels: base, v3 or v4
	OneDNN        string `json:"onednn,omitempty"`     // its version and what it makes of the processor
	Image         string `json:"image,omitempty"`      // SHA-256 of the GPU code that runs
	Cores         int    `json:"cores"`                // a stream's width by default
	TotalMem      int64  `json:"totalMem"`             // bytes
	Capability    int    `json:"capability,omitempty"` // of a GPU: 90 is compute capability 9.0
	DriverVersion int    `json:"driverVersion"`        // 1000·major + 10·minor, as the driver says
	FastBF16      bool   `json:"fastBF16"`             // products of bfloat16 are faster than those of float32
	Checked       bool   `json:"checked,omitempty"`
	Build         string `json:"build"` // SHA-256 of the C++ half
}

// Open opens the first device. GOCP_DEVICE has been read by then: the choice between the driver
// and the host engine is made before main.
func Open() (*Device, error) { return OpenAt(0) }

// Count is how many devices there are: 1 on the host engine, on a GPU what the driver shows, which
// CUDA_VISIBLE_DEVICES limits.
func Count() (int, error) {
	n, err := cu.NumDevices()
	if err != nil {
		return 0, describe("count the devices", err)
	}
	return n, nil
}

// OpenAt opens one of Count devices, counted from 0. Devices have a context each: memory and streams
// of one are nothing to another.
func OpenAt(index int) (*Device, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dev, err := cu.GetDevice(index)
	if err != nil {
		return nil, describe(fmt.Sprintf("open device %d", index), err)
	}
	name, err := dev.Name()
	if err != nil {
		return nil, describe("ask the device's name", err)
	}
	total, err := dev.TotalMem()
	if err != nil {
		return nil, describe("ask the device's memory", err)
	}
	primary, err := dev.RetainPrimaryCtx()
	if err != nil {
		return nil, describe("make a context", err)
	}
	d := &Device{
		info: Info{
			Backend: csrc.Backend(), Index: index, Name: name, Why: csrc.Why(), ISA: csrc.ISA(), OneDNN: csrc.OneDNN(), Cores: csrc.Cores(),
			TotalMem: total, DriverVersion: cu.Version(), Checked: csrc.Checked(), Build: csrc.BuildHash(),
			FastBF16: cpu.X86.HasAVX512BF16 || cpu.X86.HasAMXBF16,
		},
		cu:        dev,
		context:   primary,
		kinds:     csrc.Kernels(),
		functions: map[string]*function{},
	}
	d.waits = d.info.Backend == "cuda" && d.info.Checked
	if d.info.Backend == "cuda" { // tensor cores take bfloat16 from Ampere on
		major, err := dev.Attribute(cu.ComputeCapabilityMajor)
		if err != nil {
			return nil, first(describe("ask the compute capability", err), dev.ReleasePrimaryCtx())
		}
		minor, err := dev.Attribute(cu.ComputeCapabilityMinor)
		if err != nil {
			return nil, first(describe("ask the compute capability", err), dev.ReleasePrimaryCtx())
		}
		d.info.FastBF16, d.info.Capability = major >= 8, 10*major+minor
		if id, err := dev.UUID(); err == nil {
			d.info.UUID = "GPU-" + id.String()
			if csrc.IsSlice(int(dev)) {
				d.info.UUID = "MIG-" + id.String()
			}
		}
	}
	if err := d.load(); err != nil {
		return nil, first(err, dev.ReleasePrimaryCtx())
	}
	return d, nil
}

// first is the first error: what comes after one that ended the context says nothing new.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// load finds the kernels: the host engine has its own, a GPU takes the image that GOCP_IMAGE names, or
// else the one in this binary.
func (d *Device) load() error {
	if d.info.Backend != "cuda" {
		d.image = whole("the host engine", "")
		return nil
	}
	name, data := "this build's GPU code", csrc.Image()
	if path := os.Getenv("GOCP_IMAGE"); path != "" {
		var err error
		if data, err = os.ReadFile(path); err != nil {
			return fmt.Errorf("device: GOCP_IMAGE: %w", err)
		}
		name = path
	}
	sum := sha256.Sum256(data)
	d.info.Image = hex.EncodeToString(sum[:])
	var err error
	d.image, err = parseImage(name, data)
	return err
}

// Info describes the device.
func (d *Device) Info() Info { return d.info }

// Kernels lists the names of the kernels, sorted. Of a GPU image that is a fatbin alone it knows none.
func (d *Device) Kernels() []string {
	if d.info.Backend == "cuda" {
		return slices.Sorted(maps.Keys(d.image.kernels))
	}
	return slices.Sorted(maps.Keys(d.kinds))
}

// InUse is the number of bytes allocated on the device (by everyone, on a GPU).
func (d *Device) InUse() int64 {
	var n int64
	err := d.current(func() error {
		n = csrc.MemInUse()
		return nil
	})
	if err != nil {
		return 0
	}
	return n
}

// Close releases the device. Calls of Do must have returned.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	if d.running > 0 {
		return fmt.Errorf("device: close with %d calls of Do running", d.running)
	}
	d.closed = true
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(d.context); err != nil {
		return describe("make the context current", err)
	}
	if err := d.image.unload(); err != nil {
		return err
	}
	if err := d.cu.ReleasePrimaryCtx(); err != nil {
		return describe("release the context", err)
	}
	return nil
}

// current runs f on an OS thread on which the device's context is current.
func (d *Device) current(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(d.context); err != nil {
		return describe("make the context current", err)
	}
	return f()
}

// Do makes a stream of the given width (the number of threads that share a launch on the host; 0
// is all cores), runs f, waits for the stream, and frees everything f allocated on it. It returns
// f's error, or else the stream's. The stream is f's alone: f must not pass it to other goroutines,
// nor use it after returning. Several calls may run at once, each on its own stream.
func (d *Device) Do(ctx context.Context, width int, f func(s *Stream) error) error {
	if width < 0 {
		return fmt.Errorf("device: a stream of width %d", width)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errors.New("device: closed")
	}
	d.running++
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.running--
		d.mu.Unlock()
	}()
	return d.current(func() (err error) {
		s, err := newStream(ctx, d, width)
		if err != nil {
			return err
		}
		defer func() { // f may panic, or end its goroutine
			closed := s.close()
			if err == nil {
				err = closed
			}
		}()
		return f(s)
	})
}

// function looks a kernel up by name, once.
func (d *Device) function(name string) (*function, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.functions[name]; f != nil {
		return f, nil
	}
	fn, err := d.image.function(name, d.info.Name)
	if err != nil {
		return nil, err
	}
	kinds, known := d.kinds[name]
	f := &function{cu: fn, name: name, kinds: kinds, known: known}
	d.functions[name] = f
	return f, nil
}
