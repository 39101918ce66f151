package telemetry

import (
	"fmt"
	"math"
	"testing"
	"testing/fstest"
	"time"
)

// machine is a /proc and a /sys, and a clock.
type machine struct {
	files fstest.MapFS
	clock time.Time
}

func (m *machine) set(name, format string, args ...any) {
	m.files[name] = &fstest.MapFile{Data: fmt.Appendf(nil, format+"\n", args...)}
}

func (m *machine) now() time.Time { return m.clock }

// server is a machine of two cores and two packages that tells everything.
func server() *machine {
	m := &machine{files: fstest.MapFS{}, clock: time.Unix(1000, 0)}
	m.set("proc/cpuinfo", "processor: 0\nmodel name\t: Some CPU @ 3 GHz\ncpu MHz\t\t: 2000.5\n\nprocessor: 1\nmodel name\t: Some CPU @ 3 GHz\ncpu MHz\t\t: 3000.5")
	m.set("proc/meminfo", "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB")
	m.set("proc/stat", "cpu  100 0 50 800 50 0 0 0 30 0\ncpu0 1 2 3")
	for i := range 2 {
		dir := fmt.Sprintf("sys/class/powercap/intel-rapl:%d", i)
		m.set(dir+"/name", "package-%d", i)
		m.set(dir+"/max_energy_range_uj", "10000000")
		m.set(dir+"/energy_uj", "%d", 9_000_000+500_000*i)
		m.set(fmt.Sprintf("sys/devices/system/cpu/cpu%d/online", i), "1")
	}
	m.set("sys/class/powercap/intel-rapl:0:0/name", "core") // a part of package 0
	m.set("sys/class/powercap/intel-rapl:0:0/max_energy_range_uj", "10000000")
	m.set("sys/class/powercap/intel-rapl:0:0/energy_uj", "5")
	m.set("sys/class/powercap/intel-rapl:0:1/name", "dram")
	m.set("sys/class/powercap/intel-rapl:0:1/max_energy_range_uj", "10000000")
	m.set("sys/class/powercap/intel-rapl:0:1/energy_uj", "0")
	m.set("sys/class/thermal/thermal_zone0/type", "acpitz")
	m.set("sys/class/thermal/thermal_zone0/temp", "99000")
	m.set("sys/class/thermal/thermal_zone1/type", "x86_pkg_temp")
	m.set("sys/class/thermal/thermal_zone1/temp", "51500")
	m.set("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "7")
	m.process(12, "a (b) c", 10)
	m.process(13, "idle", 0)
	return m
}

func (m *machine) process(pid int, name string, ticks int) {
	m.set(fmt.Sprintf("proc/%d/stat", pid), "%d (%s) S 1 1 1 0 -1 0 0 0 0 0 %d 0 0 0 20 0 1 0 100 4096 2 0", pid, name, ticks)
}

func near(a *float64, b float64) bool { return a != nil && math.Abs(*a-b) < 1e-9 }

func TestHost(t *testing.T) {
	m := server()
	h := newHost(m.files, 5, m.now)
	r := h.Sample()[0]
	if r.Power != nil || r.Utilization != nil || !near(r.Energy, 0) {
		t.Errorf("at the first moment: %+v", r)
	}
	m.clock = m.clock.Add(2 * time.Second)
	m.set("proc/stat", "cpu  160 0 90 870 60 10 5 5 30 0") // 200 more, 120 of them busy
	m.set("sys/class/powercap/intel-rapl:0/energy_uj", "9999999")
	m.set("sys/class/powercap/intel-rapl:1/energy_uj", "500000")   // over its range: 1 J
	m.set("sys/class/powercap/intel-rapl:0:1/energy_uj", "250000") // of the memory
	m.set("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "9")
	m.process(12, "a (b) c", 60)
	r = h.Sample()[0]
	if r.Kind != "cpu" || r.Name != "Some CPU @ 3 GHz" {
		t.Errorf("%+v", r)
	}
	if !near(r.Utilization, 0.6) || !near(r.Energy, 2.249999) || !near(r.Power, 2.249999/2) {
		t.Errorf("utilization %v, energy %v, power %v", *r.Utilization, *r.Energy, *r.Power)
	}
	if *r.MemoryUsed != 600<<10 || *r.MemoryTotal != 1000<<10 || !near(r.Clock, 2500.5) || !near(r.Temperature, 51.5) {
		t.Errorf("memory %v of %v, clock %v, temperature %v", *r.MemoryUsed, *r.MemoryTotal, *r.Clock, *r.Temperature)
	}
	if len(r.Throttle) != 1 || r.Throttle[0] != "thermal" {
		t.Errorf("throttled by %v", r.Throttle)
	}
	if len(r.Processes) != 1 || r.Processes[0].PID != 12 || r.Processes[0].Name != "a (b) c" || !near(r.Processes[0].Utilization, 0.5) {
		t.Errorf("processes %+v", r.Processes)
	}
	// A moment later the energy is new and what is told over a time is not.
	m.clock = m.clock.Add(time.Millisecond)
	m.set("sys/class/powercap/intel-rapl:1/energy_uj", "1500000")
	if again := h.Sample()[0]; !near(again.Energy, 3.249999) || !near(again.Power, *r.Power) || !near(again.Utilization, 0.6) || again.Throttle != nil {
		t.Errorf("a moment later: %+v", again)
	}
}

// A counter that wraps again and again loses nothing.
func TestRAPLWraps(t *testing.T) {
	m := server()
	h := newHost(m.files, 0, m.now)
	sum := 0
	for i := range 50 {
		sum += 700_000
		m.set("sys/class/powercap/intel-rapl:0/energy_uj", "%d", (9_000_000+sum)%10_000_000)
		m.clock = m.clock.Add(time.Second)
		r := h.Sample()[0]
		if want := float64(sum) / 1e6; !near(r.Energy, want) || !near(r.Power, 0.7) && math.Abs(*r.Power-0.7) > 1e-9 {
			t.Fatalf("after %d samples: energy %v, want %v; power %v", i+1, *r.Energy, want, *r.Power)
		}
	}
}

// Most machines tell some of it: counters only root may read, no sensors, no /proc at all.
func TestHostThatTellsLittle(t *testing.T) {
	m := server()
	delete(m.files, "sys/class/powercap/intel-rapl:0/energy_uj")
	delete(m.files, "sys/class/powercap/intel-rapl:1/energy_uj")
	delete(m.files, "sys/class/powercap/intel-rapl:0:1/energy_uj")
	delete(m.files, "sys/class/thermal/thermal_zone1/temp")
	h := newHost(m.files, 0, m.now)
	m.clock = m.clock.Add(time.Second)
	if r := h.Sample()[0]; r.Energy != nil || r.Power != nil || r.Temperature != nil || r.MemoryUsed == nil {
		t.Errorf("%+v", r)
	}
	bare := newHost(fstest.MapFS{}, 3, m.now)
	m.clock = m.clock.Add(time.Second)
	if r := bare.Sample()[0]; r.Name != "processor" || r.Utilization != nil || r.MemoryUsed != nil || r.Clock != nil || r.Processes != nil {
		t.Errorf("%+v", r)
	}
	for _, stat := range []string{"", "cpu", "cpu 1 2 x 4 5 6", "intr 5 5 5 5 5 5 5"} {
		m.set("proc/stat", "%s", stat)
		m.clock = m.clock.Add(time.Second)
		if r := h.Sample()[0]; r.Utilization != nil {
			t.Errorf("utilization of %q: %v", stat, *r.Utilization)
		}
	}
}

// This machine, whatever it is.
func TestThisHost(t *testing.T) {
	h := NewHost(3)
	for range 2 {
		r := h.Sample()
		if len(r) != 1 || r[0].Name == "" {
			t.Fatalf("%+v", r)
		}
		if u := r[0].Utilization; u != nil && (*u < 0 || *u > 1) {
			t.Errorf("utilization %v", *u)
		}
		time.Sleep(shortest)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
