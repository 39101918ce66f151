package experiment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestJobsRunInOrder(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		var mu sync.Mutex
		var log []string
		at := map[string]int{}
		say := func(name string) func(context.Context) error {
			return func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				at[name] = len(log)
				log = append(log, name)
				return nil
			}
		}
		var jobs []*job
		a := &job{name: "a", cost: 1, run: say("a")}
		jobs = append(jobs, a)
		for i := range 4 {
			b := &job{name: fmt.Sprint("b", i), cost: float64(i), deps: []*job{a}, run: say(fmt.Sprint("b", i))}
			jobs = append(jobs, b, &job{name: fmt.Sprint("c", i), cost: 9, deps: []*job{b, a}, run: say(fmt.Sprint("c", i))})
		}
		if err := runJobs(context.Background(), capacity{ours: workers}, jobs, nil); err != nil {
			t.Fatal(err)
		}
		if len(log) != len(jobs) || at["a"] != 0 {
			t.Errorf("%d workers: ran %v", workers, log)
		}
		for i := range 4 {
			if at[fmt.Sprint("c", i)] < at[fmt.Sprint("b", i)] {
				t.Errorf("%d workers: c%d before b%d in %v", workers, i, i, log)
			}
		}
		if workers == 1 && strings.Join(log, " ") != "a b3 c3 b2 c2 b1 c1 b0 c0" {
			t.Errorf("one worker ran %v", log)
		}
	}
}

func TestJobsStopAtFirstError(t *testing.T) {
	boom := errors.New("boom")
	ran := false
	bad := &job{name: "train victim", run: func(context.Context) error { return boom }}
	after := &job{name: "next", deps: []*job{bad}, run: func(context.Context) error { ran = true; return nil }}
	err := runJobs(context.Background(), capacity{ours: 2}, []*job{bad, after}, nil)
	if !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "train victim: ") || ran {
		t.Errorf("error %v, next ran: %v", err, ran)
	}
}

func TestJobsStopWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var jobs []*job
	n := 0
	for i := range 9 {
		jobs = append(jobs, &job{name: fmt.Sprint(i), run: func(ctx context.Context) error {
			n++
			if n == 3 {
				cancel()
			}
			return ctx.Err()
		}})
	}
	if err := runJobs(ctx, capacity{ours: 1}, jobs, nil); !errors.Is(err, context.Canceled) || n != 3 {
		t.Errorf("after %d jobs: %v", n, err)
	}
}

func TestJobsInACircle(t *testing.T) {
	a := &job{name: "a"}
	b := &job{name: "b", deps: []*job{a}}
	a.deps = []*job{b}
	if err := runJobs(context.Background(), capacity{ours: 2}, []*job{a, b}, nil); err == nil || !strings.Contains(err.Error(), "wait for each other") {
		t.Errorf("%v", err)
	}
}
