package device

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The back end is chosen before main, so what depends on the environment runs in a child process:
// this test binary again, doing one of these.
var children = map[string]func(d *Device) error{
	"info": func(d *Device) error {
		fmt.Printf("%s; %s; %s; %s\n", d.Info().Backend, d.Info().Name, d.Info().ISA, d.Info().Why)
		return nil
	},
	"bits":    childBits,
	"scale":   childScale,
	"absent":  func(d *Device) error { return run(d, func(s *Stream) { s.Launch("absent", 1, 1) }) },
	"fresh":   childFresh,
	"over":    func(d *Device) error { return run(d, func(s *Stream) { noise(s, 65, 1, 1, s.Alloc(4*64)) }) },
	"odd":     func(d *Device) error { return run(d, func(s *Stream) { noise(s, 1, 1, 1, s.Alloc(3)) }) },
	"under":   childUnder,
	"graph":   childGraph,
	"ranges":  childRanges,
	"several": childSeveral,
	"foreign": childForeign,
	"after": func(d *Device) error {
		return run(d, func(s *Stream) {
			p := s.Alloc(64)
			s.Free(p)
			noise(s, 16, 1, 1, p)
		})
	},
	"late":  childLate,
	"wild":  func(d *Device) error { return run(d, func(s *Stream) { noise(s, 1, 1, 1, 64) }) },
	"clean": func(d *Device) error { return run(d, func(s *Stream) { noise(s, 64, 3, 1, s.Alloc(4*64)) }) },
}

func TestMain(m *testing.M) {
	f := children[os.Getenv("DEVICE_TEST_CHILD")]
	if f == nil {
		os.Exit(m.Run())
	}
	d, err := Open()
	if err == nil {
		err = errors.Join(f(d), d.Close())
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(3)
	}
}

// child runs one of children in its own process and returns what it said, and how it ended.
func child(t *testing.T, what string, env ...string) (stdout, stderr string, code int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "DEVICE_TEST_CHILD="+what)
	for _, name := range []string{"GOCP_DEVICE", "GOCP_LIBCUDA", "GOCP_IMAGE", "GOCP_ISA", "GOCP_CHECK", "GOCP_THREADS"} {
		cmd.Env = append(cmd.Env, name+"=")
	}
	cmd.Env = append(cmd.Env, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func run(d *Device, f func(s *Stream)) error {
	return d.Do(context.Background(), 1, func(s *Stream) error {
		f(s)
		return s.Sync()
	})
}

func childBits(d *Device) error {
	const n = 10007
	return d.Do(context.Background(), 1, func(s *Stream) error {
		x, y, dots := s.Alloc(4*n), s.Alloc(4*n), s.Alloc(8*3)
		noise(s, n, 3, 5, x)
		noise(s, n, 3, 6, y)
		axpby(s, n, 3, 0.3, x, 0.7, y)
		s.Launch("vector_dot", 3, 128, I64(n), P(x), P(y), P(dots))
		a, b := make([]float32, n), make([]float64, 3)
		if err := errors.Join(Download(s, a, y), Download(s, b, dots)); err != nil {
			return err
		}
		fmt.Printf("%x\n", sha256.Sum256(fmt.Appendf(nil, "%x %x", a, b)))
		return nil
	})
}

// childScale drives the fake driver's two kernels, directly and recorded.
func childScale(d *Device) error {
	return d.Do(context.Background(), 1, func(s *Stream) error {
		x := s.Alloc(8)
		Upload(s, x, []float32{1, 2})
		step := func() {
			s.Launch("scale", 1, 32, I32(2), P(x), F32(2))
			s.Launch("shift", 1, 32, I32(2), P(x), F32(1))
		}
		step()
		g, err := s.Capture(step)
		if err != nil {
			return err
		}
		g.Launch()
		g.Launch()
		got := make([]float32, 2)
		err = Download(s, got, x)
		fmt.Println(got)
		return err
	})
}

func childFresh(d *Device) error {
	return d.Do(context.Background(), 1, func(s *Stream) error {
		f, g := make([]float32, 3), make([]float64, 3)
		if err := errors.Join(Download(s, f, s.Alloc(12)), Download(s, g, s.Alloc(24))); err != nil {
			return err
		}
		fmt.Println(f, g)
		return nil
	})
}

// poke writes a byte of this process's memory, which is the host engine's device memory.
func poke(p Ptr) error {
	f, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{1}, int64(p))
	return err
}

func childUnder(d *Device) error {
	return d.Do(context.Background(), 1, func(s *Stream) error {
		p := s.Alloc(64)
		if err := poke(p - 1); err != nil {
			return err
		}
		return s.Sync()
	})
}

