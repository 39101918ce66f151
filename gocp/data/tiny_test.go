package data

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

// tinyFiles is Tiny-ImageNet as it is distributed, with three classes.
func tinyFiles() []member {
	img := func(v uint8) []byte { return pngOf(grey(4, 4, v)) }
	const root = "tiny-imagenet-200/"
	return []member{
		{root + "wnids.txt", []byte("n03126707\nn01443537\nn02012849\n")},
		{root + "words.txt", []byte("n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02012849\tcrane\nn03126707\tcrane\n")},
		{root + "train/n01443537/images/n01443537_0.JPEG", img(1)},
		{root + "train/n01443537/n01443537_boxes.txt", []byte("n01443537_0.JPEG\t0\t10\t63\t58\n")},
		{root + "train/n02012849/images/n02012849_0.JPEG", img(2)},
		{root + "train/n02012849/images/n02012849_1.JPEG", img(3)},
		{root + "train/n03126707/images/n03126707_0.JPEG", img(4)},
		{root + "val/images/val_0.JPEG", img(5)},
		{root + "val/images/val_1.JPEG", img(6)},
		{root + "val/val_annotations.txt", []byte("val_0.JPEG\tn03126707\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t5\t0\t57\t45\n")},
		{root + "test/images/test_0.JPEG", img(7)},
	}
}

func putAll(t *testing.T, dir string, members []member) string {
	t.Helper()
	for _, m := range members {
		put(t, dir, m.name, m.content)
	}
	return dir
}

func TestTinyImageNet(t *testing.T) {
	dir := putAll(t, t.TempDir(), tinyFiles())
	want := open(t, dir)
	train, val := want.Split("train"), want.Split("val")
	if !reflect.DeepEqual(train.Classes, []string{"goldfish", "crane (n02012849)", "crane (n03126707)"}) || !reflect.DeepEqual(train.Labels, []int32{0, 1, 1, 2}) ||
		!reflect.DeepEqual(val.Labels, []int32{2, 0}) || val.Images[0] != 5 || want.Split("test") != nil {
		t.Errorf("%v %v, %v %v", train, train.Labels, val, val.Labels)
	}
	if test, err := want.Need("test"); err != nil || test != val {
		t.Errorf("models are tested on %v, %v", test, err)
	}
	if len(want.Notes) != 1 || !strings.Contains(want.Notes[0], "1 images whose classes were never published") {
		t.Errorf("%q", want.Notes)
	}
	fetched := t.TempDir()
	put(t, fetched, "tiny-imagenet-200.zip", zipOf(tinyFiles()...))
	for _, p := range []string{filepath.Join(dir, "tiny-imagenet-200"), fetched, filepath.Join(fetched, "tiny-imagenet-200.zip"),
		put(t, t.TempDir(), "tiny.tar.gz", zipped(tarOf(tinyFiles()...)))} {
		if s := open(t, p); s.Split("train").SHA256 != train.SHA256 || s.Split("val").SHA256 != val.SHA256 || len(s.Notes) != 1 {
			t.Errorf("%s is another set", p)
		}
	}
	// Validation images that somebody sorted into folders.
	sorted := tinyFiles()
	sorted[7].name, sorted[8].name = "tiny-imagenet-200/val/n03126707/val_0.JPEG", "tiny-imagenet-200/val/n01443537/images/val_1.JPEG"
	if s := open(t, putAll(t, t.TempDir(), sorted)); !reflect.DeepEqual(s.Split("val").Labels, []int32{0, 2}) {
		t.Errorf("%v", s.Split("val").Labels)
	}
	for _, c := range []struct {
		what string
		edit func(m []member) []member
		text string
	}{
		{"an image without a class", func(m []member) []member {
			return append(m, member{"tiny-imagenet-200/val/images/val_2.JPEG", m[7].content})
		}, "val_2.JPEG: neither its folder nor val_annotations.txt tells its class"},
		{"a class without an image", func(m []member) []member { return slices.Delete(m, 6, 7) }, `class "crane (n03126707)" has no image in train`},
		{"a missing image", func(m []member) []member { return slices.Delete(m, 8, 9) }, "names 1 images that are not there, val_1.JPEG among them"},
		{"an unknown class", func(m []member) []member { m[9].content = []byte("val_0.JPEG\tn9\n"); return m }, "line 1 does not give one file a class"},
		{"a label twice", func(m []member) []member {
			m[9].content = []byte("val_0.JPEG\tn03126707\nval_0.JPEG\tn03126707\n")
			return m
		}, "line 2 does not give one file a class"},
		{"a class twice", func(m []member) []member { m[0].content = []byte("n03126707\nn03126707\n"); return m }, "line 2 is not one class, named once"},
		{"no images", func(m []member) []member { return []member{m[0], m[1], m[10]} }, "it holds no images with classes"},
	} {
		_, err := Open(putAll(t, t.TempDir(), c.edit(tinyFiles())))
		if !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v; want %q", c.what, err, c.text)
		}
	}
}

