package data

import (
	"archive/tar"
	"bytes"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

func open(t testing.TB, path string) *Source {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mnistFiles(t testing.TB, dir string, zip bool) {
	name := func(s string) string { return s }
	pack := func(b []byte) []byte { return b }
	if zip {
		name, pack = func(s string) string { return s + ".gz" }, zipped
	}
	put(t, dir, name("train-images-idx3-ubyte"), pack(idx(ramp(3*2*4), 3, 2, 4)))
	put(t, dir, name("train-labels-idx1-ubyte"), pack(idx([]byte{1, 0, 1}, 3)))
	put(t, dir, name("t10k-images-idx3-ubyte"), pack(idx(ramp(8), 1, 2, 4)))
	put(t, dir, name("t10k-labels-idx1-ubyte"), pack(idx([]byte{1}, 1)))
}

func TestIDX(t *testing.T) {
	var hashes []string
	for _, zip := range []bool{false, true} {
		dir := t.TempDir()
		mnistFiles(t, dir, zip)
		s := open(t, dir)
		train, test := s.Split("train"), s.Split("test")
		if len(s.Splits) != 2 || train.Len() != 3 || test.Len() != 1 || train.H != 2 || train.W != 4 || train.C != 1 {
			t.Errorf("%v", s.Splits)
		}
		if !reflect.DeepEqual(train.Labels, []int32{1, 0, 1}) || !bytes.Equal(train.Images, ramp(24)) ||
			!reflect.DeepEqual(train.Classes, []string{"0", "1"}) {
			t.Errorf("%+v", train)
		}
		hashes = append(hashes, train.SHA256)
		suffix := ""
		if zip {
			suffix = ".gz"
		}
		one := open(t, filepath.Join(dir, "train-images-idx3-ubyte"+suffix))
		if len(one.Splits) != 1 || one.Splits[0].SHA256 != train.SHA256 {
			t.Errorf("one file: %v", one.Splits)
		}
	}
	if hashes[0] != hashes[1] {
		t.Error("gzipped files give another hash")
	}
}

func TestCIFAR(t *testing.T) {
	all := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	dir := t.TempDir()
	put(t, dir, "cifar-10-batches-bin/data_batch_1.bin", records(0, all[:6]...))
	put(t, dir, "cifar-10-batches-bin/data_batch_2.bin", records(0, all[6:]...))
	put(t, dir, "cifar-10-batches-bin/test_batch.bin", records(0, 3))
	put(t, dir, "cifar-10-batches-bin/readme.html", []byte("<html>"))
	s := open(t, dir)
	train := s.Split("train")
	if train.Len() != 10 || train.H != 32 || train.W != 32 || train.C != 3 || train.Classes[3] != "cat" || s.Split("test").Labels[0] != 3 {
		t.Errorf("%v", s.Splits)
	}
	if got := train.Image(7)[:4]; !bytes.Equal(got, []byte{70, 71, 72, 70}) {
		t.Errorf("image 7 begins %v: planes are not interleaved", got)
	}
	archive := put(t, t.TempDir(), "cifar-10-binary.tar.gz", zipped(tarOf(
		member{"cifar-10-batches-bin/", nil},
		member{"cifar-10-batches-bin/test_batch.bin", records(0, 3)},
		member{"cifar-10-batches-bin/data_batch_2.bin", records(0, all[6:]...)},
		member{"cifar-10-batches-bin/data_batch_1.bin", records(0, all[:6]...)},
		member{"cifar-10-batches-bin/batches.meta.txt", []byte("airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n")})))
	for _, p := range []string{archive, filepath.Dir(archive)} {
		if a := open(t, p); a.Split("train").SHA256 != train.SHA256 {
			t.Errorf("%s has another hash than the folder", p)
		}
	}

	hundred := t.TempDir()
	put(t, hundred, "train.bin", records(1, ramp(100)...))
	put(t, hundred, "test.bin", records(1, 99))
	var fine strings.Builder
	for i := range 100 {
		fine.WriteString("class" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + "\n")
	}
	put(t, hundred, "fine_label_names.txt", []byte(fine.String()))
	h := open(t, hundred)
	if d := h.Split("train"); d.Len() != 100 || d.Labels[99] != 99 || d.Classes[27] != "classbb" {
		t.Errorf("CIFAR-100: %v", d)
	}
}

func TestImages(t *testing.T) {
	cat, dog := jpegOf(plain(6, 5, red)), pngOf(plain(6, 5, color.RGBA{1, 2, 3, 255}))
	members := []member{
		{"set/train/dog/b.png", dog}, {"set/train/cat/a.jpg", cat}, {"set/train/dog/a.PNG", pngOf(grey(6, 5, 7))},
		{"set/val/cat/z.jpeg", cat}, {"set/train/.hidden/x.png", dog}, {"set/words.txt", []byte("cat dog")},
	}
	dir := t.TempDir()
	for _, m := range members {
		put(t, dir, m.name, m.content)
	}
	want := open(t, dir)
	train := want.Split("train")
	if train.Len() != 3 || want.Split("val").Len() != 1 || train.H != 6 || train.W != 5 || train.C != 3 ||
		!reflect.DeepEqual(train.Classes, []string{"cat", "dog"}) || !reflect.DeepEqual(train.Labels, []int32{0, 1, 1}) {
		t.Errorf("%v, labels %v", want.Splits, train.Labels)
	}
	for i, c := range [][]int{{200, 10, 20}, {7, 7, 7}, {1, 2, 3}} {
		for j, v := range train.Image(i) {
			if d := int(v) - c[j%3]; d < -3 || d > 3 { // JPEG loses a little
				t.Fatalf("image %d is %v, want about %v", i, train.Image(i)[:3], c)
			}
		}
	}
	tarred := put(t, t.TempDir(), "images.tar.gz", zipped(tarOf(members...)))
	for _, p := range []string{tarred, filepath.Join(dir, "set"), put(t, t.TempDir(), "images.tar", tarOf(members...))} {
		if s := open(t, p); s.Split("train").SHA256 != train.SHA256 {
			t.Errorf("%s has another hash", p)
		}
	}
	// Several archives in one folder are one set.
	parts := t.TempDir()
	put(t, parts, "q0.tar", tarOf(members[:3]...))
	put(t, parts, "q1.tar.gz", zipped(tarOf(members[3:]...)))
	if s := open(t, parts); s.Split("train").SHA256 != train.SHA256 || s.Split("val") == nil {
		t.Errorf("archives side by side: %v", s.Splits)
	}
	// Without splits; all grey; a palette; one class in one split.
	flat := t.TempDir()
	put(t, flat, "a/1.png", pngOf(grey(2, 2, 9)))
	put(t, flat, "b/1.jpg", jpegOf(grey(2, 2, 200)))
	if d := open(t, flat).Split("train"); d.C != 1 || d.Len() != 2 || d.Images[0] != 9 {
		t.Errorf("grey: %v", d)
	}
	palette := t.TempDir()
	p := image.NewPaletted(image.Rect(0, 0, 2, 2), color.Palette{red, color.RGBA{0, 0, 255, 255}})
	p.Pix[1] = 1
	put(t, palette, "test/a/1.png", pngOf(p))
	if d := open(t, palette).Split("test"); d.C != 3 || !bytes.Equal(d.Images[:6], []byte{200, 10, 20, 0, 0, 255}) {
		t.Errorf("palette: %v", d.Images)
	}
}

func TestArrays(t *testing.T) {
	hwc := ramp(2 * 2 * 2 * 3) // [2,2,2,3]
	var chw []float32
	for n := range 2 {
		for c := range 3 {
			for i := range 4 {
				chw = append(chw, float32(hwc[n*12+i*3+c])/255)
			}
		}
	}
	labels := npy.Int64([]int64{1, 0}, 2)
	dir := t.TempDir()
	save := func(name string, z npy.Archive) string {
		p := filepath.Join(dir, name)
		if err := z.Save(p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	want := open(t, save("a.npz", npy.Archive{{Name: "train_images", Array: npy.Uint8(hwc, 2, 2, 2, 3)}, {Name: "train_labels", Array: labels},
		{Name: "val_images", Array: npy.Uint8(hwc, 2, 2, 2, 3)}, {Name: "val_labels", Array: labels}, {Name: "other", Array: labels}}))
	hash := want.Split("train").SHA256
	if want.Split("val") == nil || want.Splits[0].Name != "train" {
		t.Errorf("%v", want.Splits)
	}
	same := []string{
		save("b.npz", npy.Archive{{Name: "x_train", Array: npy.Uint8(hwc, 2, 2, 2, 3)}, {Name: "y_train", Array: npy.Int64([]int64{1, 0}, 2, 1)}}),
		save("c.npz", npy.Archive{{Name: "x", Array: npy.Float32(chw, 2, 3, 2, 2)}, {Name: "y", Array: labels}}),
		save("d.npz", npy.Archive{{Name: "images", Array: npy.Uint8(hwc, 2, 2, 2, 3)}, {Name: "labels", Array: labels}, {Name: "classes", Array: npy.Strings([]string{"0", "1"})}}),
	}
	st := filepath.Join(dir, "e.safetensors")
	f := safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromFloat32("x", chw, 2, 3, 2, 2), safetensors.FromInt64("y", []int64{1, 0}, 2)}}
	if err := f.Save(st); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "folder")
	for name, a := range map[string]*npy.Array{"images.npy": npy.Uint8(hwc, 2, 2, 2, 3), "labels.npy": labels} {
		var b bytes.Buffer
		if err := npy.Write(&b, a); err != nil {
			t.Fatal(err)
		}
		put(t, folder, name, b.Bytes())
	}
	for _, p := range append(same, st, folder) {
		if d := open(t, p).Split("train"); d.SHA256 != hash {
			t.Errorf("%s: %v; want hash %s", p, d, hash)
		}
	}
	f.Meta = map[string]string{"classes": "cat,dog"}
	if err := f.Save(st); err != nil {
		t.Fatal(err)
	}
	if d := open(t, st).Split("train"); !reflect.DeepEqual(d.Classes, []string{"cat", "dog"}) {
		t.Errorf("classes %v", d.Classes)
	}
}

// Everything a person can get wrong is one sentence that says what and where.
func TestBadInput(t *testing.T) {
	cat := jpegOf(plain(4, 4, red))
	ok := pngOf(plain(4, 4, red))
	clear := image.NewNRGBA(image.Rect(0, 0, 4, 4))
	link := func() []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Name: "cat/a.png", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})
		w.Close()
		return b.Bytes()
	}()
	zip := func(z npy.Archive) []byte {
		var b bytes.Buffer
		if err := z.Encode(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	x, y := npy.Named{Name: "x", Array: npy.Uint8(ramp(8), 2, 2, 2)}, npy.Named{Name: "y", Array: npy.Int64([]int64{0, 1}, 2)}
	named := func(n string, a *npy.Array) npy.Named { return npy.Named{Name: n, Array: a} }
	images, labels := idx(ramp(8), 2, 2, 2), idx([]byte{0, 1}, 2)
	whole := zipped(tarOf(member{"cat/a.png", ok}, member{"dog/a.png", ok}))
	for _, c := range []struct {
		name  string
		files []member // written into a folder; the first is opened if open is ""
		open  string   // "." for the folder
		text  string
	}{
		{"unknown name", nil, "cifar11", `"cifar11" is neither a known data set nor a file or folder; the known ones are cifar10-sample, cifar10, cifar100, tiny-imagenet, mnist and fashion-mnist`},
		{"empty folder", []member{{"x/.keep", []byte{}}}, ".", "no data set found"},
		{"unknown format", []member{{"a.csv", []byte("1,2")}}, "", "unknown format"},
		{"two formats", []member{{"cat/a.png", ok}, {"train.bin", records(1, 0)}}, ".", "several formats (CIFAR, image)"},

		{"corrupt JPEG", []member{{"cat/a.jpg", cat[:len(cat)*3/4]}, {"dog/a.png", ok}}, ".", "cat/a.jpg: corrupt image:"},
		{"damaged JPEG header", []member{{"cat/a.jpg", cat[:20]}, {"dog/a.png", ok}}, ".", "cat/a.jpg: corrupt image:"},
		{"empty JPEG", []member{{"cat/a.jpg", []byte{}}, {"dog/a.png", ok}}, ".", "cat/a.jpg: the file is empty"},
		{"corrupt PNG", []member{{"cat/a.png", ok[:len(ok)-20]}, {"dog/a.png", ok}}, ".", "cat/a.png: corrupt image:"},
		{"text as JPEG", []member{{"cat/a.jpg", []byte("hello")}}, ".", "cat/a.jpg: corrupt image:"},
		{"huge PNG", []member{{"cat/a.png", claim(60000, 60000)}}, ".", "60000×60000 pixels are too many for a file of"},
		{"huge JPEG", []member{{"cat/a.jpg", hugeJPEG()}}, ".", "65000×65000 pixels are too many for a file of"},
		{"too large", []member{{"cat/a.png", append(claim(4096, 4097), make([]byte, 30000)...)}}, ".", "4096×4097 pixels; scale it down"},
		{"two sizes", []member{{"cat/a.png", ok}, {"dog/b.png", pngOf(grey(4, 5, 0))}}, ".", "dog/b.png: it has 4×5 pixels but cat/a.png has 4×4"},
		{"transparent", []member{{"cat/a.png", pngOf(clear)}}, ".", "cat/a.png: it has transparent pixels"},
		{"16 bits", []member{{"cat/a.png", pngOf(image.NewGray16(image.Rect(0, 0, 4, 4)))}}, ".", "16 bits per channel"},
		{"no class folder", []member{{"a.png", ok}, {"b.png", ok}}, ".", "must lie at CLASS/NAME or SPLIT/CLASS/NAME"},
		{"mixed depth", []member{{"cat/a.png", ok}, {"dog/big/a.png", ok}}, ".", "must lie at CLASS/NAME or SPLIT/CLASS/NAME"},
		{"splits without classes", []member{{"train/a.png", ok}, {"test/a.png", ok}}, ".", `folder "test" names a split`},
		{"empty class folder", []member{{"cat/a.png", ok}, {"dog/readme.txt", []byte("none")}}, ".", `class folder "dog" holds no image`},
		{"empty class in a split", []member{{"train/cat/a.png", ok}, {"test/cat/a.png", ok}, {"test/dog/a.png", ok}}, ".", `class "dog" has no image in train`},
		{"empty class in a tar", []member{{"a.tar", tarOf(member{"cat/a.png", ok}, member{"dog/", nil})}}, "", `class folder "dog" holds no image`},

		{"tar cut off", []member{{"a.tar.gz", whole[:len(whole)-30]}}, "", "the archive is cut off; fetch it again"},
		{"tar damaged", []member{{"a.tar.gz", append(bytes.Clone(whole[:60]), bytes.Repeat([]byte{7}, 60)...)}}, "", "the archive is damaged:"},
		{"not a tar", []member{{"a.tar", bytes.Repeat([]byte("hello"), 300)}}, "", "the archive is damaged:"},
		{"link in a tar", []member{{"a.tar", link}}, "", "it is no plain file"},
		{"twice in a tar", []member{{"a.tar", tarOf(member{"cat/a.png", ok}, member{"./cat/a.png", ok})}}, "", "cat/a.png: it occurs twice in the archive"},
		{"twice in two tars", []member{{"a.tar", tarOf(member{"cat/a.png", ok})}, {"b.tar", tarOf(member{"cat/a.png", ok})}}, ".", "another archive of the folder holds it too"},
		{"empty tar", []member{{"a.tar", tarOf()}}, "", "no data set found"},

		{"IDX without labels", []member{{"train-images-idx3-ubyte", images}}, ".", "its labels file is missing"},
		{"IDX without images", []member{{"train-labels-idx1-ubyte", labels}}, ".", "its images file is missing"},
		{"IDX twice", []member{{"train-images-idx3-ubyte", images}, {"train-images-idx3-ubyte.gz", zipped(images)}, {"train-labels-idx1-ubyte", labels}}, ".", "holds the same; remove one"},
		{"IDX of another kind", []member{{"train-images-idx3-ubyte", []byte("PK\x03\x04")}, {"train-labels-idx1-ubyte", labels}}, ".", "does not begin as an IDX file"},
		{"IDX of floats", []member{{"train-images-idx3-ubyte", []byte{0, 0, 13, 3, 0, 0}}, {"train-labels-idx1-ubyte", labels}}, ".", "must be unsigned bytes"},
		{"IDX of rank 9", []member{{"train-images-idx3-ubyte", []byte{0, 0, 8, 9, 0, 0}}, {"train-labels-idx1-ubyte", labels}}, ".", "it has 9 axes"},
		{"IDX, short header", []member{{"train-images-idx3-ubyte", images[:9]}, {"train-labels-idx1-ubyte", labels}}, ".", "it ends in the header"},
		{"IDX, cut off", []member{{"train-images-idx3-ubyte", images[:20]}, {"train-labels-idx1-ubyte", labels}}, ".", "need 8 bytes but 4 follow"},
		{"IDX, overflow", []member{{"train-images-idx3-ubyte", []byte{0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}}, {"train-labels-idx1-ubyte", labels}}, ".", "multiply to more than any file holds"},
		{"IDX, labels as images", []member{{"train-images-idx3-ubyte", labels}, {"train-labels-idx1-ubyte", labels}}, ".", "images have 3 or 4"},
		{"IDX, other count", []member{{"train-images-idx3-ubyte", images}, {"train-labels-idx1-ubyte", idx([]byte{0, 1, 1}, 3)}}, ".", "labels [3] for 2 images"},
		{"IDX, bad gzip", []member{{"train-images-idx3-ubyte.gz", zipped(images)[:15]}, {"train-labels-idx1-ubyte", labels}}, ".", "damaged gzip file"},
		{"IDX, empty class", []member{{"train-images-idx3-ubyte", images}, {"train-labels-idx1-ubyte", idx([]byte{0, 2}, 2)}}, ".", `class "1" has no image in train`},
		{"IDX, none", []member{{"train-images-idx3-ubyte", idx(nil, 0, 2, 2)}, {"train-labels-idx1-ubyte", idx(nil, 0)}}, ".", "it holds no images"},
		{"IDX, two channels", []member{{"train-images-idx3-ubyte", idx(ramp(16), 2, 2, 2, 2)}, {"train-labels-idx1-ubyte", labels}}, ".", "2 channels; they must have"},

		{"CIFAR cut off", []member{{"data_batch_1.bin", records(0, 1, 2)[:4000]}}, ".", "4000 bytes are not a whole number of records of 3073"},
		{"CIFAR empty", []member{{"test.bin", []byte{}}}, ".", "0 bytes are not a whole number of records of 3074"},
		{"CIFAR label", []member{{"data_batch_1.bin", records(0, 1, 10)}}, ".", "label 10 of record 1 is out of range; labels run from 0 to 9"},
		{"CIFAR names", []member{{"data_batch_1.bin", records(0, 1)}, {"batches.meta.txt", []byte("a b")}}, ".", "names 2 classes; it must name 10"},
		{"CIFAR, empty class", []member{{"data_batch_1.bin", records(0, 1)}}, ".", `class "airplane" has no image in train`},

		{"npz cut off", []member{{"a.npz", zip(npy.Archive{x, y})[:100]}}, "", "not a valid .npz file"},
		{"npz without images", []member{{"a.npz", zip(npy.Archive{y})}}, "", "name the arrays train_images and train_labels"},
		{"npz without labels", []member{{"a.npz", zip(npy.Archive{x})}}, "", "array x has no array y"},
		{"npz, other count", []member{{"a.npz", zip(npy.Archive{x, named("y", npy.Int64([]int64{0}, 1))})}}, "", "array x has 2 images but y has 1 labels"},
		{"npz, labels of floats", []member{{"a.npz", zip(npy.Archive{x, named("y", npy.Float32([]float32{0, 1}, 2))})}}, "", "labels must be integers"},
		{"npz, one-hot labels", []member{{"a.npz", zip(npy.Archive{x, named("y", npy.Int64([]int64{0, 1, 1, 0}, 2, 2))})}}, "", "shape [2 2] of type i8; labels must be integers of shape [N]"},
		{"npz, negative label", []member{{"a.npz", zip(npy.Archive{x, named("y", npy.Int64([]int64{0, -1}, 2))})}}, "", "label -1 of image 1 is out of range"},
		{"npz, huge label", []member{{"a.npz", zip(npy.Archive{x, named("y", npy.Int64([]int64{0, 1 << 40}, 2))})}}, "", "label 1099511627776 of image 1 is out of range"},
		{"npz, large label", []member{{"a.npz", zip(npy.Archive{x, named("y", npy.Int64([]int64{0, 1 << 30}, 2))})}}, "", "label 1073741824 of image 1 is out of range"},
		{"npz, label beyond the classes", []member{{"a.npz", zip(npy.Archive{x, y, named("classes", npy.Strings([]string{"cat"}))})}}, "", "label 1 of image 1 is out of range; with 1 classes"},
		{"npz, classes twice", []member{{"a.npz", zip(npy.Archive{x, y, named("classes", npy.Strings([]string{"cat", "cat"}))})}}, "", `two classes are called "cat"`},
		{"npz, empty class", []member{{"a.npz", zip(npy.Archive{x, y, named("classes", npy.Strings([]string{"a", "b", "c"}))})}}, "", `class "c" has no image in train`},
		{"npz, shape", []member{{"a.npz", zip(npy.Archive{named("x", npy.Uint8(ramp(8), 2, 4)), y})}}, "", "shape [2 4]; images must have shape"},
		{"npz, not 8-bit", []member{{"a.npz", zip(npy.Archive{named("x", npy.Float32([]float32{.3, 1}, 2, 1, 1)), y})}}, "", "pixel value 0.3 is not k/255"},
		{"npz, integers as images", []member{{"a.npz", zip(npy.Archive{named("x", npy.Int64([]int64{3, 1}, 2, 1, 1)), y})}}, "", "images must be unsigned bytes, or floats"},
		{"npz, sizes of splits", []member{{"a.npz", zip(npy.Archive{x, y, named("x_test", npy.Uint8(ramp(2), 2, 1, 1)), named("y_test", npy.Int64([]int64{0, 1}, 2))})}}, "", "they must be alike"},
		{"safetensors", []member{{"a.safetensors", []byte("hello")}}, "", "not a valid safetensors file"},
		{"npy", []member{{"x.npy", []byte("hello")}}, ".", "not a valid .npy file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, m := range c.files {
				put(t, dir, m.name, m.content)
			}
			p := c.open
			switch p {
			case ".":
				p = dir
			case "":
				p = filepath.Join(dir, c.files[0].name)
			}
			_, err := Open(p)
			if err == nil || !strings.Contains(err.Error(), c.text) || !usage.Is(err) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v; want %q", err, c.text)
			}
			if c.files != nil && !strings.Contains(err.Error(), dir) {
				t.Errorf("%v: the file is not named", err)
			}
		})
	}
}

