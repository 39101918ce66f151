package defense

import (
	"fmt"
)

// largestLoss drops the samples that the model fits worst: ⌈1.5·poisons⌉ of the whole set. Poisons with
// the labels they look like have small losses, so this is the filter that they are made to pass.
var largestLoss = Filter{
	Name: "loss", Reads: ReadsLosses, Source: "A baseline, of no paper",
	apply: func(_ Run, s *Set, o Options) (*Verdict, error) {
		v := verdict(s.Len())
		copy(v.Scores, s.Losses)
		all := make([]int, s.Len())
		for i := range all {
			all[i] = i
		}
		n := min(oneAndAHalf(o.Poisons), s.Len())
		for rank, i := range byScore(all, v.Scores)[:n] {
			v.Dropped[i] = true
			v.Reasons[i] = fmt.Sprintf("loss %.4g, number %d of %d", s.Losses[i], rank+1, s.Len())
		}
		v.Says = fmt.Sprintf("the %d largest losses", n)
		return v, nil
	},
}
