package conformal

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// SliceOptions steer WorstSlice; the zero value has defaults.
type SliceOptions struct {
	// Directions is how many random directions are tried; 0 stands for 1000.
	Directions int
	// Mass is the least share of the samples in a slab; 0 stands for 0.1.
	Mass float64
	Seed uint64
}

// Slab is the slice { x : Low ≤ ⟨Direction, x⟩ ≤ High }.
type Slab struct {
	Direction []float64 `json:"direction"`
	Low       float64   `json:"low"`
	High      float64   `json:"high"`
	// Found is its coverage on the half of the samples where it was sought: too low, since it is the
	// lowest of very many.
	Found Proportion `json:"found"`
	// Coverage is that on the other half, which did not choose it.
	Coverage Proportion `json:"coverage"`
}

// WorstSlice looks for the slab of features in which coverage is lowest (Cauchois, Gupta, Duchi,
// JMLR 2021), on a random half of the samples, and reports its coverage on the other half, as
// Romano, Sesia and Candès (2020) do. features has n rows of d; covered tells which sets hold the
// true label. For each direction the best slab of at least the least mass is found exactly, in
// O(n log n).
func WorstSlice(features []float64, d int, covered []bool, o SliceOptions) (*Slab, error) {
	n := len(covered)
	if d < 1 || len(features) != n*d {
		return nil, fmt.Errorf("worst slice: %d features are not %d rows of %d", len(features), n, d)
	}
	for i, v := range features {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("worst slice: feature %d of row %d is %v", i%d, i/d, v)
		}
	}
	if o.Mass == 0 {
		o.Mass = 0.1
	}
	if o.Directions == 0 {
		o.Directions = 1000
	}
	if !(o.Mass > 0 && o.Mass <= 1) || o.Directions < 0 {
		return nil, fmt.Errorf("worst slice: mass %v, %d directions: the mass must lie in (0, 1]", o.Mass, o.Directions)
	}
	if n < 2 {
		return nil, errors.New("worst slice: two samples at least are needed, one to seek and one to judge")
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	order := rng.Perm(n)
	seek, judge := order[:n/2], order[n/2:]
	least := max(1, int(math.Ceil(o.Mass*float64(len(seek)))))
	direction, best := make([]float64, d), math.Inf(1)
	slab := &Slab{}
	at := func(i int) float64 {
		s := 0.0
		for j, v := range direction {
			s += v * features[i*d+j]
		}
		return s
	}
	type point struct {
		x  float64
		in int
	}
	points := make([]point, len(seek))
	prefix := make([]int, len(seek)+1)
	for range o.Directions {
		norm := 0.0
		for j := range direction {
			direction[j] = rng.NormFloat64()
			norm += direction[j] * direction[j]
		}
		for j := range direction {
			direction[j] /= math.Sqrt(norm)
		}
		for j, i := range seek {
			points[j] = point{at(i), 0}
			if covered[i] {
				points[j].in = 1
			}
		}
		slices.SortFunc(points, func(a, b point) int {
			switch {
			case a.x < b.x:
				return -1
			case a.x > b.x:
				return 1
			}
			return 0
		})
		for j, p := range points {
			prefix[j+1] = prefix[j] + p.in
		}
		from, to := lowestMean(prefix, least)
		if mean := float64(prefix[to]-prefix[from]) / float64(to-from); mean < best {
			best = mean
			*slab = Slab{Direction: slices.Clone(direction), Low: points[from].x, High: points[to-1].x,
				Found: NewProportion(prefix[to]-prefix[from], to-from, Confidence)}
		}
	}
	direction = slab.Direction
	in, all := 0, 0
	for _, i := range judge {
		if x := at(i); slab.Low <= x && x <= slab.High {
			all++
			if covered[i] {
				in++
			}
		}
	}
	slab.Coverage = NewProportion(in, all, Confidence)
	return slab, nil
}

// lowestMean finds the half-open range [from, to) of at least least elements whose mean is lowest,
// given prefix sums. The start for an end j is where the line from (j, Σ_j) touches the upper hull
// of the points (i, Σ_i), i ≤ j − least.
func lowestMean(prefix []int, least int) (from, to int) {
	n := len(prefix) - 1
	var hull []int
	// lower reports whether the mean of [a, b) is below that of [c, d), in integers.
	lower := func(a, b, c, d int) bool { return (prefix[b]-prefix[a])*(d-c) < (prefix[d]-prefix[c])*(b-a) }
	from, to = 0, n
	for j := least; j <= n; j++ {
		i := j - least
		for len(hull) > 1 {
			a, b := hull[len(hull)-2], hull[len(hull)-1]
			if lower(b, i, a, b) { // the slope falls: b is a corner
				break
			}
			hull = hull[:len(hull)-1]
		}
		hull = append(hull, i)
		low, high := 0, len(hull)-1
		for low < high {
			mid := (low + high) / 2
			if lower(hull[mid+1], j, hull[mid], j) {
				low = mid + 1
			} else {
				high = mid
			}
		}
		if lower(hull[low], j, from, to) {
			from, to = hull[low], j
		}
	}
	return from, to
}
