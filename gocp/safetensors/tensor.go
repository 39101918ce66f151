package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/usage"
)

// DType names the type of a tensor's elements, spelled as in the file.
type DType string

// The types whose elements can be had. Tensors of others stand in the file that is read, with their bytes.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I64  DType = "I64"
	I32  DType = "I32"
	I16  DType = "I16"
	I8   DType = "I8"
	U64  DType = "U64"
	U32  DType = "U32"
	U16  DType = "U16"
	U8   DType = "U8"
	Bool DType = "BOOL"
)

// Size is the number of bytes of one element, 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case F64, I64, U64:
		return 8
	case F32, I32, U32:
		return 4
	case F16, BF16, I16, U16:
		return 2
	case I8, U8, Bool:
		return 1
	}
	return 0
}

// Tensor is one named array. Data holds its elements, little-endian, the last
// axis fastest.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte
}

// Len is the number of elements.
func (t *Tensor) Len() int {
	if size := t.DType.Size(); size > 0 {
		return len(t.Data) / size
	}
	return 0
}

// Is reports whether t has this shape.
func (t *Tensor) Is(shape ...int) bool {
	if len(shape) != len(t.Shape) {
		return false
	}
	for i, n := range shape {
		if t.Shape[i] != n {
			return false
		}
	}
	return true
}

// FromFloat32 makes an F32 tensor.
func FromFloat32(name string, x []float32, shape ...int) Tensor {
	b := make([]byte, 4*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
	return Tensor{name, F32, shape, b}
}

// FromFloat64 makes an F64 tensor.
func FromFloat64(name string, x []float64, shape ...int) Tensor {
	b := make([]byte, 8*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint64(b[8*i:], math.Float64bits(v))
	}
	return Tensor{name, F64, shape, b}
}

// FromInt64 makes an I64 tensor.
func FromInt64(name string, x []int64, shape ...int) Tensor {
	b := make([]byte, 8*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(v))
	}
	return Tensor{name, I64, shape, b}
}

// FromInt32 makes an I32 tensor.
func FromInt32(name string, x []int32, shape ...int) Tensor {
	b := make([]byte, 4*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(v))
	}
	return Tensor{name, I32, shape, b}
}

// FromUint8 makes a U8 tensor that shares x.
func FromUint8(name string, x []uint8, shape ...int) Tensor {
	return Tensor{name, U8, shape, x}
}

// Float32s returns the elements of an F32, F16 or BF16 tensor, exactly, and of
// an F64 tensor rounded.
func (t *Tensor) Float32s() ([]float32, error) {
	out := make([]float32, t.Len())
	switch t.DType {
	case F64:
		for i := range out {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:])))
		}
	case F32:
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
	case F16:
		for i := range out {
			out[i] = fromHalf(binary.LittleEndian.Uint16(t.Data[2*i:]))
		}
	case BF16:
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[2*i:])) << 16)
		}
	default:
		return nil, t.wrong("a float type (F32, F64, F16 or BF16)")
	}
	return out, nil
}

// Float64s returns the elements of a float tensor, exactly.
func (t *Tensor) Float64s() ([]float64, error) {
	if t.DType != F64 {
		x, err := t.Float32s()
		if err != nil {
			return nil, err
		}
		out := make([]float64, len(x))
		for i, v := range x {
			out[i] = float64(v)
		}
		return out, nil
	}
	out := make([]float64, t.Len())
	for i := range out {
		out[i] = math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:]))
	}
	return out, nil
}

// Int64s returns the elements of a tensor of integers, or of BOOL as 0 and 1.
func (t *Tensor) Int64s() ([]int64, error) {
	if !t.Whole() {
		return nil, t.wrong("an integer type (I64 to I8, U64 to U8) or BOOL")
	}
	out := make([]int64, t.Len())
	le := binary.LittleEndian
	for i := range out {
		switch t.DType {
		case I64:
			out[i] = int64(le.Uint64(t.Data[8*i:]))
		case I32:
			out[i] = int64(int32(le.Uint32(t.Data[4*i:])))
		case I16:
			out[i] = int64(int16(le.Uint16(t.Data[2*i:])))
		case I8:
			out[i] = int64(int8(t.Data[i]))
		case U64:
			v := le.Uint64(t.Data[8*i:])
			if v > math.MaxInt64 {
				return nil, usage.Errorf("tensor %q has %d at element %d, which does not fit 63 bits", t.Name, v, i)
			}
			out[i] = int64(v)
		case U32:
			out[i] = int64(le.Uint32(t.Data[4*i:]))
		case U16:
			out[i] = int64(le.Uint16(t.Data[2*i:]))
		case U8, Bool:
			out[i] = int64(t.Data[i])
		}
	}
	return out, nil
}

// Whole tells whether the elements are integers or booleans.
func (t *Tensor) Whole() bool {
	switch t.DType {
	case I64, I32, I16, I8, U64, U32, U16, U8, Bool:
		return true
	}
	return false
}

func (t *Tensor) wrong(want string) error {
	return usage.Errorf("tensor %q has type %s; it must have %s", t.Name, t.DType, want)
}

// fromHalf widens an IEEE 754 binary16 number, subnormals and NaNs included.
func fromHalf(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h) & 0x3ff
	switch exp {
	case 0: // zero or subnormal: frac · 2⁻²⁴
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*(1.0/(1<<24))))
	case 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// elements multiplies a shape out, refusing negative sizes and overflow. Only
// the product is bounded, so a 0 hides no overflow before it.
func elements(shape []int) (int, error) {
	n := 1
	for _, s := range shape {
		if s < 0 {
			return 0, fmt.Errorf("negative size in shape %v", shape)
		}
		if s > 0 && n > math.MaxInt/s {
			return 0, fmt.Errorf("shape %v overflows", shape)
		}
		n *= s
	}
	return n, nil
}