func TestKnown(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GOCP_DATA", dir)
	_, err := Open("mnist")
	if !usage.Is(err) || !strings.Contains(err.Error(), `run "gocp data fetch mnist", or put its files in `+filepath.Join(dir, "mnist")) {
		t.Errorf("%v", err)
	}
	mnistFiles(t, filepath.Join(dir, "mnist"), true)
	// A name gives the classes their names, so the sample's lack of 2 … 9 shows.
	if _, err := Open("mnist"); err == nil || !strings.Contains(err.Error(), `class "2" has no image in train`) {
		t.Errorf("%v", err)
	}
	found := map[string]Known{}
	for _, k := range List() {
		found[k.Name] = k
	}
	if k := found["mnist"]; k.Where != filepath.Join(dir, "mnist") || !k.Fetch {
		t.Errorf("%+v", k)
	}
	if k := found["cifar10"]; k.Where != "" || !k.Fetch {
		t.Errorf("%+v", k)
	}
	t.Setenv("GOCP_DATA", "")
	t.Setenv("XDG_CACHE_HOME", "/tmp/cache")
	if d, err := Dir(); err != nil || d != "/tmp/cache/gocp/data" {
		t.Errorf("%q, %v", d, err)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	if _, err := Dir(); !usage.Is(err) {
		t.Errorf("without a home: %v", err)
	}
}

// Debian's package dataset-fashion-mnist, where it is installed.
func TestFashionMNIST(t *testing.T) {
	if testing.Short() {
		t.Skip("70,000 images")
	}
	t.Setenv("GOCP_DATA", t.TempDir())
	if b := find("fashion-mnist"); !holdsFiles(b.system) {
		t.Skip("dataset-fashion-mnist is not installed")
	}
	s := open(t, "fashion-mnist")
	train, test := s.Split("train"), s.Split("test")
	if train.Len() != 60000 || test.Len() != 10000 || train.H != 28 || train.C != 1 || train.Classes[9] != "Ankle boot" {
		t.Errorf("%v", s.Splits)
	}
	for k, n := range train.Counts() {
		if n != 6000 {
			t.Errorf("%d images of class %s", n, train.Classes[k])
		}
	}
}

func TestRegister(t *testing.T) {
	defer delete(embedded, "tiny")
	d, err := New("train", 1, 1, 1, []uint8{5, 6}, []int32{0, 1}, []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	Register("tiny", "two pixels", func() (*Source, error) { return newSource("tiny", "embedded", []*Dataset{d}) })
	if s := open(t, "tiny"); s.Split("train") != d {
		t.Errorf("%v", s)
	}
	if list := List(); !slices.ContainsFunc(list, func(k Known) bool { return k.Name == "tiny" && k.Where == "embedded" }) {
		t.Errorf("%+v", list)
	}
	if _, err := open(t, "tiny").Need("test"); !usage.Is(err) || !strings.Contains(err.Error(), `no split is called "test"; there is train`) {
		t.Errorf("%v", err)
	}
	for _, taken := range []string{"tiny", "mnist"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was registered twice", taken)
				}
			}()
			Register(taken, "", nil)
		}()
	}
}

