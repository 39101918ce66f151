package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/trainer"
	"github.com/gocp/gocp/gocp/trainer/trainertest"
)

// trainerLine is this test's program as a command that trains.
func trainerLine(args ...string) string { return trainer.Line(trainertest.Words(args...)) }

func TestVictimCommand(t *testing.T) {
	dir := workFolder(t)
	args := append(slices.Clone(tinyAudit), "--repeats", "1", "--victims", "1", "--victim-command", trainerLine(), "--out", "run")
	t.Setenv(trainertest.Misbehave, "fail")
	o := gocp(t, dir, append(args, "--quiet")...)
	if line := sentence(t, o); o.code != exitFailed || !strings.Contains(line, "its last lines: ValueError: as asked for; its folder is run/jobs/") ||
		!strings.HasSuffix(line, "what is done is kept: gocp audit --resume --out run goes on where this stopped") {
		t.Errorf("status %d: %s", o.code, line)
	}
	t.Setenv(trainertest.Misbehave, "slow")
	o = gocp(t, dir, "audit", "--resume", "--out", "run", "--quiet", "--victim-timeout", "100ms")
	if line := sentence(t, o); o.code != exitFailed || !strings.Contains(line, "took longer than 100ms and was ended") {
		t.Errorf("status %d: %s", o.code, line)
	}
	t.Setenv(trainertest.Misbehave, "")
	refuses(t, dir, "run holds another run (victim command ", "audit", "--resume", "--out", "run", "--victim-command", trainerLine("--lr", "1"))
	o = succeeds(t, dir, "audit", "--resume", "--out", "run", "--victims-at-once", "2")
	if want := "Victims and benign models were trained by the command " + trainer.Line([]string{filepath.Base(self(t)), "as-trainer"}); !strings.Contains(strings.Join(strings.Fields(o.stdout), " "), want) {
		t.Errorf("stdout does not say %q:\n%s", want, o.stdout)
	}
	var r result.Result
	if err := json.Unmarshal(read(t, dir, "run", result.File), &r); err != nil || r.Config.VictimCommand == nil {
		t.Errorf("%+v, %v", r.Config.VictimCommand, err)
	}
	if page := string(read(t, dir, "run", reportFile)); !strings.Contains(page, "by the command "+filepath.Base(self(t))) {
		t.Error("the page does not say who trained the victims")
	}

	for _, c := range []struct {
		want string
		args []string
	}{
		{`--victim-command: "a | b" would need a shell for "a | b" at column 1`, []string{"--victim-command", "a | b"}},
		{"the command's program no-such-program cannot be started", []string{"--victim-command", "no-such-program train.py"}},
		{"there is a command for the benign models and none for the victims", []string{"--reference-command", "a"}},
		{"--victims-at-once does nothing here", []string{"--victims-at-once", "2"}},
		{"--victim-timeout does nothing here", []string{"--victim-timeout", "2s"}},
		{"--victim-timeout is -1s; it must be above 0", []string{"--victim-command", trainerLine(), "--victim-timeout", "-1s"}},
		{"--victims-at-once is 0; it must be at least 1", []string{"--victim-command", trainerLine(), "--victims-at-once", "0"}},
		{"the defence loss is part of how gocp trains", []string{"--victim-command", trainerLine(), "--defense", "loss"}},
	} {
		refuses(t, dir, c.want, append(append(slices.Clone(tinyAudit), "--out", "other"), c.args...)...)
	}
}

func TestVictimsCheck(t *testing.T) {
	dir := workFolder(t)
	o := succeeds(t, dir, "victims", "check", trainerLine(), "--data", "blobs.npz")
	if !strings.HasPrefix(o.stdout, "It works: ") || !strings.Contains(o.stdout, "left logits of 4 classes") || strings.Contains(o.stdout, "seed") {
		t.Errorf("stdout:\n%s", o.stdout)
	}
	o = succeeds(t, dir, "victims", "check", trainerLine("probabilities"), "--data", "blobs.npz", "--json")
	var tr struct {
		Kind      string
		SameAgain bool `json:"same_seed_same"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &tr); err != nil || tr.Kind != trainer.Probabilities || !tr.SameAgain {
		t.Errorf("%+v, %v:\n%s", tr, err, o.stdout)
	}
	refuses(t, dir, "takes one argument, the command in quotes", "victims", "check")
	refuses(t, dir, "takes one argument, the command in quotes", "victims", "check", "python", "train.py")
	refuses(t, dir, "would need a shell", "victims", "check", "python $A")
	refuses(t, dir, "--victim-timeout is 0s", "victims", "check", "python", "--victim-timeout", "0s")
	t.Setenv(trainertest.Misbehave, "slow")
	o = gocp(t, dir, "victims", "check", trainerLine(), "--data", "blobs.npz", "--victim-timeout", "100ms")
	line := sentence(t, o)
	if o.code != exitFailed || !strings.Contains(line, "took longer than 100ms and was ended; it said nothing; its folder is ") {
		t.Errorf("status %d: %s", o.code, line)
	}
	_, kept, _ := strings.Cut(line, "its folder is ")
	_ = os.RemoveAll(filepath.Dir(kept))
}
