package defense

import (
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/usage"
)

// spectral drops, in each class, the ⌈1.5·poisons⌉ samples whose centred features reach farthest along
// the first right singular vector of the class. The score is the squared projection. That many go of
// every class, poisoned or not: which one is cannot be known.
var spectral = Filter{
	Name: "spectral", Reads: ReadsFeatures, Source: "Tran, Li, Madry: Spectral Signatures in Backdoor Attacks, NeurIPS 2018",
	apply: func(r Run, s *Set, o Options) (*Verdict, error) {
		v := verdict(s.Len())
		n := oneAndAHalf(o.Poisons)
		classes := s.classes()
		for y, members := range classes {
			if 0 < len(members) && len(members) <= n {
				return nil, usage.Errorf("%d poisons mean that %d samples of every class go, and class %d has %d; reckon with fewer", o.Poisons, n, y, len(members))
			}
		}
		task := r.Progress.Phase("spectral signatures", len(classes))
		defer task.Done()
		err := r.each(len(classes), func(y int) {
			defer task.Add(1)
			members := classes[y]
			if len(members) == 0 {
				return
			}
			p := s.principal(members, 1)
			total := 0.0
			for k, i := range members {
				v.Scores[i] = p[k] * p[k]
				total += v.Scores[i]
			}
			rms := math.Sqrt(total / float64(len(members)))
			for rank, i := range byScore(members, v.Scores)[:n] {
				v.Dropped[i] = true
				v.Reasons[i] = fmt.Sprintf("%.3g times its class's root mean square along the first direction, number %d of %d", ratio(math.Sqrt(v.Scores[i]), rms), rank+1, len(members))
			}
		})
		v.Says = fmt.Sprintf("in each class the %d farthest along its first singular direction", n)
		return v, err
	},
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
