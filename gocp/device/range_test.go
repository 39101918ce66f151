package device

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorder is the profiler for tests that CMake builds beside the C++ half.
func recorder(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../build/cpp/libnvtxrecord.so")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; make lib builds it", err)
	}
	return path
}

func childRanges(d *Device) error {
	return d.Do(context.Background(), 1, func(s *Stream) error {
		phase := StartRange("phase one")
		func() {
			defer s.RangeOf("step", 12).End()
			r := s.Range("layer conv1")
			noise(s, 16, 1, 1, s.Alloc(64))
			r.End()
		}()
		other := StartRange("phase two")
		phase.End()
		other.End()
		Range{}.End()
		return s.Sync()
	})
}

func TestRanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ranges")
	if stdout, stderr, code := child(t, "ranges", "NVTX_INJECTION64_PATH="+recorder(t), "NVTX_RECORD="+file); code != 0 {
		t.Fatalf("code %d\n%s%s", code, stdout, stderr)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	threads := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if f[0] == "push" || f[0] == "pop" {
			threads[f[1]] = true
			f = append(f[:1], f[2:]...)
		}
		got = append(got, strings.Join(f, " "))
	}
	want := "start 1 phase one; push step 12; push layer conv1; pop; pop; start 2 phase two; end 1; end 2"
	if strings.Join(got, "; ") != want || len(threads) != 1 {
		t.Errorf("on %d threads: %s", len(threads), strings.Join(got, "; "))
	}
	// A profiler that cannot be loaded, or does not want to, is passed over.
	for _, env := range []string{"NVTX_INJECTION64_PATH=/nonexistent.so", "NVTX_INJECTION64_PATH=" + recorder(t)} {
		if stdout, stderr, code := child(t, "ranges", env, "NVTX_RECORD=/nonexistent/file"); code != 0 {
			t.Errorf("%s: code %d\n%s%s", env, code, stdout, stderr)
		}
	}
}

func TestRangesCostNothing(t *testing.T) {
	if profiled {
		t.Skip("a profiler listens")
	}
	d := open(t)
	do(t, d, 1, func(s *Stream) error {
		if n := testing.AllocsPerRun(100, func() {
			a := s.Range("layer")
			b := s.RangeOf("step", 3)
			b.End()
			a.End()
			StartRange("phase").End()
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
		return nil
	})
}

// BenchmarkRange is the cost of a range that no profiler listens to.
func BenchmarkRange(b *testing.B) {
	d := open(b)
	do(b, d, 1, func(s *Stream) error {
		for b.Loop() {
			s.RangeOf("step", 3).End()
		}
		return nil
	})
}
