package nvidia

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gocp/gocp/gocp/telemetry"
)

// ErrAbsent is what an error wraps if there is no driver, or one without a GPU.
var ErrAbsent = errors.New("no NVIDIA GPU can be read")

// GPUs reads GPUs.
type GPUs struct {
	lib     nvml.Interface
	devices []*gpu
	Driver  string // its version
}

// gpu is one device.
type gpu struct {
	handle nvml.Device
	name   string
	id     string      // UUID
	slice  bool        // what is read is a MIG slice of the card of handle
	part   nvml.Device // and that slice; nil where nobody tells which of several it is

	has   map[string]bool // functions that the library and the device have
	base  uint64          // the energy counter when it was first read, in millijoules
	based bool
	lost  string
}

// Library is the driver's own NVML.
func Library() nvml.Interface { return nvml.New() }

// Open finds the GPUs with the given UUIDs, all if there are none given. Close must be called.
func Open(lib nvml.Interface, ids ...string) (*GPUs, error) {
	// After a failed Init nothing else may be called: the library is not there, and a call of a
	// function that was not found ends the process.
	if ret := lib.Init(); ret != nvml.SUCCESS {
		return nil, fmt.Errorf("%w: %s", ErrAbsent, failure(ret))
	}
	g := &GPUs{lib: lib}
	if err := g.find(ids); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// failure names what NVML returned, by a table of ours: its own needs the library.
func failure(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return "there is no NVIDIA driver (libnvidia-ml.so.1)"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "the NVIDIA driver is not loaded"
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return "the NVIDIA driver and its library are of different versions"
	case nvml.ERROR_NO_PERMISSION:
		return "the NVIDIA driver may not be used"
	case nvml.ERROR_GPU_IS_LOST:
		return "it has fallen off the bus, or the driver cannot reach it"
	case nvml.ERROR_FUNCTION_NOT_FOUND:
		return "the NVIDIA driver is too old"
	case nvml.ERROR_NOT_FOUND:
		return "there is no such GPU"
	case nvml.ERROR_UNINITIALIZED:
		return "NVML was shut down, or the driver was unloaded meanwhile"
	case nvml.ERROR_RESET_REQUIRED:
		return "it must be reset before it can be used again"
	case nvml.ERROR_NOT_SUPPORTED:
		return "this GPU or driver does not tell"
	case nvml.ERROR_INSUFFICIENT_POWER:
		return "a power cable is not attached"
	case nvml.ERROR_IRQ_ISSUE:
		return "the kernel has trouble with its interrupts"
	case nvml.ERROR_CORRUPTED_INFOROM:
		return "the card's own memory of itself is corrupted"
	case nvml.ERROR_OPERATING_SYSTEM:
		return "the operating system or a container keeps NVML from it"
	case nvml.ERROR_TIMEOUT:
		return "it did not answer in time"
	case nvml.ERROR_MEMORY, nvml.ERROR_INSUFFICIENT_RESOURCES:
		return "NVML has no memory left"
	case nvml.ERROR_INVALID_ARGUMENT, nvml.ERROR_ARGUMENT_VERSION_MISMATCH:
		return "the NVIDIA driver does not understand what it is asked"
	case nvml.ERROR_UNKNOWN:
		return "the NVIDIA driver failed and does not say why"
	}
	return fmt.Sprintf("the NVIDIA driver failed with the NVML code %d", int(ret))
}

func (g *GPUs) find(ids []string) error {
	g.Driver, _ = g.lib.SystemGetDriverVersion()
	n, ret := g.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return fmt.Errorf("%w: %s", ErrAbsent, failure(ret))
	}
	for i := range n {
		h, ret := g.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue // another user's
		}
		d := &gpu{handle: h, has: map[string]bool{}}
		if d.id, ret = h.GetUUID(); ret != nvml.SUCCESS {
			continue
		}
		d.name, _ = h.GetName()
		if !g.split(d, ids) && len(ids) > 0 && !slices.Contains(ids, d.id) {
			continue
		}
		for _, symbol := range []string{"nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetCurrentClocksThrottleReasons",
			"nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetEnforcedPowerLimit", "nvmlSystemGetProcessName"} {
			d.has[symbol] = g.lib.Extensions().LookupSymbol(symbol) == nil
		}
		g.devices = append(g.devices, d)
	}
	if len(g.devices) == 0 {
		if len(ids) > 0 {
			return fmt.Errorf("%w: NVML does not know %s", ErrAbsent, strings.Join(ids, ", "))
		}
		return fmt.Errorf("%w: the driver shows none", ErrAbsent)
	}
	return nil
}