func childLate(d *Device) error {
	return d.Do(context.Background(), 1, func(s *Stream) error {
		p := s.Alloc(64)
		s.Free(p)
		if err := s.Sync(); err != nil {
			return err
		}
		if err := poke(p + 7); err != nil {
			return err
		}
		return s.Sync()
	})
}

func childGraph(d *Device) error {
	return d.Do(context.Background(), 1, func(s *Stream) error {
		p := s.Alloc(64)
		g, err := s.Capture(func() { noise(s, 16, 1, 1, p) })
		if err != nil {
			return err
		}
		s.Free(p)
		g.Launch()
		return s.Sync()
	})
}

// fake builds the stand-in for libcuda.so.1 and an image for it.
func fake(t *testing.T) (library, image string) {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc")
	}
	dir := t.TempDir()
	library, image = filepath.Join(dir, "libcuda.so.1"), filepath.Join(dir, "image")
	out, err := exec.Command(gcc, "-shared", "-fPIC", "-Wall", "-Werror", "-I../../csrc", "-o", library, "../../csrc/testdata/fakecuda.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(image, []byte("fake image"), 0o666); err != nil {
		t.Fatal(err)
	}
	return library, image
}

func TestChoice(t *testing.T) {
	library, image := fake(t)
	const none = "/nonexistent/libcuda.so.1"
	for _, c := range []struct {
		name           string
		env            []string
		code           int
		stdout, stderr string // parts of what is said
	}{
		{"cpu", []string{"GOCP_DEVICE=cpu", "GOCP_LIBCUDA=" + library, "GOCP_IMAGE=" + image}, 0, "host engine: GOCP_DEVICE=cpu", ""},
		{"no code", []string{"GOCP_LIBCUDA=" + library}, 0, "host engine: this build carries no GPU code", ""},
		{"auto", []string{"GOCP_LIBCUDA=" + library, "GOCP_IMAGE=" + image}, 0, "cuda; Fake GPU; ; cuda: " + library + ", driver 13.2, 1 device", "0 bytes in use"},
		{"by name", []string{"LD_LIBRARY_PATH=" + filepath.Dir(library), "GOCP_IMAGE=" + image}, 0, "cuda: libcuda.so.1, driver 13.2", ""},
		{"cuda", []string{"GOCP_DEVICE=cuda", "GOCP_LIBCUDA=" + library, "FAKE_DEVICES=2"}, 0, "2 devices", ""},
		{"no library", []string{"GOCP_LIBCUDA=" + none, "GOCP_IMAGE=" + image}, 0, "host engine: " + none + ": cannot open", ""},
		{"init fails", []string{"GOCP_LIBCUDA=" + library, "GOCP_IMAGE=" + image, "FAKE_INIT=803"}, 0, "cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", ""},
		{"init fails, unnamed", []string{"GOCP_LIBCUDA=" + library, "GOCP_IMAGE=" + image, "FAKE_INIT=999"}, 0, "cuInit: error 999", ""},
		{"no device", []string{"GOCP_LIBCUDA=" + library, "GOCP_IMAGE=" + image, "FAKE_DEVICES=0"}, 0, "host engine: " + library + " shows no device", ""},
		{"cuda, no library", []string{"GOCP_DEVICE=cuda", "GOCP_LIBCUDA=" + none}, 1, "", "GOCP_DEVICE=cuda: " + none},
		{"cuda, no device", []string{"GOCP_DEVICE=cuda", "GOCP_LIBCUDA=" + library, "FAKE_DEVICES=0"}, 1, "", "shows no device"},
		{"cuda, init fails", []string{"GOCP_DEVICE=cuda", "GOCP_LIBCUDA=" + library, "FAKE_INIT=100"}, 1, "", "cuInit: error 100"},
		{"not a driver", []string{"GOCP_DEVICE=cuda", "GOCP_LIBCUDA=libm.so.6"}, 1, "", "libm.so.6 has no cuInit"},
		{"unknown", []string{"GOCP_DEVICE=gpu"}, 1, "", "not one of auto, cuda, cpu"},
		{"bad threads", []string{"GOCP_THREADS=2x"}, 1, "", "GOCP_THREADS=2x"},
		{"bad check", []string{"GOCP_CHECK=yes"}, 1, "", "GOCP_CHECK=yes"},
		{"unknown instruction set", []string{"GOCP_ISA=v9"}, 1, "", "GOCP_ISA=v9"},
		{"old driver", []string{"GOCP_LIBCUDA=" + library, "FAKE_VERSION=12040"}, 0, "host engine: Fake GPU: the driver is for CUDA 12.4, and this build's GPU code wants CUDA 13.0 or later", ""},
		{"cuda, old driver", []string{"GOCP_DEVICE=cuda", "GOCP_LIBCUDA=" + library, "FAKE_VERSION=12040"}, 1, "", "gocp: GOCP_DEVICE=cuda: Fake GPU: the driver is for CUDA 12.4"},
		{"old device", []string{"GOCP_LIBCUDA=" + library, "FAKE_CAPABILITY=75"}, 0, "host engine: Fake GPU has compute capability 7.5, and this build's GPU code begins at 8.0", ""},
		{"cuda, old device", []string{"GOCP_DEVICE=cuda", "GOCP_LIBCUDA=" + library, "FAKE_CAPABILITY=75"}, 1, "", "gocp: GOCP_DEVICE=cuda: Fake GPU has compute capability 7.5"},
		{"embedded", []string{"GOCP_LIBCUDA=" + library}, 0, "cuda; Fake GPU; ; cuda: " + library, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, embedded := Image()
			if needs := strings.HasSuffix(c.name, "old driver") || strings.HasSuffix(c.name, "old device") || c.name == "embedded"; needs && !embedded {
				t.Skip("this build carries no GPU code")
			}
			if c.name == "no code" && embedded {
				t.Skip("this build carries GPU code")
			}
			stdout, stderr, code := child(t, "info", c.env...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("code %d\n%s%s", code, stdout, stderr)
			}
			if strings.Contains(stderr, "interposed") {
				t.Error("the front answered a call of the driver to itself")
			}
		})
	}
}

