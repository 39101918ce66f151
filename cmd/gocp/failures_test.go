package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
)

// emulator makes the processes that a test starts see the emulator (csrc/ptxemu) as the library in the
// path and nothing else chosen, and returns its folder. scripts/test-ptx.sh names it.
func emulator(t *testing.T) string {
	t.Helper()
	library := os.Getenv("GOCP_TEST_EMULATOR")
	if library == "" {
		t.Skip("make test-ptx runs it, on the emulator")
	}
	if _, ok := device.Image(); !ok {
		t.Fatal("this build carries no GPU code")
	}
	for _, name := range []string{"GOCP_DEVICE", "GOCP_LIBCUDA", "GOCP_IMAGE", "GOCP_CHECK", "PTXEMU_TRACE"} {
		t.Setenv(name, "")
	}
	dir := filepath.Dir(library)
	t.Setenv("LD_LIBRARY_PATH", dir)
	return dir
}

// sentence is what gocp said on stderr, which must be one line; the emulator's own reports apart, which
// stand there like a driver's in the system's log.
func sentence(t *testing.T, o outcome) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(o.stderr) {
		if !strings.HasPrefix(line, "ptxemu: ") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(lines) != 1 {
		t.Fatalf("not one sentence:\n%s", o.stderr)
	}
	t.Log(lines[0])
	return lines[0]
}

const emulated = "ptxemu virtual GPU"

func TestAutoPicksWhatIsThere(t *testing.T) {
	emulator(t)
	says := func(o outcome, want ...string) {
		t.Helper()
		text := strings.Join(strings.Fields(o.stdout+o.stderr), " ")
		for _, w := range want {
			if o.code != exitOK || !strings.Contains(text, w) {
				t.Errorf("status %d, not %q in:\n%s%s", o.code, w, o.stdout, o.stderr)
			}
		}
	}
	taken := "cuda: libcuda.so.1, driver 13.0, 1 device"
	says(gocp(t, t.TempDir(), "doctor"), "computes on cuda: "+emulated, "because "+taken)
	dir := workFolder(t)
	train := []string{"train", "--data", "blobs.npz", "--width", "4", "--epochs", "1", "--take", ":16", "--out"}
	says(gocp(t, dir, append(train, "a.safetensors")...), "computes on "+emulated+" ("+taken+")")
	refuses(t, dir, "times say nothing of a GPU", "bench", "kernels", "--tune", "tiles.csv")

	t.Setenv("PTXEMU_SM", "90") // has code of its own in the image
	says(gocp(t, t.TempDir(), "doctor"), "computes on cuda: "+emulated)
	t.Setenv("PTXEMU_SM", "75")
	says(gocp(t, t.TempDir(), "doctor"), "computes on host: ", "because host engine: "+emulated+" has compute capability 7.5, and this build's GPU code begins at 8.0")
	t.Setenv("PTXEMU_SM", "")
	t.Setenv("PTXEMU_DRIVER", "12040")
	says(gocp(t, t.TempDir(), "doctor"), "computes on host: ", "because host engine: "+emulated+": the driver is for CUDA 12.4, and this build's GPU code wants CUDA 13.0 or later")

	t.Setenv("LD_LIBRARY_PATH", "")
	if o := gocp(t, t.TempDir(), "doctor"); strings.Contains(o.stdout, "because      cuda:") {
		t.Log("there is a GPU here: the choice without a driver was not seen")
	} else {
		says(o, "computes on host: ", "because host engine: libcuda.so.1: cannot open shared object file")
		says(gocp(t, dir, append(train, "b.safetensors")...), "(host engine: libcuda.so.1: cannot open shared object file")
	}
}

