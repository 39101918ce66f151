package data

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	classes := []string{"cat", "dog", "eel"}
	set := func(name string, labels []int32, images ...string) *Dataset {
		t.Helper()
		d, err := New(name, 1, 2, 3, []uint8(strings.Join(images, "")), labels, classes)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	train := set("train", []int32{0, 1, 1, 2, 0}, "abcdef", "ABCDEF", "abcdef", "xyzxyz", "ghijkl")
	test := set("test", []int32{0, 1, 0}, "ghijkl", "mnopqr", "abcdef")
	val := set("val", []int32{0}, "abcdef")
	s, err := newSource("set", "here", []*Dataset{train, val, test})
	if err != nil {
		t.Fatal(err)
	}
	f := Check(s)
	at := func(split string, i int, label int32) Place {
		return Place{Split: split, Index: i, Label: label, Class: classes[label]}
	}
	want := []Copies{
		{[]Place{at("train", 0, 0), at("train", 2, 1), at("test", 2, 0), at("val", 0, 0)}, true},
		{[]Place{at("train", 4, 0), at("test", 0, 0)}, false},
	}
	if !reflect.DeepEqual(f.Copies, want) {
		t.Errorf("copies %+v", f.Copies)
	}
	parts := []SplitFindings{
		{Name: "train", Images: 5, Constant: []Place{at("train", 3, 2)}},
		{Name: "test", Images: 3, Missing: []string{"eel"}, Leaked: 2, From: "train"},
		{Name: "val", Images: 1, Missing: []string{"dog", "eel"}, Leaked: 1, From: "train"},
	}
	if !reflect.DeepEqual(f.Splits, parts) {
		t.Errorf("splits %+v", f.Splits)
	}
	lines := []string{
		"6 images are exact copies of each other, in 2 groups, of which 1 have different labels",
		"2 images of test have an exact copy in train", "1 images of val have an exact copy in train",
		"1 images of train are of one colour: train 3 (eel)",
		"test has no image of 1 classes: eel", "val has no image of 2 classes: dog and eel",
	}
	if !reflect.DeepEqual(f.Summary(), lines) {
		t.Errorf("%q", f.Summary())
	}
	var b bytes.Buffer
	if err := f.WriteText(&b); err != nil || !strings.Contains(b.String(), "  EQUAL, labels differ: train 0 (cat), train 2 (dog), test 2 (cat), val 0 (cat)\n") {
		t.Errorf("%s, %v", b.String(), err)
	}
	alone := Check(&Source{Splits: []*Dataset{test}})
	if len(alone.Copies) != 0 || len(alone.Splits) != 1 {
		t.Errorf("%+v", alone)
	}
}

// Images of a folder are named by their files.
func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "train/cat/a.png", pngOf(grey(2, 2, 9)))
	put(t, dir, "train/dog/b.bmp", pngOf(plain(2, 2, red)))
	put(t, dir, "test/dog/c.png", pngOf(plain(2, 2, red)))
	f := Check(open(t, dir))
	if len(f.Copies) != 1 || f.Copies[0].Images[0].File != "train/dog/b.bmp" || f.Copies[0].Images[1].File != "test/dog/c.png" ||
		f.Splits[1].Missing[0] != "cat" || len(f.Splits[0].Constant) != 2 {
		t.Errorf("%+v", f)
	}
}
