package progress

import (
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	var b strings.Builder
	clock := time.Unix(0, 0)
	l := Lines(&b, 10*time.Second).(*lines)
	l.now = func() time.Time { return clock }
	task := l.Phase("train victims", 40)
	clock = clock.Add(5 * time.Second)
	task.Add(1) // too soon for a line
	clock = clock.Add(18 * time.Second)
	task.Detail("loss %.2f", 0.5)
	task.Add(9)
	clock = clock.Add(60 * time.Second)
	task.Add(30)
	task.Done()
	task.Done()
	l.Phase("craft", 8).Done()
	find := l.Phase("find", 0)
	clock = clock.Add(20 * time.Second)
	find.Add(3)
	find.Done()
	l.Note("report in %s", "runs/demo")
	want := `train victims …
train victims: 10 of 40 (25 %), 1m0s left, loss 0.50
train victims: done in 1m23s, loss 0.50
craft …
craft: stopped at 0 of 8 after 0s
find …
find: 3
find: done in 20s
report in runs/demo
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestLinesFromManyGoroutines(t *testing.T) {
	var b strings.Builder
	r := Lines(&b, 0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			task := r.Phase("p", 100)
			for range 100 {
				task.Add(1)
				task.Detail("x")
			}
			task.Done()
		}()
	}
	wg.Wait()
	if n := strings.Count(b.String(), "done in"); n != 4 {
		t.Errorf("%d phases ended, want 4", n)
	}
}

func TestOr(t *testing.T) {
	if Or(nil) != Discard {
		t.Error("a nil Reporter must stand for Discard")
	}
	Or(nil).Phase("a", 1).Add(1)
}
