package conformalio

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	z, err := npy.LoadZip(m.path)
	if err != nil {
		return err
	}
	if part == "" && len(z) == 1 {
		return m.array(z[0].Array)
	}
	var names []string
	for _, a := range z {
		names = append(names, a.Name)
	}
	if part == "" {
		return usage.Errorf("%s: it holds several arrays; say which as %s:NAME, one of %s", m.Name, m.Name, strings.Join(names, ", "))
	}
	a := z.Get(part)
	if a == nil {
		return usage.Errorf("%s: there is no array %q; there are %s", m.path, part, strings.Join(names, ", "))
	}
	return m.array(a)
}

func (m *Matrix) openSafetensors(part string) error {
	f, err := safetensors.Load(m.path)
	if err != nil {
		return err
	}
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
	var kind string
	switch t.DType {
	case "F32":
		kind = "f4"
	case "F64":
		kind = "f8"
	case "F16":
		kind = "f2"
	case "I64":
		kind = "i8"
	case "I32":
		kind = "i4"
	case "U8":
		kind = "u1"
	default:
		values, err := t.Float32s() // bfloat16
		if err != nil {
			return usage.Errorf("%s: tensor %q: %w", m.path, part, err)
		}
		m.read = func(dst []float64, first int) error {
			for i := range dst {
				dst[i] = float64(values[first*m.K+i])
			}
			return nil
		}
		return nil
	}
	return m.array(&npy.Array{Type: kind, Shape: t.Shape, Data: t.Data})
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