// Each failure of a GPU is one sentence that names the device and, where there is one, the kernel and
// its shape; status 1, and no file is left.
func TestFailuresOfAGPU(t *testing.T) {
	emulator(t)
	dir := workFolder(t)
	if err := os.WriteFile(filepath.Join(dir, "sm_90.ptx"), []byte(".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry gather_u8() { ret; }\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	train := []string{"train", "--quiet", "--data", "blobs.npz", "--width", "4", "--epochs", "2", "--batch", "8", "--take", ":20", "--out", "m.safetensors"}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want []string
	}{
		{"old driver", []string{"GOCP_DEVICE=cuda", "PTXEMU_DRIVER=12040"}, train,
			[]string{"gocp: GOCP_DEVICE=cuda: " + emulated + ": the driver is for CUDA 12.4, and this build's GPU code wants CUDA 13.0 or later"}},
		{"old driver, by flag", []string{"PTXEMU_DRIVER=12040"}, append(train, "--device", "cuda"),
			[]string{"gocp: --device cuda: " + emulated + ": the driver is for CUDA 12.4"}},
		{"old device", []string{"GOCP_DEVICE=cuda", "PTXEMU_SM=75"}, train,
			[]string{emulated + " has compute capability 7.5, and this build's GPU code begins at 8.0"}},
		{"no code for the device", []string{"GOCP_IMAGE=sm_90.ptx"}, train,
			[]string{"sm_90.ptx has no code for " + emulated, "kernel gather_u8"}},
		{"out of memory", []string{"PTXEMU_MEMORY=3"}, append(train, "--width", "64"),
			[]string{"device " + emulated + ": allocate ", " for an array of [", "out of memory (", " free of 3 MiB)"}},
		{"fault", []string{"PTXEMU_FAULT=sgd"}, train,
			[]string{"train: epoch 1: device " + emulated + ": a kernel, of ", " in a recorded list the last of which is sgd on 1 blocks of 256 threads (", "illegal address", "in kernel sgd"}},
		{"fault that shows late", []string{"PTXEMU_FAULT=sgd:3", "PTXEMU_LATE=1"}, train,
			[]string{"device " + emulated + ": a kernel, of ", "sgd on ", "illegal address", "GOCP_CHECK=1 finds which"}},
		{"fault that is looked for", []string{"PTXEMU_FAULT=conv_backward_weight:4", "PTXEMU_LATE=1", "GOCP_CHECK=1"}, train,
			[]string{"device " + emulated + ": kernel conv_backward_weight_f32_", " blocks of ", " bytes of shared memory (8, ", "illegal address"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, e := range c.env {
				name, value, _ := strings.Cut(e, "=")
				t.Setenv(name, value)
			}
			o := gocp(t, dir, c.args...)
			said := sentence(t, o)
			for _, w := range c.want {
				if !strings.Contains(said, w) {
					t.Errorf("does not say %q", w)
				}
			}
			if o.code != exitFailed || o.stdout != "" {
				t.Errorf("status %d, stdout %q", o.code, o.stdout)
			}
			if _, err := os.Stat(filepath.Join(dir, "m.safetensors")); err == nil {
				t.Error("a model was written")
			}
		})
	}
}

// A fault in the middle of an audit keeps what was done; going on ends with the same bytes.
func TestFaultInAnAudit(t *testing.T) {
	emulator(t)
	dir := t.TempDir()
	err := data.ExportSource(filepath.Join(dir, "quarters.npz"),
		&data.Source{Name: "quarters", Splits: []*data.Dataset{quarters(t, "train", 200, 1), quarters(t, "test", 60, 2)}})
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"audit", "--data", "quarters.npz", "--seed", "3", "--repeats", "1", "--victims", "1", "--surrogates", "1", "--attackers", "1",
		"--references", "1", "--conditions", "attack", "--train-size", "64", "--cal-size", "30", "--candidates", "60",
		"--budget", "0.1", "--width", "4", "--epochs", "4", "--batch", "16", "--lr", "0.1", "--steps", "3", "--workers", "1", "--quiet"}
	succeeds(t, dir, append(slices.Clone(flags), "--out", "whole")...)

	t.Setenv("PTXEMU_FAULT", "sign_adam:2")
	t.Setenv("PTXEMU_LATE", "1")
	o := gocp(t, dir, append(slices.Clone(flags), "--out", "cut")...)
	t.Setenv("PTXEMU_FAULT", "")
	said := sentence(t, o)
	for _, w := range []string{"craft poisons 0: ", "device " + emulated, "sign_adam on ", "illegal address", "gocp audit --resume --out cut goes on where this stopped"} {
		if !strings.Contains(said, w) {
			t.Errorf("does not say %q", w)
		}
	}
	if o.code != exitFailed {
		t.Errorf("status %d", o.code)
	}
	kept := finished(t, filepath.Join(dir, "cut"))
	if len(kept) < 2 {
		t.Errorf("kept %v, want at least the surrogate's model and logits", kept)
	}
	succeeds(t, dir, "audit", "--resume", "--quiet", "--out", "cut")
	again := finished(t, filepath.Join(dir, "cut"))
	for name, at := range kept {
		if !again[name].Equal(at) {
			t.Errorf("%s was made again", name)
		}
	}
	if !bytes.Equal(read(t, dir, "whole", result.File), read(t, dir, "cut", result.File)) {
		t.Error("the run that failed and went on gave another result.json")
	}
}

// quarters are images that a few steps learn from: each quarter has a brightness at random, and that of
// the class more.
func quarters(t *testing.T, name string, n int, seed uint64) *data.Dataset {
	t.Helper()
	const side, classes = 12, 4
	src := rng.New(seed, 0)
	var pixels []uint8
	var labels []int32
	for range n {
		y := src.Intn(classes)
		labels = append(labels, int32(y))
		var level [classes]float64
		for q := range level {
			level[q] = 120 + 25*float64(src.Normal())
		}
		level[y] += 45
		for r := range side {
			for c := range side {
				v := level[2*(2*r/side)+2*c/side] + 8*float64(src.Normal())
				pixels = append(pixels, uint8(math.Max(0, math.Min(255, v))))
			}
		}
	}
	d, err := data.New(name, side, side, 1, pixels, labels, []string{"nw", "ne", "sw", "se"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// finished are the finished models and logits of a run folder, and when they were written.
func finished(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	for _, sub := range []string{"models", "logits"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Join(sub, e.Name())] = info.ModTime()
		}
	}
	return out
}
