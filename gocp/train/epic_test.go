package train

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
)

// naive is greedy facility location by its definition: every row is tried each time.
func naive(rows [][]float64, k int) []int {
	value := func(chosen []int) float64 {
		sum := 0.0
		for _, x := range rows {
			least := math.Inf(1)
			for _, m := range chosen {
				least = min(least, distance(x, rows[m]))
			}
			sum -= least
		}
		return sum
	}
	var chosen []int
	for len(chosen) < min(k, len(rows)) {
		best, most := -1, math.Inf(-1)
		for j := range rows {
			if slices.Contains(chosen, j) {
				continue
			}
			if v := value(append(slices.Clone(chosen), j)); v > most {
				best, most = j, v
			}
		}
		chosen = append(chosen, best)
	}
	return chosen
}

// The lazy algorithm chooses what the definition does, also among equal rows and on grids, where sums are exact and ties are many.
func TestMedoidsAreGreedy(t *testing.T) {
	src := rng.New(8, 0)
	for try := range 60 {
		n, d := 1+src.Intn(25), 1+src.Intn(3)
		rows := make([][]float64, n)
		for i := range rows {
			rows[i] = make([]float64, d)
			for j := range rows[i] {
				if rows[i][j] = float64(src.Normal()); try%2 == 0 {
					d = 1 // distances on a line of whole numbers are exact
					rows[i] = []float64{float64(src.Intn(6))}
					break
				}
			}
		}
		k := 1 + src.Intn(n)
		if got, want := medoids(rows, k), naive(rows, k); !reflect.DeepEqual(got, want) {
			t.Errorf("try %d: %d of %v: %v, by definition %v", try, k, rows, got, want)
		}
	}
	if got := medoids(nil, 3); len(got) != 0 {
		t.Errorf("medoids of nothing: %v", got)
	}
}

// The budget is ⌈fraction·n⌉ and no more, whatever binary fractions make of it.
func TestBudget(t *testing.T) {
	for _, c := range []struct {
		fraction float64
		n, want  int
	}{{.1, 10, 1}, {.1, 11, 2}, {.1, 450, 45}, {.3, 10, 3}, {.7, 10, 7}, {.2, 1, 1}, {.1, 0, 0}} {
		if got := budget(c.fraction, c.n); got != c.want {
			t.Errorf("%g of %d: %d, want %d", c.fraction, c.n, got, c.want)
		}
	}
	// With one more the second outlier would be a medoid too, and go.
	rows := [][]float64{{0}, {0.1}, {-0.1}, {0.05}, {9}, {0.02}, {-5}, {0}, {0.03}, {0.01}}
	if got := alone(rows, budget(.2, 10)); !slices.Equal(got, []int{4}) {
		t.Errorf("alone: %v, want the farthest", got)
	}
	if got := alone(rows, budget(.3, 10)); !slices.Equal(got, []int{4, 6}) {
		t.Errorf("alone: %v, want both outliers", got)
	}
	// Equal rows stand for each other, by the first.
	if got := alone([][]float64{{1}, {1}, {5}}, 2); !slices.Equal(got, []int{2}) {
		t.Errorf("alone: %v, want 2", got)
	}
}

// What is dropped never comes back, a class is not emptied, and pruning goes on after an interruption as if there had
// been none.
func TestEpicDrops(t *testing.T) {
	set := blobs(150, 4)
	lone := Set{Images: slices.Clone(set.Images), Labels: slices.Clone(set.Labels)}
	for i, y := range lone.Labels { // class 3 has one sample
		if y == 3 && i > 3 {
			lone.Labels[i] = int32(i % 3)
		}
	}
	cfg := Config{Epochs: 5, Batch: 32, Seed: 4, Defense: Defense{Name: "epic", Fraction: 0.3, From: 1}}
	on(t, 1, func(s *device.Stream) error {
		m, err := nn.New(spec(true), 1)
		if err != nil {
			return err
		}
		var seen [][]int32
		var at *nn.Model
		var state State
		var end []int32
		err = Run(s, m, lone, cfg, Options{Dropped: func(d []int32) { end = slices.Clone(d) }, Checkpoint: func(m *nn.Model, st State) error {
			seen = append(seen, st.Dropped)
			if st.Epoch == 2 {
				at, state = m, st
			}
			return nil
		}})
		if err != nil {
			return err
		}
		if len(seen[0]) != 0 || len(seen[1]) == 0 || !slices.Equal(end, seen[4]) {
			t.Errorf("dropped after each epoch: %v, in the end %v", seen, end)
		}
		for e := 1; e < len(seen); e++ {
			for _, i := range seen[e-1] {
				if !slices.Contains(seen[e], i) {
					t.Errorf("sample %d came back in epoch %d", i, e+1)
				}
			}
		}
		if i := slices.Index(lone.Labels, 3); slices.Contains(end, int32(i)) {
			t.Error("the only sample of a class was dropped")
		}
		var again []int32
		err = Run(s, at, lone, cfg, Options{Resume: &state, Dropped: func(d []int32) { again = d }})
		if !reflect.DeepEqual(at.Theta, m.Theta) || !slices.Equal(again, end) {
			t.Error("a resumed run differs")
		}
		return err
	})
	p := &pruned{plain: plain{&trainer{cfg: Config{Epochs: 40, Schedule: Steps, Milestones: []int{14, 24, 35}}.WithDefaults()}}}
	if p.from() != 10 || p.until() != 35 {
		t.Errorf("of 40 epochs it drops from %d until %d, want 10 until 35", p.from(), p.until())
	}
}
