package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// raw puts a header and a body of n zero bytes together.
func raw(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	return append(b, make([]byte, n)...)
}

// The file written by the Python library reads back, and is written again to
// the same bytes.
func TestPythonFile(t *testing.T) {
	want, err := os.ReadFile("testdata/python.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Load("testdata/python.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Meta["arch"]; got != `convnet width=32 <é> "q"` {
		t.Errorf("metadata %q", got)
	}
	inf := math.Inf(1)
	x := []float64{0, math.Copysign(0, -1), 1.5, -2.25, inf, -inf, 6.0e-8, 65504}
	for _, c := range []struct {
		name  string
		shape []int
		tol   float64 // relative, of the type's rounding
	}{{"f64", []int{2, 4}, 1e-7}, {"f32", []int{4, 2}, 1e-7}, {"f16", []int{8}, 1e-2}, {"bf16", []int{2, 2, 2}, 5e-3}} {
		a := f.Get(c.name)
		got, err := a.Float64s()
		if err != nil {
			t.Fatal(err)
		}
		if !a.Is(c.shape...) {
			t.Errorf("%s: shape %v", c.name, a.Shape)
		}
		for i := range x {
			if got[i] != x[i] && !(math.Abs(got[i]-x[i]) <= c.tol*math.Abs(x[i])) ||
				math.Signbit(got[i]) != math.Signbit(x[i]) {
				t.Errorf("%s[%d] = %g, want %g", c.name, i, got[i], x[i])
			}
		}
	}
	for name, want := range map[string][]int64{
		"i64": {math.MinInt64, -1, 0, math.MaxInt64}, "i32": {math.MinInt32, 7}, "u8": {0, 1, 2, 3, 4},
	} {
		if got, err := f.Get(name).Int64s(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %v, %v; want %v", name, got, err, want)
		}
	}
	if b := f.Get("bool"); !bytes.Equal(b.Data, []byte{1, 0, 1}) {
		t.Errorf("bool = %v", b.Data)
	}
	if s := f.Get("scalar"); !s.Is() || s.Len() != 1 {
		t.Errorf("scalar: shape %v, %d elements", s.Shape, s.Len())
	}
	if e := f.Get("empty"); !e.Is(0, 3) || e.Len() != 0 {
		t.Errorf("empty: shape %v, %d elements", e.Shape, e.Len())
	}
	var out bytes.Buffer
	if err := f.Encode(&out); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("written again, the bytes differ:\n%q\n%q", out.Bytes()[:300], want[:300])
	}
}

func TestHalf(t *testing.T) {
	for _, c := range []struct {
		bits uint16
		want float32
	}{{0x3c00, 1}, {0xc000, -2}, {0x0001, 1.0 / (1 << 24)}, {0x03ff, 1023.0 / (1 << 24)}, {0x0400, 1.0 / (1 << 14)},
		{0x7bff, 65504}, {0x7c00, float32(math.Inf(1))}, {0x3555, 0.33325195}} {
		h := safetensors.Tensor{DType: safetensors.F16, Shape: []int{1}, Data: binary.LittleEndian.AppendUint16(nil, c.bits)}
		if got, _ := h.Float32s(); got[0] != c.want {
			t.Errorf("half %#04x = %g, want %g", c.bits, got[0], c.want)
		}
	}
	h := safetensors.Tensor{DType: safetensors.F16, Shape: []int{1}, Data: []byte{1, 0x7e}}
	if got, _ := h.Float32s(); got[0] == got[0] {
		t.Errorf("half NaN = %g", got[0])
	}
}

