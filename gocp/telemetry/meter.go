package telemetry

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gocp/gocp/gocp/result"
)

// A Meter samples in the background. A nil Meter does nothing and sees nothing.
type Meter struct {
	sampler Sampler
	now     func() time.Time
	cancel  context.CancelFunc
	ended   chan struct{}

	reading sync.Mutex // held around sampler
	closed  bool
	failed  error

	mu      sync.Mutex
	at      time.Time // of the last sample
	last    []Reading
	part    *result.Telemetry // since the last Take
	jobs    map[string]*jobs
	changed time.Time // when the time of jobs was last counted
}

// jobs are those of one kind.
type jobs struct {
	running int
	seconds float64 // since the last sample
}

// Start samples at once and then at every interval until the context is done or Stop is called.
func Start(ctx context.Context, s Sampler, interval time.Duration) *Meter {
	m := newMeter(s, time.Now)
	ctx, m.cancel = context.WithCancel(ctx)
	m.ended = make(chan struct{})
	go func() {
		defer close(m.ended)
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				m.sample()
			}
		}
	}()
	return m
}

func newMeter(s Sampler, now func() time.Time) *Meter {
	m := &Meter{sampler: s, now: now, cancel: func() {}, jobs: map[string]*jobs{}}
	m.sample()
	return m
}

// Stop ends the sampling and closes the sampler. What was summed up can still be taken.
func (m *Meter) Stop() error {
	if m == nil {
		return nil
	}
	m.cancel()
	if m.ended != nil {
		<-m.ended
	}
	m.sample()
	m.reading.Lock()
	defer m.reading.Unlock()
	if !m.closed {
		m.closed = true
		m.failed = m.sampler.Close()
	}
	return m.failed
}

// Last is the last sample. It must not be written.
func (m *Meter) Last() []Reading {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// Take samples and returns what came together since the last Take; nil if that is nothing.
func (m *Meter) Take() *result.Telemetry {
	if m == nil {
		return nil
	}
	m.sample()
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.part
	m.part = nil
	return t
}

// Begin starts a job of the given kind. What it returns ends it, and says how many pieces it made.
func (m *Meter) Begin(kind string) (end func(pieces int)) {
	if m == nil {
		return func(int) {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count(m.now())
	j := m.jobs[kind]
	if j == nil {
		j = new(jobs)
		m.jobs[kind] = j
	}
	j.running++
	return func(pieces int) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.count(m.now())
		j.running--
		if pieces > 0 {
			m.sum().Spend(kind, 0, 0, pieces)
		}
	}
}

// count adds the time since the last call to the jobs that run.
func (m *Meter) count(now time.Time) {
	for _, j := range m.jobs {
		j.seconds += float64(j.running) * now.Sub(m.changed).Seconds()
	}
	m.changed = now
}

func (m *Meter) sum() *result.Telemetry {
	if m.part == nil {
		m.part = new(result.Telemetry)
	}
	return m.part
}

func (m *Meter) sample() {
	m.reading.Lock()
	defer m.reading.Unlock()
	if m.closed {
		return
	}
	readings := m.sampler.Sample() // may take its time
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count(now)
	first := m.at.IsZero()
	seconds := now.Sub(m.at).Seconds()
	if first {
		seconds = 0
	}
	joules := 0.0
	for i := range readings {
		r := &readings[i]
		var before *Reading
		if at := slices.IndexFunc(m.last, func(l Reading) bool { return l.Kind == r.Kind && l.ID == r.ID }); at >= 0 {
			before = &m.last[at]
		}
		d := m.sum().Device(r.Kind, r.ID)
		integrated := d.FromPower
		joules += observe(d, before, r, seconds)
		m.sum().FromPower += d.FromPower - integrated
	}
	if len(readings) > 0 {
		m.sum().Seconds += seconds
		m.sum().Joules += joules
	}
	total := 0.0
	for _, j := range m.jobs {
		total += j.seconds
	}
	for kind, j := range m.jobs {
		if j.seconds > 0 {
			m.sum().Spend(kind, j.seconds, joules*j.seconds/total, 0)
			j.seconds = 0
		}
	}
	m.at, m.last = now, readings
}

// observe adds a reading to a device's summary and returns the energy since the one before.
func observe(d *result.Watched, before, r *Reading, seconds float64) (joules float64) {
	if r.Name != "" {
		d.Name = r.Name
	}
	if r.Slice != "" {
		d.Slice = r.Slice
	}
	if r.Lost != "" {
		d.Lost = r.Lost
		return 0
	}
	d.Samples++
	d.Seconds += seconds
	gauge := func(g **result.Gauge, v *float64) {
		if v == nil {
			return
		}
		if *g == nil {
			*g = new(result.Gauge)
		}
		(*g).Observe(*v, seconds)
	}
	gauge(&d.Power, r.Power)
	gauge(&d.Utilization, r.Utilization)
	gauge(&d.Clock, r.Clock)
	gauge(&d.MemoryClock, r.MemoryClock)
	gauge(&d.Temperature, r.Temperature)
	if r.MemoryUsed != nil {
		gauge(&d.Memory, ptr(float64(*r.MemoryUsed)))
	}
	if r.MemoryTotal != nil {
		d.MemoryTotal = *r.MemoryTotal
	}
	for _, why := range r.Throttle {
		d.Throttle(why, seconds)
	}
	if before == nil {
		return 0
	}
	d.Corrected += rise(before.Corrected, r.Corrected)
	d.Uncorrected += rise(before.Uncorrected, r.Uncorrected)
	switch {
	case r.Energy != nil && before.Energy != nil:
		joules = max(0, *r.Energy-*before.Energy)
	case r.Power != nil && before.Power != nil:
		joules = (*r.Power + *before.Power) / 2 * seconds
		d.FromPower += joules
	}
	d.Joules += joules
	return joules
}

func rise(before, now *uint64) uint64 {
	if before == nil || now == nil || *now < *before {
		return 0
	}
	return *now - *before
}
