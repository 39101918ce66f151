package experiment

import (
	"sync"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/result"
)

const roleCraft = result.WorkCraft

// bars reports the work of a run in three phases: benign models, poisons, victims. They overlap; a
// phase begins with its first job and ends with its last.
type bars struct {
	report progress.Reporter
	tally  *progress.Tally
	units  map[string]int // of one job, by phase
	passes func(role string) int

	mu    sync.Mutex
	total map[string]int // units left, by phase
	jobs  map[string]int // jobs left, by phase
	tasks map[string]*phase
}

const (
	barBenign  = "benign models"
	barPoisons = "poisons"
	barVictims = "victims"
)

func barOf(role string) string {
	switch role {
	case roleCraft:
		return barPoisons
	case roleVictim:
		return barVictims
	}
	return barBenign
}

func newBars(report progress.Reporter, c Config, tally *progress.Tally) *bars {
	return &bars{report: report, tally: tally, total: map[string]int{}, jobs: map[string]int{}, tasks: map[string]*phase{}, passes: c.passes, units: map[string]int{
		barBenign:  c.VictimTrain.Epochs,
		barPoisons: c.Craft.Work(),
		barVictims: c.VictimTrain.Epochs,
	}}
}

// plan counts the work that is left.
func (b *bars) plan(jobs []*job) {
	for _, j := range jobs {
		bar := barOf(j.role)
		b.total[bar] += b.units[bar] * b.passes(j.role)
		b.jobs[bar]++
	}
}

// unit returns what to call after each unit of a job of the given role; the phase begins now.
func (b *bars) unit(role string) func() {
	t := b.begin(barOf(role))
	count := TallyEpochs
	if role == roleCraft {
		count = TallySteps
	}
	return func() {
		b.tally.Add(count, 1)
		t.task.Add(1)
	}
}

// begin returns a phase, which begins now unless it has.
func (b *bars) begin(bar string) *phase {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tasks[bar]
	if t == nil {
		t = &phase{b.report.Phase(bar, b.total[bar]), device.StartRange("phase " + bar)}
		b.tasks[bar] = t
	}
	return t
}

// whole is unit for a job that says nothing until its end, when what it returns is called, once.
func (b *bars) whole(role string) func() {
	bar := barOf(role)
	t := b.begin(bar)
	return func() { t.task.Add(b.units[bar]) }
}

// found counts the work of a job whose files were there already.
func (r *run) found(role string) {
	r.opt.Tally.Add(TallyFound, 1)
	b, bar := r.bars, barOf(role)
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.units[bar] * b.passes(role)
	if t := b.tasks[bar]; t != nil {
		t.task.Add(n)
	} else {
		b.total[bar] -= n // nobody has seen it yet
	}
}

// done ends the phase of a job that was its last.
func (b *bars) done(j *job) {
	bar := barOf(j.role)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.jobs[bar]--; b.jobs[bar] == 0 && b.tasks[bar] != nil {
		b.end(bar)
	}
}

// end ends a phase that began.
func (b *bars) end(bar string) {
	t := b.tasks[bar]
	t.task.Done()
	t.seen.End()
	delete(b.tasks, bar)
}

// phase is shown to a person and to a profiler.
type phase struct {
	task progress.Task
	seen device.Range
}

// stop ends the phases that are under way, after an error.
func (b *bars) stop() {
	for bar := range b.tasks {
		b.end(bar)
	}
}
