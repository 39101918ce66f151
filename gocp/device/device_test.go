package device

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t testing.TB) *Device {
	t.Helper()
	d, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// do runs f on a stream of d and fails the test on an error.
func do(t testing.TB, d *Device, width int, f func(s *Stream) error) {
	t.Helper()
	if err := d.Do(context.Background(), width, f); err != nil {
		t.Fatal(err)
	}
}

// axpby enqueues y <- a x + b y.
func axpby(s *Stream, n, grid int, a float64, x Ptr, b float64, y Ptr) {
	s.Launch("vector_axpby", grid, 128, I64(n), F32(a), P(0), P(x), F32(b), P(0), P(y))
}

// noise enqueues uniform noise in (-1, 1).
func noise(s *Stream, n, grid, seed int, x Ptr) {
	s.Launch("noise_uniform", grid, 128, I64(n), I64(seed), I64(0), F32(1), P(x))
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func TestInfo(t *testing.T) {
	d := open(t)
	i := d.Info()
	if i.Backend != "host" {
		t.Skip("not the host engine:", i.Why)
	}
	if i.Name == "" || !strings.HasPrefix(i.Why, "host engine: ") || i.Cores < 1 || i.TotalMem <= 0 || len(i.Build) != 64 {
		t.Errorf("%+v", i)
	}
	if !slices.Contains([]string{"base", "v3", "v4"}, i.ISA) {
		t.Errorf("instruction set %q", i.ISA)
	}
	if !slices.Contains(d.Kernels(), "vector_axpby") {
		t.Errorf("kernels: %v", d.Kernels())
	}
}

func TestRoundTrip(t *testing.T) {
	d := open(t)
	for _, n := range []int{1, 3, 1 << 10, 3 << 20} { // the last is more than is staged
		src := make([]float32, n)
		for i := range src {
			src[i] = float32(i)
		}
		do(t, d, 1, func(s *Stream) error {
			x, y := s.Alloc(4*n), s.Alloc(4*n)
			if x%256 != 0 || y%256 != 0 {
				t.Errorf("allocations at %#x and %#x", x, y)
			}
			Upload(s, x, src)
			want := slices.Clone(src)
			for i := range src {
				src[i] = -1 // may be reused
			}
			s.Copy(y, x, 4*n)
			s.Memset32(x, math.Float32bits(7), n)
			got := make([]float32, n)
			if err := Download(s, got, y); err != nil {
				return err
			}
			if !slices.Equal(got, want) {
				t.Errorf("n=%d: copied wrongly", n)
			}
			if err := Download(s, got, x); err != nil {
				return err
			}
			if slices.ContainsFunc(got, func(v float32) bool { return v != 7 }) {
				t.Errorf("n=%d: set wrongly", n)
			}
			return nil
		})
	}
}

func TestErrors(t *testing.T) {
	d := open(t)
	if d.Info().Backend != "host" {
		t.Skip("the words are the host engine's")
	}
	var p Ptr = 1 << 40
	for _, c := range []struct {
		name string
		f    func(s *Stream)
		want []string
	}{
		{"unknown kernel", func(s *Stream) { s.Launch("nonesuch", 1, 1) }, []string{"kernel nonesuch", "no kernel of that name"}},
		{"too few", func(s *Stream) { s.Launch("vector_axpby", 1, 1, I64(1)) }, []string{"vector_axpby", "1 arguments, takes 7"}},
		{"too many", func(s *Stream) { s.Launch("increment", 1, 1, make([]Arg, maxArgs+1)...) }, []string{"increment", "49 arguments, takes 1"}},
		{"kind", func(s *Stream) { s.Launch("increment", 1, 1, I32(3)) }, []string{"argument 0 is a pointer, not a int32"}},
		{"range", func(s *Stream) { s.Launch("increment", 1, 1, I32(math.MaxInt32+1)) }, []string{"2147483648 does not fit"}},
		{"grid", func(s *Stream) { s.Launch("increment", -1, 1, P(0)) }, []string{"increment", "grid of -1"}},
		{"block", func(s *Stream) { s.Launch("increment", 1, 4096, P(0)) }, []string{"increment", "4096"}},
		{"negative", func(s *Stream) { s.Alloc(-1) }, []string{"allocate -1 bytes"}},
		{"huge", func(s *Stream) { s.Alloc(1 << 50) }, []string{"allocate 1020 TiB", "out of memory", "free of"}},
		{"foreign free", func(s *Stream) { s.Free(p) }, []string{"free of 0x10000000000", "not allocated"}},
		{"upload too much", func(s *Stream) { Upload(s, s.Alloc(8), make([]float64, 2)) }, []string{"upload 16 bytes", "buffer of 8"}},
		{"copy too much", func(s *Stream) { s.Copy(s.Alloc(8), s.Alloc(4), 8) }, []string{"copy 8 bytes", "buffer of 4"}},
		{"set too much", func(s *Stream) { s.Memset32(s.Alloc(4), 0, 2) }, []string{"set 2 words", "buffer of 4"}},
		{"recorded upload", func(s *Stream) {
			x := s.Alloc(4)
			s.Capture(func() { Upload(s, x, []float32{1}) })
		}, []string{"upload 4 bytes", "cannot be recorded"}},
		{"closed graph", func(s *Stream) {
			g, err := s.Capture(func() {})
			if err != nil {
				return
			}
			g.Close()
			g.Launch()
		}, []string{"closed graph"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := d.Do(context.Background(), 1, func(s *Stream) error {
				c.f(s)
				first := s.Err()
				s.Launch("another", 1, 1) // no longer matters
				if s.Err() != first || s.Alloc(4) != 0 || Download(s, make([]float32, 1), 0) != first {
					t.Error("the first failure does not stick")
				}
				return nil
			})
			wantError(t, err, c.want...)
		})
	}
	err := d.Do(context.Background(), 1, func(s *Stream) error { s.Alloc(1 << 50); return s.Err() })
	if !errors.Is(err, ErrOutOfMemory) {
		t.Errorf("%v is not ErrOutOfMemory", err)
	}
	wantError(t, d.Do(context.Background(), -1, func(*Stream) error { return nil }), "width -1")
}

func TestDoEnds(t *testing.T) {
	d := open(t)
	before := d.InUse()
	own := errors.New("own")
	if err := d.Do(context.Background(), 1, func(s *Stream) error { s.Alloc(1 << 20); return own }); err != own {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if recover() != "out" {
				t.Error("the panic did not come through")
			}
		}()
		_ = d.Do(context.Background(), 1, func(s *Stream) error { s.Alloc(1 << 20); panic("out") })
	}()
	ctx, cancel := context.WithCancel(context.Background())
	err := d.Do(ctx, 1, func(s *Stream) error {
		s.Alloc(1 << 20)
		cancel()
		return s.Sync()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while running: %v", err)
	}
	if err := d.Do(ctx, 1, func(*Stream) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	if after := d.InUse(); d.Info().Backend == "host" && after != before {
		t.Errorf("%d bytes in use after, %d before", after, before)
	}
	do(t, d, 1, func(s *Stream) error {
		if err := d.Close(); err == nil {
			t.Error("closed while running")
		}
		return nil
	})
}

func TestFree(t *testing.T) {
	d := open(t)
	do(t, d, 1, func(s *Stream) error {
		n := 1 << 16
		y := s.Alloc(4 * n)
		for i := range 50 {
			x := s.Alloc(4 * n)
			s.Memset32(x, math.Float32bits(float32(i)), n)
			axpby(s, n, 4, 1, x, float64(min(i, 1)), y)
			s.Free(x) // after the launch
		}
		s.Free(0)
		got := make([]float32, n)
		if err := Download(s, got, y); err != nil {
			return err
		}
		if got[0] != 49*50/2 || got[n-1] != 49*50/2 {
			t.Errorf("sum %v, %v", got[0], got[n-1])
		}
		return nil
	})
}

// A long chain of dependent launches, on more streams at once than there are cores, ends with the
// same bits everywhere, whatever the width.
func TestStreamsAtOnce(t *testing.T) {
	d := open(t)
	const n, steps = 1000, 700 // more commands than a stream holds
	chain := func(width int) ([]float32, error) {
		out := make([]float32, n)
		err := d.Do(context.Background(), width, func(s *Stream) error {
			x, y := s.Alloc(4*n), s.Alloc(4*n)
			noise(s, n, 7, 3, x)
			s.Copy(y, x, 4*n)
			for range steps {
				axpby(s, n, 7, 0.3, x, 0.9, y)
				axpby(s, n, 5, 0.1, y, 0.8, x)
			}
			return Download(s, out, y)
		})
		return out, err
	}
	want, err := chain(1)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			got, err := chain(1 + i%4)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("stream %d: %v, equal %v", i, err, slices.Equal(got, want))
			}
		}()
	}
	wg.Wait()
}

