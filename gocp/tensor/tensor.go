package tensor

import "github.com/gocp/gocp/gocp/device"

// Tensor is a float32 array on a device. It owns no memory: its stream does.
type Tensor struct {
	Shape []int
	P, T  device.Ptr
}

// New allocates the primal plane of a tensor; its contents are undefined.
func New(s *device.Stream, shape ...int) Tensor {
	t := Tensor{Shape: shape}
	t.P = s.AllocFor(4*t.Len(), shape)
	return t
}

// NewDual allocates both planes.
func NewDual(s *device.Stream, shape ...int) Tensor {
	t := New(s, shape...)
	t.T = s.AllocFor(4*t.Len(), shape)
	return t
}

// Len is the number of elements of one plane.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Absent reports whether the tensor has neither plane.
func (t Tensor) Absent() bool { return t.P == 0 && t.T == 0 }

// Primal is the tensor without its tangent.
func (t Tensor) Primal() Tensor { return Tensor{Shape: t.Shape, P: t.P} }

// Tangent is the tangent plane as a tensor of its own.
func (t Tensor) Tangent() Tensor { return Tensor{Shape: t.Shape, P: t.T} }

// TangentOnly is the tensor without its primal plane: as an output, only the tangent is computed.
func (t Tensor) TangentOnly() Tensor { return Tensor{Shape: t.Shape, T: t.T} }

// Slice is the part of a flat view that starts at element off and has the given shape.
func (t Tensor) Slice(off int, shape ...int) Tensor {
	s := Tensor{Shape: shape}
	if t.P != 0 {
		s.P = t.P.Add(4 * off)
	}
	if t.T != 0 {
		s.T = t.T.Add(4 * off)
	}
	return s
}
