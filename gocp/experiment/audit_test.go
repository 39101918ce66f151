package experiment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/journal"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

func tinyData(t *testing.T) Data {
	return Data{Train: testkit.Quarters(t, "/data/blobs", 500, 1), Test: testkit.Quarters(t, "blobs", 160, 2), Origin: "noise"}
}

func tiny() Config {
	return Config{Seed: 3, Repeats: 2, Victims: 2, Surrogates: 2, References: 2, Controls: 1, TrainSize: 160, CalSize: 60,
		Candidates: 200, Budget: "0.1", Victim: Model{Width: 4}, VictimTrain: Train{Epochs: 20, Batch: 10, LR: 0.02},
		Craft: attack.Config{Steps: 4}}
}

func audit(t *testing.T, dev *device.Device, c Config, dir string) *result.Result {
	t.Helper()
	r, err := Audit(context.Background(), dev, c, tinyData(t), Options{Dir: dir, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// contents hashes every file of a run folder, apart from clock times, telemetry, and locks, journals, whose
// lines come in the order of the work.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) || err == nil && d.IsDir() && (d.Name() == shardsDir || d.Name() == ownersDir) {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || d.Name() == clockFile || d.Name() == journal.File || d.Name() == result.TimingsFile || d.Name() == result.TelemetryFile {
			return err
		}
		content, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %x\n", rel, sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// inTest counts the targets that are test images.
func inTest(r *result.Result) int {
	n := 0
	for _, rep := range r.Repeats {
		for _, t := range rep.Targets {
			if strings.HasPrefix(t.Why, "test image") {
				n++
			}
		}
	}
	return n
}

func TestAuditIsReproducible(t *testing.T) {
	dev := testkit.Open(t)
	root := t.TempDir()
	one, two := filepath.Join(root, "one"), filepath.Join(root, "two")
	c := tiny()
	c.Workers = 1
	r := audit(t, dev, c, one)
	c.Workers = 3
	audit(t, dev, c, two)
	if a, b := contents(t, one), contents(t, two); a != b {
		t.Errorf("one worker:\n%s\nthree workers:\n%s", a, b)
	}

	if len(r.Repeats) != 2 || len(r.Models) != 5 {
		t.Fatalf("%d repeats, %d models", len(r.Repeats), len(r.Models))
	}
	for _, rep := range r.Repeats {
		if n := len(rep.Victims); n != 2+2+1+1 {
			t.Errorf("group %d has %d victims", rep.ID, n)
		}
		if rep.Poisons.Count != 16 || rep.Poisons.MaxAbs > 16 || len(rep.Poisons.Restarts[0].Phi) != 4 {
			t.Errorf("group %d: poisons %+v", rep.ID, rep.Poisons)
		}
		phi := rep.Poisons.Restarts[0].Phi
		if rep.Poisons.Phi <= phi[0] {
			t.Errorf("group %d: crafting took Φ from %v to %v", rep.ID, phi[0], rep.Poisons.Phi)
		}
		for _, v := range rep.Victims {
			if v.Test.N != 160-inTest(r) || len(v.Outcomes) != 1 {
				t.Errorf("group %d: victim %+v", rep.ID, v)
			}
		}
	}
	back, err := result.Load(one)
	if err != nil || len(back.Timings) == 0 {
		t.Errorf("the folder's result: %v", err)
	}
	if r.Dataset.Name != "blobs" {
		t.Errorf("data set %q: the result does not say where the files lie", r.Dataset.Name)
	}
	if cfg, name, err := LoadConfig(one); err != nil || name.Name != "/data/blobs" || cfg.TrainSize != 160 {
		t.Errorf("the folder's configuration: %+v, %q, %v", cfg, name.Name, err)
	}
}

// stopper cancels a run after a number of units of work.
type stopper struct {
	mu     sync.Mutex
	left   int
	cancel context.CancelFunc
}

func (s *stopper) Phase(string, int) progress.Task { return s }
func (s *stopper) Note(string, ...any)             {}
func (s *stopper) Detail(string, ...any)           {}
func (s *stopper) Done()                           {}
func (s *stopper) Add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left -= n; s.left <= 0 {
		s.cancel()
	}
}

func TestInterruptedAuditResumesToTheSameBytes(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"one kind": func(*Config) {},
		"three kinds of surrogates, trained as the field trains": func(c *Config) {
			c.Surrogate = Kinds{{}, {Arch: "convnet", Width: 6, Stem: "pool", BatchNorm: true}, {Arch: "resnet18", Width: 2}}
			c.Surrogates, c.Repeats = 4, 1
			c.VictimTrain = Train{Epochs: 12, Batch: 10, LR: 0.03, Schedule: "cosine", Warmup: 1, Nesterov: new(true), Shift: 1, Pad: "reflect", Flip: new(true)}
		},
		"second order": func(c *Config) {
			c.Craft = attack.Config{Steps: 3, Order: 2, Second: attack.SecondOrder{Preconditioner: "kfac"}}
		},
		"labels in rounds": func(c *Config) { c.Craft = attack.Config{Poison: attack.PoisonLabels, Rounds: 2} },
		"metapoison": func(c *Config) {
			c.Craft = attack.Config{Method: attack.MethodMetaPoison, Steps: 3, Meta: attack.MetaPoison{Ages: 2}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := tiny()
			c.Workers = 2
			change(&c)
			resumesToTheSameBytes(t, c)
		})
	}
}

