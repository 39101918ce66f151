package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// planOf writes a plan whose base is tinyAudit.
func planOf(t *testing.T, dir, rest string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("base:\n")
	for i := 1; i < len(tinyAudit); i++ {
		name, ok := strings.CutPrefix(tinyAudit[i], "--")
		if !ok {
			t.Fatalf("%q is no flag", tinyAudit[i])
		}
		value := "true"
		if i+1 < len(tinyAudit) && !strings.HasPrefix(tinyAudit[i+1], "--") {
			i++
			value = tinyAudit[i]
		}
		b.WriteString("  " + name + ": " + value + "\n")
	}
	if err := os.WriteFile(filepath.Join(dir, "plan.yaml"), []byte(b.String()+rest), 0o666); err != nil {
		t.Fatal(err)
	}
}

func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

// The audits of a sweep are those that each by itself gives; what they share is made once.
func TestSweep(t *testing.T) {
	dir := workFolder(t)
	planOf(t, dir, "axes:\n  plain: [false, true]\n")
	o := succeeds(t, dir, "sweep", "plan.yaml", "--out", "sw", "--dry-run")
	if !strings.Contains(o.stdout, "2 audits, 0 done") {
		t.Errorf("dry run:\n%s", o.stdout)
	}
	if _, err := os.Stat(filepath.Join(dir, "sw")); err == nil {
		t.Error("a dry run made a folder")
	}
	o = succeeds(t, dir, "sweep", "plan.yaml", "--out", "sw", "--quiet")
	if !strings.Contains(o.stdout, "attack − randun") || !strings.Contains(string(read(t, dir, "sw", tableFile)), "true,randga,") {
		t.Errorf("stdout:\n%s", o.stdout)
	}
	alone := append([]string{"audit", "--out", "alone", "--plain", "--quiet"}, tinyAudit[1:]...)
	succeeds(t, dir, alone...)
	shared := one(t, filepath.Join(dir, "sw/points/plain=true-*"))
	for _, name := range []string{"result.json", "poisons/000/manifest.json", "models/surrogate-0.safetensors", "logits/victim-001-attack-0.safetensors"} {
		if string(read(t, dir, "alone", name)) != string(read(t, shared, name)) {
			t.Errorf("%s is another one than that of the audit alone", name)
		}
	}
	a, errA := os.Stat(filepath.Join(shared, "models/surrogate-0.safetensors"))
	b, errB := os.Stat(filepath.Join(one(t, filepath.Join(dir, "sw/points/plain=false-*")), "models/surrogate-0.safetensors"))
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Errorf("the surrogate was trained twice: %v, %v", errA, errB)
	}

	// A point that is gone comes back from the store; a changed plan keeps what fits.
	want := string(read(t, shared, "result.json"))
	if err := os.RemoveAll(shared); err != nil {
		t.Fatal(err)
	}
	if o := succeeds(t, dir, "sweep", "status", "sw"); !strings.Contains(o.stdout, "plain=true: not begun\n1 of 2 audits are done") {
		t.Errorf("status:\n%s", o.stdout)
	}
	planOf(t, dir, "axes:\n  plain: [true]\n")
	succeeds(t, dir, "sweep", "plan.yaml", "--out", "sw", "--quiet")
	if string(read(t, shared, "result.json")) != want {
		t.Error("the audit came back otherwise")
	}
	if o := succeeds(t, dir, "sweep", "report", "sw"); !strings.Contains(o.stdout, "true") || strings.Contains(o.stdout, "not finished") {
		t.Errorf("report:\n%s", o.stdout)
	}
}

func TestBadSweeps(t *testing.T) {
	dir := workFolder(t)
	for _, c := range []struct {
		plan, want string
	}{
		{"axes:\n  budgte: [0.1]\n", `there is no field "budgte"`},
		{"axes:\n  workers: [1, 2]\n", `there is no field "workers"`},
		{"axes:\n  score: [hps, xyz]\n", "score=xyz: "},
		{"axes:\n  attackers: [1, 1.5]\n", "attackers=1.5: "},
		{"axes:\n  plain: [true]\n  sam-rho: [0.1]\n", "--sam-rho does nothing here"},
		{"axes:\n  miscoverage: [0.1, 0.001]\n", "miscoverage=0.001: "},
		{"axes:\n  coarse: [true]\n", "coarse=true: "},
		{"points:\n- {}\n", "an entry has no field"},
		{"points:\n- {align: sum}\n- {start: uniform}\n", "it is the same audit as align=sum"},
	} {
		planOf(t, dir, c.plan)
		o := gocp(t, dir, "sweep", "plan.yaml", "--out", "sw")
		if o.code != exitUsage || !strings.Contains(o.stderr, c.want) || !strings.Contains(o.stderr, "plan.yaml:") {
			t.Errorf("%q: status %d: %s", c.plan, o.code, o.stderr)
		}
		if _, err := os.Stat(filepath.Join(dir, "sw")); err == nil {
			t.Fatalf("%q: something was made", c.plan)
		}
	}
	planOf(t, dir, "axes:\n  plain: [true]\n")
	for _, args := range [][]string{{"sweep"}, {"sweep", "plan.yaml"}, {"sweep", "none.yaml", "--out", "sw"}, {"sweep", "plan.yaml", "plan.yaml", "--out", "sw"},
		{"sweep", "status"}, {"sweep", "status", "nowhere"}, {"sweep", "report", "nowhere", "--out", "sw"}, {"sweep", "plan.yaml", "--out", "."}} {
		if o := gocp(t, dir, args...); o.code != exitUsage || strings.Count(o.stderr, "\n") != 1 {
			t.Errorf("%v: status %d: %s", args, o.code, o.stderr)
		}
	}
}
