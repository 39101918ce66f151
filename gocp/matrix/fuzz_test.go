package matrix

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"github.com/gocp/gocp/gocp/internal/testfiles"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// FuzzCSV: any bytes are a matrix of numbers or a sentence about the input.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"", "1,2\n3,4\n", "a;b\n1;2", "\xef\xbb\xbf\"x\"\t\"y\"\n\n1\t2\n", "1,,2\n", "\n\n", ",", "inf,nan\r\n", "1\n2"} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "a.csv")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := Open(path, Options{})
		if err == nil {
			defer m.Close()
			var x []float64
			if x, err = m.All(); err == nil && len(x) != m.N*m.K {
				t.Fatalf("%d numbers in %d × %d", len(x), m.N, m.K)
			}
			if m.N > 1 && err == nil {
				last := make([]float64, m.K)
				if err := m.Read(last, m.N-1); err != nil {
					t.Fatal(err)
				}
				for j, v := range last {
					if w := x[(m.N-1)*m.K+j]; v != w && (v == v || w == w) {
						t.Fatalf("the last row is %v alone, %v among all", last, x[(m.N-1)*m.K:])
					}
				}
			}
		}
		if err != nil && !usage.Is(err) {
			t.Fatal(err)
		}
	})
}

// FuzzParquet: any bytes are a matrix of numbers or a sentence about the input, within reason of
// memory and without a panic of the decoder's.
func FuzzParquet(f *testing.F) {
	type row struct {
		A float64 `parquet:"a"`
		B int64   `parquet:"b"`
		C float32 `parquet:"c"`
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []row{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	type other struct {
		Name string             `parquet:"name"`
		A    float64            `parquet:"a"`
		List []float32          `parquet:"list"`
		Map  map[string]float64 `parquet:"map"`
		Rows []row              `parquet:"rows"`
	}
	b = bytes.Buffer{}
	if err := parquet.Write(&b, []other{{"0.5", 1.5, []float32{1, 2}, map[string]float64{"x": 1}, []row{{1, 2, 3}}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("PAR1"))
	f.Add([]byte("PAR1\x00\x00\x00\x00PAR1"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzOpen(t, filepath.Join(dir, "a.parquet"), b)
	})
}

// FuzzNpz and FuzzSafetensors: the same, read in blocks.
func FuzzNpz(f *testing.F) {
	var b bytes.Buffer
	if err := (npy.Archive{{Name: "x", Array: npy.Float32([]float32{1, 2, 3, 4}, 2, 2)}}).Encode(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("PK"))
	dir := f.TempDir()
	f.Setenv("TMPDIR", dir)
	f.Fuzz(func(t *testing.T, b []byte) { fuzzOpen(t, filepath.Join(dir, "a.npz"), b) })
}

func FuzzSafetensors(f *testing.F) {
	var b bytes.Buffer
	if err := (&safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromFloat32("x", []float32{1, 2, 3, 4}, 2, 2)}}).Encode(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) { fuzzOpen(t, filepath.Join(dir, "a.safetensors"), b) })
}

// FuzzText: the same for all that a text file can be, with each way of saying what the first line is.
func FuzzText(f *testing.F) {
	for _, s := range []string{"a b\n1 0.5 1\n", "0,5;1,5\n", "# x\n1\t2\n", "\"a,b\"|c\n1|2\n", "0,1\n0.5,1.5\n", "True\nFalse\n", ",0\n1,2\n", "sep=;\na;b\n1;2\n", "[0.5, 1.5]\n[2.5, 3.5]\n",
		"l0,l1,l3\n0.5,1.5%,2\n", "n;a;b\nx.png;0,5;1,5\n", "<html>", "version https://git-lfs.github.com/spec/v1\n"} {
		f.Add([]byte(s), uint8(0), uint8(0))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte, header, rows uint8) {
		fuzzWith(t, filepath.Join(dir, "a.txt"), b, Options{Header: []string{"", HeaderYes, HeaderNo}[header%3], Rows: int(rows % 8), One: header%2 == 1})
	})
}

// FuzzPacked: the same for packed text.
func FuzzPacked(f *testing.F) {
	var g bytes.Buffer
	w := gzip.NewWriter(&g)
	w.Write([]byte("1,2\n3,4\n"))
	w.Close()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(g.Bytes(), false)
	f.Add(z.EncodeAll([]byte("1,2\n3,4\n"), nil), true)
	dir := f.TempDir()
	f.Setenv("TMPDIR", dir)
	f.Fuzz(func(t *testing.T, b []byte, zst bool) {
		name := "a.csv.gz"
		if zst {
			name = "a.csv.zst"
		}
		fuzzOpen(t, filepath.Join(dir, name), b)
	})
}

