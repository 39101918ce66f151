package experiment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/journal"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

// notes keeps what a run says beside its phases.
type notes struct {
	progress.Reporter
	mu    sync.Mutex
	lines []string
}

func (n *notes) Note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

// smallest is an audit of half a second.
func smallest() Config {
	c := miniature()
	c.Craft.Steps = 2
	return c
}

func smallestRun(t *testing.T, dev *device.Device, dir string, resume bool) ([]string, error) {
	t.Helper()
	n := &notes{Reporter: progress.Discard}
	_, err := Audit(context.Background(), dev, smallest(), miniatureData(t), Options{Dir: dir, Resume: resume, Version: "test", Progress: n})
	return n.lines, err
}

func flip(t *testing.T, file string, at int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 4
	if err := os.WriteFile(file, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "run")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// What was damaged after it was written is made again, to the same bytes, and named; where that can't
// be, the run is refused in a sentence.
func TestDamagedFilesAreMadeAgain(t *testing.T) {
	dev := testkit.Open(t)
	whole := filepath.Join(t.TempDir(), "run")
	if _, err := smallestRun(t, dev, whole, false); err != nil {
		t.Fatal(err)
	}
	cut := func(size int64) func(t *testing.T, file string) {
		return func(t *testing.T, file string) {
			if err := os.Truncate(file, size); err != nil {
				t.Fatal(err)
			}
		}
	}
	bit := func(at int) func(t *testing.T, file string) {
		return func(t *testing.T, file string) { flip(t, file, at) }
	}
	gone := func(t *testing.T, file string) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what, file string
		damage     func(t *testing.T, file string)
		note       string // what is said when it is made again
		refusal    string // or why it is not
	}{
		{"a model of no bytes", "models/reference-0.safetensors", cut(0), "reference-0 is made again: of reference-0.safetensors, it has 0 bytes", ""},
		{"a bit of a surrogate", "models/surrogate-0.safetensors", bit(-9), "surrogate-0 is made again: of surrogate-0.safetensors, its bytes are not those that were written", ""},
		{"a bit of a surrogate's logits", "logits/surrogate-1.safetensors", bit(-9), "surrogate-1 is made again", ""},
		{"a victim's logits", "logits/victim-000-attack-0.safetensors", cut(200), "victim-000-attack-0 is made again", ""},
		{"a model that is gone", "models/control-0.safetensors", gone, "control-0.safetensors, it is gone", ""},
		{"δ that was cut", "poisons/000/delta.safetensors", cut(300), "poisons/000 is made again: of delta.safetensors, it has 300 bytes", ""},
		{"a poison that is gone", "poisons/000/after/0003.png", gone, "poisons/000 is made again: of 0003.png, it is gone", ""},
		{"a manifest's bit", "poisons/000/manifest.json", bit(50), "poisons/000 is made again: of manifest.json", ""},
		{"a target's picture", "targets/000-0.png", bit(-20), "targets/000-0.png is made again", ""},
		{"a result's bit", "result.json", bit(500), "result.json is made again", ""},
		{"half of the journal", journal.File, func(t *testing.T, file string) { cut(size(t, file)/2+3)(t, file) }, "the journal does not know it", ""},
		{"a bit of the journal", journal.File, func(t *testing.T, file string) { flip(t, file, int(size(t, file)/2)) }, "journal.jsonl: 1 line makes no sense", ""},
		{"a line that was left unfinished", journal.File, func(t *testing.T, file string) { cut(size(t, file)-30)(t, file) }, "journal.jsonl: 1 line makes no sense", ""},
		{"a bit of the configuration", configFile, bit(-30), "", "config.json is damaged: its bytes are not those that were written; put back a copy of it, or begin anew"},
		{"no journal", journal.File, gone, "", "there is no journal.jsonl, so what the folder holds cannot be checked"},
		{"a journal of no bytes", journal.File, cut(0), "", "config.json is damaged: the journal does not know it"},
		{"a folder of an older gocp", journal.File, func(t *testing.T, file string) {
			gone(t, file)
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), configFile), []byte(`{"schema": 1, "identity": "ab", "config": {}}`), 0o666); err != nil {
				t.Fatal(err)
			}
		}, "", "an older gocp, which kept no journal of its files, began this run"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := copyTree(t, whole)
			c.damage(t, filepath.Join(dir, c.file))
			before := contents(t, dir)
			said, err := smallestRun(t, dev, dir, true)
			if c.refusal != "" {
				if !usage.Is(err) || !strings.Contains(err.Error(), c.refusal) {
					t.Errorf("refused with %v, want %q", err, c.refusal)
				}
				if contents(t, dir) != before {
					t.Error("the refused folder was changed")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, c.note) }) {
				t.Errorf("said %q, want %q", said, c.note)
			}
			if got, want := contents(t, dir), contents(t, whole); got != want {
				t.Errorf("resumed:\n%s\nwhole:\n%s", got, want)
			}
		})
	}
	if said, err := smallestRun(t, dev, copyTree(t, whole), true); err != nil || len(said) > 0 {
		t.Errorf("nothing was damaged: %q, %v", said, err)
	}
	t.Run("export", func(t *testing.T) {
		dir := copyTree(t, whole)
		gone(t, filepath.Join(dir, "poisons/000/after/0003.png"))
		if _, err := Export(dir, miniatureData(t)); !usage.Is(err) || !strings.Contains(err.Error(), "poisons/000/after/0003.png is damaged: it is gone; gocp audit --resume") {
			t.Errorf("%v", err)
		}
	})
	t.Run("report", func(t *testing.T) {
		dir := copyTree(t, whole)
		flip(t, filepath.Join(dir, result.File), 700)
		if _, err := result.Load(dir); !usage.Is(err) || !strings.Contains(err.Error(), "result.json is damaged: its bytes") {
			t.Errorf("%v", err)
		}
		dir = copyTree(t, whole)
		cut(60)(t, filepath.Join(dir, "poisons/000/after/0001.png"))
		if _, err := result.Load(dir); !usage.Is(err) || !strings.Contains(err.Error(), "poisons/000/after/0001.png is damaged: it has 60 bytes") {
			t.Errorf("%v", err)
		}
	})
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// What is computed again and comes out otherwise ends the run.
func TestOtherBytesTheSecondTime(t *testing.T) {
	dev := testkit.Open(t)
	dir := filepath.Join(t.TempDir(), "run")
	if _, err := smallestRun(t, dev, dir, false); err != nil {
		t.Fatal(err)
	}
	// A journal that remembers another file than the one that training gives.
	file := filepath.Join(dir, logitsFile("control-0"))
	flip(t, file, -9)
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Replaced(logitsFile("control-0")), j.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := smallestRun(t, dev, dir, true); err == nil || !strings.Contains(err.Error(), "came out with other bytes than the first time") {
		t.Errorf("%v", err)
	}
}

func TestTwoAtOnce(t *testing.T) {
	dev := testkit.Open(t)
	dir := filepath.Join(t.TempDir(), "run")
	if _, err := smallestRun(t, dev, dir, false); err != nil {
		t.Fatal(err)
	}
	l, err := lock(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("another gocp is at work in this folder (process %d on ", os.Getpid())
	if _, err := smallestRun(t, dev, dir, true); !usage.Is(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
	if err := unlock(dir, l); err != nil {
		t.Fatal(err)
	}
	if _, err := smallestRun(t, dev, dir, true); err != nil {
		t.Error(err)
	}
}

// A run that was killed before it had begun left nothing that counts.
func TestKilledBeforeTheBeginning(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Begin(configFile, []byte("never written")), j.Close(),
		os.WriteFile(filepath.Join(dir, ".config.json.gocp-part-01234567"), []byte("{"), 0o666)); err != nil {
		t.Fatal(err)
	}
	if _, err := smallestRun(t, testkit.Open(t), dir, false); err != nil {
		t.Error(err)
	}
}
