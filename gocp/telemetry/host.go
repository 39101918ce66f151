package telemetry

import (
	"cmp"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Host reads the processor from /proc and /sys.
type Host struct {
	root      fs.FS
	processes int
	now       func() time.Time

	name     string
	rapl     []*rapl
	energy   float64           // joules so far
	throttle map[string]uint64 // counters of throttling

	// What is told over a time: when that began, the counters then, and what the one before it said.
	at     time.Time
	busy   ticks
	joules float64
	load   map[int]uint64 // ticks of each process
	over   Reading
}

type ticks struct{ busy, all uint64 }

// shortest is the least time over which anything is told: the kernel counts in hundredths of a
// second.
const shortest = 100 * time.Millisecond

// NewHost reads this machine, and of its processes the given number, the busiest first.
func NewHost(processes int) *Host { return newHost(os.DirFS("/"), processes, time.Now) }

func newHost(root fs.FS, processes int, now func() time.Time) *Host {
	h := &Host{root: root, processes: processes, now: now, name: processorName(root), rapl: openRAPL(root)}
	h.Sample() // what is told as a difference begins here
	return h
}

// Close does nothing.
func (h *Host) Close() error { return nil }

// Sample reads the processor. Utilization, power and processes are over the time since a reading
// before.
func (h *Host) Sample() []Reading {
	r := Reading{Kind: "cpu", ID: "0", Name: h.name}
	now := h.now()
	r.MemoryUsed, r.MemoryTotal = memory(h.root)
	r.Clock = clock(h.root)
	r.Temperature = temperature(h.root)
	r.Throttle = h.throttled()
	read := false
	for _, c := range h.rapl {
		if j, ok := c.rise(h.root); ok {
			h.energy, read = h.energy+j, true
		}
	}
	if read {
		r.Energy = ptr(h.energy)
	}
	if past := now.Sub(h.at); h.at.IsZero() || past >= shortest {
		busy, ok := h.ticks()
		all := busy.all - h.busy.all
		first := h.at.IsZero()
		h.over = Reading{}
		if ok && !first && busy.all > h.busy.all && busy.busy >= h.busy.busy {
			h.over.Utilization = ptr(float64(busy.busy-h.busy.busy) / float64(all))
		}
		if read && !first {
			h.over.Power = ptr((h.energy - h.joules) / past.Seconds())
		}
		if h.processes > 0 {
			h.over.Processes = h.busiest(all)
		}
		h.at, h.busy, h.joules = now, busy, h.energy
	}
	r.Utilization, r.Power, r.Processes = h.over.Utilization, h.over.Power, h.over.Processes
	return []Reading{r}
}

func ptr[T any](v T) *T { return &v }

// text is the first line of a file, "" if it cannot be read.
func text(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

func number(root fs.FS, name string) (uint64, bool) {
	v, err := strconv.ParseUint(text(root, name), 10, 64)
	return v, err == nil
}

// ticks are those of all processors since the machine started.
func (h *Host) ticks() (ticks, bool) {
	f := strings.Fields(text(h.root, "proc/stat"))
	if len(f) < 6 || f[0] != "cpu" {
		return ticks{}, false
	}
	var t ticks
	for i, s := range f[1:min(len(f), 9)] { // guests are counted in user already
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return ticks{}, false
		}
		t.all += v
		if i != 3 && i != 4 { // idle, waiting for a disk
			t.busy += v
		}
	}
	return t, true
}

// values are the numbers of a file of lines "name: value", by name.
func values(root fs.FS, file string, of func(name, value string)) {
	b, err := fs.ReadFile(root, file)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			of(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
}

func memory(root fs.FS) (used, total *uint64) {
	kib := map[string]uint64{}
	values(root, "proc/meminfo", func(name, value string) {
		if v, err := strconv.ParseUint(strings.TrimSuffix(value, " kB"), 10, 64); err == nil {
			kib[name] = v
		}
	})
	all, ok := kib["MemTotal"]
	available, too := kib["MemAvailable"]
	if !ok || !too || available > all {
		return nil, nil
	}
	return ptr((all - available) << 10), ptr(all << 10)
}

func processorName(root fs.FS) string {
	found := ""
	values(root, "proc/cpuinfo", func(name, value string) {
		if found == "" && (name == "model name" || name == "Model") {
			found = value
		}
	})
	return cmp.Or(found, "processor")
}

// clock is the mean over the cores, in MHz.
func clock(root fs.FS) *float64 {
	sum, n := 0.0, 0
	values(root, "proc/cpuinfo", func(name, value string) {
		if v, err := strconv.ParseFloat(value, 64); name == "cpu MHz" && err == nil {
			sum, n = sum+v, n+1
		}
	})
	if n == 0 {
		return nil
	}
	return ptr(sum / float64(n))
}

// temperature is that of the hottest processor, in degrees Celsius.
func temperature(root fs.FS) *float64 {
	var hottest *float64
	zones, _ := fs.Glob(root, "sys/class/thermal/thermal_zone*") // the pattern is a good one
	for _, z := range zones {
		kind := text(root, path.Join(z, "type"))
		if kind != "x86_pkg_temp" && !strings.HasPrefix(kind, "cpu") {
			continue
		}
		if v, err := strconv.ParseFloat(text(root, path.Join(z, "temp")), 64); err == nil {
			if c := v / 1000; hottest == nil || c > *hottest {
				hottest = &c
			}
		}
	}
	return hottest
}

// throttled tells whether a processor was slowed down by heat since the last reading.
func (h *Host) throttled() []string {
	counters, _ := fs.Glob(h.root, "sys/devices/system/cpu/cpu*/thermal_throttle/package_throttle_count")
	now := make(map[string]uint64, len(counters))
	hot := false
	for _, c := range counters {
		v, ok := number(h.root, c)
		if !ok {
			continue
		}
		now[c] = v
		last, seen := h.throttle[c]
		hot = hot || seen && v > last
	}
	h.throttle = now
	if hot {
		return []string{"thermal"}
	}
	return nil
}

// busiest lists the processes that used the processor most since the last reading, of which all
// processors together had so many ticks.
func (h *Host) busiest(all uint64) []Process {
	entries, err := fs.ReadDir(h.root, "proc")
	if err != nil {
		return nil
	}
	cores, _ := fs.Glob(h.root, "sys/devices/system/cpu/cpu[0-9]*")
	type used struct {
		Process
		ticks uint64
	}
	var found []used
	now := map[int]uint64{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// The name is in brackets and may hold anything.
		stat := text(h.root, path.Join("proc", e.Name(), "stat"))
		open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
		if open < 0 || end < open {
			continue
		}
		f := strings.Fields(stat[end+1:])
		if len(f) < 22 {
			continue
		}
		user, e1 := strconv.ParseUint(f[11], 10, 64)
		system, e2 := strconv.ParseUint(f[12], 10, 64)
		pages, e3 := strconv.ParseUint(f[21], 10, 64)
		if e1 != nil || e2 != nil || e3 != nil {
			continue
		}
		now[pid] = user + system
		last, seen := h.load[pid]
		if !seen || now[pid] <= last || all == 0 {
			continue
		}
		u := float64(now[pid]-last) / float64(all) * float64(max(len(cores), 1))
		found = append(found, used{Process{PID: pid, Name: stat[open+1 : end], Memory: ptr(pages * uint64(os.Getpagesize())), Utilization: &u}, now[pid] - last})
	}
	h.load = now
	slices.SortStableFunc(found, func(a, b used) int { return cmp.Compare(b.ticks, a.ticks) })
	var out []Process
	for _, u := range found[:min(len(found), h.processes)] {
		out = append(out, u.Process)
	}
	return out
}