func TestRoundTripAndOrder(t *testing.T) {
	f := &safetensors.File{Meta: map[string]string{"b": "2", "a": "1", "ü": "\x00\n"}, Tensors: []safetensors.Tensor{
		safetensors.FromUint8("z", []uint8{1, 2, 3}, 3),
		safetensors.FromFloat32("b", []float32{1, float32(math.NaN())}, 1, 2),
		safetensors.FromFloat32("a", []float32{2}, 1),
		safetensors.FromInt64("i", []int64{-5}),
		safetensors.FromInt32("j", []int32{-6, 6}, 2),
		safetensors.FromFloat64("d", []float64{math.Pi}, 1),
	}}
	var first, second bytes.Buffer
	if err := f.Encode(&first); err != nil {
		t.Fatal(err)
	}
	g, err := safetensors.Parse(first.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g.Meta, f.Meta) {
		t.Errorf("metadata %v", g.Meta)
	}
	var order []string
	for _, x := range g.Tensors {
		order = append(order, x.Name)
	}
	if got := strings.Join(order, " "); got != "i d a b j z" {
		t.Errorf("order %q", got)
	}
	if err := g.Encode(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("not deterministic: %v", err)
	}
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := g.Save(path); err != nil {
		t.Fatal(err)
	}
	if h, err := safetensors.Load(path); err != nil || !reflect.DeepEqual(g, h) {
		t.Errorf("saved and loaded: %v", err)
	}
}

func TestNeed(t *testing.T) {
	f := &safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromFloat32("x", make([]float32, 6), 2, 3)}}
	for _, c := range []struct {
		name  string
		dtype safetensors.DType
		shape []int
		text  string
	}{
		{"x", safetensors.F32, []int{-1, 3}, ""},
		{"x", "", []int{2, 3}, ""},
		{"y", "", nil, `tensor "y" is missing`},
		{"x", safetensors.I64, []int{2, 3}, `tensor "x" has type F32; it must have type I64`},
		{"x", safetensors.F32, []int{3, -1}, `tensor "x" has shape [2 3]; it must have shape [3 -1]`},
		{"x", safetensors.F32, []int{6}, `tensor "x" has shape [2 3]; it must have shape [6]`},
	} {
		_, err := f.Need(c.name, c.dtype, c.shape...)
		if c.text == "" && err != nil || c.text != "" && (err == nil || err.Error() != c.text || !usage.Is(err)) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, err := f.Get("x").Int64s(); !usage.Is(err) {
		t.Errorf("integers of a float tensor: %v", err)
	}
}

