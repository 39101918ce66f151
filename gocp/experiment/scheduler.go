package experiment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// A job is one unit of work: a model to train, a poison set to craft. Jobs run side by side, each
// on a stream of its own of width 1, so what they compute does not depend on how many run at once
// or in what order; their artefacts are files.
type job struct {
	name string
	role string // what the job is counted as
	// cost orders the jobs that are ready: the longest first, so that no core idles at the end.
	cost float64
	lane lane
	// deps must end before the job starts.
	deps []*job
	run  func(ctx context.Context) error

	stage   string   // of the run's work
	number  int      // among the jobs of the stage
	what    string   // it makes, in words
	files   []string // that it writes, slash-separated in the run folder
	foreign []*job   // jobs of other shards that must have ended before it starts

	waiting int    // unfinished deps
	next    []*job // jobs that depend on this one
	order   int    // position in the list, the tie-break
}

// A lane holds jobs that only so many of run at once.
type lane int

const (
	ours   lane = iota // computes here
	theirs             // waits for a program of the user's
	lanes
)

// capacity is how many jobs of each lane run at once.
type capacity [lanes]int

// runJobs runs jobs, as many at once as there is room, and returns the first error after every
// started job has ended. Once a job fails or ctx is done, no other starts. done is called after
// each job that succeeds, one call at a time.
func runJobs(ctx context.Context, free capacity, jobs []*job, done func(*job)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	known := make(map[*job]bool, len(jobs))
	for i, j := range jobs {
		j.order, j.waiting, j.next = i, 0, nil
		known[j] = true
	}
	var ready []*job
	for _, j := range jobs {
		for _, d := range j.deps {
			if !known[d] {
				return fmt.Errorf("experiment: job %s waits for job %s, which is not in the list", j.name, d.name)
			}
			j.waiting++
			d.next = append(d.next, j)
		}
		if j.waiting == 0 {
			ready = append(ready, j)
		}
	}

	var (
		mu      sync.Mutex
		changed = sync.NewCond(&mu)
		running int
		left    = len(jobs)
		first   error
		wg      sync.WaitGroup
	)
	// next is the place of the most expensive ready job that there is room for, -1 if there is none.
	next := func() int {
		best := -1
		for i, j := range ready {
			if free[j.lane] == 0 {
				continue
			}
			if best < 0 || j.cost > ready[best].cost || j.cost == ready[best].cost && j.order < ready[best].order {
				best = i
			}
		}
		return best
	}
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		changed.Broadcast()
		mu.Unlock()
	})
	defer stop()
	workers := 0
	for _, n := range free {
		workers += n
	}
	for range min(workers, len(jobs)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			for {
				for next() < 0 && left > 0 && first == nil && ctx.Err() == nil && running > 0 {
					changed.Wait()
				}
				at := next()
				if at < 0 || first != nil || ctx.Err() != nil {
					return
				}
				j := ready[at]
				ready = slices.Delete(ready, at, at+1)
				running++
				free[j.lane]--
				mu.Unlock()
				err := j.run(ctx)
				mu.Lock()
				running--
				free[j.lane]++
				if err != nil {
					if first == nil {
						first = fmt.Errorf("%s: %w", j.name, err)
						cancel(first)
					}
				} else {
					left--
					for _, n := range j.next {
						if n.waiting--; n.waiting == 0 {
							ready = append(ready, n)
						}
					}
					if done != nil {
						done(j)
					}
				}
				changed.Broadcast()
			}
		}()
	}
	wg.Wait()
	switch {
	case first != nil && !errors.Is(first, context.Canceled):
		return first
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case left > 0:
		return fmt.Errorf("experiment: %d jobs wait for each other", left)
	}
	return nil
}