func TestGraph(t *testing.T) {
	d := open(t)
	const n, steps = 513, 20
	do(t, d, 2, func(s *Stream) error {
		var x, y [2]Ptr
		for i := range x {
			x[i], y[i] = s.Alloc(4*n), s.Alloc(4*n)
			noise(s, n, 4, 9, x[i])
			s.Memset32(y[i], 0, n)
		}
		step := func(i int) {
			axpby(s, n, 3, 0.5, x[i], 0.7, y[i])
			s.Copy(x[i], y[i], 4*(n/2))
			s.Memset32(x[i].Add(4*(n-1)), 0, 1)
			axpby(s, n, 3, 0.25, y[i], 1, x[i])
		}
		for range steps {
			step(0)
		}
		g, err := s.Capture(func() { step(1) })
		if err != nil {
			return err
		}
		before := make([]float32, n)
		if err := Download(s, before, y[1]); err != nil {
			return err
		}
		if slices.ContainsFunc(before, func(v float32) bool { return v != 0 }) {
			t.Error("recording ran the work")
		}
		for range steps {
			g.Launch()
		}
		g.Close() // while it runs
		g.Close()
		for _, p := range [][2]Ptr{x, y} {
			direct, replayed := make([]float32, n), make([]float32, n)
			if err := errors.Join(Download(s, direct, p[0]), Download(s, replayed, p[1])); err != nil {
				return err
			}
			if !slices.Equal(direct, replayed) {
				t.Error("the recorded steps end elsewhere")
			}
		}
		return nil
	})
}

