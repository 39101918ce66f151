package npy

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/gocp/gocp/gocp/usage"
)

// Array is an array in memory: little-endian, the last axis fastest.
type Array struct {
	// Type is NumPy's code without the byte order: b1, i1, i2, i4, i8, u1, u2, u4, u8, f2, f4, f8
	// or U followed by the number of code points of a string.
	Type  string
	Shape []int
	Data  []byte
}

// itemSize is the number of bytes of one element, 0 for an unknown type.
func itemSize(kind string) int {
	switch kind {
	case "b1", "i1", "u1":
		return 1
	case "i2", "u2", "f2":
		return 2
	case "i4", "u4", "f4":
		return 4
	case "i8", "u8", "f8":
		return 8
	}
	if strings.HasPrefix(kind, "U") {
		n := 0
		for _, c := range kind[1:] {
			if c < '0' || c > '9' || n > 1<<20 {
				return 0
			}
			n = 10*n + int(c-'0')
		}
		return 4 * n
	}
	return 0
}

// Len is the number of elements.
func (a *Array) Len() int {
	n := 1
	for _, s := range a.Shape {
		n *= s
	}
	return n
}

// Uint8 makes a u1 array that shares x.
func Uint8(x []uint8, shape ...int) *Array { return &Array{"u1", shape, x} }

// Int64 makes an i8 array.
func Int64(x []int64, shape ...int) *Array {
	b := make([]byte, 0, 8*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return &Array{"i8", shape, b}
}

// Float32 makes an f4 array.
func Float32(x []float32, shape ...int) *Array {
	b := make([]byte, 0, 4*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return &Array{"f4", shape, b}
}

// Float64 makes an f8 array.
func Float64(x []float64, shape ...int) *Array {
	b := make([]byte, 0, 8*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return &Array{"f8", shape, b}
}

// Strings makes a one-dimensional array of Unicode strings.
func Strings(x []string) *Array {
	width := 1
	for _, s := range x {
		width = max(width, utf8.RuneCountInString(s))
	}
	b := make([]byte, 4*width*len(x))
	for i, s := range x {
		for j, r := range []rune(s) {
			binary.LittleEndian.PutUint32(b[4*(i*width+j):], uint32(r))
		}
	}
	return &Array{fmt.Sprintf("U%d", width), []int{len(x)}, b}
}

// Int64s returns the elements of an integer or boolean array.
func (a *Array) Int64s() ([]int64, error) {
	out := make([]int64, 0, len(a.Data)/max(1, itemSize(a.Type)))
	le := binary.LittleEndian
	switch b := a.Data; a.Type {
	case "b1", "u1":
		for _, v := range b {
			out = append(out, int64(v))
		}
	case "i1":
		for _, v := range b {
			out = append(out, int64(int8(v)))
		}
	case "i2":
		for ; len(b) > 0; b = b[2:] {
			out = append(out, int64(int16(le.Uint16(b))))
		}
	case "u2":
		for ; len(b) > 0; b = b[2:] {
			out = append(out, int64(le.Uint16(b)))
		}
	case "i4":
		for ; len(b) > 0; b = b[4:] {
			out = append(out, int64(int32(le.Uint32(b))))
		}
	case "u4":
		for ; len(b) > 0; b = b[4:] {
			out = append(out, int64(le.Uint32(b)))
		}
	case "i8", "u8":
		for ; len(b) > 0; b = b[8:] {
			v := le.Uint64(b)
			if a.Type == "u8" && v > math.MaxInt64 {
				return nil, usage.Errorf("the unsigned value %d does not fit 63 bits", v)
			}
			out = append(out, int64(v))
		}
	default:
		return nil, usage.Errorf("the type is %s; it must be an integer type", a.Type)
	}
	return out, nil
}

// Float32s returns the elements of an f4 array, or of an f8 array rounded.
func (a *Array) Float32s() ([]float32, error) {
	switch a.Type {
	case "f4":
		out := make([]float32, len(a.Data)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(a.Data[4*i:]))
		}
		return out, nil
	case "f8":
		out := make([]float32, len(a.Data)/8)
		for i := range out {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(a.Data[8*i:])))
		}
		return out, nil
	}
	return nil, usage.Errorf("the type is %s; it must be f4 or f8", a.Type)
}

// Text returns the elements of an array of strings, without trailing zeros.
func (a *Array) Text() ([]string, error) {
	size := itemSize(a.Type)
	if a.Type[0] != 'U' {
		return nil, usage.Errorf("the type is %s; it must be Unicode strings (U)", a.Type)
	}
	out := make([]string, 0, a.Len())
	for b := a.Data; len(b) > 0; b = b[size:] {
		var s strings.Builder
		for i := 0; i < size; i += 4 {
			r := rune(binary.LittleEndian.Uint32(b[i:]))
			if r != 0 && !utf8.ValidRune(r) {
				return nil, usage.Errorf("a string holds %#x, which is no Unicode code point", uint32(r))
			}
			s.WriteRune(r)
		}
		out = append(out, strings.TrimRight(s.String(), "\x00"))
	}
	return out, nil
}