func TestNew(t *testing.T) {
	two := []string{"a", "b"}
	for _, c := range []struct {
		h, w, c int
		images  []uint8
		labels  []int32
		classes []string
		text    string
	}{
		{1, 1, 1, ramp(2), []int32{0, 2}, two, "label 2 of image 1 is out of range"},
		{1, 1, 1, ramp(3), []int32{0, 1}, two, "every image needs one label"},
		{1, 1, 2, ramp(4), []int32{0, 1}, two, "2 channels"},
		{0, 1, 1, nil, []int32{0, 1}, two, "at least one pixel"},
		{1, 1, 1, nil, nil, two, "no images"},
	} {
		if _, err := New("set", c.h, c.w, c.c, c.images, c.labels, c.classes); !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v; want %q", err, c.text)
		}
	}
	d, err := New("set", 1, 2, 1, ramp(6), []int32{0, 1, 1}, two)
	if err != nil {
		t.Fatal(err)
	}
	s := d.Subset("part", []int{2, 0})
	if s.Name != "part" || !bytes.Equal(s.Images, []byte{4, 5, 0, 1}) || !reflect.DeepEqual(s.Labels, []int32{1, 0}) || s.SHA256 == d.SHA256 {
		t.Errorf("%+v", s)
	}
	// The hash covers everything but the name.
	e := *d
	e.Name = "other"
	if e.Hash() != d.SHA256 {
		t.Error("the name changes the hash")
	}
	e.Classes = []string{"a", "c"}
	if e.Hash() == d.SHA256 {
		t.Error("a class name does not change the hash")
	}
	if got, want := d.SHA256, "d477a2b95d232debf785a9f6b13f91c852c36328f661d7ba9233a93b40934e60"; got != want {
		t.Errorf("hash %s, want %s: the canonical form has changed", got, want)
	}
}

