package nvidia

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
)

// dgx is a DGX A100 whose cards answer everything that is asked. A function of the mock that is not
// set panics when it is called.
func dgx() *dgxa100.Server {
	s := dgxa100.New()
	s.SystemGetProcessNameFunc = func(pid int) (string, nvml.Return) { return "python", nvml.SUCCESS }
	for i := range s.Devices {
		d := s.Devices[i].(*dgxa100.Device)
		d.MemoryInfo.Used = uint64(i) << 30
		energy := uint64(1_000_000 * (i + 1))
		d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 250_000, nvml.SUCCESS }
		d.GetEnforcedPowerLimitFunc = func() (uint32, nvml.Return) { return 400_000, nvml.SUCCESS }
		d.GetTotalEnergyConsumptionFunc = func() (uint64, nvml.Return) { energy += 2500; return energy, nvml.SUCCESS }
		d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 75, Memory: 10}, nvml.SUCCESS }
		d.GetClockInfoFunc = func(c nvml.ClockType) (uint32, nvml.Return) {
			return map[nvml.ClockType]uint32{nvml.CLOCK_SM: 1410, nvml.CLOCK_MEM: 1215}[c], nvml.SUCCESS
		}
		d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 61, nvml.SUCCESS }
		d.GetCurrentClocksThrottleReasonsFunc = func() (uint64, nvml.Return) { return 1 | 4 | 64, nvml.SUCCESS } // idle is none
		d.GetTotalEccErrorsFunc = func(k nvml.MemoryErrorType, c nvml.EccCounterType) (uint64, nvml.Return) {
			if c != nvml.VOLATILE_ECC {
				return 0, nvml.ERROR_INVALID_ARGUMENT
			}
			return map[nvml.MemoryErrorType]uint64{nvml.MEMORY_ERROR_TYPE_CORRECTED: 3, nvml.MEMORY_ERROR_TYPE_UNCORRECTED: 1}[k], nvml.SUCCESS
		}
		d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 77, UsedGpuMemory: 5 << 20}, {Pid: 78, UsedGpuMemory: ^uint64(0)}}, nvml.SUCCESS
		}
	}
	return s
}

func device(s *dgxa100.Server, i int) *dgxa100.Device { return s.Devices[i].(*dgxa100.Device) }

func TestSample(t *testing.T) {
	s := dgx()
	shut := 0
	s.ShutdownFunc = func() nvml.Return { shut++; return nvml.SUCCESS }
	g, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	if g.Driver != "550.54.15" || len(g.Sample()) != 8 {
		t.Errorf("driver %q", g.Driver)
	}
	r := g.Sample()[2]
	if r.Kind != "gpu" || r.ID != device(s, 2).UUID || r.Name != "Mock NVIDIA A100-SXM4-40GB" {
		t.Errorf("%+v", r)
	}
	for what, v := range map[string]struct{ got, want float64 }{
		"power": {*r.Power, 250}, "limit": {*r.PowerLimit, 400}, "energy since the first sample": {*r.Energy, 2.5}, "utilization": {*r.Utilization, 0.75},
		"clock": {*r.Clock, 1410}, "memory clock": {*r.MemoryClock, 1215}, "temperature": {*r.Temperature, 61},
		"memory": {float64(*r.MemoryUsed), 2 << 30}, "in all": {float64(*r.MemoryTotal), 40 << 30}, "corrected": {float64(*r.Corrected), 3}, "uncorrected": {float64(*r.Uncorrected), 1},
	} {
		if v.got != v.want {
			t.Errorf("%s: %v, want %v", what, v.got, v.want)
		}
	}
	if want := []string{"power_cap", "hardware_thermal"}; !slices.Equal(r.Throttle, want) {
		t.Errorf("throttled by %v, want %v", r.Throttle, want)
	}
	if p := r.Processes; len(p) != 2 || p[0].PID != 77 || p[0].Name != "python" || *p[0].Memory != 5<<20 || p[1].Memory != nil {
		t.Errorf("processes %+v", p)
	}
	if err := g.Close(); err != nil || shut != 1 {
		t.Errorf("close: %v, %d", err, shut)
	}
}

