package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// conformalData writes logits, labels and groups of n samples over three labels as CSV.
func conformalData(t testing.TB, dir, name string, n int) {
	t.Helper()
	var z, y, g strings.Builder
	for i := range n {
		label := i * 7 % 3
		row := [3]float64{float64(i*13%10) / 5, float64(i*29%11) / 5, float64(i*31%9) / 5}
		row[label] += float64(i*17%12) / 3
		fmt.Fprintf(&z, "%g,%g,%g\n", row[0], row[1], row[2])
		fmt.Fprintln(&y, label)
		fmt.Fprintln(&g, i%2)
	}
	for file, text := range map[string]string{"": z.String(), "_y": y.String(), "_g": g.String()} {
		if err := os.WriteFile(filepath.Join(dir, name+file+".csv"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConformal(t *testing.T) {
	dir := t.TempDir()
	conformalData(t, dir, "cal", 120)
	conformalData(t, dir, "test", 90)
	ok := func(args ...string) outcome {
		t.Helper()
		o := gocp(t, dir, append([]string{"conformal"}, args...)...)
		if o.code != exitOK {
			t.Fatalf("%v: status %d: %s", args, o.code, o.stderr)
		}
		return o
	}
	ok("calibrate", "--logits", "cal.csv", "--labels", "cal_y.csv", "--score", "aps", "--randomized=false", "--miscoverage", "0.1", "--out", "thr.json", "--quiet")
	ok("predict", "--threshold", "thr.json", "--logits", "test.csv", "--out", "sets.npy", "--quiet")
	if info, err := os.Stat(filepath.Join(dir, "sets.npy")); err != nil || info.Size() < 90*3 {
		t.Errorf("sets.npy: %v", err)
	}
	o := ok("evaluate", "--threshold", "thr.json", "--logits", "test.csv", "--labels", "test_y.csv", "--report", "e.html", "--json", "--quiet")
	var e struct {
		N        int
		Coverage struct{ Rate float64 }
		Sizes    []int
		Classes  []any
	}
	if err := json.Unmarshal([]byte(o.stdout), &e); err != nil || e.N != 90 || e.Coverage.Rate < 0.7 || len(e.Sizes) != 4 || len(e.Classes) != 3 || o.stderr != "" {
		t.Errorf("%+v, %v, stderr %q", e, err, o.stderr)
	}
	o = ok("evaluate", "--splits", "5", "--logits", "cal.csv", "--labels", "cal_y.csv", "--score", "hps", "--quiet")
	if !strings.Contains(o.stdout, "5 splits into 60 calibration and 60 test samples") {
		t.Error(o.stdout)
	}
	o = ok("compare", "--logits", "cal.csv", "--labels", "cal_y.csv", "--splits", "3", "--report", "c.html", "--quiet")
	for _, score := range []string{"hps", "margin", "aps", "raps", "saps"} {
		if !strings.Contains(o.stdout, "\n"+score) {
			t.Errorf("%s is not in %s", score, o.stdout)
		}
	}
	ok("calibrate", "--logits", "cal.csv", "--labels", "cal_y.csv", "--score", "raps", "--lambda", "auto", "--temperature", "auto", "--tune-share", "0.3", "--by", "class", "--out", "auto.json", "--quiet")
	ok("full", "--features", "cal.csv", "--labels", "cal_y.csv", "--test-features", "test.csv", "--test-labels", "test_y.csv", "--quiet")

	for _, name := range []string{"e.html", "c.html"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), "</html>") {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, dir, "short.csv", []byte(strings.Repeat("1\n0\n", 45)))
	folds := strings.Repeat("0\n1\n", 60)
	votes := strings.Repeat("3,1,1\n0,5,0\n1,1,3\n", 40)
	truth := strings.Repeat("1,0,0\n1,1,0\n0,0,1\n", 40)
	for name, text := range map[string]string{"folds.csv": folds, "votes.csv": votes, "truth.csv": truth} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for want, args := range map[string][]string{
		"proven to be":     {"cross", "--logits", "cal.csv", "--labels", "cal_y.csv", "--folds", "folds.csv", "--test-logits", "test.csv", "--test-logits", "test.csv", "--test-labels", "test_y.csv", "--quiet"},
		"moved by up to":   {"rscp", "--logits", "cal.csv", "--labels", "cal_y.csv", "--test-logits", "test.csv", "--sigma", "1", "--radius", "0.1", "--out", "s.npy", "--quiet"},
		"lose no label":    {"rps", "--votes", "votes.csv", "--labels", "cal_y.csv", "--parts", "folds.csv", "--test-votes", "votes.csv", "--training-radius", "1", "--out", "s.jsonl", "--threshold-out", "rps.json", "--quiet"},
		"true labels insi": {"risk", "--logits", "cal.csv", "--truth", "truth.csv", "--risk", "0.2", "--out", "risk.json", "--quiet"},
	} {
		if o := ok(args...); !strings.Contains(o.stdout, want) {
			t.Errorf("%v: %s", args, o.stdout)
		}
	}
	ok("predict", "--threshold", "risk.json", "--logits", "test.csv", "--out", "risk.csv", "--quiet")

	for want, args := range map[string][]string{
		"needs either --test-logits":          {"cross", "--logits", "cal.csv", "--labels", "cal_y.csv", "--folds", "folds.csv", "--out", "s.npy"},
		"files of test rows":                  {"cross", "--logits", "cal.csv", "--labels", "cal_y.csv", "--folds", "folds.csv", "--test-logits", "test.csv", "--out", "s.npy", "--quiet"},
		"as a number, not auto":               {"rscp", "--logits", "cal.csv", "--labels", "cal_y.csv", "--test-logits", "test.csv", "--sigma", "1", "--score", "raps", "--lambda", "auto", "--out", "s.npy"},
		"nowhere to write":                    {"rps", "--votes", "votes.csv", "--labels", "cal_y.csv", "--parts", "folds.csv", "--test-votes", "votes.csv", "--quiet"},
		"--risk is":                           {"risk", "--logits", "cal.csv", "--truth", "truth.csv", "--risk", "2", "--out", "risk.json"},
		"either --logits or --probs":          {"calibrate", "--labels", "cal_y.csv", "--out", "x.json"},
		"needs --out":                         {"calibrate", "--logits", "cal.csv", "--labels", "cal_y.csv"},
		"contradict":                          {"calibrate", "--logits", "cal.csv", "--labels", "cal_y.csv", "--score", "aps", "--randomized=false", "--u", "label", "--out", "x.json"},
		"must be a number or auto":            {"calibrate", "--logits", "cal.csv", "--labels", "cal_y.csv", "--score", "raps", "--lambda", "x", "--out", "x.json"},
		"both auto or both numbers":           {"calibrate", "--logits", "cal.csv", "--labels", "cal_y.csv", "--score", "raps", "--k-reg", "auto", "--out", "x.json"},
		"unknown score":                       {"calibrate", "--logits", "cal.csv", "--labels", "cal_y.csv", "--score", "x", "--out", "x.json"},
		"not a decimal":                       {"calibrate", "--logits", "cal.csv", "--labels", "cal_y.csv", "--miscoverage", "2", "--out", "x.json"},
		"--threshold or --splits":             {"evaluate", "--logits", "cal.csv", "--labels", "cal_y.csv"},
		"are they logits":                     {"calibrate", "--probs", "cal.csv", "--labels", "cal_y.csv", "--out", "x.json", "--quiet"},
		"90 labels in short.csv for 120 rows": {"calibrate", "--logits", "cal.csv", "--labels", "short.csv", "--out", "x.json", "--quiet"},
		"are written as":                      {"predict", "--threshold", "thr.json", "--logits", "test.csv", "--out", "sets.txt", "--quiet"},
		"no command \"nope\"":                 {"nope"},
	} {
		refuses(t, dir, want, append([]string{"conformal"}, args...)...)
	}
}

// A page is drawn from values that are all equal, or differ by a rounding error, as from others. Their
// axes once had ticks without end, so memory is bounded here.
func TestPagesOfEqualValues(t *testing.T) {
	dir := t.TempDir()
	var z, y, sure strings.Builder
	for i := range 20 {
		fmt.Fprintf(&z, "%d,%d\n", 2*i%7, (2*i+1)%7)
		fmt.Fprintf(&sure, "%d,%d\n", 9*(i%2), 9-9*(i%2))
		fmt.Fprintln(&y, i%2)
	}
	write(t, dir, "z.csv", []byte(z.String()))
	write(t, dir, "sure.csv", []byte(sure.String())) // sets of one label each
	write(t, dir, "y.csv", []byte(y.String()))
	write(t, dir, "other.csv", []byte(strings.Repeat("1\n0\n", 10)))
	for name, args := range map[string][]string{
		"every set is full": {"--share", ".3", "--logits", "z.csv", "--labels", "y.csv"},
		"every set has one": {"--share", ".5", "--logits", "sure.csv", "--labels", "other.csv"},
	} {
		args = append([]string{"-c", `ulimit -v 4000000; exec "$0" "$@"`, self(t), "conformal", "evaluate", "--splits", "10", "--quiet", "--header", "no", "--report", "a.html"}, args...)
		cmd := exec.Command("sh", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), asGocp+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %.300s", name, err, out)
		}
	}
}
