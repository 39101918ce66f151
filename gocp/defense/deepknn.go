package defense

import (
	"fmt"

	"github.com/gocp/gocp/gocp/usage"
)

// deepKNN drops a sample when another label has more of its k nearest neighbours than its own has. The
// score is that difference over k. k is 2·poisons, so that poisons alone cannot outvote a neighbourhood.
var deepKNN = Filter{
	Name: "deep-knn", Reads: ReadsFeatures, Source: "Peri et al.: Deep k-NN Defense Against Clean-Label Data Poisoning Attacks, ECCV Workshops 2020",
	apply: func(r Run, s *Set, o Options) (*Verdict, error) {
		k := o.Neighbours
		if k == 0 {
			k = 2 * o.Poisons
		}
		if k < 1 || k >= s.Len() {
			return nil, usage.Errorf("%d neighbours of %d samples; there must be at least 1, and fewer than samples", k, s.Len())
		}
		v := verdict(s.Len())
		classes := len(s.classes())
		task := r.Progress.Phase("nearest neighbours", s.Len())
		defer task.Done()
		err := s.Neighbours(r, k, func(i int, near []int) {
			votes := make([]int, classes)
			for _, j := range near {
				votes[s.Labels[j]]++
			}
			own, other := s.Labels[i], -1
			for y, n := range votes {
				if y != own && (other < 0 || n > votes[other]) {
					other = y
				}
			}
			v.Scores[i] = float64(votes[other]-votes[own]) / float64(k)
			if votes[other] > votes[own] {
				v.Dropped[i] = true
				v.Reasons[i] = fmt.Sprintf("of %d neighbours %d have label %d, %d its own", k, votes[other], other, votes[own])
			}
			task.Add(1)
		})
		v.Says = fmt.Sprintf("samples whose label is not the most frequent among their %d nearest neighbours", k)
		return v, err
	},
}