func TestEvents(t *testing.T) {
	d := open(t)
	do(t, d, 1, func(a *Stream) error {
		const n = 1 << 20
		x, y := a.Alloc(4*n), a.Alloc(4*n)
		a.Memset32(x, 0, n)
		a.Memset32(y, 0, n)
		start, middle, end := a.Event(), a.Event(), a.Event()
		started := time.Now()
		start.Record()
		for range 30 {
			axpby(a, n, 1, 1, x, 1, y)
		}
		noise(a, n, 1, 1, x)
		middle.Record()
		// Another stream may read x only after the event.
		return d.Do(a.Context(), 1, func(b *Stream) error {
			got, want := make([]float32, n), make([]float32, n)
			b.Wait(middle)
			z := b.Alloc(4 * n)
			b.Copy(z, x, 4*n)
			if err := Download(b, got, z); err != nil {
				return err
			}
			end.Record()
			total, err := end.Elapsed(start)
			if err != nil {
				return err
			}
			first, err := middle.Elapsed(start)
			if err != nil {
				return err
			}
			if first <= 0 || total < first || total > time.Since(started) {
				t.Errorf("elapsed %v of %v of %v", first, total, time.Since(started))
			}
			if err := Download(a, want, x); err != nil {
				return err
			}
			if !slices.Equal(got, want) || got[n-1] == 0 {
				t.Error("the second stream did not wait")
			}
			if _, err := a.Event().Elapsed(start); err == nil {
				t.Error("time to an event that was never recorded")
			}
			a.err = nil
			return nil
		})
	})
}

func TestGoexitEndsDo(t *testing.T) {
	d := open(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.Do(context.Background(), 1, func(s *Stream) error { runtime.Goexit(); return nil })
	}()
	<-done
}

func TestPtr(t *testing.T) {
	if Ptr(0).Add(8) != 0 || Ptr(256).Add(8) != 264 {
		t.Error("Add")
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1 KiB", 12 << 30: "12 GiB", 3 << 29: "1.5 GiB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func BenchmarkLaunch(b *testing.B) {
	d := open(b)
	for _, c := range []struct {
		name string
		each func(s *Stream, launch, graph func()) error
	}{
		{"enqueue", func(_ *Stream, launch, _ func()) error { launch(); return nil }},
		{"sync", func(s *Stream, launch, _ func()) error { launch(); return s.Sync() }},
		{"graph100", func(_ *Stream, _, graph func()) error { graph(); return nil }},
	} {
		b.Run(c.name, func(b *testing.B) {
			do(b, d, 1, func(s *Stream) error {
				x := s.Alloc(4)
				launch := func() { axpby(s, 1, 1, 0, x, 1, x) }
				g, err := s.Capture(func() {
					for range 100 {
						launch()
					}
				})
				if err != nil {
					return err
				}
				b.ReportAllocs()
				for range b.N {
					if err := c.each(s, launch, g.Launch); err != nil {
						return err
					}
				}
				return s.Sync()
			})
		})
	}
}

// A scope frees what was allocated in it, and nothing else.
func TestScope(t *testing.T) {
	d := open(t)
	do(t, d, 1, func(s *Stream) error {
		kept := s.Alloc(1 << 10)
		before := len(s.blocks)
		free := s.Scope()
		s.Free(s.Alloc(1 << 20))
		inside := s.Alloc(1 << 20)
		free()
		if _, there := s.blocks[inside]; there || len(s.blocks) != before {
			t.Errorf("%d blocks after, %d before", len(s.blocks), before)
		}
		Upload(s, kept, make([]float32, 1<<8))
		return s.Sync()
	})
}
