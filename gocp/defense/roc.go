package defense

import (
	"cmp"
	"slices"

	"github.com/gocp/gocp/gocp/result"
)

// ROC is the curve of cuts from dropping nothing to dropping all, one corner for each score, without
// those on a straight line between others, and the area under it: the probability that a poison's score is
// above a clean sample's, ties counting half. There must be poisons and clean samples.
func ROC(scores []float64, poison []bool) (curve []result.Cut, area float64) {
	order := make([]int, len(scores))
	total := 0
	for i := range order {
		order[i] = i
		if poison[i] {
			total++
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	clean, poisons := 0, 0
	corners := [][2]int{{}}
	for k, i := range order {
		if poison[i] {
			poisons++
		} else {
			clean++
		}
		if k+1 < len(order) && scores[order[k+1]] == scores[i] {
			continue
		}
		last := corners[len(corners)-1]
		area += float64(clean-last[0]) * float64(poisons+last[1]) / 2
		if n := len(corners); n > 1 {
			before := corners[n-2]
			if (last[0]-before[0])*(poisons-last[1]) == (last[1]-before[1])*(clean-last[0]) {
				corners = corners[:n-1]
			}
		}
		corners = append(corners, [2]int{clean, poisons})
	}
	for _, c := range corners {
		curve = append(curve, result.Cut{Clean: float64(c[0]) / float64(len(scores)-total), Poisons: float64(c[1]) / float64(total)})
	}
	return curve, area / float64(total) / float64(len(scores)-total)
}