// Hostile headers do not make readers allocate.
func TestAllocation(t *testing.T) {
	dir := t.TempDir()
	sparse := func() []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Name: "cat/a.png", Size: 1 << 40, Mode: 0o644})
		return b.Bytes() // a terabyte that does not follow
	}()
	for name, b := range map[string][]byte{
		"big/cat/a.png":                claim(60000, 60000),
		"big2/cat/a.jpg":               hugeJPEG(),
		"big3/train-images-idx3-ubyte": {0, 0, 8, 3, 0, 1, 0, 0, 0, 0, 255, 255, 0, 0, 255, 255},
		"big4.tar":                     sparse,
	} {
		p := put(t, dir, name, b)
		if i := strings.Index(name, "/"); i > 0 {
			p = filepath.Join(dir, name[:i])
		}
		put(t, dir, "big3/train-labels-idx1-ubyte", idx([]byte{0}, 1))
		var err error
		if got := allocated(func() { _, err = Open(p) }); err == nil || got > 1<<20 {
			t.Errorf("%s: %d bytes allocated, %v", name, got, err)
		}
	}
}

func TestSymlinks(t *testing.T) {
	link := func(old, new string) {
		t.Helper()
		if err := os.Symlink(old, new); err != nil {
			t.Skip(err)
		}
	}
	refused := func(dir, text string) {
		t.Helper()
		if _, err := Open(dir); !usage.Is(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v; want %q", err, text)
		}
	}
	dir, other := t.TempDir(), t.TempDir()
	put(t, other, "a.png", pngOf(grey(2, 2, 1)))
	put(t, dir, "cat/a.png", pngOf(grey(2, 2, 2)))
	link(other, filepath.Join(dir, "dog"))
	link(filepath.Join(other, "a.png"), filepath.Join(dir, "cat", "b.png"))
	root := filepath.Join(t.TempDir(), "link")
	link(dir, root)
	for _, p := range []string{dir, root} {
		if d := open(t, p).Splits[0]; !reflect.DeepEqual(d.Labels, []int32{0, 0, 1}) || d.Image(0)[0] != 2 || d.Image(1)[0] != 1 || d.Image(2)[0] != 1 {
			t.Errorf("%v, labels %v", d, d.Labels)
		}
	}
	link(filepath.Join(dir, "nothing"), filepath.Join(dir, "cat", "c.png"))
	refused(dir, "c.png: it is a link to nothing")
	os.Remove(filepath.Join(dir, "cat", "c.png"))
	link(dir, filepath.Join(dir, "cat", "up"))
	refused(dir, "up: it is a link to a folder that holds it")

	// Ten folders, each with two links to the next: 1,024 ways down.
	steps := t.TempDir()
	for i := range 10 {
		here := filepath.Join(steps, string(rune('a'+i)))
		os.Mkdir(here, 0o777)
		for _, name := range []string{"x", "y"} {
			link(filepath.Join(steps, string(rune('b'+i))), filepath.Join(here, name))
		}
	}
	put(t, steps, "k/a.png", pngOf(grey(2, 2, 1)))
	refused(filepath.Join(steps, "a"), "more than 8 links to folders lie one in another")
}

