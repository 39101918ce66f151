package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/report"
	"github.com/gocp/gocp/gocp/result"
)

func succeeds(t *testing.T, dir string, args ...string) outcome {
	t.Helper()
	o := gocp(t, dir, args...)
	if o.code != exitOK {
		t.Fatalf("gocp %s: status %d: %s", strings.Join(args, " "), o.code, o.stderr)
	}
	return o
}

// read is the content of a file in a folder.
func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAudit(t *testing.T) {
	dir := workFolder(t)
	o := succeeds(t, dir, append(slices.Clone(tinyAudit), "--out", "run")...)
	if !strings.Contains(o.stdout, "Report: run/report.html") || !strings.Contains(o.stderr, "victims: done in") {
		t.Errorf("stdout:\n%s\nstderr:\n%s", o.stdout, o.stderr)
	}
	page := read(t, dir, "run", reportFile)
	if !bytes.Contains(page, []byte("</html>")) {
		t.Error("the report is no whole page")
	}

	t.Run("again, as JSON, quietly", func(t *testing.T) {
		o := succeeds(t, dir, append(slices.Clone(tinyAudit), "--out", "again", "--json", "--quiet")...)
		if o.stderr != "" {
			t.Errorf("stderr: %s", o.stderr)
		}
		var r result.Result
		if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
			t.Fatal(err)
		}
		if r.Dataset.Name != "blobs.npz" || len(r.Repeats) != 2 {
			t.Errorf("data %q, %d repeats", r.Dataset.Name, len(r.Repeats))
		}
		if !bytes.Equal(read(t, dir, "run", result.File), read(t, dir, "again", result.File)) {
			t.Error("the same command gave another result.json")
		}
	})
	t.Run("report", func(t *testing.T) {
		if err := os.Remove(filepath.Join(dir, "run", reportFile)); err != nil {
			t.Fatal(err)
		}
		succeeds(t, dir, "report", "run", "--json")
		if !bytes.Equal(read(t, dir, "run", reportFile), page) {
			t.Error("the report differs from the one that the audit wrote")
		}
		refuses(t, dir, `"gif" is no format of figures; the known ones are pdf, png, svg`, "report", "run", "--figures", "figures", "--format", "gif")
		refuses(t, dir, `run/report.html is no folder`, "report", "run", "--figures", "run/report.html")
		for _, format := range report.Formats() {
			succeeds(t, dir, "report", "run", "--figures", "figures/"+format, "--format", format, "--json")
			if len(read(t, dir, "figures", format, "set-sizes."+format)) == 0 {
				t.Errorf("an empty figure as %s", format)
			}
		}
	})
	t.Run("configuration from the run", func(t *testing.T) {
		succeeds(t, dir, "audit", "--config", "run/config.json", "--data", "blobs.npz", "--out", "copy")
		if !bytes.Equal(read(t, dir, "run", result.File), read(t, dir, "copy", result.File)) {
			t.Error("the same configuration gave another result.json")
		}
	})
	t.Run("export", func(t *testing.T) {
		succeeds(t, dir, "data", "export", "run", "--out", "victims.npz")
		refuses(t, dir, "victims.npz exists already", "data", "export", "run", "--out", "victims.npz")
		write(t, dir, "bare/config.json", read(t, dir, "run", "config.json"))
		refuses(t, dir, "bare: there is no journal.jsonl", "data", "export", "bare", "--out", "x.npz")
	})
	t.Run("another run on resuming", func(t *testing.T) {
		refuses(t, dir, "run holds another run (epochs 20, was 16); go on with it as it began, or give a new folder", "audit", "--resume", "--out", "run", "--epochs", "20")
		refuses(t, dir, "precision bf16, was f32", "audit", "--resume", "--out", "run", "--precision", "bf16")
		t.Run("engine", func(t *testing.T) {
			if strings.Contains(string(read(t, dir, "run", "config.json")), `"isa": "base"`) {
				t.Skip("there is one build of the host kernels here")
			}
			t.Setenv("GOCP_ISA", "base")
			refuses(t, dir, "run holds another run (host kernels (GOCP_ISA) base, was ", "audit", "--resume", "--out", "run")
		})
	})
	t.Run("folder of another run", func(t *testing.T) {
		refuses(t, dir, "holds another run", append(slices.Clone(tinyAudit), "--out", "run", "--seed", "4")...)
		refuses(t, dir, "holds this run already", append(slices.Clone(tinyAudit), "--out", "run")...)
		refuses(t, dir, "holds other files", append(slices.Clone(tinyAudit), "--out", ".")...)
	})
}

// An interrupted audit says how to go on, and ends with the same bytes.
func TestInterruptAndResume(t *testing.T) {
	dir := workFolder(t)
	flags := slices.Concat(tinyAudit, []string{"--victims", "4"})
	succeeds(t, dir, append(slices.Clone(flags), "--out", "whole")...)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, os.Kill} {
		cmd := exec.Command(self, append(slices.Clone(flags), "--out", "cut")...)
		if _, err := os.Stat(filepath.Join(dir, "cut", "config.json")); err == nil {
			cmd = exec.Command(self, "audit", "--resume", "--out", "cut")
		}
		cmd.Dir, cmd.Env = dir, append(os.Environ(), asGocp+"=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(700 * time.Millisecond)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Logf("%v came too late", sig)
		}
		_ = cmd.Wait()
		switch code := cmd.ProcessState.ExitCode(); {
		case sig == os.Kill || code == exitOK:
		case code != exitInterrupted:
			t.Errorf("%v: status %d, stderr:\n%s", sig, code, stderr.String())
		case !strings.Contains(stderr.String(), "gocp audit --resume --out cut"):
			t.Errorf("%v: stderr does not say how to go on:\n%s", sig, stderr.String())
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "cut", result.File)); err != nil {
		succeeds(t, dir, "audit", "--resume", "--out", "cut")
	}
	if !bytes.Equal(read(t, dir, "whole", result.File), read(t, dir, "cut", result.File)) {
		t.Error("the run that was cut and resumed gave another result.json")
	}
}

