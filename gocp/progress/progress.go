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
	// Done ends the phase. Later calls do nothing, so it may be deferred.
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
	return &lineTask{l: l, name: name, total: total, start: now, last: now}
}

type lineTask struct {
	l     *lines
	name  string
	total int
	start time.Time

	mu     sync.Mutex
	done   int
	detail string
	last   time.Time
	ended  bool
}

func (t *lineTask) Add(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done += n
	now := t.l.now()
	if t.ended || now.Sub(t.last) < t.l.period {
		return
	}
	t.last = now
	t.l.print("%s: %s", t.name, t.state(now))
}

func (t *lineTask) Detail(format string, args ...any) {
	t.mu.Lock()
	t.detail = fmt.Sprintf(format, args...)
	t.mu.Unlock()
}

func (t *lineTask) Done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	line := fmt.Sprintf("%s: %s", t.name, Ended(t.done, t.total, t.l.now().Sub(t.start)))
	if t.detail != "" {
		line += ", " + t.detail
	}
	t.l.print("%s", line)
}

// state is "120 of 500 (24 %), 40s left, loss 0.412".
func (t *lineTask) state(now time.Time) string {
	s := fmt.Sprintf("%d", t.done)
	if t.total > 0 {
		s = fmt.Sprintf("%d of %d (%d %%)", t.done, t.total, 100*t.done/t.total)
		if left := t.total - t.done; t.done > 0 && left > 0 {
			eta := time.Duration(float64(now.Sub(t.start)) * float64(left) / float64(t.done))
			s += fmt.Sprintf(", %s left", Round(eta))
		}
	}
	if t.detail != "" {
		s += ", " + t.detail
	}
	return s
}

// Ended says how a phase ended: it was done, or stopped at a part of its total.
func Ended(done, total int, took time.Duration) string {
	if done < total {
		return fmt.Sprintf("stopped at %d of %d after %s", done, total, Round(took))
	}
	return fmt.Sprintf("done in %s", Round(took))
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
