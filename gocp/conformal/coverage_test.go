package conformal

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// TestCoverageOfManySplits draws 10,000 exchangeable splits for each score and condition and holds
// the number covered, by cell, against its mean; at most 5 % of the cells, rounded up with a margin
// of chance, may lie outside 95 %. It takes a minute: set GOCP_LONG=1.
func TestCoverageOfManySplits(t *testing.T) {
	if os.Getenv("GOCP_LONG") == "" {
		t.Skip("GOCP_LONG is not set")
	}
	const splits, n, m, k = 10000, 40, 10, 3
	level := MustLevel("0.1")
	cells, outside := 0, 0
	for number, v := range variants {
		if v.Nonempty {
			continue // covers more by design
		}
		s, err := NewScorer(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, by := range []Condition{Marginal, ByClass, ByGroup} {
			for _, tied := range []bool{false, true} {
				r := rand.New(rand.NewPCG(uint64(number), 77))
				// Against the mean that the ranks promise, split by split; errors of one split are dependent,
				// so the variance is that of the splits' sums.
				sum, square := 0.0, 0.0
				for split := range splits {
					z, labels := logits(r, n+m, k, tied)
					groups := make([]int, n+m)
					for i := range groups {
						groups[i] = r.IntN(2)
					}
					p, _ := Softmax(n+m, k, z)
					u := v.Uniforms(3, split*(n+m), n+m, k)
					all, err := s.Labelled(p, labels, u)
					if err != nil {
						t.Fatal(err)
					}
					th, err := CalibrateCells(all[:n], labels[:n], groups[:n], k, level, Conditioning{By: by})
					if err != nil {
						t.Fatal(err)
					}
					d := 0.0
					for i := n; i < n+m; i++ {
						c := th.Of(labels[i], groups[i])
						if all[i] <= c.Tau {
							d++
						}
						d -= min(1, float64(c.Rank)/float64(c.N+1))
					}
					sum += d
					square += d * d
				}
				score := sum / math.Sqrt(square)
				cells++
				// Ties raise coverage above the law; with u = 1 the last label of every row scores 1.
				above := tied || !v.Randomized() && (v.Name == "aps" || v.Name == "raps")
				if score < -1.96 || score > 1.96 && !above {
					outside++
				}
				if score < -4 || score > 4 && !above {
					t.Errorf("%s by %s, tied %v: %.1f standard errors from the law", v, by, tied, score)
				}
				t.Logf("%s by %s, tied %v: %.2f", v, by, tied, score)
			}
		}
	}
	if limit := 0.05*float64(cells) + 2*math.Sqrt(0.05*0.95*float64(cells)); float64(outside) > limit {
		t.Errorf("%d of %d cells outside the 95 %% band", outside, cells)
	}
}