// The split that models are tested on goes by several names.
func TestTestSplit(t *testing.T) {
	image := pngOf(grey(2, 2, 1))
	for _, c := range []struct {
		splits string // besides train
		ask    string
		want   string // or the beginning of an error
	}{
		{"test", "", "test"}, {"val", "", "val"}, {"valid", "", "val"}, {"validation", "", "val"}, {"testing", "", "test"},
		{"test val", "", "test"}, {"test val", "val", "val"}, {"test val", "validation", "val"}, {"dev", "dev", "dev"},
		{"dev", "", `no split is called "test"; there is train and dev`},
		{"val", "dev", `no split is called "dev"; there is train and val`},
	} {
		dir := t.TempDir()
		for _, s := range append(strings.Fields(c.splits), "train") {
			put(t, dir, s+"/cat/a.png", image)
		}
		got := ""
		s, err := Reading{Test: c.ask}.Open(dir)
		if err == nil {
			var d *Dataset
			if d, err = s.Need("test"); err == nil {
				got = d.Name
			}
		}
		if err != nil {
			got = err.Error()
			if !usage.Is(err) {
				t.Error(err)
			}
		}
		if !strings.HasSuffix(got, c.want) {
			t.Errorf("%q, asked for %q: %s; want %s", c.splits, c.ask, got, c.want)
		}
	}
}

