package main

import (
	"bytes"
	"encoding/json"
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
	t.Setenv("PTXEMU_SM", "110") // has none, nor an earlier one of its major number
	says(gocp(t, t.TempDir(), "doctor"), "computes on cuda: "+emulated, "and runs what the driver translates from PTX for compute_80", "no code for sm_110 was looked at")
	says(gocp(t, dir, append(train, "t.safetensors")...), "computes on "+emulated+" ("+taken+"); its driver first translates this build's PTX")
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
	if err := os.WriteFile(filepath.Join(dir, "later.ptx"), []byte(".version 9.1\n.target sm_80\n.address_size 64\n.visible .entry gather_u8() { ret; }\n"), 0o666); err != nil {
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
		{"code of a later compiler than the driver's", []string{"GOCP_IMAGE=later.ptx"}, train,
			[]string{"kernel gather_u8: later.ptx is PTX of a later version than the driver of " + emulated + " reads"}},
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

// emulatedAudit is an audit that the emulator does in seconds, in a folder with its data.
func emulatedAudit(t *testing.T, epochs, steps string) (dir string, args []string) {
	t.Helper()
	dir = t.TempDir()
	err := data.ExportSource(filepath.Join(dir, "quarters.npz"),
		&data.Source{Name: "quarters", Splits: []*data.Dataset{quarters(t, "train", 200, 1), quarters(t, "test", 60, 2)}})
	if err != nil {
		t.Fatal(err)
	}
	return dir, []string{"audit", "--data", "quarters.npz", "--seed", "3", "--repeats", "1", "--victims", "1", "--surrogates", "1", "--attackers", "1",
		"--references", "1", "--conditions", "attack", "--train-size", "64", "--cal-size", "30", "--candidates", "60",
		"--budget", "0.1", "--width", "4", "--epochs", epochs, "--batch", "16", "--lr", "0.1", "--steps", steps, "--workers", "1", "--quiet"}
}

// Two or eight devices give what one does; an audit takes those that it is told to.
func TestSeveralDevices(t *testing.T) {
	emulator(t)
	dir, audit := emulatedAudit(t, "4", "1")
	t.Setenv("PTXEMU_DEVICES", "8") // the record says so
	succeeds(t, dir, append(slices.Clone(audit), "--devices", "0", "--out", "one")...)
	want := read(t, dir, "one", result.File)
	for out, which := range map[string]string{"all": "all", "two": "2,5"} {
		succeeds(t, dir, append(slices.Clone(audit), "--devices", which, "--workers", "8", "--out", out)...)
		if !bytes.Equal(read(t, dir, out, result.File), want) {
			t.Errorf("--devices %s gave another result.json than one device", which)
		}
	}
	refuses(t, dir, "there is no device 8; they are counted from 0 to 7", append(slices.Clone(audit), "--devices", "8", "--out", "none")...)
	o := gocp(t, dir, "doctor")
	if !strings.Contains(o.stdout, "driver 13.0, 8 devices") || strings.Count(o.stdout, "\nGPU  ") != 8 {
		t.Errorf("doctor:\n%s", o.stdout)
	}
}

// Of a MIG slice telemetry says that it is one, and books nothing: the power that NVML tells is the card's.
func TestSliceOfACard(t *testing.T) {
	emulator(t)
	dir, audit := emulatedAudit(t, "4", "1")
	watched := func(out string) *result.Telemetry {
		t.Helper()
		succeeds(t, dir, append(slices.Clone(audit), "--out", out)...)
		var r result.Telemetry
		if err := json.Unmarshal(read(t, dir, out, result.TelemetryFile), &r); err != nil {
			t.Fatal(err)
		}
		return &r
	}
	gpus := func(r *result.Telemetry) (out []result.Watched) {
		for _, d := range r.Devices {
			if d.Kind == "gpu" {
				out = append(out, d)
			}
		}
		return out
	}
	whole := gpus(watched("whole"))
	if len(whole) != 1 || whole[0].Power == nil || whole[0].Joules == 0 || whole[0].Slice != "" {
		t.Fatalf("a whole card: %+v", whole)
	}
	t.Setenv("PTXEMU_MIG", "3")
	slice := gpus(watched("slice"))
	if len(slice) != 1 || slice[0].Power != nil || slice[0].Joules != 0 || !strings.Contains(slice[0].Slice, "a MIG slice") ||
		slice[0].Name != emulated+" MIG 1g.10gb" || !strings.HasPrefix(slice[0].ID, "MIG-") {
		t.Errorf("a slice: %+v", slice)
	}
	if o := gocp(t, dir, "doctor", "--json"); !strings.Contains(o.stdout, `"uuid": "MIG-a1a1a1a1-`) {
		t.Errorf("doctor does not give the slice's UUID:\n%s", o.stdout)
	}
}

// What disturbs the times of a card is said beside them; other users of other slices do not.
func TestDisturbedTimes(t *testing.T) {
	emulator(t)
	dir := t.TempDir()
	bench := []string{"bench", "kernels", "--go", "AugmentDraw"}
	if o := succeeds(t, dir, bench...); o.stderr != "" || !strings.Contains(o.stdout, "AugmentDraw") {
		t.Errorf("a quiet card: %s%s", o.stdout, o.stderr)
	}
	t.Setenv("PTXEMU_THROTTLE", "68") // nvmlClocksThrottleReasonSwPowerCap, …HwThermalSlowdown
	t.Setenv("PTXEMU_USERS", "4242,77")
	want := "gocp: " + emulated + " is held back (power_cap, hardware_thermal): times are longer than it can do\n" +
		"gocp: " + emulated + " is used by others (4242 process-4242, 77 process-77): times are shared with them\n"
	for _, args := range [][]string{bench, {"bench", "passes", "--shape", "32x32x3-w16-stride", "--pass", "hvp", "--precision", "bf16", "--batch", "1", "--beside", "1", "--seconds", "0.001"}} {
		if o := succeeds(t, dir, args...); o.stderr != want {
			t.Errorf("%s: said\n%swant\n%s", strings.Join(args, " "), o.stderr, want)
		}
	}
	t.Setenv("PTXEMU_THROTTLE", "")
	t.Setenv("PTXEMU_MIG", "2")
	if o := succeeds(t, dir, bench...); o.stderr != "" {
		t.Errorf("a slice: %s", o.stderr)
	}
}

// A fault in the middle of an audit keeps what was done; going on ends with the same bytes.
func TestFaultInAnAudit(t *testing.T) {
	emulator(t)
	dir, flags := emulatedAudit(t, "4", "3")
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