func TestSome(t *testing.T) {
	s := dgx()
	g, err := Open(s, device(s, 5).UUID, device(s, 1).UUID)
	if err != nil {
		t.Fatal(err)
	}
	if r := g.Sample(); len(r) != 2 || r[0].ID != device(s, 1).UUID || r[1].ID != device(s, 5).UUID {
		t.Errorf("%+v", r)
	}
	if _, err := Open(s, "GPU-none"); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "GPU-none") {
		t.Errorf("a GPU that is not there: %v", err)
	}
}

// After a failed Init nothing is called: everything else of this mock panics.
func TestAbsent(t *testing.T) {
	for ret, want := range map[nvml.Return]string{
		nvml.ERROR_LIBRARY_NOT_FOUND:       "there is no NVIDIA driver",
		nvml.ERROR_DRIVER_NOT_LOADED:       "is not loaded",
		nvml.ERROR_LIB_RM_VERSION_MISMATCH: "different versions",
		nvml.ERROR_UNKNOWN:                 "failed and does not say why",
		nvml.Return(77):                    "failed with the NVML code 77",
	} {
		lib := &mock.Interface{InitFunc: func() nvml.Return { return ret }}
		if _, err := Open(lib); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", ret, err)
		}
		if Cards(lib) != nil {
			t.Error("cards without a driver")
		}
	}
	if _, err := Open(Library()); err != nil && !errors.Is(err, ErrAbsent) {
		t.Errorf("this machine: %v", err)
	}
}

func TestNone(t *testing.T) {
	s := dgx()
	s.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.SUCCESS }
	shut := false
	s.ShutdownFunc = func() nvml.Return { shut = true; return nvml.SUCCESS }
	if _, err := Open(s); !errors.Is(err, ErrAbsent) || !shut {
		t.Errorf("no GPU: %v, shut down: %v", err, shut)
	}
}

// A card that fails in the middle is not asked again; the others go on.
func TestLost(t *testing.T) {
	s := dgx()
	g, err := Open(s, device(s, 0).UUID, device(s, 1).UUID)
	if err != nil {
		t.Fatal(err)
	}
	g.Sample()
	d := device(s, 0)
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, nvml.ERROR_GPU_IS_LOST }
	d.GetMemoryInfoFunc = nil // the calls after it: they would panic
	r := g.Sample()
	if r[0].Lost == "" || r[0].Power != nil || r[0].ID != d.UUID || r[1].Lost != "" || r[1].Power == nil {
		t.Errorf("%+v", r)
	}
	d.GetPowerUsageFunc = nil
	if r := g.Sample(); r[0].Lost == "" || r[1].Power == nil {
		t.Errorf("after it: %+v", r)
	}
}

// An old card or driver has not everything: a function that the library lacks must not be called.
func TestOld(t *testing.T) {
	s := dgx()
	s.LookupSymbolFunc = func(symbol string) error { return errors.New("no such function") }
	s.SystemGetProcessNameFunc = nil
	d := device(s, 0)
	d.GetTotalEnergyConsumptionFunc, d.GetCurrentClocksThrottleReasonsFunc, d.GetTotalEccErrorsFunc, d.GetEnforcedPowerLimitFunc = nil, nil, nil, nil
	d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
	g, err := Open(s, d.UUID)
	if err != nil {
		t.Fatal(err)
	}
	r := g.Sample()[0]
	if r.Energy != nil || r.Power != nil || r.PowerLimit != nil || r.Throttle != nil || r.Corrected != nil || r.Lost != "" || r.Utilization == nil {
		t.Errorf("%+v", r)
	}
}

