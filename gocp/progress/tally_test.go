package progress

import (
	"reflect"
	"strings"
	"sync"
	"testing"
)

func TestTally(t *testing.T) {
	var b strings.Builder
	var tally Tally
	r := tally.Watch(Lines(&b, 0))
	var wg sync.WaitGroup
	for range 3 {
		task := r.Phase("craft", 10)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 10 {
				task.Add(1)
				tally.Add("poisons", 2)
			}
			task.Done()
		}()
	}
	r.Phase("search", 0).Add(4)
	wg.Wait()
	if got, want := tally.Phases(), []Count{{"craft", 30, 30}, {"search", 0, 4}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := tally.Counts(); got["poisons"] != 60 || len(got) != 1 {
		t.Errorf("%v", got)
	}
	if n := strings.Count(b.String(), "craft: done in"); n != 3 {
		t.Errorf("%d phases were passed on", n)
	}
	var none *Tally
	none.Add("x", 1)
	if none.Counts() != nil || none.Phases() != nil || none.Watch(Discard) != Discard {
		t.Error("a nil Tally counts")
	}
}
