package csrc_test

import (
	"errors"
	"math"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/gocp/gocp/csrc"
)

// context makes a context current for the test's thread, as any user of gorgonia.org/cu would.
func context(t *testing.T) cu.CUContext {
	t.Helper()
	if csrc.Backend() != "host" {
		t.Skip("not the host engine")
	}
	dev, err := cu.GetDevice(0)
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	ctx, err := dev.MakeContext(cu.SchedAuto)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		must(t, ctx.Destroy())
		runtime.UnlockOSThread()
	})
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v: %s", err, csrc.LastError())
	}
}

func alloc(t *testing.T, bytes int64) cu.DevicePtr {
	t.Helper()
	p, err := cu.MemAlloc(bytes)
	must(t, err)
	t.Cleanup(func() { must(t, cu.MemFree(p)) })
	return p
}

func stream(t *testing.T, flags cu.StreamFlags) cu.Stream {
	t.Helper()
	s, err := cu.MakeStream(flags)
	must(t, err)
	return s
}

func kernel(t *testing.T, name string) cu.Function {
	t.Helper()
	m, err := cu.LoadData("")
	must(t, err)
	t.Cleanup(func() { must(t, m.Unload()) })
	f, err := m.Function(name)
	must(t, err)
	return f
}

// launchNoise enqueues uniform noise.
func launchNoise(s cu.Stream, f cu.Function, p cu.DevicePtr, n int) error {
	args := []uint64{uint64(n), 1, 0, uint64(math.Float32bits(1)), uint64(p)}
	params := make([]unsafe.Pointer, len(args))
	for i := range args {
		params[i] = unsafe.Pointer(&args[i])
	}
	return f.Launch(1, 1, 1, 128, 1, 1, 0, s, params)
}

func fill(t *testing.T, s cu.Stream, f cu.Function, p cu.DevicePtr, n int) {
	t.Helper()
	must(t, launchNoise(s, f, p, n))
}

func TestDefaultStreamOrder(t *testing.T) {
	context(t)
	const n = 4 << 20
	p := alloc(t, 4*n)
	noise := kernel(t, "noise_uniform")
	zero := make([]float32, n)
	for _, s := range []cu.Stream{cu.NoStream, stream(t, cu.DefaultStream)} {
		must(t, cu.MemcpyHtoD(p, unsafe.Pointer(&zero[0]), 4*n))
		fill(t, s, noise, p, n)
		var last float32
		must(t, cu.MemcpyDtoH(unsafe.Pointer(&last), p+4*(n-1), 4)) // waits for blocking streams
		if last == 0 {
			t.Error("a copy on the default stream overtook a launch")
		}
	}
	// A non-blocking stream is not waited for.
	must(t, cu.MemsetD32(p, 0, n))
	s := stream(t, cu.NonBlocking)
	ev, err := cu.MakeEvent(cu.DefaultEvent)
	must(t, err)
	if err := ev.Query(); err != nil {
		t.Errorf("an event never recorded: %v", err)
	}
	for range 8 {
		fill(t, s, noise, p, n)
	}
	must(t, ev.Record(s))
	must(t, cu.MemsetD32(alloc(t, 4), 1, 1))
	if err := ev.Query(); err != cu.NotReady {
		t.Errorf("the default stream waited for a non-blocking one: %v", err)
	}
	if err := s.Query(); err != cu.NotReady {
		t.Errorf("a busy stream: %v", err)
	}
	must(t, ev.Synchronize())
	must(t, cu.Synchronize())
	must(t, s.Query())
	must(t, cu.DestroyEvent(&ev))
	if flags, err := s.Flags(); err != nil || flags != cu.NonBlocking {
		t.Errorf("flags %v, %v", flags, err)
	}
	must(t, s.Destroy())
}

