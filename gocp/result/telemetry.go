package result

import (
	"cmp"
	"slices"
)

// Telemetry is what the machine said of itself while the work ran. Like clock times it differs from
// run to run, so it is not in result.json. What a device does not tell is absent.
type Telemetry struct {
	Seconds         float64   `json:"seconds"`                     // that were watched
	Joules          float64   `json:"joules,omitempty"`            // of all devices that say
	FromPower       float64   `json:"joules_from_power,omitempty"` // those among them that are power times time, for want of a counter
	JoulesPerPoison float64   `json:"joules_per_poison,omitempty"` // crafting's joules over the poisons crafted
	Work            []Work    `json:"work,omitempty"`
	Devices         []Watched `json:"devices"`
}

// Work is the part of one kind of job. Jobs that run at the same time share the energy equally.
type Work struct {
	Name    string  `json:"work"`
	Seconds float64 `json:"seconds"` // of all jobs together
	Joules  float64 `json:"joules,omitempty"`
	Count   int     `json:"count,omitempty"` // models trained, poisons crafted
}

// WorkCraft is the work whose count is poisons.
const WorkCraft = "craft"

// Watched is one device.
type Watched struct {
	Kind        string             `json:"kind"` // gpu or cpu
	ID          string             `json:"id"`
	Name        string             `json:"name"`
	Seconds     float64            `json:"seconds"`
	Samples     int                `json:"samples"`
	Joules      float64            `json:"joules,omitempty"`
	FromPower   float64            `json:"joules_from_power,omitempty"` // as Telemetry's
	Slice       string             `json:"slice,omitempty"`             // why a part of a device tells less than the whole
	Power       *Gauge             `json:"power_watts,omitempty"`
	Utilization *Gauge             `json:"utilization,omitempty"` // share of the time
	Memory      *Gauge             `json:"memory_bytes,omitempty"`
	MemoryTotal uint64             `json:"memory_total_bytes,omitempty"`
	Clock       *Gauge             `json:"clock_mhz,omitempty"`
	MemoryClock *Gauge             `json:"memory_clock_mhz,omitempty"`
	Temperature *Gauge             `json:"temperature_celsius,omitempty"`
	Throttled   map[string]float64 `json:"throttled_seconds,omitempty"` // by reason
	Corrected   uint64             `json:"ecc_corrected,omitempty"`     // errors of the memory, new since the start
	Uncorrected uint64             `json:"ecc_uncorrected,omitempty"`
	Lost        string             `json:"lost,omitempty"` // why nothing was read any more
}

// Gauge sums up a quantity over time.
type Gauge struct {
	Mean    float64 `json:"mean"`
	Max     float64 `json:"max"`
	Seconds float64 `json:"seconds"` // the weight of Mean
}

// Observe adds that the quantity was v for a number of seconds.
func (g *Gauge) Observe(v, seconds float64) {
	g.merge(Gauge{Mean: v, Max: v, Seconds: seconds})
}

func (g *Gauge) merge(o Gauge) {
	switch s := g.Seconds + o.Seconds; {
	case *g == (Gauge{}):
		*g = o
		return
	case s > 0:
		g.Mean += (o.Mean - g.Mean) * o.Seconds / s
		g.Seconds = s
	}
	g.Max = max(g.Max, o.Max)
}

func merged(a, b *Gauge) *Gauge {
	if b == nil {
		return a
	}
	if a == nil {
		a = new(Gauge)
	}
	a.merge(*b)
	return a
}

// Add adds what another part of the same run saw.
func (t *Telemetry) Add(o *Telemetry) {
	t.Seconds += o.Seconds
	t.Joules += o.Joules
	t.FromPower += o.FromPower
	for _, w := range o.Work {
		at := t.work(w.Name)
		at.Seconds += w.Seconds
		at.Joules += w.Joules
		at.Count += w.Count
	}
	for i := range o.Devices {
		d := &o.Devices[i]
		t.Device(d.Kind, d.ID).add(d)
	}
	t.perPoison()
}

// Spend adds seconds, joules and finished pieces to a kind of work.
func (t *Telemetry) Spend(name string, seconds, joules float64, count int) {
	w := t.work(name)
	w.Seconds += seconds
	w.Joules += joules
	w.Count += count
	t.perPoison()
}

func (t *Telemetry) work(name string) *Work {
	i, found := slices.BinarySearchFunc(t.Work, name, func(w Work, name string) int { return cmp.Compare(w.Name, name) })
	if !found {
		t.Work = slices.Insert(t.Work, i, Work{Name: name})
	}
	return &t.Work[i]
}

func (t *Telemetry) perPoison() {
	t.JoulesPerPoison = 0
	for _, w := range t.Work {
		if w.Name == WorkCraft && w.Count > 0 {
			t.JoulesPerPoison = w.Joules / float64(w.Count)
		}
	}
}

// Device returns a device's entry, made if it is not there.
func (t *Telemetry) Device(kind, id string) *Watched {
	for i := range t.Devices {
		if d := &t.Devices[i]; d.Kind == kind && d.ID == id {
			return d
		}
	}
	t.Devices = append(t.Devices, Watched{Kind: kind, ID: id})
	return &t.Devices[len(t.Devices)-1]
}

func (d *Watched) add(o *Watched) {
	d.Name, d.MemoryTotal = o.Name, max(d.MemoryTotal, o.MemoryTotal)
	d.Seconds += o.Seconds
	d.Samples += o.Samples
	d.Joules += o.Joules
	d.FromPower += o.FromPower
	d.Slice = cmp.Or(o.Slice, d.Slice)
	for _, g := range []struct {
		to   **Gauge
		from *Gauge
	}{{&d.Power, o.Power}, {&d.Utilization, o.Utilization}, {&d.Memory, o.Memory}, {&d.Clock, o.Clock},
		{&d.MemoryClock, o.MemoryClock}, {&d.Temperature, o.Temperature}} {
		*g.to = merged(*g.to, g.from)
	}
	for why, s := range o.Throttled {
		d.Throttle(why, s)
	}
	d.Corrected += o.Corrected
	d.Uncorrected += o.Uncorrected
	d.Lost = cmp.Or(o.Lost, d.Lost)
}

// Throttle adds seconds during which the device was held back for a reason.
func (d *Watched) Throttle(why string, seconds float64) {
	if d.Throttled == nil {
		d.Throttled = map[string]float64{}
	}
	d.Throttled[why] += seconds
}