// Files that cannot be read are refused, all in one sentence, or left out and named.
func TestUnreadable(t *testing.T) {
	ok := pngOf(grey(2, 2, 1))
	dir := t.TempDir()
	for _, m := range []member{{"train/cat/a.png", ok}, {"train/cat/b.png", ok[:len(ok)/2]}, {"train/cat/c.gif", []byte("GIF89a")},
		{"train/cat/d.bin", []byte{1}}, {"train/cat/notes.txt", []byte("a cat")}, {"train/dog/e.bmp", []byte("BM")}, {"train/dog/f.png", ok},
		{"test/dog/g.png", ok}, {"README", []byte("cats")}, {"train/cat/h.png", []byte{}}, {"test/cat/i.jfif", ok}, {"test/cat/j.png", ok}} {
		put(t, dir, m.name, m.content)
	}
	tarred := func() string {
		var all []member
		filepath.WalkDir(dir, func(p string, e os.DirEntry, _ error) error {
			if rel, _ := filepath.Rel(dir, p); !e.IsDir() {
				b, _ := os.ReadFile(p)
				all = append(all, member{filepath.ToSlash(rel), b})
			}
			return nil
		})
		return put(t, t.TempDir(), "set.tar", tarOf(all...))
	}()
	for _, p := range []string{dir, tarred} {
		_, err := Open(p)
		for _, text := range []string{"test/cat/i.jfif: no image by its name", "nor can 5 others of 10 be read", "b.png", "c.gif", "d.bin",
			"h.png and 1 more; mend them", "--skip-unreadable"} {
			if !usage.Is(err) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want %q", err, text)
			}
		}
		s, err := Reading{SkipUnreadable: true}.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		if tr, te := s.Split("train"), s.Split("test"); !reflect.DeepEqual(tr.Labels, []int32{0, 1}) || !reflect.DeepEqual(te.Labels, []int32{0, 1}) || len(s.Skipped) != 6 {
			t.Errorf("%v, %v, skipped %v", tr, te, s.Skipped)
		}
	}
	// Nothing left is an error with either.
	none := t.TempDir()
	put(t, none, "cat/a.png", ok[:20])
	if _, err := (Reading{SkipUnreadable: true}).Open(none); !usage.Is(err) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("%v", err)
	}
	// Nor is a class of which nothing is left.
	one := t.TempDir()
	put(t, one, "cat/a.png", ok[:20])
	put(t, one, "dog/a.png", ok)
	if _, err := (Reading{SkipUnreadable: true}).Open(one); !usage.Is(err) || !strings.Contains(err.Error(), `class "cat" has no image in train`) {
		t.Errorf("%v", err)
	}
}

