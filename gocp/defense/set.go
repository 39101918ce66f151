package defense

import (
	"math"

	"github.com/gocp/gocp/gocp/usage"
)

// A Set is a training set as a model sees it.
type Set struct {
	Features []float32 // [N,D], such as the penultimate activations
	D        int
	Labels   []int     // [N], from 0
	Losses   []float64 // [N], of each sample under the model, or nil; only [Loss] reads it
}

// Len is N.
func (s *Set) Len() int { return len(s.Labels) }

func (s *Set) row(i int) []float32 { return s.Features[i*s.D : (i+1)*s.D] }

// Check refuses a set that no filter can read, with a sentence that names the first thing wrong.
func (s *Set) Check() error {
	n := s.Len()
	switch {
	case n < 2:
		return usage.Errorf("there are %d samples; a filter compares at least 2", n)
	case s.D < 1 || len(s.Features) != n*s.D:
		return usage.Errorf("there are %d labels and features of %d numbers, %d a sample; rows and labels must be as many", n, len(s.Features), s.D)
	case s.Losses != nil && len(s.Losses) != n:
		return usage.Errorf("there are %d labels and losses of %d samples", n, len(s.Losses))
	}
	one := true
	for i, y := range s.Labels {
		if most := max(n, 1<<16); y < 0 || y >= most {
			return usage.Errorf("the label of sample %d is %d; labels of %d samples count from 0, to %d at most", i, y, n, most-1)
		}
		one = one && y == s.Labels[0]
	}
	if one {
		return usage.Errorf("all %d samples have the label %d; filters compare classes", n, s.Labels[0])
	}
	for i, v := range s.Features {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return usage.Errorf("feature %d of sample %d is %v", i%s.D, i/s.D, v)
		}
	}
	for i, v := range s.Losses {
		if math.IsNaN(v) {
			return usage.Errorf("the loss of sample %d is not a number", i)
		}
	}
	return nil
}

// classes lists the samples of each label.
func (s *Set) classes() [][]int {
	k := 0
	for _, y := range s.Labels {
		k = max(k, y+1)
	}
	out := make([][]int, k)
	for i, y := range s.Labels {
		out[y] = append(out[y], i)
	}
	return out
}
