package npy_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/usage"
)

func TestNumPyArchive(t *testing.T) {
	z, err := npy.LoadZip("testdata/numpy.npz")
	if err != nil {
		t.Fatal(err)
	}
	signed, unsigned := []int64{-3, -2, -1, 0, 1, 2}, []int64{0, 1, 2, 3, 4, 5}
	count := make([]int64, 24)
	for i := range count {
		count[i] = int64(i)
	}
	for _, c := range []struct {
		name  string
		shape []int
		want  []int64
	}{
		{"i1", []int{6}, signed}, {"i2", []int{6}, signed}, {"i4", []int{6}, signed}, {"i8", []int{6}, signed},
		{"u1", []int{1, 2, 3}, unsigned}, {"u2", []int{6}, unsigned}, {"u4", []int{6}, unsigned}, {"u8", []int{6}, unsigned},
		{"b1", []int{2}, []int64{1, 0}}, {"scalar", []int{}, []int64{5}}, {"fortran", []int{2, 3, 4}, count},
	} {
		a := z.Get(c.name)
		if a == nil || !reflect.DeepEqual(a.Shape, c.shape) {
			t.Errorf("%s: %+v", c.name, a)
			continue
		}
		if got, err := a.Int64s(); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s = %v, %v; want %v", c.name, got, err, c.want)
		}
	}
	if got, err := z.Get("f4").Float32s(); err != nil || !reflect.DeepEqual(got, []float32{-.75, -.5, -.25, 0, .25, .5}) {
		t.Errorf("f4 = %v, %v", got, err)
	}
	if got, err := z.Get("f8").Float32s(); err != nil || got[0] != -.375 {
		t.Errorf("f8 = %v, %v", got, err)
	}
	if got, err := z.Get("text").Text(); err != nil || !reflect.DeepEqual(got, []string{"cat", "é𝄞", ""}) {
		t.Errorf("text = %q, %v", got, err)
	}
	if got, err := z.Get("big").Text(); err != nil || !reflect.DeepEqual(got, []string{"ab", "c"}) {
		t.Errorf("big-endian text = %q, %v", got, err)
	}
	if e := z.Get("empty"); e.Len() != 0 || len(e.Data) != 0 {
		t.Errorf("empty: %+v", e)
	}
	if z.Get("absent") != nil {
		t.Error("an absent array was found")
	}
	if a, err := npy.Load("testdata/version2.npy"); err != nil || a.Type != "f8" || a.Len() != 3 {
		t.Errorf("version 2: %+v, %v", a, err)
	}
}

