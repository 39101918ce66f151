package cases

import (
	"bytes"
	"fmt"
	"math"
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

// A plane is a buffer's memory on the device, with guard zones before and after it.
type plane struct {
	from, bytes int // in the arena
	base        *device.Ptr
	was         []byte // contents before the run
	now         []byte // after it
}

func (p *plane) ptr() device.Ptr {
	if p == nil {
		return 0
	}
	return p.base.Add(p.from)
}

// Bound is a problem's buffers on a stream. They lie in one arena, with guard bytes everywhere in
// between, so that it takes one copy to bring them and one to fetch them.
type Bound struct {
	base    device.Ptr
	image   []byte
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
	b := &Bound{primal: map[*Buffer]*plane{}, tangent: map[*Buffer]*plane{}}
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
			b.primal[buf] = b.place(raw, m.shift*size)
		}
		if !buf.diff || !m.dual {
			continue
		}
		if buf.role == output {
			b.tangent[buf] = b.place(fresh, m.shift*size)
		} else if t := m.tangents[buf]; t != nil {
			b.tangent[buf] = b.place(rawBytes(t), m.shift*size)
		}
	}
	b.guard(guardBytes)
	b.base = s.Alloc(len(b.image))
	device.Upload(s, b.base, b.image)
	work := p.Workspace
	if p.WorkspaceOn != nil {
		work = p.WorkspaceOn(s)
	}
	b.work = kernel.NewWorkspace(s, work)
	return b
}

func (b *Bound) guard(n int) {
	b.image = append(b.image, bytes.Repeat([]byte{guardByte}, n)...)
}

// place appends a plane to the arena, shift bytes off its alignment.
func (b *Bound) place(raw []byte, shift int) *plane {
	b.guard(guardBytes + (guardBytes-len(b.image)%guardBytes)%guardBytes + shift)
	p := &plane{from: len(b.image), bytes: len(raw), base: &b.base, was: raw}
	b.image = append(b.image, raw...)
	return p
}

// fetch downloads the arena and checks guards and inputs.
func (p *Problem) fetch(s *device.Stream, b *Bound) error {
	now := make([]byte, len(b.image))
	if err := device.Download(s, now, b.base); err != nil {
		return err
	}
	at := 0 // the end of what has been checked
	check := func(name string, pl *plane) error {
		for i := at; i < pl.from; i++ {
			if now[i] != guardByte {
				return fmt.Errorf("%s: written %d bytes before its start, outside its %d bytes and those of the buffer before it", name, pl.from-i, pl.bytes)
			}
		}
		at = pl.from + pl.bytes
		pl.now = now[pl.from:at]
		for i := at; i < at+guardBytes; i++ {
			if now[i] != guardByte {
				return fmt.Errorf("%s: written at byte %d, outside its %d bytes", name, i-pl.from, pl.bytes)
			}
		}
		return nil
	}
	for _, buf := range p.buffers {
		for i, pl := range []*plane{b.primal[buf], b.tangent[buf]} {
			if pl == nil {
				continue
			}
			name := buf.name + [...]string{"", "'s tangent"}[i]
			if err := check(name, pl); err != nil {
				return err
			}
			if buf.role == input && !bytes.Equal(pl.now, pl.was) {
				return fmt.Errorf("%s: an input was written", name)
			}
		}
	}
	return nil
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
	var off float64 // squares of the errors
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
			off += d * d
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
	if tol.Norm > 0 && !(off <= tol.Norm*tol.Norm*squares) {
		if e.Wrong == 0 {
			e.First = fmt.Sprintf("the norm of %s is off by %.3g of itself", name, math.Sqrt(off/squares))
		}
		e.Wrong++
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