func TestMemory(t *testing.T) {
	context(t)
	before := csrc.MemInUse()
	p := alloc(t, 1000)
	if uint64(p)%256 != 0 {
		t.Errorf("allocated at %v", p)
	}
	if got := csrc.MemInUse() - before; got != 1000 {
		t.Errorf("%d bytes more in use", got)
	}
	size, base, err := (p + 999).AddressRange()
	if err != nil || size != 1000 || base != p {
		t.Errorf("range %d at %v, %v", size, base, err)
	}
	if _, _, err := (p + 1000).AddressRange(); err == nil {
		t.Error("a range past the end")
	}
	free, total, err := cu.MemInfo()
	if err != nil || free <= 0 || total < free {
		t.Errorf("%d of %d free, %v", free, total, err)
	}
	if _, err := cu.MemAlloc(0); err != cu.InvalidValue {
		t.Errorf("allocation of nothing: %v", err)
	}
	if _, err := cu.MemAlloc(total * 4); err != cu.OutOfMemory {
		t.Errorf("allocation of too much: %v", err)
	}
	if err := cu.MemFree(p + 256); err != cu.InvalidValue {
		t.Errorf("free of an inner address: %v", err)
	}
	must(t, cu.MemFree(0))

	// Every width of memset, odd lengths and all.
	must(t, cu.MemsetD8(p, 0xff, 1000))
	must(t, cu.MemsetD8(p+1, 0x12, 3))
	must(t, cu.MemsetD16(p+4, 0x3456, 3))
	must(t, cu.MemsetD32(p+12, 0x789abcde, 2))
	got := make([]byte, 21)
	must(t, cu.MemcpyDtoH(unsafe.Pointer(&got[0]), p, int64(len(got))))
	want := "\xff\x12\x12\x12\x56\x34\x56\x34\x56\x34\xff\xff\xde\xbc\x9a\x78\xde\xbc\x9a\x78\xff"
	if string(got) != want {
		t.Errorf("set %x, want %x", got, want)
	}
	if err := cu.MemsetD32(p+2, 0, 1); err != cu.InvalidValue {
		t.Errorf("misaligned: %v", err)
	}
	if err := cu.MemsetD32(p, 0, 251); err != cu.IllegalAddress {
		t.Errorf("past the end: %v", err)
	}
}

func TestPinnedMemory(t *testing.T) {
	context(t)
	const n = 1 << 20
	h, err := csrc.MemAllocHost(4 * n)
	must(t, err)
	pinned := unsafe.Slice((*uint32)(h), n)
	p, q := alloc(t, 4*n), alloc(t, 4*n)
	s := stream(t, cu.NonBlocking)
	handle := csrc.Stream(unsafe.Pointer(s.C()))
	for i := range pinned {
		pinned[i] = uint32(i)
	}
	must(t, cu.MemcpyHtoDAsync(p, h, 4*n, s))
	must(t, cu.MemcpyDtoDAsync(q, p, 4*n, s))
	must(t, s.Synchronize())
	// Copies of pinned memory can be recorded; the memory is read and written at each launch.
	must(t, csrc.CaptureBegin(handle))
	must(t, cu.MemcpyHtoDAsync(p, h, 4, s))
	must(t, cu.MemcpyDtoHAsync(unsafe.Pointer(&pinned[1]), p, 4, s))
	g, err := csrc.CaptureEnd(handle)
	must(t, err)
	for _, v := range []uint32{7, 9} {
		pinned[0] = v
		must(t, g.Launch(handle))
		must(t, s.Synchronize())
		if pinned[1] != v {
			t.Errorf("replay copied %d, want %d", pinned[1], v)
		}
	}
	must(t, g.Destroy())
	must(t, cu.MemcpyDtoHAsync(h, q, 4*n, s))
	must(t, s.Synchronize())
	for i, v := range pinned {
		if v != uint32(i) {
			t.Fatalf("element %d is %d", i, v)
		}
	}
	must(t, cu.MemFreeHost(h))
	if err := cu.MemFreeHost(h); err != cu.InvalidValue {
		t.Errorf("second free: %v", err)
	}
}

func TestCaptureRules(t *testing.T) {
	context(t)
	p := alloc(t, 64)
	s := stream(t, cu.NonBlocking)
	handle := csrc.Stream(unsafe.Pointer(s.C()))
	ev, err := cu.MakeEvent(cu.DefaultEvent)
	must(t, err)
	if _, err := csrc.CaptureEnd(handle); err == nil {
		t.Error("ended what was not begun")
	}
	host := make([]byte, 64)
	for name, call := range map[string]func() error{
		"upload":   func() error { return cu.MemcpyHtoDAsync(p, unsafe.Pointer(&host[0]), 64, s) },
		"download": func() error { return cu.MemcpyDtoHAsync(unsafe.Pointer(&host[0]), p, 64, s) },
		"sync":     func() error { return s.Synchronize() },
		"query":    func() error { return s.Query() },
		"record":   func() error { return ev.Record(s) },
		"wait":     func() error { return s.Wait(ev, 0) },
		"free":     func() error { return csrc.MemFree(uint64(p), handle) },
		"width":    func() error { return csrc.SetWidth(handle, 2) },
	} {
		must(t, csrc.CaptureBegin(handle))
		if err := csrc.CaptureBegin(handle); err == nil {
			t.Error("begun twice")
		}
		if err := call(); err == nil {
			t.Errorf("%s: recorded", name)
		}
		if _, err := csrc.CaptureEnd(handle); err == nil {
			t.Errorf("%s: the list was kept", name)
		}
		must(t, s.Synchronize()) // the stream goes on
	}
	must(t, cu.MemsetD8Async(p, 1, 64, s))
	must(t, s.Synchronize())
	must(t, cu.DestroyEvent(&ev))
}

