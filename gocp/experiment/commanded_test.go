package experiment

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/trainer"
	"github.com/gocp/gocp/gocp/trainer/trainertest"
	"github.com/gocp/gocp/gocp/usage"
)

func TestMain(m *testing.M) {
	trainertest.Main()
	os.Exit(m.Run())
}

// Victims and benign models by a command: surrogates and poisons stay gocp's, the bytes depend neither on
// how many run at once nor on interruptions, and the program is not told what it trains for.
func TestCommandedAudit(t *testing.T) {
	dev := testkit.Open(t)
	root := t.TempDir()
	plain, one, two := filepath.Join(root, "plain"), filepath.Join(root, "one"), filepath.Join(root, "two")
	c := tiny()
	without := audit(t, dev, c, plain)
	c.VictimCommand = trainertest.Words()
	c.Workers, c.VictimsAtOnce = 1, 1
	r := audit(t, dev, c, one)
	c.Workers, c.VictimsAtOnce = 2, 3
	stops := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Audit(ctx, dev, c, tinyData(t), Options{Dir: two, Resume: true, Version: "test", Progress: &stopper{left: 90, cancel: cancel}})
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || stops > 50 {
			t.Fatal(err)
		}
		stops++
	}
	if stops == 0 {
		t.Error("the run was not interrupted")
	}
	if a, b := contents(t, one), contents(t, two); a != b {
		t.Errorf("one at once:\n%s\nthree, interrupted %d times:\n%s", a, stops, b)
	}

	shared := filepath.Join(root, "shared")
	for i := range 6 { // of two shards in turn, which wait for each other
		err := RunShard(t.Context(), dev, c, tinyData(t), Options{Dir: shared, Shard: Shard{Index: i % 2, Of: 2}, Version: "test"})
		if left := new(Unfinished); err != nil && !errors.As(err, &left) {
			t.Fatal(err)
		}
	}
	if _, err := Collect(t.Context(), dev, c, tinyData(t), Options{Dir: shared, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	if a, b := contents(t, one), contents(t, shared); a != b {
		t.Errorf("one process:\n%s\ntwo shards:\n%s", a, b)
	}

	line := trainer.Line([]string{filepath.Base(os.Args[0]), c.VictimCommand[1]})
	for _, cmd := range []*result.Command{r.Config.VictimCommand, r.Config.ReferenceCommand} {
		if cmd == nil || cmd.Line != line || len(cmd.Files) != 1 {
			t.Errorf("the record has the command %+v, want %s", cmd, line)
		}
	}
	if r.Config.VictimModel != "" || without.Config.VictimCommand != nil || without.Config.VictimModel == "" {
		t.Errorf("victims are %q and, without a command, %+v", r.Config.VictimModel, without.Config.VictimCommand)
	}
	for _, m := range r.Models {
		commanded := m.Role != roleSurrogate
		if commanded != (m.Spec == line) || commanded != (m.SHA256 == "") || m.Accuracy < 0.4 || commanded && m.Seed >= trainer.MaxSeed {
			t.Errorf("%+v", m)
		}
	}
	for g, rep := range r.Repeats {
		if rep.Poisons.SHA256 != without.Repeats[g].Poisons.SHA256 {
			t.Errorf("the poisons of group %d depend on who trains the victims", g)
		}
	}
	said := func(name string) string {
		b, err := os.ReadFile(filepath.Join(one, outputDir, name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if a, b := said(victimName(0, result.Attack, 1)), said(victimName(0, result.RandUn, 1)); a != b || !strings.Contains(a, `"seed"`) {
		t.Errorf("under attack a program is told\n%s\nand under uniform noise\n%s", a, b)
	}
	if said(victimName(0, result.Attack, 0)) == said(victimName(0, result.Attack, 1)) {
		t.Error("two victims have one seed")
	}
	if _, err := os.Stat(filepath.Join(one, jobsDir)); err == nil {
		t.Error("folders of jobs are left")
	}
	if c, _, err := LoadConfig(one); err != nil || c.VictimCommand[0] != trainertest.Words()[0] {
		t.Errorf("the folder's configuration has the command %q, %v", c.VictimCommand, err)
	}
}

// Where a job's folder lies does not tell the condition.
func TestBlindNames(t *testing.T) {
	r := &run{cfg: Config{Seed: 3}}
	seen := map[string]bool{}
	for _, c := range result.Conditions {
		for v := range 3 {
			name := r.blindName(modelJob{name: victimName(0, c, v)})
			if seen[name] || len(name) != 16 || strings.Trim(name, "0123456789abcdef") != "" {
				t.Errorf("%s, %d: %s", c, v, name)
			}
			seen[name] = true
		}
	}
}

// A program that does something wrong ends the audit with a sentence; what was done is kept, and with the
// program mended it ends with the same bytes.
func TestCommandThatFails(t *testing.T) {
	dev := testkit.Open(t)
	root := t.TempDir()
	c := tiny()
	c.Repeats, c.Victims, c.Conditions = 1, 1, []result.Condition{result.Attack, result.RandUn}
	c.VictimCommand, c.ReferenceCommand = trainertest.Words("probabilities"), trainertest.Words()
	r := audit(t, dev, c, filepath.Join(root, "whole"))
	if v, b := r.Config.VictimCommand.Line, r.Config.ReferenceCommand.Line; v == b {
		t.Errorf("victims and benign models were trained by %s", v)
	}
	dir := filepath.Join(root, "run")
	for _, bad := range []struct{ does, want string }{{"fail", "ended with exit status 3; its last lines: ValueError: as asked for; its folder is "},
		{"nan", ": logits of row 1: label 1 is NaN"}, {"slow", "took longer than 50ms and was ended"}} {
		t.Setenv(trainertest.Misbehave, bad.does)
		broken := c
		if bad.does == "slow" {
			broken.VictimTimeout = 50 * time.Millisecond
		}
		_, err := Audit(t.Context(), dev, broken, tinyData(t), Options{Dir: dir, Resume: true, Version: "test"})
		if err == nil || usage.Is(err) || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v", bad.does, err)
		}
	}
	t.Setenv(trainertest.Misbehave, "")
	audit := func(c Config) error {
		_, err := Audit(t.Context(), dev, c, tinyData(t), Options{Dir: dir, Resume: true, Version: "test"})
		return err
	}
	if err := audit(c); err != nil {
		t.Fatal(err)
	}
	if a, b := contents(t, filepath.Join(root, "whole")), contents(t, dir); a != b {
		t.Errorf("whole:\n%s\nafter failures:\n%s", a, b)
	}
}

// What a command is goes into the run's identity: its words, and the bytes of the files that they name,
// wherever these lie.
func TestCommandsIdentity(t *testing.T) {
	dev := testkit.Open(t)
	root := t.TempDir()
	t.Chdir(root)
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("a/settings", "lr 0.1")
	write("b/settings", "lr 0.1")
	write("c/settings", "lr 0.2")
	if two, err := trainer.Resolve([]string{"sh", "a/settings", "c/settings"}); err != nil || len(commandRecord(two).Files) != 2 {
		t.Errorf("of two files with one name the record has %+v, %v", commandRecord(two).Files, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := tiny()
	try := func(args ...string) error {
		c.VictimCommand = trainertest.Words(args...)
		_, err := Audit(ctx, dev, c, tinyData(t), Options{Dir: "run", Resume: true})
		return err
	}
	for _, args := range [][]string{{"a/settings"}, {"a/settings"}, {"b/settings"}} {
		if err := try(args...); !errors.Is(err, context.Canceled) {
			t.Fatalf("%q: %v", args, err)
		}
	}
	for _, x := range []struct {
		args []string
		want string
	}{{[]string{"c/settings"}, "settings of the victim command (SHA-256) "}, {[]string{"a/settings", "--more"}, "victim command "},
		{nil, "settings of the victim command (SHA-256) nothing, was "}} {
		if err := try(x.args...); !usage.Is(err) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q: %v; want %q", x.args, err, x.want)
		}
	}
	c.VictimCommand = []string{"./gone"}
	if _, err := Audit(ctx, dev, c, tinyData(t), Options{Dir: "other"}); !usage.Is(err) || !strings.Contains(err.Error(), "program ./gone cannot be started") {
		t.Error(err)
	}
	if _, err := os.Stat("other"); err == nil {
		t.Error("a folder was made for a command that cannot be started")
	}
}

func TestCommandsConfig(t *testing.T) {
	for _, x := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.VictimCommand, c.ReferenceCommand = nil, []string{"x"} }, "none for the victims"},
		{func(c *Config) { c.Defense = "loss" }, "the defence loss is part of how gocp trains"},
		{func(c *Config) { c.VictimTimeout = -1 }, "above 0"},
		{func(c *Config) { c.VictimsAtOnce = -2 }, "-2 victims at once"},
	} {
		c := tiny()
		c.VictimCommand = []string{"x"}
		x.change(&c)
		if err := c.WithDefaults().Validate(); !usage.Is(err) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v; want %q", err, x.want)
		}
	}
}

func TestTryCommand(t *testing.T) {
	d := tinyData(t)
	tr, err := TryCommand(t.Context(), trainertest.Words(), d, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Train != 64 || tr.Calibration != 48 || tr.Test != 32 || tr.Kind != trainer.Logits || !tr.SameAgain || tr.SameOther || tr.Right < 10 {
		t.Errorf("%+v", tr)
	}
	t.Setenv(trainertest.Misbehave, "nan")
	_, err = TryCommand(t.Context(), trainertest.Words(), d, time.Minute)
	if err == nil || usage.Is(err) || !strings.Contains(err.Error(), "label 1 is NaN; its folder is ") {
		t.Fatal(err)
	}
	_, dir, _ := strings.Cut(err.Error(), "its folder is ")
	if _, err := os.Stat(filepath.Join(dir, "job.json")); err != nil {
		t.Error(err)
	}
	_ = os.RemoveAll(filepath.Dir(dir))
}
