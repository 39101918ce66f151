package selection

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Entries of every rank, with and without equal ones, as sorting gives them.
func TestSmallest(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 5))
	for range 2000 {
		x := make([]float64, 1+r.IntN(200))
		for i := range x {
			x[i] = float64(r.IntN(1 + r.IntN(300)))
			if r.IntN(20) == 0 {
				x[i] = math.Inf(1 - 2*r.IntN(2))
			}
		}
		sorted := slices.Sorted(slices.Values(x))
		at := r.IntN(len(x))
		if got := Smallest(x, at); got != sorted[at] {
			t.Fatalf("entry %d of %v is %v", at, sorted, got)
		}
	}
}