func TestRoundTrip(t *testing.T) {
	z := npy.Archive{
		{Name: "images", Array: npy.Uint8([]uint8{1, 2, 3, 4}, 2, 2)},
		{Name: "labels", Array: npy.Int64([]int64{-1, 5}, 2)},
		{Name: "x", Array: npy.Float32([]float32{.5}, 1, 1, 1)},
		{Name: "y", Array: npy.Float64([]float64{.25})},
		{Name: "classes", Array: npy.Strings([]string{"cat", "Ärger"})},
	}
	var first, second bytes.Buffer
	if err := z.Encode(&first); err != nil {
		t.Fatal(err)
	}
	got, err := npy.ParseZip(first.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for i := range z {
		if z[i].Name != got[i].Name || z[i].Type != got[i].Type || !bytes.Equal(z[i].Data, got[i].Data) ||
			fmt.Sprint(z[i].Shape) != fmt.Sprint(got[i].Shape) {
			t.Errorf("%+v became %+v", z[i], got[i])
		}
	}
	if err := got.Encode(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("not deterministic: %v", err)
	}
	path := filepath.Join(t.TempDir(), "a.npz")
	if err := z.Save(path); err != nil {
		t.Fatal(err)
	}
	if _, err := npy.LoadZip(path); err != nil {
		t.Error(err)
	}
}

// file is an .npy file with this header and n zero bytes.
func file(header string, n int) []byte {
	b := append([]byte("\x93NUMPY"), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

var bad = []struct {
	name  string
	bytes []byte
	text  string
}{
	{"empty", nil, "does not begin"},
	{"other format", []byte("PK\x03\x04 and more"), "does not begin"},
	{"version 4", append([]byte("\x93NUMPY\x04\x00"), 0, 0, 0, 0), "format version 4.0"},
	{"cut in the header", file(`{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}`, 4)[:20], "cut off"},
	{"version 2, cut", []byte("\x93NUMPY\x02\x00\x00\x00\x00"), "cut off"},
	{"version 2, huge header", []byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), "above the limit"},
	{"long header", file(strings.Repeat(" ", 20000), 0), "above the limit"},
	{"not a dictionary", file("(1,)", 0), `"{" expected`},
	{"unclosed", file("{'descr': '<f4'", 0), `"}" expected`},
	{"pickled", file("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 4), "pickled"},
	{"structured", file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4), "structured"},
	{"complex", file("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", 8), `type "<c8" is not supported`},
	{"bytes", file("{'descr': '|S4', 'fortran_order': False, 'shape': (1,)}", 4), "not supported"},
	{"wide string", file("{'descr': '<U999999999999', 'fortran_order': False, 'shape': (1,)}", 4), "not supported"},
	{"bad order flag", file("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}", 4), `"False" expected`},
	{"key twice", file("{'descr': '<f4', 'descr': '<f4', 'shape': (1,)}", 4), "occurs twice"},
	{"key unknown", file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 4), `unknown key "x"`},
	{"key missing", file("{'descr': '<f4', 'shape': (1,)}", 4), "missing"},
	{"after the end", file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} 7", 4), "something follows"},
	{"negative", file("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4), "a size expected"},
	{"not a number", file("{'descr': '<f4', 'fortran_order': False, 'shape': (a,)}", 4), "a size expected"},
	{"beyond 64 bits", file("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 4), "a size expected"},
	{"overflow", file("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 0), "overflows"},
	{"terabytes", file("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", 8), "needs 8000000000000 bytes but 8 follow"},
	{"short", file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 7), "needs 8 bytes but 7 follow"},
	{"long", file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 9), "needs 8 bytes but 9 follow"},
	{"many axes", file("{'descr': '|u1', 'fortran_order': True, 'shape': ("+strings.Repeat("1,", 65)+")}", 1), "more than 64 axes"},
	{"bool of 2", append(file("{'descr': '|b1', 'fortran_order': False, 'shape': (1,)}", 0), 2), "neither 0 nor 1"},
}

func TestBadArrays(t *testing.T) {
	for _, c := range bad {
		path := filepath.Join(t.TempDir(), "a.npy")
		if err := os.WriteFile(path, c.bytes, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := npy.Load(path)
		if err == nil || !strings.Contains(err.Error(), c.text) || !usage.Is(err) || !strings.HasPrefix(err.Error(), path) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", c.name, err, c.text)
		}
	}
}

type entry struct {
	name    string
	content []byte
	method  uint16
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		f, err := w.CreateHeader(&zip.FileHeader{Name: e.name, Method: e.method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func badZips(t testing.TB) map[string][]byte {
	one := file("{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}", 4)
	good := archive(t, entry{"a.npy", one, zip.Store})
	damaged := bytes.Clone(good)
	damaged[bytes.Index(damaged, []byte("NUMPY"))+12] ^= 1
	// The central directory's size of the entry claims 3 GiB, or a little too much.
	sizes := func(n uint32) []byte {
		b := bytes.Clone(good)
		at := bytes.Index(b, []byte("PK\x01\x02"))
		binary.LittleEndian.PutUint32(b[at+24:], n)
		return b
	}
	return map[string][]byte{
		"no complete zip archive": good[:len(good)-5],
		"is no .npy file":         archive(t, entry{"a.txt", nil, zip.Store}),
		"occurs twice":            archive(t, entry{"a.npy", one, zip.Store}, entry{"a.npy", one, zip.Deflate}),
		"damaged":                 damaged,
		"bytes cannot come from":  sizes(3 << 30),
		`array "a": damaged`:      sizes(uint32(len(one)) + 1),
		`array "a": header`:       archive(t, entry{"a.npy", file("{}", 0), zip.Deflate}),
	}
}

func TestBadArchives(t *testing.T) {
	for text, b := range badZips(t) {
		path := filepath.Join(t.TempDir(), "a.npz")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := npy.LoadZip(path)
		if err == nil || !strings.Contains(err.Error(), text) || !usage.Is(err) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v; want %q", err, text)
		}
	}
	if _, err := npy.LoadZip("absent.npz"); !usage.Is(err) {
		t.Errorf("absent file: %v", err)
	}
}

func TestBadWrites(t *testing.T) {
	for _, a := range []*npy.Array{
		{Type: "c8", Shape: []int{1}, Data: make([]byte, 8)},
		{Type: "f4", Shape: []int{2}, Data: make([]byte, 7)},
		{Type: "f4", Shape: []int{-2, -1}, Data: make([]byte, 8)},
	} {
		var b bytes.Buffer
		if err := npy.Write(&b, a); err == nil || b.Len() > 0 {
			t.Errorf("%+v: %v, %d bytes", a, err, b.Len())
		}
	}
	one := npy.Named{Name: "a", Array: npy.Int64(nil, 0)}
	if err := (npy.Archive{one, one}).Encode(new(bytes.Buffer)); err == nil {
		t.Error("the same name twice was written")
	}
}

func allocated(f func()) uint64 {
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	f()
	runtime.ReadMemStats(&b)
	return b.TotalAlloc - a.TotalAlloc
}

func TestAllocation(t *testing.T) {
	for _, c := range bad {
		if got := allocated(func() { npy.Parse(c.bytes) }); got > uint64(16*len(c.bytes)+1<<16) {
			t.Errorf("%s: %d bytes allocated for %d", c.name, got, len(c.bytes))
		}
	}
	for text, b := range badZips(t) {
		if got := allocated(func() { npy.ParseZip(b) }); got > uint64(16*len(b)+1<<20) {
			t.Errorf("%s: %d bytes allocated for %d", text, got, len(b))
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range bad {
		f.Add(c.bytes)
	}
	f.Add(file("{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }", 24))
	f.Add(file("{'descr': '>U2', 'fortran_order': False, 'shape': (1,), }", 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a *npy.Array
		var err error
		if got := allocated(func() { a, err = npy.Parse(b) }); got > uint64(16*len(b)+1<<20) {
			t.Fatalf("%d bytes allocated for %d", got, len(b))
		}
		if err != nil {
			if !usage.Is(err) {
				t.Fatal(err)
			}
			return
		}
		a.Int64s()
		a.Float32s()
		a.Text()
		var out bytes.Buffer
		if err := npy.Write(&out, a); err != nil {
			t.Fatal(err)
		}
		if again, err := npy.Parse(out.Bytes()); err != nil || !reflect.DeepEqual(a.Shape, again.Shape) || !bytes.Equal(a.Data, again.Data) {
			t.Fatalf("%+v became %+v, %v", a, again, err)
		}
	})
}

func FuzzParseZip(f *testing.F) {
	for _, b := range badZips(f) {
		f.Add(b)
	}
	good, err := os.ReadFile("testdata/numpy.npz")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		// Deflate may expand by 1032, twice while a buffer grows.
		var err error
		if got := allocated(func() { _, err = npy.ParseZip(b) }); got > uint64(4*1040*len(b)+1<<20) {
			t.Fatalf("%d bytes allocated for %d", got, len(b))
		}
		if err != nil && !usage.Is(err) {
			t.Fatal(err)
		}
	})
}

func Example() {
	var b bytes.Buffer
	if err := (npy.Archive{{Name: "labels", Array: npy.Int64([]int64{3, 1}, 2)}}).Encode(&b); err != nil {
		fmt.Println(err)
		return
	}
	z, err := npy.ParseZip(b.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	labels, _ := z.Get("labels").Int64s()
	fmt.Println(labels)
	// Output: [3 1]
}
