package defense

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/usage"
)

func onDevice(t testing.TB, workers int) Run {
	t.Helper()
	d, err := device.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return Run{Context: context.Background(), Device: d, Workers: workers}
}

// blobs are classes of n samples around centres of their own, as non-negative as activations are, and offset.
func blobs(classes, n, d int, offset float32) *Set {
	r := rng.New(7, uint64(classes*n*d))
	s := &Set{D: d}
	centres := make([]float32, classes*d)
	for i := range centres {
		centres[i] = 2 * r.Normal()
	}
	for i := range classes * n {
		y := i % classes
		s.Labels = append(s.Labels, y)
		for j := range d {
			s.Features = append(s.Features, offset+max(0, centres[y*d+j]+r.Normal()))
		}
	}
	return s
}

// nearestBy64 is the definition.
func nearestBy64(s *Set, i, k int) []int {
	var all []int
	for j := range s.Len() {
		if j != i {
			all = append(all, j)
		}
	}
	slices.SortFunc(all, func(a, b int) int { return cmp.Or(cmp.Compare(s.distance(i, a), s.distance(i, b)), cmp.Compare(a, b)) })
	near := all[:k]
	slices.Sort(near)
	return near
}

// The neighbours are those of float64: of rows near the origin and far from it, of duplicates, of rows on
// a grid where many distances are equal, of one row repeated, with outliers; some forty of each.
func TestNeighboursAreThoseOfFloat64(t *testing.T) {
	grid := blobs(4, 150, 6, 0)
	for i, x := range grid.Features {
		grid.Features[i] = float32(math.Round(float64(x)))
	}
	twice := blobs(3, 200, 20, 0)
	copy(twice.Features[300*20:], twice.Features[:300*20])
	same := blobs(2, 150, 5, 3)
	for i := range same.Features {
		same.Features[i] = float32(i % 5)
	}
	outliers := blobs(5, 80, 33, 0)
	for i := range 33 {
		outliers.Features[i] *= 1e6
		outliers.Features[33*50+i] *= -1e12
	}
	huge := blobs(3, 50, 9, 0)
	for i := range huge.Features {
		huge.Features[i] *= 1e37
	}
	tiny := blobs(3, 50, 9, 0)
	for i := range tiny.Features {
		tiny.Features[i] *= 1e-30
	}
	tiny.Features[4] = 1e30
	for name, s := range map[string]*Set{"huge": huge, "tiny, and one huge": tiny, "plain": blobs(5, 120, 64, 0), "offset": blobs(5, 120, 64, 100), "far": blobs(3, 100, 16, 1e6),
		"grid": grid, "twice": twice, "same": same, "outliers": outliers, "large": blobs(3, 1500, 8, 0)} {
		for _, k := range []int{1, 60} {
			calls := make([]bool, s.Len())
			err := s.Neighbours(onDevice(t, 2), k, func(i int, near []int) {
				if calls[i] {
					t.Errorf("%s: sample %d came twice", name, i)
				}
				calls[i] = true
				if t.Failed() || i%(1+s.Len()/40) != 0 {
					return
				}
				if want := nearestBy64(s, i, k); !slices.Equal(near, want) {
					t.Errorf("%s, k = %d: neighbours of %d are %v, by float64 %v", name, k, i, near, want)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(calls, false) {
				t.Fatalf("%s: a sample did not come", name)
			}
		}
	}
}

// Principal directions are those of the whole decomposition, by either way.
func TestPrincipalDirections(t *testing.T) {
	for _, d := range []int{3, 18, 60} {
		s := blobs(3, 70, d, 5)
		members := s.classes()[1]
		m := min(2, d)
		got := s.principal(members, m)
		x := mat.NewDense(len(members), d, nil)
		mean := s.mean(members)
		for k, i := range members {
			for j, v := range s.row(i) {
				x.Set(k, j, float64(v)-mean[j])
			}
		}
		var svd mat.SVD
		if !svd.Factorize(x, mat.SVDThin) {
			t.Fatal("no decomposition")
		}
		var u mat.Dense
		svd.UTo(&u)
		for c := range m {
			sign := 0.0
			for k := range members {
				sign += u.At(k, c) * got[k*m+c]
			}
			for k := range members {
				want := math.Copysign(1, sign) * u.At(k, c) * svd.Values(nil)[c]
				if g := got[k*m+c]; math.Abs(g-want) > 1e-8*svd.Values(nil)[0] {
					t.Fatalf("d = %d, direction %d, sample %d: %v, by SVD %v", d, c, k, g, want)
				}
			}
		}
	}
}

func apply(t *testing.T, name string, s *Set, o Options) *Verdict {
	t.Helper()
	f, err := Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := f.Apply(onDevice(t, 0), s, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Len() {
		if v.Dropped[i] != (v.Reasons[i] != "") {
			t.Fatalf("%s: sample %d is dropped: %v, because %q", name, i, v.Dropped[i], v.Reasons[i])
		}
	}
	return v
}

func indices(dropped []bool) (out []int) {
	for i, d := range dropped {
		if d {
			out = append(out, i)
		}
	}
	return out
}

// mislabelled gives the first n samples of label 0 the label 1.
func mislabelled(s *Set, n int) (changed []int) {
	for _, i := range s.classes()[0][:n] {
		s.Labels[i] = 1
		changed = append(changed, i)
	}
	return changed
}

// Where poisons are samples of another class, the nearest neighbours find them all and nothing else.
func TestDeepKNNFindsSamplesOfAnotherClass(t *testing.T) {
	s := blobs(4, 100, 32, 50)
	want := mislabelled(s, 6)
	v := apply(t, "deep-knn", s, Options{Poisons: 6})
	if got := indices(v.Dropped); !slices.Equal(got, want) {
		t.Errorf("dropped %v, want %v", got, want)
	}
	if !strings.Contains(v.Says, " 12 nearest") {
		t.Error(v.Says)
	}
	if got := apply(t, "deep-knn", s, Options{Poisons: 6, Neighbours: 20}); !slices.Equal(indices(got.Dropped), want) || !strings.Contains(got.Says, " 20 nearest") {
		t.Error(got.Says)
	}
}

// A sample goes only if another label has more neighbours: five points on a line by hand.
func TestDeepKNNByHand(t *testing.T) {
	s := &Set{D: 1, Features: []float32{0, 1, 2, 10, 11, 12.5}, Labels: []int{0, 0, 1, 1, 1, 0}}
	v := apply(t, "deep-knn", s, Options{Poisons: 1})
	// Neighbours: 0:{1,2} 1:{0,2} 2:{0,1} 3:{4,5} 4:{3,5} 5:{3,4}. Sample 0 has one each: it stays.
	if got := indices(v.Dropped); !slices.Equal(got, []int{2, 5}) {
		t.Errorf("dropped %v", got)
	}
	if want := []float64{0, 0, 1, 0, 0, 1}; !slices.Equal(v.Scores, want) {
		t.Errorf("scores %v, want %v", v.Scores, want)
	}
}

// Spectral signatures drop what their parameter says of every class, clean or not, and not more; features
// far from the origin make no difference, for they are centred.
func TestSpectral(t *testing.T) {
	s := blobs(5, 100, 24, 0)
	changed := mislabelled(s, 8)
	v := apply(t, "spectral", s, Options{Poisons: 8})
	count := make([]int, 5)
	for _, i := range indices(v.Dropped) {
		count[s.Labels[i]]++
	}
	if !slices.Equal(count, []int{12, 12, 12, 12, 12}) {
		t.Errorf("%v of each class are dropped", count)
	}
	for _, i := range changed {
		if !v.Dropped[i] {
			t.Errorf("sample %d of another class stays", i)
		}
	}
	moved := &Set{D: s.D, Labels: s.Labels, Features: slices.Clone(s.Features)}
	for i := range moved.Features {
		moved.Features[i] += 64 // exactly, for these numbers have bits to spare
	}
	if got := apply(t, "spectral", moved, Options{Poisons: 8}); !slices.Equal(got.Dropped, v.Dropped) {
		t.Error("an offset of all features changes what is dropped")
	}
}

// Activation clustering takes a small cluster for poisons, and leaves classes that divide evenly.
func TestActivationClustering(t *testing.T) {
	s := blobs(3, 120, 40, 0)
	changed := mislabelled(s, 20)
	v := apply(t, "activation-clustering", s, Options{Poisons: 20})
	if got := indices(v.Dropped); !slices.Equal(got, changed) {
		t.Errorf("dropped %v, want %v", got, changed)
	}
	again := apply(t, "activation-clustering", s, Options{Poisons: 20})
	if !slices.Equal(again.Scores, v.Scores) {
		t.Error("a second run gives other scores")
	}
	all := apply(t, "activation-clustering", s, Options{Poisons: 20, ClusterShare: 0.5})
	if all.Count() < 60 {
		t.Errorf("with half of a class %d are dropped", all.Count())
	}
	count := make([]int, 3)
	for _, i := range indices(all.Dropped) {
		count[s.Labels[i]]++
	}
	for y, n := range count {
		if n == 0 || 2*n > len(s.classes()[y]) {
			t.Errorf("class %d loses %d of %d", y, n, len(s.classes()[y]))
		}
	}
}

// A tie of two clusters of equal size settles nothing, so nothing is dropped.
func TestClustersOfEqualSize(t *testing.T) {
	s := &Set{D: 1, Features: []float32{0, 0.1, 9, 9.1, 4, 5, 6}, Labels: []int{0, 0, 0, 0, 1, 1, 1}}
	v := apply(t, "activation-clustering", s, Options{Poisons: 1, ClusterShare: 0.5})
	for i := range 4 {
		if v.Dropped[i] {
			t.Errorf("sample %d is dropped", i)
		}
	}
}

func TestLargestLoss(t *testing.T) {
	s := blobs(2, 4, 3, 0)
	s.Losses = []float64{1, 5, 0, 5, math.Inf(1), 2, 3, 4}
	v := apply(t, "loss", s, Options{Poisons: 2})
	if got := indices(v.Dropped); !slices.Equal(got, []int{1, 3, 4}) {
		t.Errorf("dropped %v", got)
	}
}

func TestRefusals(t *testing.T) {
	good := func() *Set { return blobs(3, 10, 4, 0) }
	for _, c := range []struct {
		want, name string
		change     func(s *Set, o *Options)
	}{
		{"rows and labels must be as many", "spectral", func(s *Set, _ *Options) { s.Labels = s.Labels[1:] }},
		{"all 30 samples have the label 2", "deep-knn", func(s *Set, _ *Options) {
			for i := range s.Labels {
				s.Labels[i] = 2
			}
		}},
		{"feature 1 of sample 3 is NaN", "spectral", func(s *Set, _ *Options) { s.Features[13] = float32(math.NaN()) }},
		{"feature 0 of sample 0 is +Inf", "activation-clustering", func(s *Set, _ *Options) { s.Features[0] = float32(math.Inf(1)) }},
		{"the label of sample 4 is -1", "loss", func(s *Set, _ *Options) { s.Labels[4] = -1 }},
		{"labels of 30 samples count from 0, to 65535 at most", "deep-knn", func(s *Set, _ *Options) { s.Labels[7] = 1 << 40 }},
		{"0 poisons of 30", "spectral", func(_ *Set, o *Options) { o.Poisons = 0 }},
		{"30 poisons of 30", "deep-knn", func(_ *Set, o *Options) { o.Poisons = 30 }},
		{"11 samples of every class go, and class 0 has 10", "spectral", func(_ *Set, o *Options) { o.Poisons = 7 }},
		{"30 neighbours of 30", "deep-knn", func(_ *Set, o *Options) { o.Poisons = 15 }},
		{"needs the losses", "loss", func(*Set, *Options) {}},
		{"the loss of sample 2 is not a number", "loss", func(s *Set, _ *Options) { s.Losses = make([]float64, 30); s.Losses[2] = math.NaN() }},
		{"would drop all 10 samples of class 1", "loss", func(s *Set, o *Options) {
			s.Losses = make([]float64, 30)
			for i, y := range s.Labels {
				if y == 1 {
					s.Losses[i] = 1
				}
			}
			o.Poisons = 7
		}},
		{"at most 0.5", "activation-clustering", func(_ *Set, o *Options) { o.ClusterShare = 0.6 }},
	} {
		s, o := good(), Options{Poisons: 2}
		c.change(s, &o)
		f, err := Lookup(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Apply(onDevice(t, 0), s, o); err == nil || !usage.Is(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	if _, err := Lookup("magic"); err == nil || !strings.Contains(err.Error(), "[deep-knn spectral activation-clustering loss]") {
		t.Error(err)
	}
}

// The area under the curve is the probability by counting pairs.
func TestROC(t *testing.T) {
	r := rng.New(3, 1)
	for range 50 {
		n := 2 + r.Intn(40)
		scores, poison := make([]float64, n), make([]bool, n)
		for i := range scores {
			scores[i], poison[i] = float64(r.Intn(9)), i == 0 || i > 1 && r.Intn(3) == 0
		}
		pairs, want := 0, 0.0
		for i := range n {
			for j := range n {
				if poison[i] && !poison[j] {
					pairs++
					switch {
					case scores[i] > scores[j]:
						want++
					case scores[i] == scores[j]:
						want += 0.5
					}
				}
			}
		}
		curve, area := ROC(scores, poison)
		if math.Abs(area-want/float64(pairs)) > 1e-12 {
			t.Fatalf("area %v, by pairs %v", area, want/float64(pairs))
		}
		under := 0.0
		for k := 1; k < len(curve); k++ {
			under += (curve[k].Clean - curve[k-1].Clean) * (curve[k].Poisons + curve[k-1].Poisons) / 2
		}
		if math.Abs(under-area) > 1e-12 || curve[0] != (result.Cut{}) || curve[len(curve)-1] != (result.Cut{Clean: 1, Poisons: 1}) {
			t.Fatalf("curve %v has area %v, want %v", curve, under, area)
		}
	}
}
