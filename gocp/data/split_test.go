package data

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/usage"
)

// pixels makes n images of one pixel pair that tells its position; counts are
// the images of each class, which lie one class after the other.
func pairs(t testing.TB, counts ...int) *Dataset {
	t.Helper()
	var images []uint8
	var labels []int32
	var classes []string
	for c, n := range counts {
		for range n {
			images = append(images, uint8(len(labels)>>8), uint8(len(labels)))
			labels = append(labels, int32(c))
		}
		classes = append(classes, string(rune('a'+c)))
	}
	d, err := New("pairs", 1, 2, 1, images, labels, classes)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSplit(t *testing.T) {
	d := pairs(t, 50, 40, 30)
	for _, balanced := range []bool{false, true} {
		how := Draw{Seed: 7, Balanced: balanced}
		parts := []Part{{"train", 40}, {"calibration", 10}, {"auxiliary", 31}}
		got, rec, err := Split(d, how, parts...)
		if err != nil {
			t.Fatal(err)
		}
		used := map[int]bool{}
		for i, p := range got {
			if p.Name != parts[i].Name || p.Len() != parts[i].N || len(p.Index) != parts[i].N || rec.Parts[i].SHA256 != p.Hash() {
				t.Errorf("part %d: %v", i, p)
			}
			for j, k := range p.Index {
				if used[k] {
					t.Fatalf("image %d is in two parts", k)
				}
				used[k] = true
				if p.Labels[j] != d.Labels[k] || !reflect.DeepEqual(p.Image(j), d.Image(k)) {
					t.Fatalf("image %d of part %d is not image %d", j, i, k)
				}
			}
			if counts := p.Counts(); balanced {
				for _, n := range counts {
					if n != p.Len()/3 && n != p.Len()/3+1 {
						t.Errorf("part %s has %v of each class", p.Name, counts)
					}
				}
			}
			increasing := true
			for j := 1; j < len(p.Index); j++ {
				increasing = increasing && p.Index[j] > p.Index[j-1]
			}
			if increasing {
				t.Errorf("part %s is in the order of the set", p.Name)
			}
		}
		if rec.Seed != 7 || rec.Balanced != balanced || rec.Source != "pairs" || rec.SHA256 != d.SHA256 {
			t.Errorf("record %+v", rec)
		}
		// The same again; a part added at the end changes nothing; another seed does.
		_, again, err := Split(d, how, append(parts, Part{"more", 3})...)
		if err != nil || !reflect.DeepEqual(again.Parts[:3], rec.Parts) {
			t.Errorf("balanced %v: a further part changed the others, %v", balanced, err)
		}
		_, other, err := Split(d, Draw{Seed: 8, Balanced: balanced}, parts...)
		if err != nil || other.Parts[0].SHA256 == rec.Parts[0].SHA256 {
			t.Errorf("balanced %v: another seed drew the same", balanced)
		}
	}
	// Over all parts no class gives more than one image above its share.
	got, _, err := Split(d, Draw{Balanced: true}, Part{"a", 1}, Part{"b", 1}, Part{"c", 1})
	if err != nil || got[0].Labels[0]+got[1].Labels[0]+got[2].Labels[0] != 3 {
		t.Errorf("%v", err)
	}
}

func TestSplitErrors(t *testing.T) {
	d := pairs(t, 10, 2)
	for _, c := range []struct {
		balanced bool
		parts    []Part
		text     string
	}{
		{false, []Part{{"train", 8}, {"test", 5}}, "pairs has 12 images, but train (8) and test (5) together need more"},
		{false, []Part{{"train", 1 << 62}, {"x", 1 << 62}, {"y", 1 << 62}}, "together need more"},
		{false, []Part{{"train", 0}}, `part "train" of 0 images`},
		{false, []Part{{"a", 1}, {"a", 1}}, `two parts are called "a"`},
		{true, []Part{{"train", 2}, {"test", 4}}, `class "b" has 2 images, but train (2) and test (4) need 3 of it`},
	} {
		_, _, err := Split(d, Draw{Balanced: c.balanced}, c.parts...)
		if !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v; want %q", err, c.text)
		}
	}
}