// FuzzPart: whatever is asked of a table is columns that are there or a sentence.
func FuzzPart(f *testing.F) {
	for _, s := range []string{"a,b", "l*", "\"a,b\"", "*", "?", "", ",", "x:y/z", "\"", "***a", "*a*b*c*d*e*f*g*h"} {
		f.Add(s)
	}
	path := testfiles.Text(f, filepath.Join(f.TempDir(), "a.csv"), "\"a,b\",l0,l1,id\n0.5,1.5,2.5,1\n3.5,4.5,5.5,2\n")
	f.Fuzz(func(t *testing.T, part string) {
		m, err := Open(path+":"+part, Options{})
		if err != nil {
			if !usage.Is(err) {
				t.Fatal(err)
			}
			return
		}
		defer m.Close()
		if x, err := m.All(); err != nil || len(x) != m.N*len(m.Columns) || m.N != 2 {
			t.Fatalf("%q: %d numbers in %s, %v", part, len(x), m.Shape(), err)
		}
	})
}

// TestAllocated: to open and read a file of real size takes memory in proportion to it.
func TestAllocated(t *testing.T) {
	dir := t.TempDir()
	const n, k = 20000, 20
	x := make([]float32, n*k)
	r := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	for i := range x {
		x[i] = r.Float32()
		fmt.Fprintf(&text, "%.7f%c", x[i], ",\n"[btoi(i%k == k-1)])
	}
	type list struct {
		Z []float32 `parquet:"z"`
	}
	type flat struct {
		A, B, C, D, E, F, G, H float32
	}
	var lists []list
	var flats []flat
	for i := range n {
		lists = append(lists, list{x[i*k : (i+1)*k]})
		flats = append(flats, flat{x[i*k], x[i*k+1], x[i*k+2], x[i*k+3], x[i*k+4], x[i*k+5], x[i*k+6], x[i*k+7]})
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	testfiles.Npy(t, at("a.npy"), npy.Float32(x, n, k))
	testfiles.Text(t, at("a.csv"), text.String())
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte(text.String()))
	w.Close()
	testfiles.Text(t, at("a.csv.gz"), packed.String())
	for _, err := range []error{
		(npy.Archive{{Name: "x", Array: npy.Float32(x, n, k)}}).Save(at("a.npz")),
		(&safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromFloat32("x", x, n, k)}}).Save(at("a.safetensors")),
		parquet.WriteFile(at("list.parquet"), lists), parquet.WriteFile(at("flat.parquet"), flats),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a.npy", "a.npz", "a.safetensors", "a.csv", "a.csv.gz", "list.parquet", "flat.parquet"} {
		info, err := os.Stat(at(name))
		if err != nil {
			t.Fatal(err)
		}
		got := allocated(func() {
			m, err := Open(at(name), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			block := make([]float64, 100*m.K)
			for first := 0; first < m.N; first += 100 {
				if err := m.Read(block, first); err != nil {
					t.Fatal(err)
				}
			}
		})
		t.Logf("%s: %.1f bytes for each of %d", name, float64(got)/float64(info.Size()), info.Size())
		if limit := 16*uint64(info.Size()) + 8<<20; got > limit {
			t.Errorf("%s: %d bytes allocated for %d", name, got, info.Size())
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// allocated is what a call allocates.
func allocated(f func()) uint64 {
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	f()
	runtime.ReadMemStats(&b)
	return b.TotalAlloc - a.TotalAlloc
}

func fuzzOpen(t *testing.T, path string, b []byte) { fuzzWith(t, path, b, Options{}) }

func fuzzWith(t *testing.T, path string, b []byte, o Options) {
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	var m *Matrix
	var err error
	// Buffers of a constant size, a page of Parquet that claims its most, and little for every byte.
	if got, limit := allocated(func() { m, err = Open(path, o) }), uint64(len(b))<<14+512<<20; got > limit {
		t.Fatalf("%d bytes allocated to open %d", got, len(b))
	}
	if err != nil {
		if !usage.Is(err) {
			t.Fatal(err)
		}
		return
	}
	defer m.Close()
	if m.N > 1<<16 || m.K > 1<<16 || m.N*m.K > 1<<20 {
		return // a claim of columns that repeat; rows are read as they are wanted
	}
	x, err := m.All()
	if err != nil {
		return
	}
	if len(x) != m.N*m.K {
		t.Fatalf("%d numbers in %d × %d", len(x), m.N, m.K)
	}
	if m.Narrow() && m.N > 0 {
		y := make([]float32, m.K)
		if err := m.Read32(y, m.N-1); err != nil {
			t.Fatal(err)
		}
		for j, v := range y {
			if w := x[(m.N-1)*m.K+j]; float64(v) != w && (v == v || w == w) {
				t.Fatalf("column %d of the last row is %v in float32, %v in float64", j, v, w)
			}
		}
	}
}