// bad lists what the reader must refuse; the fuzzer starts from it too.
var bad = []struct {
	name  string
	bytes []byte
	text  string
}{
	{"empty file", nil, "too few for the 8-byte header length"},
	{"no header", []byte{4, 0, 0, 0, 0, 0, 0, 0}, "the file is cut off"},
	{"cut in the header", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)[:40], "the file is cut off"},
	{"huge header", append(bytes.Repeat([]byte{0xff}, 8), '{', '}'), "above the limit"},
	{"long header", append([]byte{0, 0, 0, 5, 0, 0, 0, 0}, '{', '}'), "cut off"},
	{"not JSON", raw(`hello`, 0), "does not begin with {"},
	{"broken JSON", raw(`{"a":`, 0), "ends too early"},
	{"bad JSON", raw(`{"a" 1}`, 0), "invalid character"},
	{"two values", raw(`{}{}`, 0), "something follows"},
	{"array for tensor", raw(`{"a":[]}`, 0), `"{" expected`},
	{"not UTF-8", raw("{\"\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0), "not valid UTF-8"},
	{"twice the same name", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "occurs twice"},
	{"same name, escaped", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "occurs twice"},
	{"twice the same key", raw(`{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), "occurs twice"},
	{"metadata twice", raw(`{"__metadata__":{},"__metadata__":{}}`, 0), "occurs twice"},
	{"metadata not a string", raw(`{"__metadata__":{"a":1}}`, 0), "a string expected"},
	{"unknown entry", raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}}`, 0), `unknown entry "x"`},
	{"no type", raw(`{"a":{"shape":[0],"data_offsets":[0,0]}}`, 0), "dtype is missing"},
	{"no shape", raw(`{"a":{"dtype":"U8","data_offsets":[0,0]}}`, 0), "shape is missing"},
	{"no offsets", raw(`{"a":{"dtype":"U8","shape":[0]}}`, 0), "data_offsets must be two numbers"},
	{"three offsets", raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}`, 0), "more than 2 numbers"},
	{"negative size", raw(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}`, 0), "-1 is not a size"},
	{"fractional size", raw(`{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1), "1.0 is not a size"},
	{"size beyond 64 bits", raw(`{"a":{"dtype":"U8","shape":[18446744073709551617],"data_offsets":[0,1]}}`, 1), "is not a size"},
	{"overflowing shape", raw(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "overflows"},
	{"overflowing bytes", raw(`{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}`, 0), "does not fill"},
	{"wrong type for the bytes", raw(`{"a":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}}`, 8), "shape [2] of type F64 does not fill its 8 bytes"},
	{"backward offsets", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[2,1]}}`, 2), "before it begins"},
	{"beyond the end", raw(`{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}`, 8), "only 8 bytes follow the header; the file is cut off"},
	{"overlap", raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`, 6), `tensor "b": its data overlaps`},
	{"same bytes twice", raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4), "overlaps"},
	{"hole", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "1 bytes before its data belong to no tensor"},
	{"tail", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 3), "2 bytes at the end belong to no tensor"},
	{"BOOL of 2", append(raw(`{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}`, 0), 2), "neither 0 nor 1"},
	{"rank 65", raw(`{"a":{"dtype":"U8","shape":[`+strings.Repeat("1,", 64)+`1],"data_offsets":[0,1]}}`, 1), "more than 64 numbers"},
}

// Files of other formats, by PyTorch 2.15, NumPy and Python 3, as far as their first bytes.
func TestForeignFiles(t *testing.T) {
	for _, c := range []struct{ name, bytes, want string }{
		{"torch.save", "PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00new/data.pklFB", "it is a PyTorch checkpoint, a pickle in a zip file, which is a program and not data; write it anew in Python: safetensors.torch.save_file(torch.load("},
		{"torch.save, the older way", "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "it is a pickle, which is a program and not data, as older PyTorch"},
		{"pickle of protocol 4", "\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94", "it is a pickle"},
		{"pickle of protocol 3", "\x80\x03}q\x00X\x01\x00\x00", "it is a pickle"},
		{"npz", "PK\x03\x04\x2d\x00\x00\x00\x00\x00\x00\x00\x21\x00a.npy", "it is a NumPy .npz archive"},
		{"npy", "\x93NUMPY\x01\x00v\x00{'descr'", "it is a NumPy .npy array"},
		{"HDF5", "\x89HDF\r\n\x1a\n\x00\x00", "it is an HDF5 file"},
		{"GGUF", "GGUF\x03\x00\x00\x00\x00", "it is a GGUF file"},
	} {
		_, err := safetensors.Parse([]byte(c.bytes))
		if !usage.Is(err) || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestBadFiles(t *testing.T) {
	for _, c := range bad {
		path := filepath.Join(t.TempDir(), "m.safetensors")
		if err := os.WriteFile(path, c.bytes, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := safetensors.Load(path)
		if err == nil || !strings.Contains(err.Error(), c.text) || !strings.HasPrefix(err.Error(), path) ||
			!usage.Is(err) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", c.name, err, c.text)
		}
	}
	if _, err := safetensors.Load("absent"); !usage.Is(err) {
		t.Errorf("absent file: %v", err)
	}
}

// testdata/types.safetensors is by safetensors 0.8.0 from PyTorch 2.15.0: the values 0, 1, 2, 100 in every
// type that both know.
func TestTypes(t *testing.T) {
	f, err := safetensors.Load("testdata/types.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	want := []int64{0, 1, 2, 100}
	for _, name := range []string{"int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"} {
		if got, err := f.Get(name).Int64s(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := f.Get("bool").Int64s(); err != nil || !slices.Equal(got, []int64{0, 1, 1, 1}) {
		t.Errorf("bool: %v, %v", got, err)
	}
	for _, name := range []string{"float64", "float32", "float16", "bfloat16"} {
		if got, err := f.Get(name).Float64s(); err != nil || !slices.Equal(got, []float64{0, 1, 2, 100}) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"complex64", "float8_e4m3fn", "float8_e5m2"} {
		a := f.Get(name)
		if _, err := a.Float64s(); err == nil || !usage.Is(err) || !strings.Contains(err.Error(), string(a.DType)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var b bytes.Buffer
	if err := f.Encode(&b); err != nil {
		t.Fatal(err)
	}
	again, err := safetensors.Parse(b.Bytes())
	if err != nil || len(again.Tensors) != len(f.Tensors) {
		t.Fatalf("%d tensors of %d, %v", len(again.Tensors), len(f.Tensors), err)
	}
	big := safetensors.Tensor{Name: "y", DType: safetensors.U64, Shape: []int{1}, Data: []byte{0, 0, 0, 0, 0, 0, 0, 128}}
	if got, err := big.Int64s(); err == nil {
		t.Errorf("2⁶³ is %v", got)
	}
}

func TestBadTensors(t *testing.T) {
	ok := safetensors.FromUint8("a", []uint8{1}, 1)
	for _, c := range []struct {
		text string
		file safetensors.File
	}{
		{"occurs twice", safetensors.File{Tensors: []safetensors.Tensor{ok, ok}}},
		{"reserved", safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromUint8("__metadata__", nil, 0)}}},
		{"no type", safetensors.File{Tensors: []safetensors.Tensor{{Name: "a", Shape: []int{0}}}}},
		{"does not fill", safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromFloat32("a", []float32{1}, 2)}}},
		{"negative", safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromUint8("a", nil, -1)}}},
		{"UTF-8", safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromUint8("\xff", nil, 0)}}},
		{"UTF-8", safetensors.File{Meta: map[string]string{"a": "\xff"}}},
	} {
		var b bytes.Buffer
		if err := c.file.Encode(&b); err == nil || !strings.Contains(err.Error(), c.text) || b.Len() > 0 {
			t.Errorf("%v, %d bytes; want %q and none", err, b.Len(), c.text)
		}
	}
}

// allocated runs f and returns the bytes it allocated.
func allocated(f func()) uint64 {
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	f()
	runtime.ReadMemStats(&b)
	return b.TotalAlloc - a.TotalAlloc
}

// No header makes the reader allocate more than a constant times its length.
func TestAllocation(t *testing.T) {
	for _, c := range bad {
		limit := uint64(64*len(c.bytes) + 1<<16)
		if got := allocated(func() { safetensors.Parse(c.bytes) }); got > limit {
			t.Errorf("%s: %d bytes allocated for a file of %d", c.name, got, len(c.bytes))
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range bad {
		f.Add(c.bytes)
	}
	good, err := os.ReadFile("testdata/python.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		var file *safetensors.File
		var err error
		if got, limit := allocated(func() { file, err = safetensors.Parse(b) }), uint64(64*len(b)+1<<20); got > limit {
			t.Fatalf("%d bytes allocated for a file of %d", got, len(b))
		}
		if err != nil {
			if !usage.Is(err) {
				t.Fatal(err)
			}
			return
		}
		// What was read is written, and reads as the same.
		var out bytes.Buffer
		if err := file.Encode(&out); err != nil {
			t.Fatal(err)
		}
		again, err := safetensors.Parse(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for i := range file.Tensors {
			a := &file.Tensors[i]
			b := again.Get(a.Name)
			if b == nil || b.DType != a.DType || !b.Is(a.Shape...) || !bytes.Equal(a.Data, b.Data) {
				t.Fatalf("tensor %q changed", a.Name)
			}
		}
	})
}

func Example() {
	f := safetensors.File{
		Meta:    map[string]string{"arch": "convnet"},
		Tensors: []safetensors.Tensor{safetensors.FromFloat32("fc1.bias", []float32{0.5, -1}, 2)},
	}
	var b bytes.Buffer
	if err := f.Encode(&b); err != nil {
		fmt.Println(err)
		return
	}
	g, err := safetensors.Parse(b.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	bias, err := g.Need("fc1.bias", safetensors.F32, 2)
	if err != nil {
		fmt.Println(err)
		return
	}
	x, _ := bias.Float32s()
	fmt.Println(g.Meta["arch"], x)
	// Output: convnet [0.5 -1]
}
