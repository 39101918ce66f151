package cases

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

const (
	guardBytes = 256
	guardByte  = 0xc5 // a float of them is -6321.2
	freshByte  = 0xff // of outputs before a run: a float of them is NaN
)

// A mode is one way to run a problem.
type mode struct {
	tangents map[*Buffer][]float32 // of inputs; nil: not in dual numbers
	dual     bool
	replay   map[*Buffer][]byte // contents of the other outputs: compute tangents alone
	shift    int                // elements by which buffers are moved off their alignment
}

// A plane is a buffer's memory on the device between two guard zones.
type plane struct {
	at    device.Ptr // of the first guard
	bytes int
	shift int
	was   []byte // contents before the run
	now   []byte // after it
}

func (p *plane) ptr() device.Ptr {
	if p == nil {
		return 0
	}
	return p.at.Add(guardBytes + p.shift)
}

// Bound is a problem's buffers on a stream.
type Bound struct {
	s       *device.Stream
	primal  map[*Buffer]*plane
	tangent map[*Buffer]*plane
	work    *kernel.Workspace
}

// Tensor returns a float32 buffer as a tensor, with the planes that the run is to read or write. A nil
// buffer is the absent tensor.
func (b *Bound) Tensor(buf *Buffer) tensor.Tensor {
	if buf == nil {
		return tensor.Tensor{}
	}
	return tensor.Tensor{Shape: buf.shape, P: b.primal[buf].ptr(), T: b.tangent[buf].ptr()}
}

// Ptr returns a buffer's address; that of a nil buffer is 0.
func (b *Bound) Ptr(buf *Buffer) device.Ptr {
	if buf == nil {
		return 0
	}
	return b.primal[buf].ptr()
}

// Workspace is the problem's scratch memory.
func (b *Bound) Workspace() *kernel.Workspace { return b.work }

// bind puts the problem on the device.
func (p *Problem) bind(s *device.Stream, m mode) *Bound {
	b := &Bound{s: s, primal: map[*Buffer]*plane{}, tangent: map[*Buffer]*plane{}}
	for _, buf := range p.buffers {
		raw := rawBytes(buf.data)
		size := elementSize(buf.data)
		fresh := bytes.Repeat([]byte{freshByte}, buf.len()*size)
		if buf.role == output {
			raw = fresh
		}
		given, known := m.replay[buf]
		if known {
			raw = given
		}
		if known || m.replay == nil || buf.role != output || !buf.diff {
			b.primal[buf] = place(s, raw, m.shift*size)
		}
		if !buf.diff || !m.dual {
			continue
		}
		if buf.role == output {
			b.tangent[buf] = place(s, fresh, m.shift*size)
		} else if t := m.tangents[buf]; t != nil {
			b.tangent[buf] = place(s, rawBytes(t), m.shift*size)
		}
	}
	b.work = kernel.NewWorkspace(s, p.Workspace)
	return b
}

func place(s *device.Stream, raw []byte, shift int) *plane {
	all := bytes.Repeat([]byte{guardByte}, 2*guardBytes+shift+len(raw))
	copy(all[guardBytes+shift:], raw)
	p := &plane{at: s.Alloc(len(all)), bytes: len(raw), shift: shift, was: slices.Clone(raw)}
	device.Upload(s, p.at, all)
	return p
}

// fetch downloads every plane, checks guards and inputs, and frees the memory.
func (p *Problem) fetch(s *device.Stream, b *Bound) error {
	for _, buf := range p.buffers {
		for what, pl := range map[string]*plane{"": b.primal[buf], "'s tangent": b.tangent[buf]} {
			if pl == nil {
				continue
			}
			all := make([]byte, 2*guardBytes+pl.shift+pl.bytes)
			if err := device.Download(s, all, pl.at); err != nil {
				return err
			}
			s.Free(pl.at)
			from := guardBytes + pl.shift
			pl.now = all[from : from+pl.bytes]
			for i, x := range all {
				if x != guardByte && (i < from || i >= from+pl.bytes) {
					return fmt.Errorf("%s%s: written %d bytes from its start, outside its %d bytes", buf.name, what, i-from, pl.bytes)
				}
			}
			if buf.role == input && !bytes.Equal(pl.now, pl.was) {
				return fmt.Errorf("%s%s: an input was written", buf.name, what)
			}
		}
	}
	return s.Err()
}

