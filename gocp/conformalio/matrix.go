package conformalio

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// Matrix is N rows of K numbers in a file.
type Matrix struct {
	Name string
	N, K int

	path   string
	read   func(dst []float64, first int) error
	read32 func(dst []float32, first int) error // nil if the numbers are not float32
	close  func() error
}

// Read fills dst, which holds whole rows, from row first on. Several goroutines may call it.
func (m *Matrix) Read(dst []float64, first int) error {
	if err := m.read(dst, first); err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	return nil
}

// All returns the whole matrix.
func (m *Matrix) All() ([]float64, error) {
	out := make([]float64, m.N*m.K)
	return out, m.Read(out, 0)
}

// sameRows tells whether two matrices hold the same numbers, whatever their files are.
func sameRows(a, b *Matrix) (bool, error) {
	if a.N != b.N || a.K != b.K {
		return false, nil
	}
	block := max(1, 1<<16/a.K)
	x, y := make([]float64, block*a.K), make([]float64, block*a.K)
	for first := 0; first < a.N; first += block {
		n := a.K * min(block, a.N-first)
		if err := a.Read(x[:n], first); err != nil {
			return false, err
		}
		if err := b.Read(y[:n], first); err != nil {
			return false, err
		}
		if !slices.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// Close closes the file.
func (m *Matrix) Close() error {
	if m.close == nil {
		return nil
	}
	return m.close()
}

// Hash is the SHA-256 of the file, in hexadecimal.
func (m *Matrix) Hash() (string, error) { return hashFile(m.path) }

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// formats are the endings of files that can be read.
const formats = ".npy, .npz, .safetensors, .csv or .parquet"

// split separates a file's name from the part of it that is meant.
func split(name string) (path, part string) {
	if i := strings.LastIndexByte(name, ':'); i > 0 && filepath.Ext(name[:i]) != "" && !strings.ContainsAny(name[i:], "/\\") {
		return name[:i], name[i+1:]
	}
	return name, ""
}

// OpenMatrix opens a matrix by the ending of its name. An array of one axis is a matrix of one
// column.
func OpenMatrix(name string) (*Matrix, error) {
	path, part := split(name)
	m := &Matrix{Name: name, path: path}
	var err error
	switch strings.ToLower(filepath.Ext(path)) {
	case ".npy":
		err = m.openNpy(part)
	case ".npz":
		err = m.openNpz(part)
	case ".safetensors":
		err = m.openSafetensors(part)
	case ".csv":
		err = m.openCSV(part)
	case ".parquet":
		err = m.openParquet(part)
	default:
		return nil, usage.Errorf("%s: the name must end in %s", name, formats)
	}
	if err != nil {
		return nil, err
	}
	if m.K < 1 {
		m.Close()
		return nil, usage.Errorf("%s: there are no columns", name)
	}
	return m, nil
}

// shape takes the shape of an array as rows and columns.
func (m *Matrix) shape(shape []int) error {
	switch len(shape) {
	case 1:
		m.N, m.K = shape[0], 1
	case 2:
		m.N, m.K = shape[0], shape[1]
	default:
		return usage.Errorf("%s: the shape is %v; it must have two axes, rows and columns", m.Name, shape)
	}
	return nil
}

func (m *Matrix) openNpy(part string) error {
	if part != "" {
		return usage.Errorf("%s: an .npy file holds one array, there is no %q in it", m.Name, part)
	}
	f, err := npy.Open(m.path)
	if err != nil {
		// A file in Fortran order can still be loaded whole.
		if a, all := npy.Load(m.path); all == nil {
			return m.array(a)
		}
		return err
	}
	return m.pieces(f)
}

// pieces serves an array that is read piece by piece.
func (m *Matrix) pieces(f *npy.File) error {
	m.close = f.Close
	if err := m.shape(f.Shape); err != nil {
		f.Close()
		return err
	}
	size, err := itemSize(m.Name, f.Type)
	if err != nil {
		f.Close()
		return err
	}
	m.read = func(dst []float64, first int) error {
		b := make([]byte, size*len(dst))
		if err := f.Read(b, first*m.K); err != nil {
			return err
		}
		return npy.Float64s(dst, f.Type, b)
	}
	if f.Type == "f4" {
		m.read32 = func(dst []float32, first int) error { return f.ReadFloat32s(dst, first*m.K) }
	}
	return nil
}

func itemSize(name, kind string) (int, error) {
	switch kind {
	case "b1", "i1", "u1":
		return 1, nil
	case "i2", "u2", "f2":
		return 2, nil
	case "i4", "u4", "f4":
		return 4, nil
	case "i8", "u8", "f8":
		return 8, nil
	}
	return 0, usage.Errorf("%s: the type is %s; it must be a type of numbers", name, kind)
}

// array serves an array in memory.
func (m *Matrix) array(a *npy.Array) error {
	if err := m.shape(a.Shape); err != nil {
		return err
	}
	size, err := itemSize(m.Name, a.Type)
	if err != nil {
		return err
	}
	m.read = func(dst []float64, first int) error {
		from := first * m.K * size
		return npy.Float64s(dst, a.Type, a.Data[from:from+len(dst)*size])
	}
	return nil
}

func (m *Matrix) openNpz(part string) error {
	f, err := npy.OpenZip(m.path, part)
	if err == nil {
		return m.pieces(f)
	}
	// As in openNpy.
	z, all := npy.LoadZip(m.path)
	if all != nil || part == "" && len(z) != 1 {
		return err
	}
	a := z.Get(part)
	if part == "" {
		a = z[0].Array
	}
	if a == nil {
		return err
	}
	return m.array(a)
}

func (m *Matrix) openSafetensors(part string) (err error) {
	f, err := safetensors.Open(m.path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	var names []string
	for _, t := range f.Tensors {
		names = append(names, t.Name)
	}
	if part == "" {
		if len(names) != 1 {
			return usage.Errorf("%s: it holds %d tensors; say which as %s:NAME, one of %s", m.Name, len(names), m.Name, strings.Join(names, ", "))
		}
		part = names[0]
	}
	t := f.Get(part)
	if t == nil {
		return usage.Errorf("%s: there is no tensor %q; there are %s", m.path, part, strings.Join(names, ", "))
	}
	if err := m.shape(t.Shape); err != nil {
		return err
	}
	m.close = f.Close
	size := t.DType.Size()
	kind := map[safetensors.DType]string{"F32": "f4", "F64": "f8", "F16": "f2", "I64": "i8", "I32": "i4", "U8": "u1"}[t.DType]
	if kind == "" && t.DType != "BF16" {
		return usage.Errorf("%s: tensor %q: the type is %s; it must be a type of numbers", m.path, part, t.DType)
	}
	m.read = func(dst []float64, first int) error {
		b := make([]byte, size*len(dst))
		if err := f.Read(part, b, int64(first)*int64(m.K)*int64(size)); err != nil {
			return err
		}
		if kind == "" { // bfloat16: the upper half of a float32
			for i := range dst {
				dst[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16))
			}
			return nil
		}
		return npy.Float64s(dst, kind, b)
	}
	if kind == "f4" {
		m.read32 = func(dst []float32, first int) error {
			return npy.Float32s(dst, func(b []byte) error { return f.Read(part, b, int64(first)*int64(m.K)*4) })
		}
	}
	return nil
}

// OpenInts reads whole numbers, such as labels or groups, from a file with one column.
func OpenInts(name string) ([]int, error) {
	m, err := OpenMatrix(name)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if m.K != 1 {
		return nil, usage.Errorf("%s: there are %d columns; whole numbers come in one", name, m.K)
	}
	values, err := m.All()
	if err != nil {
		return nil, usage.Wrap(err)
	}
	out := make([]int, len(values))
	for i, v := range values {
		out[i] = int(v)
		if float64(out[i]) != v || v < -1<<53 || v > 1<<53 {
			return nil, usage.Errorf("%s: row %d is %v, no whole number", name, i, v)
		}
	}
	return out, nil
}
