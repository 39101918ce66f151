package conformal

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestOrderStatistic holds it against sorting: few and many entries, all alike, ties, both signs and
// infinities, of everything and of some rows. The entries stay where they are.
func TestOrderStatistic(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for _, n := range []int{1, 2, 1000, 1 << 14, 1<<14 + 1, 200000} {
		for name, draw := range map[string]func() float64{
			"alike":      func() float64 { return 0.25 },
			"tied":       func() float64 { return float64(r.IntN(7)) / 8 },
			"different":  func() float64 { return r.Float64() },
			"two signs":  r.NormFloat64,
			"near":       func() float64 { return 1 - float64(r.IntN(1<<20))*0x1p-53 },
			"infinities": func() float64 { return 1 / float64(r.IntN(5)-2) },
			"zeros":      func() float64 { return math.Copysign(0, r.NormFloat64()) },
		} {
			x := make([]float64, n)
			for i := range x {
				x[i] = draw()
			}
			some := make([]uint32, 0, n)
			for i := range x {
				if r.IntN(3) > 0 {
					some = append(some, uint32(i))
				}
			}
			before := slices.Clone(x)
			for _, rows := range [][]uint32{nil, some} {
				sorted := slices.Clone(x)
				if rows != nil {
					sorted = sorted[:0]
					for _, i := range rows {
						sorted = append(sorted, x[i])
					}
				}
				slices.Sort(sorted)
				if len(sorted) == 0 {
					continue
				}
				for _, at := range []int{0, len(sorted) / 10, len(sorted) / 2, len(sorted) - 1} {
					got, err := orderStatistic(context.Background(), x, rows, at)
					if err != nil || got != sorted[at] {
						t.Fatalf("%s, entry %d of %d: %v, %v; want %v", name, at, len(sorted), got, err, sorted[at])
					}
				}
			}
			if !slices.Equal(x, before) {
				t.Fatalf("%s: the entries moved", name)
			}
		}
	}
}

// cancelled is a context that ends when it was asked some number of times.
type cancelled struct {
	context.Context
	left int
}

func (c *cancelled) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCalibrationEndsEarly: after the rows are read, ranking them can be ended at every part of it.
func TestCalibrationEndsEarly(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 2))
	const n, k = 300000, 3
	scores, labels := make([]float64, n), make([]int, n)
	for i := range scores {
		scores[i], labels[i] = r.Float64(), r.IntN(k)
	}
	for _, by := range []Condition{Marginal, ByClass} {
		parts := 0
		for ; ; parts++ {
			_, err := calibrateScores(&cancelled{context.Background(), parts}, scores, labels, nil, k, MustLevel("0.1"), Conditioning{By: by})
			if err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		if least := n / (1 << 16) * 3; parts < least {
			t.Errorf("by %s: the context was asked %d times, at least %d parts of 65,536 samples are gone through", by, parts, least)
		}
	}
}