// Two streams hand a token back and forth by events, in the order they were told to.
func TestEventOrder(t *testing.T) {
	context(t)
	noise := kernel(t, "noise_uniform")
	const n, rounds = 1 << 16, 50
	token, big := alloc(t, 4), alloc(t, 4*n)
	streams := []cu.Stream{stream(t, cu.NonBlocking), stream(t, cu.NonBlocking)}
	trail := alloc(t, 4*rounds)
	ev, err := cu.MakeEvent(cu.DisableTiming)
	must(t, err)
	for i := range rounds {
		s := streams[i%2]
		must(t, s.Wait(ev, 0))
		if i%3 == 0 {
			fill(t, s, noise, big, n)
		}
		must(t, cu.MemcpyDtoDAsync(trail+cu.DevicePtr(4*i), token, 4, s))
		must(t, cu.MemsetD32Async(token, uint(i+1), 1, s))
		must(t, ev.Record(s))
	}
	must(t, ev.Synchronize())
	got := make([]uint32, rounds)
	must(t, cu.MemcpyDtoH(unsafe.Pointer(&got[0]), trail, 4*rounds))
	for i := 1; i < rounds; i++ {
		if got[i] != uint32(i) {
			t.Fatalf("round %d read %d", i, got[i])
		}
	}
	if _, err := ev.Elapsed(ev); err == nil {
		t.Error("time of an event without timing")
	}
	must(t, cu.DestroyEvent(&ev)) // while streams live
}

// A record on a stream that failed, or a stream that ends, leaves nobody waiting.
func TestDestroyWhileBusy(t *testing.T) {
	context(t)
	noise := kernel(t, "noise_uniform")
	const n = 1 << 20
	p := alloc(t, 4*n)
	ev, err := cu.MakeEvent(cu.DefaultEvent)
	must(t, err)
	a, b := stream(t, cu.NonBlocking), stream(t, cu.NonBlocking)
	for range 4 {
		fill(t, a, noise, p, n)
	}
	must(t, ev.Record(a))
	must(t, b.Wait(ev, 0))
	must(t, cu.DestroyEvent(&ev))
	must(t, a.Destroy())
	must(t, b.Synchronize())
	must(t, b.Destroy())
}

func TestContexts(t *testing.T) {
	ctx := context(t)
	dev, err := cu.GetDevice(0)
	must(t, err)
	primary, err := dev.RetainPrimaryCtx()
	must(t, err)
	if again, err := dev.RetainPrimaryCtx(); err != nil || again != primary {
		t.Errorf("two primary contexts: %v", err)
	}
	if _, active, err := dev.PrimaryCtxState(); err != nil || active == 0 {
		t.Errorf("active %d, %v", active, err)
	}
	must(t, cu.PushCurrentCtx(primary))
	if got, err := cu.CurrentContext(); err != nil || got != primary {
		t.Errorf("current %v, %v", got, err)
	}
	if got, err := cu.PopCurrentCtx(); err != nil || got != primary {
		t.Errorf("popped %v, %v", got, err)
	}
	if got, err := cu.CurrentContext(); err != nil || got != ctx {
		t.Errorf("current %v, %v", got, err)
	}
	must(t, dev.ReleasePrimaryCtx())
	must(t, dev.ReleasePrimaryCtx())
	if cores, err := dev.Attribute(cu.MultiprocessorCount); err != nil || cores != csrc.Cores() {
		t.Errorf("%d cores, %v", cores, err)
	}
	if _, err := cu.GetDevice(1); err != cu.InvalidDevice {
		t.Errorf("a second device: %v", err)
	}
}

// Streams come and go on many threads at once.
func TestManyThreads(t *testing.T) {
	ctx := context(t)
	noise := kernel(t, "noise_uniform")
	once := func() error {
		const n = 1000
		p, err := cu.MemAlloc(4 * n)
		if err != nil {
			return err
		}
		s, err := cu.MakeStream(cu.NonBlocking)
		if err != nil {
			return err
		}
		return errors.Join(
			launchNoise(s, noise, p, n),
			csrc.MemFree(uint64(p), csrc.Stream(unsafe.Pointer(s.C()))),
			s.Destroy())
	}
	var wg sync.WaitGroup
	deadline := time.Now().Add(500 * time.Millisecond)
	for range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if err := cu.SetCurrentContext(ctx); err != nil {
				t.Error(err)
				return
			}
			for time.Now().Before(deadline) {
				if err := once(); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
}