// The parts of an audit, one after another, on files.
func TestParts(t *testing.T) {
	dir := workFolder(t)
	small := []string{"--data", "blobs.npz", "--quiet", "--seed", "5"}
	train := append([]string{"train", "--width", "4", "--epochs", "6", "--batch", "16", "--lr", "0.02", "--take", ":200"}, small...)
	succeeds(t, dir, append(slices.Clone(train), "--out", "a.safetensors")...)
	succeeds(t, dir, "calibrate", "--model", "a.safetensors", "--data", "blobs.npz", "--take", "200:300", "--out", "a.json")
	o := succeeds(t, dir, "evaluate", "--model", "a.safetensors", "--calibration", "a.json", "--data", "blobs.npz", "--show", "7", "--json")
	var e struct {
		Metrics struct {
			Coverage struct{ Rate float64 }
		}
		Shown []struct{ Index int }
	}
	if err := json.Unmarshal([]byte(o.stdout), &e); err != nil {
		t.Fatal(err)
	}
	if e.Metrics.Coverage.Rate < 0.8 || len(e.Shown) != 1 || e.Shown[0].Index != 7 {
		t.Errorf("%+v", e)
	}
	succeeds(t, dir, append([]string{"attack", "--surrogate", "a.safetensors", "--take", ":200", "--calibration", "200:300",
		"--target", "7", "--goal", "add", "--labels", "0,1", "--budget", "0.1", "--steps", "4", "--out", "poisons"}, small...)...)
	o = succeeds(t, dir, append(slices.Clone(train), "--poisons", "poisons", "--out", "b.safetensors", "--json")...)
	var b struct {
		Images, Poisoned int
		InOwnPlace       int `json:"in_own_place"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &b); err != nil {
		t.Fatal(err)
	}
	if b.Images != 200 || b.Poisoned != 20 || b.InOwnPlace != 20 {
		t.Errorf("%+v", b)
	}
	// A victim with images of its own: the poisons replace others of their class.
	o = succeeds(t, dir, append(slices.Clone(train), "--poisons", "poisons", "--out", "c.safetensors", "--take", "250:450")...)
	if !strings.Contains(o.stdout, "poisons: 10 of ") || !strings.Contains(o.stdout, "; 0 replace the image they were made from, 20 another one of their class") {
		t.Errorf("stdout: %s", o.stdout)
	}

	t.Run("wrong input", func(t *testing.T) {
		write(t, dir, "short.safetensors", read(t, dir, "a.safetensors")[:100])
		for _, c := range []struct {
			name, want string
			args       []string
		}{
			{"truncated model", "short.safetensors", []string{"calibrate", "--model", "short.safetensors", "--data", "blobs.npz", "--out", "x.json"}},
			{"data of another shape", "reads images of 12x12x1", []string{"calibrate", "--model", "a.safetensors", "--out", "x.json"}},
			{"too few to calibrate on", "too few for miscoverage", []string{"calibrate", "--model", "a.safetensors", "--data", "blobs.npz", "--take", "200:205", "--out", "x.json"}},
			{"output that exists", "a.json exists already", []string{"calibrate", "--model", "a.safetensors", "--data", "blobs.npz", "--out", "a.json"}},
			{"calibration of another model", "another model", []string{"evaluate", "--model", "b.safetensors", "--calibration", "a.json", "--data", "blobs.npz"}},
			{"calibration images again", "calibrated on some of these images", []string{"evaluate", "--model", "a.safetensors", "--calibration", "a.json", "--data", "blobs.npz", "--split", "train"}},
			{"no calibration file", "a.safetensors", []string{"evaluate", "--model", "a.safetensors", "--calibration", "a.safetensors", "--data", "blobs.npz"}},
			{"target that is not there", "no image 160", []string{"attack", "--surrogate", "a.safetensors", "--data", "blobs.npz", "--take", ":200", "--calibration", "200:300", "--target", "160", "--out", "x"}},
			{"target that poisons are made from", "target 7 is an exact copy of image", []string{"attack", "--surrogate", "a.safetensors", "--data", "blobs.npz", "--test-split", "train", "--take", ":", "--calibration", ":100", "--target", "7", "--out", "x"}},
			{"target that models calibrate on", "which models calibrate on", []string{"attack", "--surrogate", "a.safetensors", "--data", "blobs.npz", "--test-split", "train", "--take", ":1", "--calibration", "1:500", "--target", "7", "--budget", "1", "--out", "x"}},
			{"label that is not there", "label 4", []string{"attack", "--surrogate", "a.safetensors", "--data", "blobs.npz", "--take", ":200", "--calibration", "200:300", "--target", "7", "--goal", "add", "--labels", "4", "--out", "x"}},
			{"poisons that are not there", "nowhere", append(slices.Clone(train), "--poisons", "nowhere", "--out", "x.safetensors")},
		} {
			t.Run(c.name, func(t *testing.T) { refuses(t, dir, c.want, c.args...) })
		}
	})
}
