package npy_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/npy"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.npy")
	write := func(a *npy.Array) {
		t.Helper()
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := npy.Write(f, a); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	write(npy.Float32([]float32{0, 1, 2, 3, 4, 5}, 3, 2))
	f, err := npy.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, got := make([]byte, 8), make([]float64, 2)
	if err := f.Read(b, 2); err != nil {
		t.Fatal(err)
	}
	if err := npy.Float64s(got, f.Type, b); err != nil || !slices.Equal(got, []float64{2, 3}) {
		t.Errorf("second row %v, %v", got, err)
	}
	if f.Read(b, 5) == nil {
		t.Error("read beyond the end")
	}
	if npy.Float64s(got, "U2", b) == nil || npy.Float64s(got, "f8", b) == nil {
		t.Error("bytes of another type went through")
	}
	big := file("{'descr': '>i2', 'fortran_order': False, 'shape': (2,)}", 4)
	copy(big[len(big)-4:], []byte{1, 2, 255, 254})
	for text, content := range map[string][]byte{
		"":           big,
		"cut off":    file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 7),
		"Fortran":    file("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2, 1)}", 16),
		"not begin":  []byte("a"),
		"pickled":    file("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 4),
		"\"{\" expe": file("(1,)", 0),
	} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := npy.Open(path)
		if text != "" {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Read(b[:4], 0); err != nil {
			t.Fatal(err)
		}
		if err := npy.Float64s(got, f.Type, b[:4]); err != nil || !slices.Equal(got, []float64{258, -2}) {
			t.Errorf("big-endian %v, %v", got, err)
		}
	}
	if _, err := npy.Open(filepath.Join(dir, "absent.npy")); err == nil {
		t.Error("an absent file")
	}
}

// TestFortran reads pieces of an array whose columns are stored one after another.
func TestFortran(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.npy")
	const n, k = 5, 3
	body := make([]byte, 2*n*k)
	for i := range n {
		for j := range k {
			body[2*(j*n+i)+1] = byte(10*i + j) // big-endian
		}
	}
	content := file("{'descr': '>i2', 'fortran_order': True, 'shape': (5, 3)}", len(body))
	copy(content[len(content)-len(body):], body)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := npy.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for first := range n * k {
		for count := range n*k - first + 1 {
			b, got := make([]byte, 2*count), make([]float64, count)
			if err := f.Read(b, first); err != nil {
				t.Fatal(err)
			}
			if err := npy.Float64s(got, f.Type, b); err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if at := first + i; v != float64(10*(at/k)+at%k) {
					t.Fatalf("element %d of %d from %d on is %v", i, count, first, v)
				}
			}
		}
	}
}

func TestFloat16(t *testing.T) {
	for bits, want := range map[uint16]float64{
		0: 0, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 1: math.Ldexp(1, -24), 0x0400: math.Ldexp(1, -14), 0x7c00: math.Inf(1),
		0xfc00: math.Inf(-1), 0x3555: 0.333251953125,
	} {
		got := make([]float64, 1)
		if err := npy.Float64s(got, "f2", []byte{byte(bits), byte(bits >> 8)}); err != nil || got[0] != want {
			t.Errorf("%#x is %v, %v; want %v", bits, got[0], err, want)
		}
	}
	got := make([]float64, 1)
	if err := npy.Float64s(got, "f2", []byte{1, 0x7c}); err != nil || !math.IsNaN(got[0]) {
		t.Errorf("NaN is %v, %v", got, err)
	}
}
