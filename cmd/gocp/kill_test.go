package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/journal"
	"github.com/gocp/gocp/gocp/result"
)

// killedAudit is a small audit that has every kind of job.
var killedAudit = append(slices.Clone(tinyAudit), "--victims", "1", "--references", "1", "--epochs", "8")

// TestKillAndDamage kills audits by SIGKILL at a random moment, flips a bit or cuts a file of what they
// left, and resumes: in the end stand the bytes of the run that nobody disturbed, or a sentence says why
// not. GOCP_KILLS is how many rounds there are.
func TestKillAndDamage(t *testing.T) {
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv("GOCP_KILLS")); err == nil {
		rounds = n
	}
	dir := workFolder(t)
	began := time.Now()
	succeeds(t, dir, append(slices.Clone(killedAudit), "--out", "whole")...)
	lasts := time.Since(began)
	want := bytesOf(t, filepath.Join(dir, "whole"))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d; a run lasts %v", seed, lasts.Round(time.Millisecond))

	refusals, same, kills, hurt := map[string]int{}, 0, 0, map[string]int{}
	for round := range rounds {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		run := filepath.Join(dir, fmt.Sprint("run", round))
		var story []string // for the one who has to understand a failure
		refused := false
		for range 1 + rng.IntN(3) {
			o, killed := start(t, dir, run, time.Duration(rng.Float64()*1.1*float64(lasts)))
			if killed {
				kills++
				story = append(story, "killed")
			} else if refused = checkEnd(t, o, story); refused {
				refusals[nameless(o.stderr, run)]++
				break
			}
			if rng.Float64() < 0.8 {
				if what := damage(t, rng, run); what != "" {
					hurt[strings.Fields(what)[0]]++
					story = append(story, what)
				}
			}
		}
		if refused {
			continue
		}
		o, _ := start(t, dir, run, 0)
		if checkEnd(t, o, story) {
			refusals[nameless(o.stderr, run)]++
			continue
		}
		if got := bytesOf(t, run); got != want {
			t.Errorf("round %d, after %q:\n%s\nsaid:\n%s\nundisturbed:\n%s", round, story, got, o.stderr, want)
			continue
		}
		j, err := journal.Read(run)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range j.Files("") {
			if err := j.Check(file); err != nil {
				t.Errorf("round %d, after %q: %s: %v", round, story, file, err)
			}
		}
		same++
		if err := os.RemoveAll(run); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d rounds, %d kills, damage %v: %d times the same bytes, refused with %v", rounds, kills, hurt, same, refusals)
}

// start begins the audit or goes on with it, and kills it after a time, never if that is 0.
func start(t *testing.T, dir, run string, after time.Duration) (o outcome, killed bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(slices.Clone(killedAudit), "--out", filepath.Base(run))
	if _, err := os.Stat(filepath.Join(run, "config.json")); err == nil {
		args = []string{"audit", "--resume", "--out", filepath.Base(run)}
	}
	cmd := exec.Command(self, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asGocp+"=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		defer time.AfterFunc(after, func() { _ = cmd.Process.Kill() }).Stop()
	}
	_ = cmd.Wait()
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, cmd.ProcessState.ExitCode() < 0
}

// checkEnd reports whether the audit was refused, and fails where it ended in any other way than by a
// result or by one sentence.
func checkEnd(t *testing.T, o outcome, story []string) (refused bool) {
	t.Helper()
	if o.code == exitOK {
		return false
	}
	line := strings.TrimSuffix(o.stderr, "\n")
	if o.code != exitUsage || line == "" || strings.Contains(line, "\n") || o.stdout != "" {
		t.Fatalf("after %q: status %d, stderr:\n%s", story, o.code, o.stderr)
	}
	return true
}

// nameless is a refusal without the folder's name.
func nameless(stderr, run string) string {
	return strings.ReplaceAll(strings.TrimSpace(stderr), filepath.Base(run), "RUN")
}

// damage flips a bit of a file under dir or cuts it, and says what it did; of an empty folder nothing.
func damage(t *testing.T, rng *rand.Rand, dir string) string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return nil // the folder may not be there yet
	})
	if err != nil || len(files) == 0 {
		return ""
	}
	file := files[rng.IntN(len(files))]
	if rng.IntN(2) == 0 { // half of the time one kind of file is as likely as another
		kinds := map[string][]string{}
		for _, f := range files {
			rel, _ := filepath.Rel(dir, f)
			kind, _, _ := strings.Cut(rel, string(filepath.Separator))
			kinds[kind] = append(kinds[kind], f)
		}
		var names []string
		for k := range kinds {
			names = append(names, k)
		}
		slices.Sort(names)
		of := kinds[names[rng.IntN(len(names))]]
		file = of[rng.IntN(len(of))]
	}
	rel, _ := filepath.Rel(dir, file)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 {
		return ""
	}
	if rng.IntN(2) == 0 {
		at := rng.IntN(8 * len(b))
		b[at/8] ^= 1 << (at % 8)
		if err := os.WriteFile(file, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("flip of bit %d of %s", at, rel)
	}
	at := rng.IntN(len(b))
	if err := os.Truncate(file, int64(at)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("cut of %s to %d of %d bytes", rel, at, len(b))
}

// bytesOf hashes every file of a run that must come out the same twice: all but clock times, locks and
// journals, whose lines come in the order of the work, and the page, which shows the clock times.
func bytesOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains([]string{"owners", "shards", "slurm"}, d.Name()) {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || slices.Contains([]string{"settings.json", "clock.jsonl", result.TimingsFile, result.TelemetryFile, journal.File, reportFile}, d.Name()) {
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
