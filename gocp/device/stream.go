package device

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/gocp/gocp/csrc"
)

// maxArgs is the most arguments a launch can have (kMaxParams of csrc/host/host.h).
const maxArgs = 48

// A Ptr is an address in device memory. 0 stands for an absent buffer.
type Ptr uint64

// Add returns the address a number of bytes further; 0 stays 0.
func (p Ptr) Add(bytes int) Ptr {
	if p == 0 {
		return 0
	}
	return p + Ptr(bytes)
}

// An Arg is an argument of a launch.
type Arg struct {
	bits uint64
	kind byte
}

func (a Arg) String() string {
	switch a.kind {
	case 'i':
		return strconv.Itoa(int(int32(a.bits)))
	case 'f':
		return strconv.FormatFloat(float64(math.Float32frombits(uint32(a.bits))), 'g', -1, 32)
	case 'p':
		return fmt.Sprintf("%#x", a.bits)
	}
	return strconv.FormatInt(int64(a.bits), 10)
}

// I32 is an int argument. A value that does not fit in 32 bits fails the launch.
func I32(v int) Arg {
	if v < math.MinInt32 || v > math.MaxInt32 {
		return Arg{uint64(v), 'I'}
	}
	return Arg{uint64(uint32(int32(v))), 'i'}
}

// I64 is an int64_t argument.
func I64(v int) Arg { return Arg{uint64(v), 'l'} }

// F32 is a float argument.
func F32(v float64) Arg { return Arg{uint64(math.Float32bits(float32(v))), 'f'} }

// P is a pointer argument.
func P(p Ptr) Arg { return Arg{uint64(p), 'p'} }

var kindNames = map[byte]string{'i': "int32", 'l': "int64", 'f': "float32", 'p': "pointer", 's': "number"}

