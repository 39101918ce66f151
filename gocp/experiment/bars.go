package experiment

import (
	"sync"

	"github.com/gocp/gocp/gocp/progress"
)

const roleCraft = "craft"

// bars reports the work of a run in three phases: benign models, poisons, victims. They overlap.
type bars struct {
	report progress.Reporter
	units  map[string]int // of one job, by phase

	mu    sync.Mutex
	tasks map[string]progress.Task
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

func newBars(report progress.Reporter, c Config) *bars {
	return &bars{report: report, tasks: map[string]progress.Task{}, units: map[string]int{
		barBenign:  c.VictimTrain.Epochs,
		barPoisons: c.Craft.Steps * c.Craft.Restarts,
		barVictims: c.VictimTrain.Epochs,
	}}
}

// start opens a bar for every phase that has jobs left.
func (b *bars) start(jobs []*job) {
	total := map[string]int{}
	for _, j := range jobs {
		bar := barOf(j.role)
		total[bar] += b.units[bar]
	}
	for _, bar := range []string{barBenign, barPoisons, barVictims} {
		if total[bar] > 0 {
			b.tasks[bar] = b.report.Phase(bar, total[bar])
		}
	}
}

// epoch returns what to call after each unit of a job of the given role.
func (b *bars) epoch(role string) func() {
	return func() {
		b.mu.Lock()
		t := b.tasks[barOf(role)]
		b.mu.Unlock()
		if t != nil {
			t.Add(1)
		}
	}
}

func (b *bars) stop() {
	for _, bar := range []string{barBenign, barPoisons, barVictims} {
		if t := b.tasks[bar]; t != nil {
			t.Done()
		}
	}
}
