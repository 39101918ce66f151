package nn

import "fmt"

// A Param names a slice of a model's flat vector of parameters, or of running statistics.
type Param struct {
	Name  string // PyTorch's name, such as conv1.weight
	Torch []int  // PyTorch's shape: [O,I,kh,kw] or [O,I] or [O]
	Off   int    // first element in the flat vector
	Len   int
	perm  func(dev int) int // index in PyTorch's layout of element dev of the device layout; nil: the same
	start start
}

// A start is how a Param is initialised.
type start struct {
	draw  draw
	scale float64 // the radius or the deviation, or the value
}

type draw int

const (
	constant draw = iota
	uniform
	normal
)

// convPerm maps KRSC to PyTorch's OIHW.
func convPerm(in, k int) func(int) int {
	return func(d int) int {
		c := d % in
		s := d / in % k
		r := d / in / k % k
		o := d / in / k / k
		return ((o*in+c)*k+r)*k + s
	}
}

// flattenPerm maps a linear layer over NHWC-flattened features to PyTorch's NCHW-flattened ones.
func flattenPerm(h, w, c int) func(int) int {
	if h*w == 1 {
		return nil
	}
	n := h * w * c
	return func(d int) int {
		o, f := d/n, d%n
		return o*n + (f%c)*h*w + f/c
	}
}

// ToTorch copies p's slice of a flat device-layout vector into PyTorch's layout.
func (p Param) ToTorch(flat []float32) []float32 {
	out := make([]float32, p.Len)
	for i, v := range flat[p.Off : p.Off+p.Len] {
		if p.perm != nil {
			out[p.perm(i)] = v
		} else {
			out[i] = v
		}
	}
	return out
}

// FromTorch copies values in PyTorch's layout into p's slice of a flat device-layout vector.
func (p Param) FromTorch(flat, torch []float32) error {
	if len(torch) != p.Len {
		return fmt.Errorf("nn: %s has %d values, want %d (shape %v)", p.Name, len(torch), p.Len, p.Torch)
	}
	dst := flat[p.Off : p.Off+p.Len]
	for i := range dst {
		if p.perm != nil {
			dst[i] = torch[p.perm(i)]
		} else {
			dst[i] = torch[i]
		}
	}
	return nil
}