// Memory is what Upload and Download copy. Elements are stored as in Go.
type Memory interface {
	~float32 | ~float64 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// A Stream is an ordered queue of work on a device, with the memory and the recorded lists that
// belong to it. It is one goroutine's.
type Stream struct {
	device *Device
	ctx    context.Context
	cu     cu.Stream
	width  int
	err    error

	functions map[string]*function
	last      launch
	params    [maxArgs]unsafe.Pointer // into last.slots
	list      *Graph                  // that is being recorded here and not by the driver
	count     int                     // of launches

	blocks map[Ptr]int // allocations and their sizes
	graphs map[*Graph]struct{}
	events []cu.Event
}

func newStream(ctx context.Context, d *Device, width int) (*Stream, error) {
	if width == 0 {
		width = d.info.Cores
	}
	handle, err := cu.MakeStream(cu.NonBlocking)
	if err != nil {
		return nil, describeOn(d.info.Name, "make a stream", err)
	}
	s := &Stream{
		device: d, ctx: ctx, cu: handle, width: width,
		functions: map[string]*function{}, blocks: map[Ptr]int{}, graphs: map[*Graph]struct{}{},
	}
	for i := range s.params {
		s.params[i] = unsafe.Pointer(&s.last.slots[i])
	}
	if err := csrc.SetWidth(s.handle(), width); err != nil {
		return nil, first(describeOn(d.info.Name, "set a stream's width", err), s.cu.Destroy())
	}
	return s, nil
}

func (s *Stream) handle() csrc.Stream { return csrc.Stream(unsafe.Pointer(s.cu.C())) }

// close waits for the work and frees everything.
func (s *Stream) close() error {
	s.Sync()
	keep := func(what string, err error) {
		if err != nil {
			s.failed(what, err)
		}
	}
	for g := range s.graphs {
		g.Close()
	}
	for _, e := range s.events {
		keep("destroy an event", cu.DestroyEvent(&e))
	}
	for p := range s.blocks {
		keep("free memory", csrc.MemFree(uint64(p), s.handle()))
	}
	if s.err == nil {
		keep("free memory", s.cu.Synchronize())
	}
	keep("destroy a stream", s.cu.Destroy())
	return s.err
}

// Err is the stream's first failure so far. Work still queued may fail later: Sync waits for it.
func (s *Stream) Err() error { return s.err }

// Fail records a failure, if it is the first. Nothing runs on the stream after it.
func (s *Stream) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Context is the one given to Do.
func (s *Stream) Context() context.Context { return s.ctx }

// Device is the one the stream is on.
func (s *Stream) Device() *Device { return s.device }

// Width is how many threads share a launch on the host engine.
func (s *Stream) Width() int { return s.width }

// failed records the error of a call, if any, and reports whether there was one.
func (s *Stream) failed(what string, err error) bool {
	switch {
	case err == nil:
		return false
	case isFault(err) && s.device.info.Backend == "cuda":
		s.Fail(s.fault(err, false))
	default:
		s.Fail(describeOn(s.device.info.Name, what, err))
	}
	return true
}

// Alloc allocates memory, aligned to 256 bytes, with undefined contents. It lives until Free or the
// end of Do. It returns 0 when it fails.
func (s *Stream) Alloc(bytes int) Ptr { return s.AllocFor(bytes, nil) }

// AllocFor is Alloc for an array of that shape, which the error of an allocation that fails names.
func (s *Stream) AllocFor(bytes int, shape []int) Ptr {
	if s.err != nil {
		return 0
	}
	if bytes < 0 {
		s.Fail(fmt.Errorf("device: allocate %d bytes", bytes))
		return 0
	}
	what := func() string {
		if shape == nil {
			return "allocate " + Size(int64(bytes))
		}
		return fmt.Sprintf("allocate %s for an array of %v", Size(int64(bytes)), shape)
	}
	p, err := cu.MemAlloc(int64(max(bytes, 1)))
	if err != nil {
		if errors.Is(err, cu.OutOfMemory) {
			if free, total, e := cu.MemInfo(); e == nil {
				s.Fail(fmt.Errorf("%s%s: %w (%s free of %s)", on(s.device.info.Name), what(), ErrOutOfMemory, Size(free), Size(total)))
				return 0
			}
		}
		s.failed(what(), err)
		return 0
	}
	s.blocks[Ptr(p)] = bytes
	return Ptr(p)
}

// Free frees memory of this stream, after the work enqueued so far. Freeing 0 does nothing.
func (s *Stream) Free(p Ptr) {
	if p == 0 {
		return
	}
	if _, ok := s.blocks[p]; !ok {
		s.Fail(fmt.Errorf("device: free of %#x, which this stream has not allocated", uint64(p)))
		return
	}
	delete(s.blocks, p)
	s.failed("free memory", csrc.MemFree(uint64(p), s.handle()))
}

// Scope returns a function that frees what was allocated since and is still there, after the work enqueued
// by then.
func (s *Stream) Scope() (free func()) {
	before := maps.Clone(s.blocks)
	return func() {
		for p := range s.blocks {
			if _, ok := before[p]; !ok {
				s.Free(p)
			}
		}
	}
}

// InUse is the number of bytes that the stream has allocated.
func (s *Stream) InUse() int64 {
	var n int64
	for _, bytes := range s.blocks {
		n += int64(bytes)
	}
	return n
}

// Available is the number of bytes of the device's memory that are free now.
func (s *Stream) Available() (int64, error) {
	free, _, err := cu.MemInfo()
	if err != nil {
		return 0, describeOn(s.device.info.Name, "ask for the free memory", err)
	}
	return free, nil
}

// Memset32 sets 32-bit words.
func (s *Stream) Memset32(p Ptr, value uint32, words int) {
	if s.err != nil || words == 0 {
		return
	}
	if words < 0 {
		s.Fail(fmt.Errorf("device: set %d words", words))
		return
	}
	s.enqueue(func() error { return cu.MemsetD32Async(cu.DevicePtr(p), uint(value), int64(words), s.cu) },
		func() string { return fmt.Sprintf("set %d words", words) })
}

// Copy copies bytes on the device.
func (s *Stream) Copy(dst, src Ptr, bytes int) {
	if s.err != nil || bytes == 0 {
		return
	}
	if bytes < 0 {
		s.Fail(fmt.Errorf("device: copy %d bytes", bytes))
		return
	}
	s.enqueue(func() error { return cu.MemcpyDtoDAsync(cu.DevicePtr(dst), cu.DevicePtr(src), int64(bytes), s.cu) },
		func() string { return "copy " + Size(int64(bytes)) })
}

// enqueue enqueues a command that is no launch, or records it.
func (s *Stream) enqueue(f func() error, what func() string) {
	if s.list != nil {
		s.list.commands = append(s.list.commands, func() { s.enqueue(f, what) })
		return
	}
	if err := f(); err != nil {
		s.failed(what(), err)
	}
}

// recordable reports whether the stream is not recording by itself; the driver says so where it does.
func (s *Stream) recordable(what string) bool {
	if s.list != nil {
		s.Fail(fmt.Errorf("%s%s: cannot be recorded", on(s.device.info.Name), what))
	}
	return s.list == nil
}

// Upload copies a slice to the device. It is ordered with the stream's work, and src may be reused
// when it returns. It cannot be recorded.
func Upload[T Memory](s *Stream, dst Ptr, src []T) {
	if s.err != nil || len(src) == 0 {
		return
	}
	bytes := int64(len(src)) * int64(unsafe.Sizeof(src[0]))
	if !s.recordable("upload") {
		return
	}
	if err := cu.MemcpyHtoDAsync(cu.DevicePtr(dst), unsafe.Pointer(&src[0]), bytes, s.cu); err != nil {
		s.failed("upload "+Size(bytes), err)
	}
}

// Download waits for the stream and copies from the device into a slice. It returns the stream's
// error, and cannot be recorded.
func Download[T Memory](s *Stream, dst []T, src Ptr) error {
	if s.err == nil && len(dst) > 0 {
		bytes := int64(len(dst)) * int64(unsafe.Sizeof(dst[0]))
		if err := cu.MemcpyDtoHAsync(unsafe.Pointer(&dst[0]), cu.DevicePtr(src), bytes, s.cu); err != nil {
			s.failed("download "+Size(bytes), err)
		}
	}
	return s.Sync()
}

// Launch enqueues a kernel on a grid of blocks of threads. The arguments must be its parameters, in
// order and in kind. A grid of 0 blocks does nothing.
func (s *Stream) Launch(name string, grid, block int, args ...Arg) {
	s.LaunchShared(name, grid, block, 0, args...)
}

// LaunchShared is Launch with a number of bytes of dynamic shared memory a block.
func (s *Stream) LaunchShared(name string, grid, block, shared int, args ...Arg) {
	if s.err != nil {
		return
	}
	f := s.functions[name]
	if f == nil {
		var err error
		if f, err = s.device.function(name); err != nil {
			s.Fail(err)
			return
		}
		s.functions[name] = f
	}
	if err := s.setArgs(f, args); err != nil {
		s.Fail(err)
		return
	}
	if grid == 0 {
		return
	}
	if grid < 0 || grid > math.MaxInt32 || block < 1 {
		s.Fail(fmt.Errorf("kernel %s: a grid of %d blocks of %d", name, grid, block))
		return
	}
	s.last.name, s.last.grid, s.last.block, s.last.shared, s.last.args, s.last.listed = name, grid, block, shared, len(args), 0
	s.count++
	if s.list != nil {
		s.list.commands = append(s.list.commands, s.later(f))
		return
	}
	s.launch(f)
}

// later is the launch that last says, to be enqueued another time.
func (s *Stream) later(f *function) func() {
	l := s.last
	return func() {
		s.last = l
		s.launch(f)
	}
}

// launch enqueues what last says.
func (s *Stream) launch(f *function) {
	l := &s.last
	if s.device.waits {
		s.device.oneByOne.Lock() // so that a fault is this launch's
		defer s.device.oneByOne.Unlock()
	}
	err := f.cu.Launch(l.grid, 1, 1, l.block, 1, 1, l.shared, s.cu, s.params[:l.args])
	if err == nil && s.device.waits {
		err = s.cu.Synchronize()
	}
	switch {
	case err == nil:
	case isFault(err) && s.device.info.Backend == "cuda":
		s.Fail(s.fault(err, s.device.waits))
	default:
		s.Fail(describeOn(s.device.info.Name, "launch "+l.String(), err))
	}
}

func (s *Stream) setArgs(f *function, args []Arg) error {
	if len(args) > maxArgs || f.known && len(args) != len(f.kinds) {
		return fmt.Errorf("kernel %s: launched with %d arguments, takes %d", f.name, len(args), len(f.kinds))
	}
	for i, a := range args {
		if a.kind == 'I' {
			return fmt.Errorf("kernel %s: argument %d: %d does not fit in 32 bits", f.name, i, int64(a.bits))
		}
		if f.known && a.kind != f.kinds[i] && (f.kinds[i] != 's' || a.kind == 'p') {
			return fmt.Errorf("kernel %s: argument %d is a %s, not a %s", f.name, i, kindNames[f.kinds[i]], kindNames[a.kind])
		}
		s.last.slots[i], s.last.kinds[i] = a.bits, a.kind
	}
	return nil
}

// Sync waits for all work enqueued so far, and returns the stream's error. A cancelled context
// counts as one.
func (s *Stream) Sync() error {
	if s.err != nil {
		return s.err
	}
	if !s.recordable("wait") {
		return s.err
	}
	if err := s.cu.Synchronize(); err != nil {
		s.failed("run", err)
	} else if err := s.ctx.Err(); err != nil {
		s.Fail(err)
	}
	return s.err
}

// A Graph is a recorded list of work, which runs as one command.
type Graph struct {
	stream   *Stream
	csrc     csrc.Graph
	last     launch   // of the list
	commands []func() // the list itself, where every launch is waited for
	closed   bool
}

// Capture records the work that f enqueues on the stream, without running it: launches, Memset32
// and Copy. The memory it uses must live as long as the graph is launched.
func (s *Stream) Capture(f func()) (*Graph, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.device.waits {
		g := &Graph{stream: s}
		s.list = g
		f()
		s.list = nil
		return g, s.err
	}
	if s.failed("record", csrc.CaptureBegin(s.handle())) {
		return nil, s.err
	}
	before := s.count
	f()
	c, err := csrc.CaptureEnd(s.handle())
	if s.failed("record", err) || s.err != nil {
		if err == nil {
			s.failed("record", c.Destroy())
		}
		return nil, s.err
	}
	g := &Graph{stream: s, csrc: c, last: s.last}
	g.last.listed = s.count - before
	s.graphs[g] = struct{}{}
	return g, nil
}

// Launch enqueues the recorded work on the stream that recorded it.
func (g *Graph) Launch() {
	s := g.stream
	if s.err != nil {
		return
	}
	if g.closed {
		s.Fail(errors.New("device: launch of a closed graph"))
		return
	}
	if s.device.waits {
		for _, command := range g.commands {
			if s.err == nil {
				command()
			}
		}
		return
	}
	s.last = g.last
	if err := g.csrc.Launch(s.handle()); err != nil {
		s.failed("launch a recorded list", err)
	}
}

// Close frees the list. The end of Do does as well.
func (g *Graph) Close() {
	if g.closed {
		return
	}
	g.closed = true
	if g.stream.device.waits {
		return
	}
	delete(g.stream.graphs, g)
	g.stream.failed("free a recorded list", g.csrc.Destroy())
}

// An Event marks a moment in a stream.
type Event struct {
	stream *Stream
	cu     cu.Event
}

// Event makes an event, which lives until the end of Do.
func (s *Stream) Event() *Event {
	e := &Event{stream: s}
	if s.err != nil {
		return e
	}
	ev, err := cu.MakeEvent(cu.DefaultEvent)
	if s.failed("make an event", err) {
		return e
	}
	s.events = append(s.events, ev)
	e.cu = ev
	return e
}

// Record marks the moment after the work enqueued so far.
func (e *Event) Record() {
	if e.stream.err != nil {
		return
	}
	e.stream.failed("record an event", e.cu.Record(e.stream.cu))
}

// Wait makes the stream's later work wait for the moment that another stream recorded.
func (s *Stream) Wait(e *Event) {
	if s.err != nil {
		return
	}
	s.failed("wait for an event", s.cu.Wait(e.cu, 0))
}

// Elapsed waits for the event, and returns the time since another one of the same stream.
func (e *Event) Elapsed(since *Event) (time.Duration, error) {
	s := e.stream
	if s.err != nil {
		return 0, s.err
	}
	if s.failed("wait for an event", e.cu.Synchronize()) {
		return 0, s.err
	}
	ms, err := since.cu.Elapsed(e.cu)
	if s.failed("time between events", err) {
		return 0, s.err
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}
