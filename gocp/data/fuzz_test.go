package data

import (
	"bytes"
	"testing"

	"github.com/gocp/gocp/gocp/data/internal/picture"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/usage"
)

// bounded runs f and fails if it allocated more than times·n bytes and a
// megabyte, or if its error is not one that a user can mend.
func bounded(t *testing.T, n, times int, f func() error) error {
	t.Helper()
	var err error
	if got := allocated(func() { err = f() }); got > uint64(times*n+1<<20) {
		t.Fatalf("%d bytes allocated for an input of %d: %v", got, n, err)
	}
	if err != nil && !usage.Is(err) {
		t.Fatal(err)
	}
	return err
}

func FuzzIDX(f *testing.F) {
	f.Add(idx(ramp(8), 2, 2, 2))
	f.Add(idx([]byte{0, 1}, 2))
	f.Add(idx(ramp(12), 1, 2, 2, 3))
	f.Add(idx(nil, 0, 3))
	f.Add([]byte{0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 2})
	f.Add([]byte{0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), 4, func() error { _, _, err := parseIDX("f", b); return err })
		// As images, with as many labels as the header claims, up to the file's length.
		n := 0
		if len(b) > 7 {
			n = min(len(b), int(b[7]))
		}
		tr := &tree{origin: "t", files: []file{{path: "train-images-idx3-ubyte", origin: "i", content: b},
			{path: "train-labels-idx1-ubyte", origin: "l", content: idx(make([]byte, n), n)}}}
		bounded(t, len(b), 32, func() error { _, err := readIDX(tr, nil); return err })
	})
}

func FuzzGzip(f *testing.F) {
	f.Add(zipped(idx([]byte{0, 1}, 2)))
	f.Add(zipped(make([]byte, 1<<16)))
	f.Add(zipped(nil)[:8])
	f.Fuzz(func(t *testing.T, b []byte) {
		g := file{path: "a.gz", origin: "a.gz", content: b}
		// deflate expands by 1032 at most; growing a buffer doubles that a few times.
		bounded(t, len(b), 6*1032, func() error { _, err := g.unzipped(); return err })
	})
}

func FuzzCIFAR(f *testing.F) {
	f.Add(records(0, 1, 9), byte(0))
	f.Add(records(0, 10), byte(0))
	f.Add(records(1, 99), byte(1))
	f.Add([]byte{}, byte(1))
	f.Add(ramp(3000), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, lead byte) {
		bounded(t, len(b), 16, func() error {
			_, labels, err := parseCIFAR("f", b, []layout{{0, 1}, {1, 2}, {0, 2}}[lead%3], 10, nil, nil)
			for _, y := range labels {
				if y < 0 || y > 9 {
					t.Fatalf("label %d", y)
				}
			}
			return err
		})
	})
}

func FuzzTar(f *testing.F) {
	ok, cat := pngOf(grey(2, 2, 1)), jpegOf(plain(2, 2, red))
	f.Add(tarOf(member{"cat/a.png", ok}, member{"dog/a.jpg", cat}))
	f.Add(tarOf(member{"train/", nil}, member{"train/cat/a.png", ok}, member{"test/cat/a.png", ok}))
	f.Add(tarOf(member{"a.png", ok}))
	f.Add(tarOf(member{"../../cat/a.png", ok}, member{"/cat/b.png", ok}))
	f.Add(tarOf(member{"x/train-images-idx3-ubyte", idx(ramp(4), 1, 2, 2)}, member{"x/train-labels-idx1-ubyte", idx([]byte{0}, 1)}))
	f.Add(zipped(tarOf(member{"cat/a.png", ok})))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), 64*picture.MaxPixels, func() error {
			s, err := ReadTar("set", "set.tar", b)
			if err == nil {
				for _, d := range s.Splits {
					if err := d.check(); err != nil {
						t.Fatal(err)
					}
				}
			}
			return err
		})
	})
}

// Paths alone decide on splits and classes.
func FuzzPlace(f *testing.F) {
	f.Add("train/cat/a.png", "test/dog/b.png", "train/dog")
	f.Add("a.png", "b.png", "c")
	f.Add("x/y/train/cat/a.png", "x/y/train/cat/b.png", "x/y/test")
	f.Add("cat/a.png", "cat/b/c.png", "cat")
	f.Fuzz(func(t *testing.T, a, b, dir string) {
		tr := tarOf(member{a, []byte{1}}, member{b, []byte{2}}, member{dir + "/", nil})
		list, err := untar("t", bytes.NewReader(tr))
		if err != nil {
			return
		}
		placed, classes, err := place(list)
		if err != nil {
			if !usage.Is(err) {
				t.Fatal(err)
			}
			return
		}
		for _, p := range placed {
			if p.class == "" || p.split == "" || len(classes) > len(placed) {
				t.Fatalf("%q has class %q, split %q", p.path, p.class, p.split)
			}
		}
	})
}

func FuzzNPZ(f *testing.F) {
	for _, z := range []npy.Archive{
		{{Name: "x", Array: npy.Uint8(ramp(8), 2, 2, 2)}, {Name: "y", Array: npy.Int64([]int64{0, 1}, 2)}},
		{{Name: "x_test", Array: npy.Float32(make([]float32, 6), 1, 3, 1, 2)}, {Name: "y_test", Array: npy.Int64([]int64{0}, 1)},
			{Name: "classes", Array: npy.Strings([]string{"cat"})}},
	} {
		var b bytes.Buffer
		if err := z.Encode(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b)+1<<12, 16*1040, func() error { _, err := readNPZ("f", b, nil); return err })
	})
}

func FuzzSafetensors(f *testing.F) {
	head := `{"x":{"dtype":"U8","shape":[2,1,1],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`
	f.Add(append(append([]byte{byte(len(head)), 0, 0, 0, 0, 0, 0, 0}, head...), 5, 6, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b)+1<<12, 1040, func() error { _, err := readSafetensors("f", b, nil); return err })
	})
}