// split turns d, if MIG has split it, into the slice of it that ids ask for, and reports whether it did.
// A program that computes on a slice may know it by the UUID of the slice or, by older drivers, of the
// card.
func (g *GPUs) split(d *gpu, ids []string) bool {
	if g.lib.Extensions().LookupSymbol("nvmlDeviceGetMigMode") != nil {
		return false
	}
	if mode, _, ret := d.handle.GetMigMode(); ret != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
		return false
	}
	if len(ids) == 0 { // the card itself
		d.name += ", split by MIG"
		return false
	}
	bare := func(id string) string { return strings.TrimPrefix(strings.TrimPrefix(id, "GPU-"), "MIG-") }
	wanted := func(id string) bool {
		return slices.ContainsFunc(ids, func(w string) bool { return bare(w) == bare(id) })
	}
	var parts []nvml.Device
	n, _ := d.handle.GetMaxMigDeviceCount()
	for i := range n {
		p, ret := d.handle.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue // no slice is in that place
		}
		id, ret := p.GetUUID()
		if ret == nvml.SUCCESS && wanted(id) {
			d.part, d.id, d.slice = p, id, true
		}
		parts = append(parts, p)
	}
	if !d.slice && wanted(d.id) {
		d.slice = true
		if len(parts) == 1 {
			d.part = parts[0]
		}
	}
	if !d.slice {
		return false
	}
	d.name += ", a MIG slice"
	if d.part != nil {
		if name, ret := d.part.GetName(); ret == nvml.SUCCESS && name != "" {
			d.name = name
		}
	}
	return true
}

// sliced says why a slice has no power.
const sliced = "a MIG slice: power, energy and load are told of the whole card alone"

// Close ends the use of the library.
func (g *GPUs) Close() error {
	if ret := g.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("NVML: shut down: %s", failure(ret))
	}
	return nil
}