// The CIFAR-100 binary has both labels in every record; folders are told by their classes' names.
func TestCoarse(t *testing.T) {
	var fine, coarse []string
	for c, list := range superclasses {
		coarse = append(coarse, c)
		if n := len(strings.Fields(list)); n != 5 {
			t.Errorf("%s has %d classes", c, n)
		}
		fine = append(fine, strings.Fields(list)...)
	}
	slices.Sort(fine)
	slices.Sort(coarse)
	if len(coarse) != 20 || len(slices.Compact(slices.Clone(fine))) != 100 {
		t.Fatalf("%d superclasses of %d classes", len(coarse), len(fine))
	}
	superclass := func(f string) byte {
		for i, c := range coarse {
			if slices.Contains(strings.Fields(superclasses[c]), f) {
				return byte(i)
			}
		}
		return 255
	}
	binary, folder := t.TempDir(), t.TempDir()
	all := records(1, ramp(100)...)
	for i, f := range fine {
		all[i*(2+cifarPixels)] = superclass(f)
		put(t, folder, "train/"+f+"/a.png", pngOf(grey(2, 2, uint8(i))))
	}
	put(t, binary, "cifar-100-binary/train.bin", all)
	put(t, binary, "cifar-100-binary/fine_label_names.txt", []byte(strings.Join(fine, "\n")+"\n"))
	put(t, binary, "cifar-100-binary/coarse_label_names.txt", []byte(strings.Join(coarse, "\n")+"\n"))
	for _, p := range []string{binary, folder} {
		if d := open(t, p).Splits[0]; !reflect.DeepEqual(d.Classes, fine) || d.Labels[99] != 99 {
			t.Errorf("fine: %v, %v", d, d.Labels)
		}
		s, err := Reading{Coarse: true}.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		d := s.Splits[0]
		if !reflect.DeepEqual(d.Classes, coarse) || d.Len() != 100 {
			t.Errorf("coarse: %v", d)
		}
		for i, y := range d.Labels {
			if y != int32(superclass(fine[i])) {
				t.Errorf("%s is %s", fine[i], d.Classes[y])
			}
		}
	}
	other := t.TempDir()
	put(t, other, "tram/a.png", pngOf(grey(2, 2, 1)))
	if _, err := (Reading{Coarse: true}).Open(other); !usage.Is(err) || !strings.Contains(err.Error(), `its class "tram" is none of CIFAR-100`) {
		t.Errorf("%v", err)
	}
}

func TestZip(t *testing.T) {
	ok := pngOf(grey(2, 2, 1))
	members := []member{{"cat/a.png", ok}, {"dog/", nil}, {"dog\\b.png", ok}, {"__MACOSX/cat/._a.png", ok}, {"notes.txt", []byte("x")}}
	dir := t.TempDir()
	if s := open(t, put(t, dir, "a.zip", zipOf(members...))); !reflect.DeepEqual(s.Splits[0].Labels, []int32{0, 1}) {
		t.Errorf("%v", s.Splits)
	}
	whole := zipOf(members...)
	bad := slices.Clone(whole)
	bad[30+len("cat/a.png")+8] ^= 1 // in the first file
	for _, c := range []struct {
		what string
		b    []byte
		text string
	}{
		{"cut", whole[:len(whole)/2], "damaged"}, {"a flipped bit", bad, "damaged"}, {"text", []byte("hello"), "damaged"},
		{"twice", zipOf(member{"cat/a.png", ok}, member{"cat/a.png", ok}), "occurs twice"},
	} {
		if _, err := Open(put(t, dir, "b.zip", c.b)); !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "c.zip"), zipOf(), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "c.zip")); !usage.Is(err) {
		t.Errorf("an empty zip: %v", err)
	}
}

func FuzzZip(f *testing.F) {
	ok := pngOf(grey(2, 2, 1))
	f.Add(zipOf(member{"cat/a.png", ok}, member{"dog/b.png", ok}))
	f.Add(zipOf(tinyFiles()...))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Buffers grow by doubling; the directory's entries take some 50 bytes each and become names.
		bounded(t, len(b)+1<<12, 4*maxInflate, func() error {
			_, err := unzip("set.zip", strings.NewReader(string(b)), int64(len(b)))
			return err
		})
	})
}

// Texts of Tiny-ImageNet from strangers.
func FuzzTiny(f *testing.F) {
	m := tinyFiles()
	f.Add(m[0].content, m[1].content, m[9].content)
	f.Add([]byte(""), []byte("\t\t"), []byte("val_0.JPEG"))
	f.Fuzz(func(t *testing.T, classes, words, labels []byte) {
		m := tinyFiles()
		m[0].content, m[1].content, m[9].content = classes, words, labels
		tr := &tree{origin: "t"}
		for _, x := range m {
			tr.files = append(tr.files, file{path: x.name, origin: x.name, content: x.content})
		}
		splits, err := readTree(tr, nil)
		if err != nil {
			if !usage.Is(err) {
				t.Fatal(err)
			}
			return
		}
		for _, d := range splits {
			if err := d.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
