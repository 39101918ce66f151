package matrix

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// shape takes the shape of an array as rows and columns.
func (m *Matrix) shape(shape []int) error {
	switch len(shape) {
	case 1:
		m.N, m.K = shape[0], 1
	case 2:
		m.N, m.K = shape[0], shape[1]
	default:
		var long []int
		for _, n := range shape {
			if n != 1 {
				long = append(long, n)
			}
		}
		if len(long) == 2 {
			return usage.Errorf("%s: the shape is %v; it must have two axes, rows and columns, as it has after x.reshape(%d, %d)", m.Name, shape, long[0], long[1])
		}
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
		return err
	}
	return m.pieces(f)
}

func (m *Matrix) openNpz(part string) error {
	f, err := npy.OpenZip(m.path, part)
	if err != nil {
		return err
	}
	return m.pieces(f)
}

// pieces serves an array that is read piece by piece.
func (m *Matrix) pieces(f *npy.File) error {
	m.closers = append(m.closers, f.Close)
	if err := m.shape(f.Shape); err != nil {
		return err
	}
	size := map[string]int{"b1": 1, "i1": 1, "u1": 1, "i2": 2, "u2": 2, "f2": 2, "i4": 4, "u4": 4, "f4": 4, "i8": 8, "u8": 8, "f8": 8}[f.Type]
	if size == 0 {
		return usage.Errorf("%s: the type is %s; it must be a type of numbers", m.Name, f.Type)
	}
	m.read = func(dst []float64, first int) error {
		b, done := m.borrow(size * len(dst))
		defer done()
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

// codes are npy's names of safetensors' types.
var codes = map[safetensors.DType]string{
	safetensors.F32: "f4", safetensors.F64: "f8", safetensors.F16: "f2", safetensors.Bool: "u1",
	safetensors.I64: "i8", safetensors.I32: "i4", safetensors.I16: "i2", safetensors.I8: "i1",
	safetensors.U64: "u8", safetensors.U32: "u4", safetensors.U16: "u2", safetensors.U8: "u1",
}

func (m *Matrix) openSafetensors(part string) error {
	f, err := safetensors.Open(m.path)
	if err != nil {
		return err
	}
	m.closers = append(m.closers, f.Close)
	var names []string
	for _, t := range f.Tensors {
		names = append(names, t.Name)
	}
	if part == "" {
		if len(names) != 1 {
			return usage.Errorf("%s: it holds %d tensors; say which as %s:NAME, one of %s", m.Name, len(names), m.Name, enumerate(names))
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
	kind, size := codes[t.DType], t.DType.Size()
	if kind == "" && t.DType != safetensors.BF16 {
		return usage.Errorf("%s: tensor %q: the type is %s; it must be a type of numbers, 16 bits wide at least unless they are whole", m.path, part, t.DType)
	}
	m.read = func(dst []float64, first int) error {
		b, done := m.borrow(size * len(dst))
		defer done()
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
