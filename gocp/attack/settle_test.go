package attack

import (
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

// TestSettle: labels are taken by name, then by number, and where both could be meant it is said which was.
func TestSettle(t *testing.T) {
	folders := []string{"10", "2", "33", "cat"} // as folders are sorted
	for _, c := range []struct {
		words []string
		want  []int
		note  string
		err   string
	}{
		{words: []string{"cat", "10"}, want: []int{3, 0}},
		{words: []string{"2"}, want: []int{1}, note: `label 2 is taken as a name: that of class number 1; class number 2 is named "33"`},
		{words: []string{"3", "0"}, want: []int{3, 0}},
		{words: []string{"33"}, want: []int{2}},
		{words: []string{"4"}, err: "label 4 is neither the name nor the number of a class; these are 0 10, 1 2, 2 33, 3 cat"},
		{words: []string{"dog"}, err: "label dog"},
	} {
		g := GoalConfig{Name: "add", Labels: []int{7}, Words: c.words}
		if _, err := NewGoal(g); err != nil {
			t.Errorf("%v, before the data are known: %v", c.words, err)
		}
		notes, err := g.Settle(folders)
		if c.err != "" {
			if !usage.Is(err) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v: %v", c.words, err)
			}
			continue
		}
		if err != nil || !slices.Equal(g.Labels, c.want) || g.Words != nil || strings.Join(notes, "; ") != c.note {
			t.Errorf("%v: %v %v, %q, %v", c.words, g.Labels, g.Words, notes, err)
		}
	}
	kept := GoalConfig{Labels: []int{7}}
	if notes, err := kept.Settle(folders); err != nil || notes != nil || !slices.Equal(kept.Labels, []int{7}) {
		t.Errorf("labels that were numbers: %v, %q, %v", kept.Labels, notes, err)
	}
}