func resumesToTheSameBytes(t *testing.T, c Config) {
	dev := testkit.Open(t)
	root := t.TempDir()
	whole, parts := filepath.Join(root, "whole"), filepath.Join(root, "parts")
	r := audit(t, dev, c, whole)
	if kinds := max(1, len(c.Surrogate)); len(r.Config.MoreSurrogates) != kinds-1 || r.Config.Surrogates != max(2, kinds) {
		t.Errorf("%d kinds of surrogates: the result says %d surrogates and %+v", kinds, r.Config.Surrogates, r.Config.MoreSurrogates)
	}
	for i := range c.Surrogates {
		if m := r.Models[i]; len(c.Surrogate) > 0 && !strings.HasPrefix(m.Spec, "arch="+cmp.Or(c.Surrogate[i%len(c.Surrogate)].Arch, "convnet")) {
			t.Errorf("surrogate %d is %s", i, m.Spec)
		}
	}
	stops := 0
	for {
		ctx, cancel := context.WithCancel(context.Background())
		_, err := Audit(ctx, dev, c, tinyData(t), Options{Dir: parts, Resume: true, Version: "test", Progress: &stopper{left: 50, cancel: cancel}})
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		// What a killed process leaves behind.
		if err := os.WriteFile(filepath.Join(parts, logitsDir, ".x.safetensors.gocp-part-01234567"), []byte("half"), 0o666); err != nil {
			t.Fatal(err)
		}
		if stops++; stops > 50 {
			t.Fatal("the run gets nowhere")
		}
	}
	if stops < 2 {
		t.Errorf("stopped %d times", stops)
	}
	if a, b := contents(t, whole), contents(t, parts); a != b {
		t.Errorf("whole:\n%s\nin parts:\n%s", a, b)
	}
}