func TestExport(t *testing.T) {
	all := pairs(t, 6, 6)
	got, _, err := Split(all, Draw{Seed: 1, Balanced: true}, Part{"train", 6}, Part{"calibration", 2}, Part{"test", 2}, Part{"target", 2})
	if err != nil {
		t.Fatal(err)
	}
	y := got[0].Labels[2]
	v := &Victim{Train: got[0].Dataset, Calibration: got[1].Dataset, Test: got[2].Dataset, Targets: got[3].Dataset, Group: []int{0, 1},
		Arms: []Arm{{"attack", []Poisons{{Index: []int{5, 0}, Images: []uint8{1, 2, 3, 4}}, {Index: []int{2}, Images: []uint8{5, 6}, Labels: []int32{1 - y}}}},
			{"randun", []Poisons{{Index: []int{5, 0}, Images: []uint8{9, 9, 9, 9}}, {}}}}}
	path := filepath.Join(t.TempDir(), "victim.npz")
	if err := Export(path, v); err != nil {
		t.Fatal(err)
	}
	z, err := npy.LoadZip(path)
	if err != nil {
		t.Fatal(err)
	}
	// As another framework does it.
	for s, p := range v.Arms[0].Sets {
		want, err := p.Apply(v.Train)
		if err != nil {
			t.Fatal(err)
		}
		begin, _ := z.Get("poison_attack_begin").Int64s()
		index, _ := z.Get("poison_attack_index").Int64s()
		x := append([]byte(nil), z.Get("train_images").Data...)
		for r := begin[s]; r < begin[s+1]; r++ {
			copy(x[2*index[r]:2*index[r]+2], z.Get("poison_attack").Data[2*r:])
		}
		if string(x) != string(want.Images) || want.SHA256 == v.Train.SHA256 {
			t.Errorf("set %d: %v, want %v", s, x, want.Images)
		}
	}
	labels, err := z.Get("poison_attack_labels").Int64s()
	if want := []int64{int64(got[0].Labels[5]), int64(got[0].Labels[0]), int64(1 - y)}; err != nil || !slices.Equal(labels, want) {
		t.Errorf("labels %v, %v; want %v", labels, err, want)
	}
	if turned, err := v.Arms[0].Sets[1].Apply(v.Train); err != nil || turned.Labels[2] != 1-y || v.Train.Labels[2] != y || turned.Labels[0] != v.Train.Labels[0] {
		t.Errorf("the turned label: %v, %v", turned, err)
	}
	if a := z.Get("poison_attack"); !reflect.DeepEqual(a.Shape, []int{3, 1, 2, 1}) || a.Type != "u1" {
		t.Errorf("poison_attack: %s %v", a.Type, a.Shape)
	}
	if names, err := z.Get("arms").Text(); err != nil || !reflect.DeepEqual(names, []string{"attack", "randun"}) {
		t.Errorf("arms %v, %v", names, err)
	}
	// The file is a data set too.
	s := open(t, path)
	if d := s.Split("train"); d.SHA256 != v.Train.SHA256 || s.Split("calibration").SHA256 != v.Calibration.SHA256 || s.Split("target") == nil {
		t.Errorf("%v", s.Splits)
	}
	plain := filepath.Join(t.TempDir(), "set.npz")
	if err := ExportSource(plain, s); err != nil {
		t.Fatal(err)
	}
	for i, d := range open(t, plain).Splits {
		if d.SHA256 != s.Splits[i].SHA256 {
			t.Errorf("split %s changed", d.Name)
		}
	}

	for text, spoil := range map[string]func(*Victim){
		"occurs twice":          func(v *Victim) { v.Arms = []Arm{{"a", []Poisons{{Index: []int{1, 1}, Images: make([]uint8, 4)}, {}}}} },
		"not in a training set": func(v *Victim) { v.Arms = []Arm{{"a", []Poisons{{Index: []int{6}, Images: make([]uint8, 2)}, {}}}} },
		"2 labels for 1 poisons": func(v *Victim) {
			v.Arms = []Arm{{"a", []Poisons{{Index: []int{1}, Images: make([]uint8, 2), Labels: []int32{0, 0}}, {}}}}
		},
		"there are": func(v *Victim) {
			v.Arms = []Arm{{"a", []Poisons{{Index: []int{1}, Images: make([]uint8, 2), Labels: []int32{9}}, {}}}}
		},
		"bytes of pixels":         func(v *Victim) { v.Arms = []Arm{{"a", []Poisons{{Index: []int{1}, Images: make([]uint8, 3)}, {}}}} },
		"target 1 belongs to set": func(v *Victim) { v.Arms = []Arm{{"a", []Poisons{{}}}} },
		"two arms":                func(v *Victim) { v.Arms = append(v.Arms, v.Arms[0]) },
		"with 1 groups":           func(v *Victim) { v.Group = v.Group[:1] },
		"images or classes of":    func(v *Victim) { v.Test = pairs(t, 1, 1, 1) },
	} {
		w := *v
		spoil(&w)
		bad := filepath.Join(t.TempDir(), "bad.npz")
		if err := Export(bad, &w); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v; want %q", err, text)
		}
	}
}