// Of a slice no power is read, for it would be the whole card's: the functions for it are not called.
func TestSlice(t *testing.T) {
	split := func(parts int) (*dgxa100.Server, *dgxa100.Device) {
		s := dgx()
		d := device(s, 3)
		d.MigMode = nvml.DEVICE_MIG_ENABLE
		d.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
		d.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
			if i >= parts {
				return nil, nvml.ERROR_NOT_FOUND
			}
			return &mock.Device{
				GetUUIDFunc: func() (string, nvml.Return) { return "MIG-part-" + string(rune('a'+i)), nvml.SUCCESS },
				GetNameFunc: func() (string, nvml.Return) { return "A100 MIG 1g.5gb", nvml.SUCCESS },
				GetComputeRunningProcessesFunc: func() ([]nvml.ProcessInfo, nvml.Return) {
					return []nvml.ProcessInfo{{Pid: uint32(100 + i)}}, nvml.SUCCESS
				},
				GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
					return nvml.Memory{Total: 5 << 30, Used: uint64(i+1) << 20}, nvml.SUCCESS
				},
			}, nvml.SUCCESS
		}
		return s, d
	}
	for _, c := range []struct {
		name, id   string // id "": the card's
		parts      int
		gives      string // the UUID of what is read
		calledName string
		memory     uint64
	}{
		{"by its own UUID", "MIG-part-b", 3, "MIG-part-b", "A100 MIG 1g.5gb", 2 << 20},
		{"by its own UUID, as CUDA writes it", "GPU-part-b", 3, "MIG-part-b", "A100 MIG 1g.5gb", 2 << 20},
		{"by the card's, where there is one slice", "", 1, "", "A100 MIG 1g.5gb", 1 << 20},
		{"by the card's, where there are several", "", 3, "", "Mock NVIDIA A100-SXM4-40GB, a MIG slice", 0},
	} {
		s, d := split(c.parts)
		if c.id == "" {
			c.id, c.gives = d.UUID, d.UUID
		}
		d.GetPowerUsageFunc, d.GetTotalEnergyConsumptionFunc, d.GetUtilizationRatesFunc, d.GetEnforcedPowerLimitFunc = nil, nil, nil, nil
		g, err := Open(s, c.id)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		rs := g.Sample()
		r := rs[0]
		if len(rs) != 1 || r.ID != c.gives || r.Name != c.calledName || r.Power != nil || r.Energy != nil || r.Utilization != nil || r.PowerLimit != nil ||
			!strings.Contains(r.Slice, "MIG slice") || r.Temperature == nil || r.Lost != "" {
			t.Errorf("%s: %+v", c.name, rs)
		}
		// Processes are those of the slice; of an unknown one none, rather than the card's.
		if c.memory == 0 && r.Processes != nil || c.memory != 0 && (len(r.Processes) != 1 || r.Processes[0].PID != 99+int(c.memory>>20)) {
			t.Errorf("%s: processes %+v", c.name, r.Processes)
		}
		if (r.MemoryUsed == nil) != (c.memory == 0) || r.MemoryUsed != nil && *r.MemoryUsed != c.memory {
			t.Errorf("%s: memory %v", c.name, r.MemoryUsed)
		}
	}
	// Who looks at the machine sees the card, with its power.
	s, _ := split(2)
	g, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	if r := g.Sample()[3]; r.Name != "Mock NVIDIA A100-SXM4-40GB, split by MIG" || r.Power == nil || r.Slice != "" {
		t.Errorf("the card: %+v", r)
	}
	if _, err := Open(s, "GPU-none"); !errors.Is(err, ErrAbsent) {
		t.Errorf("another: %v", err)
	}
}

func TestCards(t *testing.T) {
	got := Cards(dgx())
	if len(got) != 8 || got[0].Name == "" || got[0].Memory == 0 || got[0].Driver == "" {
		t.Errorf("a DGX A100 shows as %+v", got)
	}
}