func TestFolderOfAnotherRun(t *testing.T) {
	dev := testkit.Open(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Audit(ctx, dev, tiny(), tinyData(t), Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Config)
		resume bool
		text   string
	}{
		{func(*Config) {}, false, "holds this run already"},
		{func(c *Config) { c.Seed++ }, true, "holds another run (seed 4, was 3)"},
		{func(c *Config) { c.Craft.Steps++ }, false, "holds another run (crafting steps 5, was 4)"},
	} {
		cfg := tiny()
		c.change(&cfg)
		_, err := Audit(ctx, dev, cfg, tinyData(t), Options{Dir: dir, Resume: c.resume})
		if !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "thesis.tex"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Audit(ctx, dev, tiny(), tinyData(t), Options{Dir: other}); !usage.Is(err) || !strings.Contains(err.Error(), "other files") {
		t.Errorf("a folder of other files: %v", err)
	}
}

// Every goal, score, loss and alignment goes through.
func TestVariants(t *testing.T) {
	dev := testkit.Open(t)
	for name, change := range map[string]func(*Config){
		"underconfidence": func(c *Config) {
			c.Goal, c.Score = attack.GoalConfig{Name: "underconfidence", Count: 2}, conformal.Variant{Name: "aps", U: conformal.DrawSample}
		},
		"auto budget": func(c *Config) { c.Goal, c.Budget = attack.GoalConfig{Name: "add", Labels: []int{0}}, BudgetAuto },
		"unequal": func(c *Config) {
			c.Goal, c.Targets, c.Subgroups = attack.GoalConfig{Name: "unequal"}, 2, Subgroups{By: SubgroupClasses}
		},
		"remove truth": func(c *Config) { c.Goal, c.WhiteBox = attack.GoalConfig{Name: "remove", True: true}, true },
		"sum, gradnorm, quantile": func(c *Config) {
			c.Craft = attack.Config{Steps: 3, Align: "sum", Bases: "gradnorm", Loss: "softquantile", Restarts: 2, Start: "normal"}
		},
		"batch, augmented, random": func(c *Config) {
			c.Craft = attack.Config{Steps: 3, Align: "batch", Batch: 5, Bases: "random", Shift: 1, Flip: true, SAMP: result.Number(math.Inf(1)), SAMSteps: 2}
			c.Victim.BatchNorm, c.VictimTrain.Shift = true, 1
		},
		"second order": func(c *Config) {
			c.Craft = attack.Config{Steps: 3, Order: 2, Second: attack.SecondOrder{Damping: attack.DampingAuto}}
		},
		"raps, plain, window": func(c *Config) {
			c.Score, c.Craft = conformal.Variant{Name: "raps", Lambda: .01, KReg: 1}, attack.Config{Steps: 3, Plain: true, Window: 9, Threshold: attack.ThresholdMoving}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := tiny()
			c.Repeats, c.Victims, c.References, c.Conditions = 1, 1, 1, []result.Condition{result.Attack}
			change(&c)
			c.Goal.Size = 0
			r := audit(t, dev, c, filepath.Join(t.TempDir(), "run"))
			p := r.Repeats[0].Poisons
			if phi := p.Restarts[p.Best].Phi; p.Phi <= phi[0] {
				t.Errorf("crafting took Φ from %v to %v", phi[0], p.Phi)
			}
			if second := c.Craft.Order == 2; second != (r.Config.Craft.Order == "second") || second != (r.Config.Craft.Second != nil) || second != (len(p.Solves) == r.Config.Surrogates) {
				t.Errorf("order %q, %+v, solves %+v", r.Config.Craft.Order, r.Config.Craft.Second, p.Solves)
			}
		})
	}
}

// An image that a model trained or calibrated on is no fair target, and copies are such images.
func TestCopiesAreNoTargets(t *testing.T) {
	dev := testkit.Open(t)
	d, c := tinyData(t), tiny()
	before, err := newSplits(c.WithDefaults(), d)
	if err != nil {
		t.Fatal(err)
	}
	if len(before.copied) != 0 {
		t.Fatalf("%d copies in noise", len(before.copied))
	}
	const copies = 80
	c.Repeats = 1
	for i := range copies {
		p := []part{before.train, before.cal, before.auxTrain, before.auxCal}[i%4]
		at := p.index[i/4]
		copy(d.Train.Image(at), d.Test.Image(i))
		d.Train.Labels[at] = d.Test.Labels[i]
	}
	d.Train.SHA256 = d.Train.Hash()
	r, err := Audit(context.Background(), dev, c, d, Options{Dir: filepath.Join(t.TempDir(), "run"), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Dataset.Copies != copies {
		t.Errorf("%d candidates were left out, not %d", r.Dataset.Copies, copies)
	}
	for _, rep := range r.Repeats {
		for _, target := range rep.Targets {
			if strings.HasPrefix(target.Why, "test image") && target.ID < copies {
				t.Errorf("test image %d is a target, and a training image", target.ID)
			}
		}
	}
	c.Repeats = 60
	if _, err := Audit(context.Background(), dev, c, d, Options{Dir: filepath.Join(t.TempDir(), "run"), Version: "test"}); err == nil || !strings.Contains(err.Error(), "(80 are left out as exact copies") {
		t.Errorf("%v", err)
	}
}
