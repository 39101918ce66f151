package npy

import (
	"archive/zip"
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpenZip(t *testing.T) {
	dir := t.TempDir()
	x := []float32{1, 2, 3, 4, 5, float32(math.Inf(1))}
	a := Archive{{"x", Float32(x, 3, 2)}, {"y", Int64([]int64{7, 8}, 2)}}
	stored := filepath.Join(dir, "a.npz")
	if err := a.Save(stored); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(dir, "b.npz")
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, n := range a {
		f, err := w.CreateHeader(&zip.FileHeader{Name: n.Name + ".npy", Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(f, n.Array); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packed, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	for _, path := range []string{stored, packed} {
		f, err := OpenZip(path, "x")
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, 4)
		if err := f.ReadFloat32s(got, 2); err != nil || !slices.Equal(got, x[2:]) || !slices.Equal(f.Shape, []int{3, 2}) {
			t.Errorf("%s: %v of %v, %v", path, got, f.Shape, err)
		}
		if err := f.Read(make([]byte, 8), 6); err == nil {
			t.Errorf("%s: read beyond the end", path)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		for name, want := range map[string]string{"": "several arrays", "z": "no array \"z\""} {
			if _, err := OpenZip(path, name); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s:%s: %v", path, name, err)
			}
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(dir, "bad.npz")
		whole[len(whole)/4] ^= 64
		if err := os.WriteFile(bad, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenZip(bad, "x"); err == nil {
			t.Errorf("%s: a flipped bit went through", path)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "gocp-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}