// Sample reads every GPU. One that is lost is not asked again.
func (g *GPUs) Sample() []telemetry.Reading {
	out := make([]telemetry.Reading, len(g.devices))
	for i, d := range g.devices {
		out[i] = g.sample(d)
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func (g *GPUs) sample(d *gpu) telemetry.Reading {
	r := telemetry.Reading{Kind: "gpu", ID: d.id, Name: d.name}
	// ok tells whether a call worked. What a device has not is passed over; a device that is gone
	// gives no reading at all.
	ok := func(ret nvml.Return) bool {
		if ret == nvml.ERROR_GPU_IS_LOST || ret == nvml.ERROR_RESET_REQUIRED || ret == nvml.ERROR_UNINITIALIZED {
			d.lost = failure(ret)
		}
		return ret == nvml.SUCCESS && d.lost == ""
	}
	whole := []func(){
		func() {
			if mw, ret := d.handle.GetPowerUsage(); ok(ret) {
				r.Power = ptr(float64(mw) / 1000)
			}
		},
		func() {
			if !d.has["nvmlDeviceGetEnforcedPowerLimit"] {
				return
			}
			if mw, ret := d.handle.GetEnforcedPowerLimit(); ok(ret) {
				r.PowerLimit = ptr(float64(mw) / 1000)
			}
		},
		func() {
			if !d.has["nvmlDeviceGetTotalEnergyConsumption"] {
				return
			}
			mj, ret := d.handle.GetTotalEnergyConsumption()
			if !ok(ret) {
				return
			}
			if !d.based || mj < d.base { // it starts again with the driver
				d.base, d.based = mj, true
			}
			r.Energy = ptr(float64(mj-d.base) / 1000)
		},
		func() {
			if u, ret := d.handle.GetUtilizationRates(); ok(ret) {
				r.Utilization = ptr(float64(u.Gpu) / 100)
			}
		},
	}
	both := []func(){
		func() {
			of := d.handle
			if d.slice {
				of = d.part
			}
			if of == nil {
				return
			}
			if m, ret := of.GetMemoryInfo(); ok(ret) {
				r.MemoryUsed, r.MemoryTotal = ptr(m.Used), ptr(m.Total)
			}
		},
		func() {
			if mhz, ret := d.handle.GetClockInfo(nvml.CLOCK_SM); ok(ret) {
				r.Clock = ptr(float64(mhz))
			}
		},
		func() {
			if mhz, ret := d.handle.GetClockInfo(nvml.CLOCK_MEM); ok(ret) {
				r.MemoryClock = ptr(float64(mhz))
			}
		},
		func() {
			if c, ret := d.handle.GetTemperature(nvml.TEMPERATURE_GPU); ok(ret) {
				r.Temperature = ptr(float64(c))
			}
		},
		func() {
			if !d.has["nvmlDeviceGetCurrentClocksThrottleReasons"] {
				return
			}
			if bits, ret := d.handle.GetCurrentClocksThrottleReasons(); ok(ret) {
				r.Throttle = reasons(bits)
			}
		},
		func() { r.Corrected = g.ecc(d, nvml.MEMORY_ERROR_TYPE_CORRECTED, ok) },
		func() { r.Uncorrected = g.ecc(d, nvml.MEMORY_ERROR_TYPE_UNCORRECTED, ok) },
		func() { r.Processes = g.processes(d, ok) },
	}
	if d.slice {
		r.Slice = sliced
	} else {
		both = append(whole, both...)
	}
	for _, read := range both {
		if d.lost == "" {
			read()
		}
	}
	if d.lost != "" {
		return telemetry.Reading{Kind: r.Kind, ID: r.ID, Name: r.Name, Lost: d.lost}
	}
	return r
}

func (g *GPUs) ecc(d *gpu, kind nvml.MemoryErrorType, ok func(nvml.Return) bool) *uint64 {
	if !d.has["nvmlDeviceGetTotalEccErrors"] {
		return nil
	}
	n, ret := d.handle.GetTotalEccErrors(kind, nvml.VOLATILE_ECC)
	if !ok(ret) {
		return nil
	}
	return &n
}

func (g *GPUs) processes(d *gpu, ok func(nvml.Return) bool) []telemetry.Process {
	of := d.handle
	if d.slice { // those of other slices do not disturb it
		if of = d.part; of == nil {
			return nil
		}
	}
	list, ret := of.GetComputeRunningProcesses()
	if !ok(ret) {
		return nil
	}
	var out []telemetry.Process
	for _, p := range list {
		q := telemetry.Process{PID: int(p.Pid)}
		if p.UsedGpuMemory != ^uint64(0) { // not available
			q.Memory = ptr(p.UsedGpuMemory)
		}
		if d.has["nvmlSystemGetProcessName"] {
			if name, ret := g.lib.SystemGetProcessName(q.PID); ret == nvml.SUCCESS {
				q.Name = name
			}
		}
		out = append(out, q)
	}
	return out
}

// reasons names what holds the clocks back; a device that is idle, or runs at clocks that somebody
// set, is not held back.
func reasons(bits uint64) []string {
	var out []string
	for _, r := range []struct {
		bit  uint64
		name string
	}{
		{nvml.ClocksThrottleReasonSwPowerCap, "power_cap"},
		{nvml.ClocksThrottleReasonHwSlowdown, "hardware_slowdown"},
		{nvml.ClocksThrottleReasonSyncBoost, "sync_boost"},
		{nvml.ClocksThrottleReasonSwThermalSlowdown, "software_thermal"},
		{nvml.ClocksThrottleReasonHwThermalSlowdown, "hardware_thermal"},
		{nvml.ClocksThrottleReasonHwPowerBrakeSlowdown, "power_brake"},
	} {
		if bits&r.bit != 0 {
			out = append(out, r.name)
		}
	}
	return out
}

// Card is a GPU as NVML sees it, whether or not gocp computes on it.
type Card struct {
	Name   string `json:"name"`
	Memory uint64 `json:"memory_bytes"`
	Driver string `json:"driver"`
}

// Cards lists the machine's GPUs; without a driver there are none.
func Cards(lib nvml.Interface) []Card {
	g, err := Open(lib)
	if err != nil {
		return nil
	}
	var out []Card
	for _, d := range g.devices {
		c := Card{Name: d.name, Driver: g.Driver}
		if m, ret := d.handle.GetMemoryInfo(); ret == nvml.SUCCESS {
			c.Memory = m.Total
		}
		out = append(out, c)
	}
	_ = g.Close() // what it said is known
	return out
}
