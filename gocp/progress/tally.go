package progress

import (
	"maps"
	"sync"
)

// A Tally counts what work has done, by name, for those who watch it from outside. A nil Tally
// counts nothing.
type Tally struct {
	mu     sync.Mutex
	counts map[string]int
	phases []*Count
}

// A Count is how far a phase is.
type Count struct {
	Phase       string
	Total, Done int // Total is 0 where it is unknown
}

// Add adds n to a name.
func (t *Tally) Add(name string, n int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[name] += n
}

// Counts are the sums by name.
func (t *Tally) Counts() map[string]int {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}

// Phases are those that began, in that order; phases of one name are added up.
func (t *Tally) Phases() []Count {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Count
	for _, p := range t.phases {
		out = append(out, *p)
	}
	return out
}

// Watch returns a Reporter that counts phases and passes everything on to r.
func (t *Tally) Watch(r Reporter) Reporter {
	if t == nil {
		return r
	}
	return watched{Or(r), t}
}

type watched struct {
	Reporter
	tally *Tally
}

func (w watched) Phase(name string, total int) Task {
	t := w.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	var count *Count
	for _, p := range t.phases {
		if p.Phase == name {
			count = p
		}
	}
	if count == nil {
		count = &Count{Phase: name}
		t.phases = append(t.phases, count)
	}
	count.Total += total
	return watchedTask{w.Reporter.Phase(name, total), t, count}
}

type watchedTask struct {
	Task
	tally *Tally
	count *Count
}

func (w watchedTask) Add(n int) {
	w.tally.mu.Lock()
	w.count.Done += n
	w.tally.mu.Unlock()
	w.Task.Add(n)
}
