package cases

import (
	"fmt"
	"strings"

	"github.com/gocp/gocp/gocp/device"
)

// A Case is what there is to know about a launcher in order to test and time it.
type Case struct {
	Name      string   // of the launcher
	Kernels   []string // that its shapes reach, by their names on the device; name covers name_… on a GPU
	Precision string   // empty: f32
	Axes      []string // names of a shape's numbers
	Tests     []Shape
	Benches   []Shape
	New       func(sh Shape, r *Rand) *Problem
}

// Label names the case on a shape, as in "n=128 c=64".
func (c Case) Label(sh Shape) string {
	var b strings.Builder
	for i, d := range sh.Dims {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%d", c.Axes[i], d)
	}
	if sh.Fill != Normal {
		fmt.Fprintf(&b, " %s", sh.Fill)
	}
	return b.String()
}

// A Shape is the numbers that a case's problem is built from, and what its inputs are filled with.
type Shape struct {
	Dims []int
	Fill Fill
}

// Dims is a shape filled with normal numbers.
func Dims(d ...int) Shape { return Shape{Dims: d} }

// With is the shape filled otherwise.
func (s Shape) With(f Fill) Shape { return Shape{s.Dims, f} }

// A Fill is what Rand.Values gives. Derivatives are checked on Normal alone.
type Fill int

// The fills.
const (
	Normal   Fill = iota
	Ties          // small integers
	Infinite      // normal, with ±inf strewn in
	NaN           // normal, with NaN strewn in
)

func (f Fill) String() string { return [...]string{"normal", "ties", "inf", "nan"}[f] }

// Tol is how far an element may be from its reference r: Rel·(|r| + rms of the output) + Abs.
// With Norm, the 2-norm of the error is also at most Norm times that of the output. Why says where
// the numbers come from.
type Tol struct {
	Rel, Abs float64
	Norm     float64
	Why      string
}

// exact is the tolerance of integers and of copies.
var exact = Tol{Why: "no arithmetic"}

// A Buffer is an operand of a problem.
type Buffer struct {
	name  string
	shape []int
	data  any // []float32, []float64, []int32, []uint8, []uint64: contents, or for an output the type
	role  role
	diff  bool // has a tangent
	tol   Tol
}

type role int

const (
	input  role = iota
	output      // written whole
	inout       // read and written
)

func (b *Buffer) len() int {
	n := 1
	for _, d := range b.shape {
		n *= d
	}
	return n
}

// A Problem is one case on one shape.
type Problem struct {
	buffers []*Buffer

	Run func(s *device.Stream, b *Bound) // through the typed launchers
	Ref func(v *Values)                  // the same in float64: inputs to outputs

	Gradients   []Gradient
	Replay      bool // with absent primals of float outputs Run computes tangents at the other outputs' values
	Bits        Bits
	Workspace   int                        // bytes, or
	WorkspaceOn func(s *device.Stream) int // if that depends on the device
	Bytes       float64
	FLOPs       float64
}

// Bits says what an output's bits depend on besides the inputs.
type Bits int

// The dependences.
const (
	OnNothing Bits = iota // neither on threads nor on alignment
	OnThreads             // a maintained library splits the sums by its threads, and by alignment
)

// A Gradient says that output Out is the gradient of Of with respect to input In.
type Gradient struct {
	Out, In *Buffer
	Of      func(v *Values) float64
}

// Const adds an input without a tangent; an absent one has no elements and no address.
func Const[T device.Memory](p *Problem, name string, data []T, shape ...int) *Buffer {
	return p.add(&Buffer{name: name, shape: whole(len(data), shape), data: data})
}

// Diff adds a float32 input that has a tangent in dual numbers.
func (p *Problem) Diff(name string, data []float32, shape ...int) *Buffer {
	return p.add(&Buffer{name: name, shape: whole(len(data), shape), data: data, diff: true})
}

// Out adds a float32 output that has a tangent in dual numbers.
func (p *Problem) Out(name string, tol Tol, shape ...int) *Buffer {
	return p.add(&Buffer{name: name, shape: shape, data: []float32(nil), role: output, diff: true, tol: tol})
}

// OutConst adds an output of type T without a tangent.
func OutConst[T device.Memory](p *Problem, name string, tol Tol, shape ...int) *Buffer {
	return p.add(&Buffer{name: name, shape: shape, data: []T(nil), role: output, tol: tol})
}

// InOut adds a buffer without a tangent that is read and written.
func InOut[T device.Memory](p *Problem, name string, tol Tol, data []T, shape ...int) *Buffer {
	return p.add(&Buffer{name: name, shape: whole(len(data), shape), data: data, role: inout, tol: tol})
}

func whole(n int, shape []int) []int {
	if shape == nil {
		return []int{n}
	}
	return shape
}

func (p *Problem) add(b *Buffer) *Buffer {
	p.buffers = append(p.buffers, b)
	return b
}

// differentiable reports whether the problem has anything to check in dual numbers.
func (p *Problem) differentiable() bool {
	ins, outs := 0, 0
	for _, b := range p.buffers {
		switch {
		case b.diff && b.role == input:
			ins++
		case b.diff:
			outs++
		}
	}
	return ins > 0 && outs > 0
}

// Values are a problem's buffers in float64, whatever their type; integers are exact.
type Values struct {
	of map[*Buffer][]float64
}

// F returns the values of a buffer: its contents, and for outputs what the reference writes. A nil
// buffer has none.
func (v *Values) F(b *Buffer) []float64 {
	if b == nil {
		return nil
	}
	return v.of[b]
}

// values are the inputs, displaced by h times their tangents, with outputs of zeros.
func (p *Problem) values(tangents map[*Buffer][]float32, h float64) *Values {
	v := &Values{of: map[*Buffer][]float64{}}
	for _, b := range p.buffers {
		if b.role == output {
			v.of[b] = make([]float64, b.len())
			continue
		}
		f := asFloats(b.data)
		if t := tangents[b]; t != nil {
			for i := range f {
				f[i] += h * float64(t[i])
			}
		}
		v.of[b] = f
	}
	return v
}

// reference runs the reference on displaced inputs.
func (p *Problem) reference(tangents map[*Buffer][]float32, h float64) *Values {
	v := p.values(tangents, h)
	p.Ref(v)
	return v
}

func asFloats(data any) []float64 {
	switch d := data.(type) {
	case []float32:
		return convert(d)
	case []float64:
		return convert(d)
	case []int32:
		return convert(d)
	case []int64:
		return convert(d)
	case []uint8:
		return convert(d)
	case []uint32:
		return convert(d)
	case []uint64:
		return convert(d)
	}
	panic(fmt.Sprintf("cases: a buffer of %T", data)) // a mistake in a case, not in an input
}

func convert[T device.Memory](d []T) []float64 {
	f := make([]float64, len(d))
	for i, x := range d {
		f[i] = float64(x)
	}
	return f
}
