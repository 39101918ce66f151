package npy

import (
	"encoding/binary"
	"io"
	"math"
	"os"
	"slices"
	"unsafe"

	"github.com/gocp/gocp/gocp/usage"
)

// File is an .npy file that is read piece by piece, for arrays that need not fit in memory.
// Several goroutines may read it at once.
type File struct {
	// Type and Shape are those of Array.
	Type  string
	Shape []int

	r       io.ReaderAt
	at      int64 // where the data begin
	swap    bool
	fortran bool // two axes, the first one fastest
	close   func() error
}

// Open reads and checks the header of the .npy file at path. An array of three axes or more in Fortran
// order is refused: Load it.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	file, err := open(f, info.Size())
	if err != nil {
		f.Close()
		return nil, usage.Errorf("%s: not a valid .npy file: %w", path, err)
	}
	file.close = f.Close
	return file, nil
}

// open reads the header of the array in the first size bytes of r.
func open(r io.ReaderAt, size int64) (*File, error) {
	start := make([]byte, min(size, 12+maxHeader))
	n, err := r.ReadAt(start, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	text, at, err := split(start[:n])
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(text)
	if err != nil {
		return nil, usage.Errorf("header: %w", err)
	}
	order, kind, err := h.check(size - int64(at))
	if err != nil {
		return nil, err
	}
	if h.fortran && len(h.shape) > 2 {
		return nil, usage.Errorf("it has %d axes in Fortran order, which are not read piece by piece; save it in C order", len(h.shape))
	}
	return &File{Type: kind, Shape: h.shape, r: r, at: int64(at), swap: order == '>', fortran: h.fortran && len(h.shape) == 2}, nil
}

// Close closes the file.
func (f *File) Close() error { return f.close() }

// Read fills dst, which holds whole elements, from element first on: little-endian bytes as in
// Array.Data.
func (f *File) Read(dst []byte, first int) error {
	size := itemSize(f.Type)
	if f.fortran {
		if err := f.gather(dst, first, size); err != nil {
			return err
		}
	} else if _, err := f.r.ReadAt(dst, f.at+int64(first)*int64(size)); err != nil {
		return err
	}
	if word := min(size, 8); f.swap && word > 1 && f.Type[0] != 'U' {
		for i := 0; i+word <= len(dst); i += word {
			slices.Reverse(dst[i : i+word])
		}
	} else if f.swap && f.Type[0] == 'U' {
		for i := 0; i+4 <= len(dst); i += 4 {
			slices.Reverse(dst[i : i+4])
		}
	}
	return nil
}

// gather reads the rows that dst has elements of column by column, since the rows of a column are side by
// side.
func (f *File) gather(dst []byte, first, size int) error {
	n, k, count := f.Shape[0], f.Shape[1], len(dst)/size
	if count == 0 {
		return nil
	}
	low, high := first/k, (first+count-1)/k+1
	column := make([]byte, (high-low)*size)
	for j := range k {
		if _, err := f.r.ReadAt(column, f.at+int64(j*n+low)*int64(size)); err != nil {
			return err
		}
		for i := range high - low {
			if at := (low+i)*k + j - first; at >= 0 && at < count {
				copy(dst[at*size:(at+1)*size], column[i*size:])
			}
		}
	}
	return nil
}

// ReadFloat32s fills dst from element first of an f4 file on.
func (f *File) ReadFloat32s(dst []float32, first int) error {
	if f.Type != "f4" {
		return usage.Errorf("the type is %s; it must be f4", f.Type)
	}
	return Float32s(dst, func(b []byte) error { return f.Read(b, first) })
}

// Float32s fills dst through its bytes, which read gets in little-endian order.
func Float32s(dst []float32, read func(b []byte) error) error {
	if len(dst) == 0 {
		return nil
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 4*len(dst))
	if err := read(b); err != nil {
		return err
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	}
	return nil
}

// Float64s decodes bytes of a numeric type into dst, which has an entry for each element.
func Float64s(dst []float64, kind string, b []byte) error {
	size := itemSize(kind)
	if size == 0 || kind[0] == 'U' || len(b) != size*len(dst) {
		return usage.Errorf("%d bytes of type %s are not %d numbers", len(b), kind, len(dst))
	}
	le := binary.LittleEndian
	switch kind {
	case "f4":
		for i := range dst {
			dst[i] = float64(math.Float32frombits(le.Uint32(b[4*i:])))
		}
	case "f8":
		for i := range dst {
			dst[i] = math.Float64frombits(le.Uint64(b[8*i:]))
		}
	case "f2":
		for i := range dst {
			dst[i] = half(le.Uint16(b[2*i:]))
		}
	case "u8":
		for i := range dst {
			dst[i] = float64(le.Uint64(b[8*i:]))
		}
	case "i8":
		for i := range dst {
			dst[i] = float64(int64(le.Uint64(b[8*i:])))
		}
	case "u4":
		for i := range dst {
			dst[i] = float64(le.Uint32(b[4*i:]))
		}
	case "i4":
		for i := range dst {
			dst[i] = float64(int32(le.Uint32(b[4*i:])))
		}
	case "u2":
		for i := range dst {
			dst[i] = float64(le.Uint16(b[2*i:]))
		}
	case "i2":
		for i := range dst {
			dst[i] = float64(int16(le.Uint16(b[2*i:])))
		}
	case "u1", "b1":
		for i := range dst {
			dst[i] = float64(b[i])
		}
	case "i1":
		for i := range dst {
			dst[i] = float64(int8(b[i]))
		}
	default:
		return usage.Errorf("the type is %s; it must be a type of numbers", kind)
	}
	return nil
}

// half is the value of an IEEE 754 half-precision number.
func half(b uint16) float64 {
	exponent, mantissa := int(b>>10&31), float64(b&1023)
	v := 0.0
	switch exponent {
	case 0:
		v = math.Ldexp(mantissa, -24)
	case 31:
		if v = math.Inf(1); mantissa != 0 {
			return math.NaN()
		}
	default:
		v = math.Ldexp(1024+mantissa, exponent-25)
	}
	if b>>15 != 0 {
		return -v
	}
	return v
}