// Images of several sizes are scaled and cropped to one.
func TestSizes(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "cat/a.png", pngOf(plain(8, 12, red)))
	put(t, dir, "cat/b.bmp", pngOf(plain(9, 6, red))) // the content decides
	refused := func(r Reading, text string) {
		t.Helper()
		if _, err := r.Open(dir); !usage.Is(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v; want %q", r, err, text)
		}
	}
	refused(Reading{}, "it has 9×6 pixels but cat/a.png has 8×12; all images must have one size: --resize and --crop")
	refused(Reading{Resize: Size{4, 0}}, "it becomes 6×4 pixels but cat/a.png 4×6")
	refused(Reading{Crop: Size{7, 0}}, "9×6 pixels hold no crop of 7×7")
	for _, r := range []Reading{{Resize: Size{4, 0}, Crop: Size{4, 0}}, {Resize: Size{4, 4}}, {Crop: Size{6, 5}}, {Resize: Size{20, 10}, Crop: Size{7, 9}}} {
		s, err := r.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		h, w, _ := r.size(8, 12)
		if d := s.Splits[0]; d.H != h || d.W != w || d.Len() != 2 || d.Images[0] != red.R || d.Images[len(d.Images)-1] != red.B {
			t.Errorf("%+v: %v", r, d)
		}
	}
	// Arrays are scaled as the same images in files are.
	var gradient []uint8
	for i := range 6 * 4 * 3 {
		gradient = append(gradient, uint8(3*i))
	}
	d, err := New("train", 6, 4, 3, gradient, []int32{0}, []string{"cat"})
	if err != nil {
		t.Fatal(err)
	}
	npz := filepath.Join(t.TempDir(), "a.npz")
	if err := ExportSource(npz, &Source{Splits: []*Dataset{d}}); err != nil {
		t.Fatal(err)
	}
	img := image.NewRGBA(image.Rect(0, 0, 4, 6))
	for i := range 24 {
		img.Set(i%4, i/4, color.RGBA{gradient[3*i], gradient[3*i+1], gradient[3*i+2], 255})
	}
	folder := t.TempDir()
	put(t, folder, "cat/a.png", pngOf(img))
	r := Reading{Resize: Size{3, 0}, Crop: Size{3, 2}}
	var hashes []string
	for _, p := range []string{npz, folder} {
		s, err := r.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, s.Splits[0].SHA256)
	}
	if hashes[0] != hashes[1] || hashes[0] == d.SHA256 {
		t.Errorf("%v", hashes)
	}
	for _, bad := range []string{"", "0", "-3", "3x", "x3", "3x0", "9999", "3x4x5", "3 x 4"} {
		if _, err := ParseSize(bad); !usage.Is(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"3", "3x4"} {
		if z, err := ParseSize(good); err != nil || z.String() != good {
			t.Errorf("%q: %v, %v", good, z, err)
		}
	}
}