// run binds, runs and fetches the problem once.
func (p *Problem) run(s *device.Stream, m mode) (*Bound, error) {
	b := p.bind(s, m)
	p.Run(s, b)
	if err := p.fetch(s, b); err != nil {
		return nil, err
	}
	return b, nil
}

// result is a float64 copy of a plane after the run.
func (pl *plane) result(data any) []float64 {
	switch data.(type) {
	case []float32:
		return convert(fromBytes[float32](pl.now))
	case []float64:
		return convert(fromBytes[float64](pl.now))
	case []int32:
		return convert(fromBytes[int32](pl.now))
	case []int64:
		return convert(fromBytes[int64](pl.now))
	case []uint32:
		return convert(fromBytes[uint32](pl.now))
	case []uint64:
		return convert(fromBytes[uint64](pl.now))
	}
	return convert(pl.now)
}

func rawBytes(data any) []byte {
	switch d := data.(type) {
	case []float32:
		return toBytes(d)
	case []float64:
		return toBytes(d)
	case []int32:
		return toBytes(d)
	case []int64:
		return toBytes(d)
	case []uint32:
		return toBytes(d)
	case []uint64:
		return toBytes(d)
	}
	return data.([]uint8)
}

func elementSize(data any) int {
	switch data.(type) {
	case []float64, []int64, []uint64:
		return 8
	case []uint8:
		return 1
	}
	return 4
}

func toBytes[T device.Memory](v []T) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

func fromBytes[T device.Memory](raw []byte) []T {
	var zero T
	v := make([]T, len(raw)/int(unsafe.Sizeof(zero)))
	copy(toBytes(v), raw)
	return v
}

// An Errors is what a comparison found.
type Errors struct {
	Max   float64 // largest |got − want|, as a share of the largest finite |want|
	Wrong int     // elements outside the tolerance
	Count int     // elements compared
	First string  // the first wrong one
}

func (e *Errors) merge(o Errors) {
	e.Max = max(e.Max, o.Max)
	e.Wrong += o.Wrong
	e.Count += o.Count
	if e.First == "" {
		e.First = o.First
	}
}

// compare holds got against want; skip marks elements to leave out, and may be nil.
func compare(name string, got, want []float64, tol Tol, skip []bool) Errors {
	var largest, squares float64
	finite := 0
	for _, w := range want {
		if !math.IsInf(w, 0) && !math.IsNaN(w) {
			largest = max(largest, math.Abs(w))
			squares += w * w
			finite++
		}
	}
	rms := math.Sqrt(squares / float64(max(finite, 1)))
	var e Errors
	for i, w := range want {
		if skip != nil && skip[i] {
			continue
		}
		e.Count++
		g := got[i]
		ok := g == w || math.IsNaN(g) && math.IsNaN(w)
		if !ok {
			d := math.Abs(g - w)
			ok = d <= tol.Abs+tol.Rel*(math.Abs(w)+rms) && !math.IsInf(w, 0)
			if !math.IsNaN(d) && !math.IsInf(d, 0) && largest > 0 {
				e.Max = max(e.Max, d/largest)
			}
		}
		if !ok {
			if e.Wrong == 0 {
				e.First = fmt.Sprintf("%s[%d] = %.9g, want %.9g", name, i, g, w)
			}
			e.Wrong++
		}
	}
	return e
}

// outputs compares every output's primal plane with the reference.
func (p *Problem) outputs(b *Bound, want *Values) Errors {
	var e Errors
	for _, buf := range p.buffers {
		if pl := b.primal[buf]; pl != nil && buf.role != input {
			e.merge(compare(buf.name, pl.result(buf.data), want.F(buf), buf.tol, nil))
		}
	}
	return e
}
