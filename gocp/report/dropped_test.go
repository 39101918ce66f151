package report

import (
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/result"
)

// A defended audit says what the defence dropped: means over victims, benign models once.
func TestDroppedText(t *testing.T) {
	if got := droppedText(&result.Result{}); got != "" {
		t.Error(got)
	}
	victims := func(poisons ...int) (list []result.Victim) {
		for _, n := range poisons {
			list = append(list, result.Victim{Condition: result.Attack, Dropped: &result.Dropped{Samples: 20 + n, Poisons: n}})
		}
		return append(list, result.Victim{Condition: result.Clean, Dropped: &result.Dropped{Samples: 1000}})
	}
	r := &result.Result{Config: result.Config{Defense: "deep-knn"},
		Models:  []result.Model{{Role: "surrogate"}, {Role: "reference", Dropped: &result.Dropped{Samples: 7}}, {Role: "control", Dropped: &result.Dropped{Samples: 8}}},
		Repeats: []result.Repeat{{Poisons: result.Poisons{Count: 180}, Victims: victims(10, 20)}, {Poisons: result.Poisons{Count: 90}, Victims: victims(0, 30)}}}
	got := droppedText(r)
	for _, want := range []string{"what deep-knn left", "under attack 15.0 of 135.0 poisons and 20.0 other images", "of a benign model 7.5 images"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

// A defence of training is named with its settings; a filter beside it is named alone.
func TestDefenceText(t *testing.T) {
	r := &result.Result{Config: result.Config{Defense: "sam", Training: "sam radius=0.05"}}
	if got := defenceText(r); got != "Every victim and benign model was trained under sam radius=0.05; the adversary's were not." {
		t.Error(got)
	}
	r.Config.Defense = "spectral,sam"
	if got := defenceText(r); !strings.Contains(got, "what spectral left") || !strings.Contains(got, "under sam radius=0.05") {
		t.Error(got)
	}
}