func TestDriver(t *testing.T) {
	library, image := fake(t)
	env := []string{"GOCP_DEVICE=cuda", "GOCP_LIBCUDA=" + library}
	stdout, stderr, code := child(t, "scale", append(env, "GOCP_IMAGE="+image)...)
	if code != 0 || stdout != "[15 23]\n" || !strings.Contains(stderr, "0 bytes in use") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	without := "kernel absent: this build carries no GPU code"
	if _, embedded := Image(); embedded {
		without = "kernel absent: no kernel of that name in this build's GPU code"
	}
	cut := filepath.Join(filepath.Dir(image), "cut")
	if err := os.WriteFile(cut, []byte(imageMagic+"base 64\nnvcc 13.2\nmodule act 0 100\nkernel absent\n\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ image, want string }{
		{image, "kernel absent: no kernel of that name"},
		{"", without},
		{library, "device: load the kernels of " + library + ": InvalidImage"},
		{cut, "cut short: module act ends at byte 164"},
		{"/nonexistent", "GOCP_IMAGE: open /nonexistent"},
	} {
		if stdout, stderr, code := child(t, "absent", append(env, "GOCP_IMAGE="+c.image)...); code != 3 || !strings.Contains(stdout, c.want) {
			t.Errorf("%s: code %d\n%s%s", c.want, code, stdout, stderr)
		}
	}
}

func TestInstructionSets(t *testing.T) {
	want, _, code := child(t, "bits", "GOCP_ISA=base")
	if code != 0 {
		t.Fatal(want)
	}
	for _, isa := range []string{"v3", "v4"} {
		got, stderr, code := child(t, "bits", "GOCP_ISA="+isa, "GOCP_THREADS=3")
		if code != 0 && strings.Contains(stderr, "not an instruction set of this processor") {
			continue
		}
		if got != want {
			t.Errorf("%s: %s%s, want %s", isa, got, stderr, want)
		}
	}
}

func TestChecked(t *testing.T) {
	for _, c := range []struct{ what, want string }{
		{"clean", ""},
		{"fresh", "[NaN NaN NaN] [NaN NaN NaN]"},
		{"over", "kernel noise_uniform: wrote past the end of a buffer of 256 bytes, at byte 256"},
		{"odd", "kernel noise_uniform: wrote past the end of a buffer of 3 bytes, at byte 3"},
		{"under", "wrote 1 bytes before the start of a buffer of 64 bytes"},
		{"after", "kernel noise_uniform, argument 4: 0x"},
		{"graph", "kernel noise_uniform, argument 4: 0x"},
		{"late", "a buffer of 64 bytes was written after it was freed, at byte 7"},
		{"wild", "argument 4: 0x40 is not in live device memory"},
	} {
		t.Run(c.what, func(t *testing.T) {
			stdout, stderr, code := child(t, c.what, "GOCP_CHECK=1")
			wrong := c.what != "clean" && c.what != "fresh"
			if (code == 3) != wrong || !strings.Contains(stdout, c.want) || wrong && !strings.Contains(stdout, "illegal address") {
				t.Errorf("code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}
