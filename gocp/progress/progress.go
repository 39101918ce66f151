package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A Reporter shows the phases of some work.
type Reporter interface {
	// Phase starts a part of the work that has total units; 0 means that the total is unknown.
	Phase(name string, total int) Task
	// Note shows one line of text beside the phases.
	Note(format string, args ...any)
}

// A Task is one phase that has started.
type Task interface {
	// Add reports n more units done.
	Add(n int)
	// Detail sets a short text shown beside the count, such as "loss 0.412".
	Detail(format string, args ...any)
	// Done ends the phase, as does the last unit of a known total. Later calls do nothing, so it
	// may be deferred.
	Done()
}

// Discard shows nothing. It is what a nil Reporter stands for: see Or.
var Discard Reporter = discard{}

// Or returns r, or Discard where r is nil.
func Or(r Reporter) Reporter {
	if r == nil {
		return Discard
	}
	return r
}

type discard struct{}

func (discard) Phase(string, int) Task { return discard{} }
func (discard) Note(string, ...any)    {}
func (discard) Add(int)                {}
func (discard) Detail(string, ...any)  {}
func (discard) Done()                  {}

// Lines writes plain lines to w: one when a phase starts, one when it ends, and between them at
// most one every period, each with the share done and the time that is probably left.
func Lines(w io.Writer, period time.Duration) Reporter {
	return &lines{w: w, period: period, now: time.Now}
}

type lines struct {
	mu     sync.Mutex
	w      io.Writer
	period time.Duration
	now    func() time.Time
}

func (l *lines) print(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A log that cannot be written must not stop the work.
	_, _ = fmt.Fprintf(l.w, format+"\n", args...)
}

func (l *lines) Note(format string, args ...any) { l.print(format, args...) }

func (l *lines) Phase(name string, total int) Task {
	now := l.now()
	l.print("%s …", name)
	return &lineTask{l: l, name: name, meter: Meter{Total: total, Start: now}, last: now}
}

type lineTask struct {
	l    *lines
	name string

	mu     sync.Mutex
	meter  Meter
	detail string
	last   time.Time // of the last line
	ended  bool
}

func (t *lineTask) Add(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.l.now()
	if t.ended {
		return
	}
	if t.meter.Add(n, now); t.meter.Whole() {
		t.end(now)
		return
	}
	if now.Sub(t.last) < t.l.period {
		return
	}
	t.last = now
	t.l.print("%s: %s%s", t.name, t.meter.State(now), comma(t.detail))
}

func (t *lineTask) Detail(format string, args ...any) {
	t.mu.Lock()
	t.detail = fmt.Sprintf(format, args...)
	t.mu.Unlock()
}

func (t *lineTask) Done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.end(t.l.now())
	}
}

func (t *lineTask) end(now time.Time) {
	t.ended = true
	t.l.print("%s: %s%s", t.name, t.meter.Ended(now), comma(t.detail))
}

func comma(detail string) string {
	if detail == "" {
		return ""
	}
	return ", " + detail
}

// A Meter counts the units of a phase and guesses when it will be over.
type Meter struct {
	Total int // 0: unknown
	Start time.Time

	done  int
	since time.Time // of the first unit: a phase may wait long before it begins
	first int       // units by then
}

// Add counts n units that were done by now.
func (m *Meter) Add(n int, now time.Time) {
	m.done += n
	if m.since.IsZero() && m.done > 0 {
		m.since, m.first = now, m.done
	}
}

// Whole tells whether a known total is reached.
func (m *Meter) Whole() bool { return m.Total > 0 && m.done >= m.Total }

// Left guesses the time to the end by the pace since the first unit; ok is false while there is
// nothing to go by.
func (m *Meter) Left(now time.Time) (left time.Duration, ok bool) {
	n := m.done - m.first
	if n <= 0 || m.done >= m.Total {
		return 0, false
	}
	return time.Duration(float64(now.Sub(m.since)) * float64(m.Total-m.done) / float64(n)), true
}

// State is "120 of 500 (24 %), 40s left".
func (m *Meter) State(now time.Time) string {
	if m.Total <= 0 {
		return fmt.Sprint(m.done)
	}
	s := fmt.Sprintf("%d of %d (%d %%)", m.done, m.Total, 100*m.done/m.Total)
	if left, ok := m.Left(now); ok {
		s += fmt.Sprintf(", %s left", Round(left))
	}
	return s
}

// Ended says how the phase ended: it was done, or stopped at a part of its total.
func (m *Meter) Ended(now time.Time) string {
	took := Round(now.Sub(m.Start))
	if m.done < m.Total {
		return fmt.Sprintf("stopped at %d of %d after %s", m.done, m.Total, took)
	}
	return fmt.Sprintf("done in %s", took)
}

// Round drops the digits of a duration that nobody reads.
func Round(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
