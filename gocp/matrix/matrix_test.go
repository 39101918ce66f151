package matrix

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/gocp/gocp/gocp/internal/testfiles"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// TestMatrices reads the same matrix from every format, all at once and from the middle.
func TestMatrices(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	want := []float64{0.5, -1.5, 2, 3, 4, 5.25, 6, 7, 8, 9, 10, 11}
	f32 := make([]float32, len(want))
	for i, v := range want {
		f32[i] = float32(v)
	}
	testfiles.Npy(t, at("f4.npy"), npy.Float32(f32, 4, 3))
	testfiles.Npy(t, at("f8.npy"), npy.Float64(want, 4, 3))
	z := npy.Archive{{Name: "a", Array: npy.Float32(f32, 4, 3)}, {Name: "b", Array: npy.Int64([]int64{3, 4}, 2)}}
	if err := z.Save(at("two.npz")); err != nil {
		t.Fatal(err)
	}
	if err := z[:1].Save(at("one.npz")); err != nil {
		t.Fatal(err)
	}
	st := &safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromFloat32("x", f32, 4, 3), safetensors.FromInt64("y", []int64{1, 2}, 2)}}
	if err := st.Save(at("t.safetensors")); err != nil {
		t.Fatal(err)
	}
	rows := "0.5,-1.5,2\n3,4,5.25\n6,7,8\n9,10,11"
	testfiles.Text(t, at("plain.csv"), rows)
	testfiles.Text(t, at("named.csv"), "\xef\xbb\xbfa,\"b\",c\r\n"+strings.ReplaceAll(rows, "\n", "\r\n")+"\r\n\r\n")
	testfiles.Text(t, at("tabs.csv"), strings.ReplaceAll(rows, ",", "\t")+"\n")
	type flat struct {
		Name string  `parquet:"name"`
		A    float32 `parquet:"a"`
		B    float64 `parquet:"b"`
		C    float64 `parquet:"c"`
	}
	type list struct {
		Label int64     `parquet:"label"`
		X     []float32 `parquet:"x"`
	}
	var flats []flat
	var lists []list
	for i := range 4 {
		flats = append(flats, flat{"n", f32[3*i], want[3*i+1], want[3*i+2]})
		lists = append(lists, list{int64(i), f32[3*i : 3*i+3]})
	}
	if err := parquet.WriteFile(at("flat.parquet"), flats, parquet.MaxRowsPerRowGroup(3)); err != nil {
		t.Fatal(err)
	}
	if err := parquet.WriteFile(at("list.parquet"), lists); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f4.npy", "f8.npy", "one.npz", "two.npz:a", "t.safetensors:x", "plain.csv", "named.csv", "tabs.csv", "flat.parquet", "list.parquet:x"} {
		m, err := Open(at(name), Options{})
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := m.All()
		if err != nil || m.N != 4 || m.K != 3 || !slices.Equal(got, want) {
			t.Errorf("%s: %d × %d, %v, %v", name, m.N, m.K, got, err)
		}
		middle := make([]float64, 6)
		if err := m.Read(middle, 2); err != nil || !slices.Equal(middle, want[6:]) {
			t.Errorf("%s from row 2: %v, %v", name, middle, err)
		}
		if h, err := Hash(context.Background(), at(name)); err != nil || len(h) != 64 {
			t.Errorf("hash %q, %v", h, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if got, err := Ints(at("list.parquet:label"), Options{}); err != nil || !slices.Equal(got, []int{0, 1, 2, 3}) {
		t.Errorf("labels %v, %v", got, err)
	}
	if got, err := Ints(at("two.npz:b"), Options{}); err != nil || !slices.Equal(got, []int{3, 4}) {
		t.Errorf("labels %v, %v", got, err)
	}
	testfiles.Text(t, at("ragged.csv"), "1,2\n3\n")
	testfiles.Text(t, at("words.csv"), "1,2\n3,x\n")
	testfiles.Text(t, at("empty.csv"), "")
	testfiles.Text(t, at("no.parquet"), "PAR1")
	testfiles.Text(t, at("halves.csv"), "1\n2\n2.5\n")
	testfiles.Npy(t, at("deep.npy"), npy.Float32(f32, 2, 2, 3))
	for name, text := range map[string]string{
		"ragged.csv": "line 2 has 1", "words.csv": `"x" is no number`, "empty.csv": "no rows", "no.parquet": "not a valid Parquet",
		"deep.npy": "two axes", "two.npz": "several arrays", "two.npz:q": "no array", "t.safetensors": "say which", "a.dat": "must end in",
		"named.csv:q": "no column", "flat.parquet:q": "no column", "absent.csv": "cannot be read", "absent.npy": "cannot be read",
		"f4.npy:a": "one array",
	} {
		m, err := Open(at(name), Options{})
		if err == nil {
			_, err = m.All()
		}
		if err == nil || !strings.Contains(err.Error(), text) || !usage.Is(err) {
			t.Errorf("%s: %v; want %q", name, err, text)
		}
	}
	for name, text := range map[string]string{"halves.csv": "no whole number", "f4.npy": "3 columns"} {
		if _, err := Ints(at(name), Options{}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
