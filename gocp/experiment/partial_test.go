package experiment

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/progress"
)

// An audit that is stopped after every epoch and every crafting step does none of them twice, and ends with
// the bytes of one that is not stopped; neither does one that dies at checkpoints.
func TestStoppedAfterEveryUnit(t *testing.T) {
	if testing.Short() {
		t.Skip("many runs")
	}
	dev := testkit.Open(t)
	for name, change := range map[string]func(*Config){
		"plain":         func(*Config) {},
		"defence":       func(c *Config) { c.Defense = "loss" },
		"epic":          func(c *Config) { c.Defense, c.Training.Fraction = "loss,epic", 0.4 },
		"poisoning":     func(c *Config) { c.Defense, c.Training.Steps = "adversarial-poisoning", 2 },
		"private":       func(c *Config) { c.Defense = "dp-sgd" },
		"second order":  func(c *Config) { c.Craft = attack.Config{Steps: 2, Order: 2} },
		"budget search": func(c *Config) { c.Budget = BudgetAuto; c.Craft.Restarts = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := miniature()
			cfg.Workers = 1
			change(&cfg)
			units := func(tally *progress.Tally) int { return tally.Counts()[TallyEpochs] + tally.Counts()[TallySteps] }
			root := t.TempDir()
			var whole progress.Tally
			if _, err := Audit(context.Background(), dev, cfg, miniatureData(t), Options{Dir: filepath.Join(root, "whole"), Version: "test", Tally: &whole}); err != nil {
				t.Fatal(err)
			}
			var parts progress.Tally
			dir, stops := filepath.Join(root, "parts"), 0
			for {
				ctx, cancel := context.WithCancel(context.Background())
				_, err := Audit(ctx, dev, cfg, miniatureData(t), Options{Dir: dir, Resume: true, Version: "test", Tally: &parts, Progress: &stopper{left: 1, cancel: cancel}})
				cancel()
				if err == nil {
					break
				}
				if !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				if stops++; stops > 2*units(&whole) {
					t.Fatal("the run gets nowhere")
				}
			}
			if got, want := units(&parts), units(&whole); got != want {
				t.Errorf("in %d parts %d epochs and steps were done, at once %d", stops+1, got, want)
			}
			if got, want := contents(t, dir), contents(t, filepath.Join(root, "whole")); got != want {
				t.Errorf("in parts:\n%s\nwhole:\n%s", got, want)
			}
		})
	}
}

// A checkpoint that was damaged, or is another run's, is said and not used.
func TestDamagedCheckpoint(t *testing.T) {
	dev := testkit.Open(t)
	root := t.TempDir()
	if _, err := smallestRun(t, dev, filepath.Join(root, "whole"), false); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "parts")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := Audit(ctx, dev, smallest(), miniatureData(t), Options{Dir: dir, Version: "test", Progress: &stopper{left: 3, cancel: cancel}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, partialDir, "*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		flip(t, file, int(size(t, file)/2))
	}
	said, err := smallestRun(t, dev, dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(said) != len(files) || !strings.Contains(said[0], "the checkpoint of ") || !strings.Contains(said[0], "is damaged or another's; it begins anew") {
		t.Errorf("%d checkpoints were damaged; said %q", len(files), said)
	}
	if got, want := contents(t, dir), contents(t, filepath.Join(root, "whole")); got != want {
		t.Errorf("in parts:\n%s\nwhole:\n%s", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, partialDir)); !os.IsNotExist(err) {
		t.Errorf("the folder of checkpoints: %v", err)
	}
}

// A disk without room for a checkpoint is said, and the work goes on.
func TestNoRoomForCheckpoints(t *testing.T) {
	defer func(d time.Duration) { checkpointEvery = d }(checkpointEvery)
	checkpointEvery = 0
	dev := testkit.Open(t)
	root := t.TempDir()
	dir := filepath.Join(root, "run")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	n := &notes{Reporter: progress.Discard}
	blocked := &blocker{notes: n, file: filepath.Join(dir, partialDir)}
	if _, err := Audit(context.Background(), dev, smallest(), miniatureData(t), Options{Dir: dir, Version: "test", Progress: blocked}); err != nil {
		t.Fatal(err)
	}
	if len(n.lines) != 1 || !strings.Contains(n.lines[0], "no checkpoint of ") {
		t.Errorf("said %.400q", n.lines)
	}
}

// blocker puts a file where the folder of checkpoints would be, once the run has begun.
type blocker struct {
	*notes
	file string
}

func (b *blocker) Phase(name string, total int) progress.Task {
	if _, err := os.Stat(b.file); os.IsNotExist(err) {
		_ = os.WriteFile(b.file, nil, 0o666)
	}
	return b.notes.Phase(name, total)
}
