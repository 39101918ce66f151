package data

import (
	"fmt"
	"sort"

	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/usage"
)

// Part asks for n images under a name.
type Part struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

// Draw says how Split draws. The zero value draws without regard to classes by
// seed 0.
type Draw struct {
	Seed uint64 `json:"seed"`
	// Balanced gives every part the same number of every class, or one more for
	// as many classes, drawn by the seed, as do not divide evenly.
	Balanced bool `json:"balanced"`
}

// Record is what a result keeps of a split: all that is needed to draw it again
// and to see that it was the same.
type Record struct {
	Draw
	Source string       `json:"source"` // the set's name
	SHA256 string       `json:"sha256"` // the set's content
	Parts  []PartRecord `json:"parts"`
}

// PartRecord is one part of a Record.
type PartRecord struct {
	Part
	SHA256 string `json:"sha256"` // the part's content, in its order
}

// Drawn is one part: a Dataset and the positions of its images in the set that
// it was drawn from.
type Drawn struct {
	*Dataset
	Index []int
}

// Split draws disjoint parts. Each part is in random order. The same set, seed
// and parts give the same images; parts added at the end change none before.
func Split(d *Dataset, how Draw, parts ...Part) ([]Drawn, Record, error) {
	rec := Record{Draw: how, Source: d.Name, SHA256: d.SHA256}
	total := 0
	seen := map[string]bool{}
	for _, p := range parts {
		if p.N < 1 {
			return nil, rec, usage.Errorf("%s: part %q of %d images; a part needs at least one", d.Name, p.Name, p.N)
		}
		if seen[p.Name] {
			return nil, rec, usage.Errorf("%s: two parts are called %q", d.Name, p.Name)
		}
		seen[p.Name] = true
		if total += p.N; p.N > d.Len() || total > d.Len() {
			return nil, rec, usage.Errorf("%s has %d images, but %s together need more; ask for fewer or use a larger set", d.Name, d.Len(), names(parts, Part.String))
		}
	}
	index, err := draw(d, how, parts)
	if err != nil {
		return nil, rec, err
	}
	var out []Drawn
	for i, p := range parts {
		s := d.Subset(p.Name, index[i])
		out = append(out, Drawn{s, index[i]})
		rec.Parts = append(rec.Parts, PartRecord{p, s.SHA256})
	}
	return out, rec, nil
}

// String is "train (4500)".
func (p Part) String() string { return fmt.Sprintf("%s (%d)", p.Name, p.N) }

// draw returns the positions of each part.
func draw(d *Dataset, how Draw, parts []Part) ([][]int, error) {
	out := make([][]int, len(parts))
	if !how.Balanced {
		order := rng.New(how.Seed, rng.Stream("data.split")).Perm(d.Len())
		for i, p := range parts {
			out[i], order = order[:p.N:p.N], order[p.N:]
		}
		return out, nil
	}
	k := len(d.Classes)
	pool := make([][]int, k) // what is left of each class, in random order
	for i, y := range d.Labels {
		pool[y] = append(pool[y], i)
	}
	need := make([]int, k)
	for c, p := range pool {
		rng.New(how.Seed, rng.Stream("data.split class", uint64(c))).Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
	}
	turn := rng.New(how.Seed, rng.Stream("data.split turn")).Perm(k) // who gives the odd ones
	for i, p := range parts {
		for j, c := range turn {
			n := p.N / k
			if j < p.N%k {
				n++
			}
			if need[c] += n; n > len(pool[c]) {
				return nil, usage.Errorf("%s: class %q has %d images, but %s need %d of it; ask for fewer or draw without balancing",
					d.Name, d.Classes[c], len(pool[c])+need[c]-n, names(parts[:i+1], Part.String), need[c])
			}
			out[i] = append(out[i], pool[c][:n]...)
			pool[c] = pool[c][n:]
		}
		// The odd ones of the next part come from the classes that gave none.
		turn = append(turn[p.N%k:], turn[:p.N%k]...)
		part := out[i]
		sort.Ints(part) // so that the order within the part does not depend on the turn
		rng.New(how.Seed, rng.Stream("data.split part", uint64(i))).Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return out, nil
}
