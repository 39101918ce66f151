package defense

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/usage"
)

// Options say what a filter reckons with. The zero value of all but Poisons is what the papers take.
type Options struct {
	Poisons int // how many there may be in the set, at least 1

	Neighbours   int     // of deep-knn; 0 is 2·Poisons
	ClusterShare float64 // of activation-clustering; 0 is [DefaultClusterShare]
	Seed         uint64  // of activation-clustering's first centres
}

// A Run is what a filter works with.
type Run struct {
	Context  context.Context
	Device   *device.Device    // of deep-knn
	Workers  int               // side by side; results do not depend on it. 0 is all cores
	Progress progress.Reporter // or nil
}

// A Verdict is what a filter says of every sample of a set.
type Verdict struct {
	Method  string
	Scores  []float64 // [N], the higher the more suspicious
	Dropped []bool    // [N]
	Reasons []string  // [N], of the dropped ones; else empty
	Says    string    // the rule with its numbers
}

// Count is how many samples are dropped.
func (v *Verdict) Count() (n int) {
	for _, d := range v.Dropped {
		if d {
			n++
		}
	}
	return n
}

// A Filter is a defence that drops samples of a training set.
type Filter struct {
	Name, Source string
	Reads        string // what it needs: "features" or "losses"
	apply        func(r Run, s *Set, o Options) (*Verdict, error)
}

// What a Filter Reads.
const (
	ReadsFeatures = "features"
	ReadsLosses   = "losses"
)

// Filters lists the filters.
var Filters = []Filter{deepKNN, spectral, activationClustering, largestLoss}

// Names lists the names of Filters.
func Names() (names []string) {
	for _, f := range Filters {
		names = append(names, f.Name)
	}
	return names
}

// Lookup finds a filter by its name.
func Lookup(name string) (Filter, error) {
	if i := slices.IndexFunc(Filters, func(f Filter) bool { return f.Name == name }); i >= 0 {
		return Filters[i], nil
	}
	return Filter{}, usage.Errorf("there is no filter %q; there are %v", name, Names())
}

// Apply judges every sample of s. It refuses what would drop a whole class.
func (f Filter) Apply(r Run, s *Set, o Options) (*Verdict, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if o.Poisons < 1 || o.Poisons >= s.Len() {
		return nil, usage.Errorf("%d poisons of %d samples; there must be at least 1, and fewer than samples", o.Poisons, s.Len())
	}
	if f.Reads == ReadsLosses && s.Losses == nil {
		return nil, usage.Errorf("%s needs the losses of the samples", f.Name)
	}
	r.Progress = progress.Or(r.Progress)
	v, err := f.apply(r, s, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	v.Method = f.Name
	for y, members := range s.classes() {
		if len(members) > 0 && !slices.ContainsFunc(members, func(i int) bool { return !v.Dropped[i] }) {
			return nil, usage.Errorf("%s would drop all %d samples of class %d; reckon with fewer poisons than %d", f.Name, len(members), y, o.Poisons)
		}
	}
	return v, nil
}

// verdict is one without a decision.
func verdict(n int) *Verdict {
	return &Verdict{Scores: make([]float64, n), Dropped: make([]bool, n), Reasons: make([]string, n)}
}

// byScore sorts samples by falling score, equal ones by their number.
func byScore(samples []int, scores []float64) []int {
	out := slices.Clone(samples)
	slices.SortFunc(out, func(a, b int) int {
		return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b))
	})
	return out
}

// oneAndAHalf is ⌈1.5 n⌉, what the papers drop where they reckon with n poisons.
func oneAndAHalf(n int) int { return (3*n + 1) / 2 }
