package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/result"
)

func TestShardsOfAnAudit(t *testing.T) {
	dir := workFolder(t)
	succeeds(t, dir, append(slices.Clone(tinyAudit), "--out", "whole")...)
	shard := func(args ...string) outcome {
		return gocp(t, dir, append(append(slices.Clone(tinyAudit), "--out", "run"), args...)...)
	}
	if o := shard("--shard", "1/2"); o.code != exitAgain || !strings.Contains(o.stderr, "shard 1/2 has done what it could and waits for jobs that no shard is at work on: craft poisons 0, train surrogate-0;") {
		t.Fatalf("the second shard alone: status %d: %s", o.code, o.stderr)
	}
	if o := gocp(t, dir, "collect", "run"); o.code != exitAgain || !strings.Contains(o.stderr, "of its jobs, ") || !strings.Contains(o.stderr, "are missing: train surrogate-0") {
		t.Fatalf("collected too early: status %d: %s", o.code, o.stderr)
	}
	if o := shard("--shard", "0/2"); o.code != exitAgain {
		t.Fatalf("the first, which crafts for targets of both: status %d: %s", o.code, o.stderr)
	}
	t.Setenv("JOB_COMPLETION_INDEX", "1")
	if o := shard("--shard", "auto/2"); o.code != exitOK || !strings.Contains(o.stdout, "shard 1/2 is done; gocp collect run joins them all") {
		t.Fatalf("status %d: %s%s", o.code, o.stdout, o.stderr)
	}
	if o := gocp(t, dir, "audit", "--resume", "--out", "run", "--shard", "0/2"); o.code != exitOK {
		t.Fatalf("status %d: %s", o.code, o.stderr)
	}
	o := succeeds(t, dir, "collect", "run")
	if !strings.Contains(o.stdout, "Report: run/report.html") {
		t.Errorf("stdout: %s", o.stdout)
	}
	if !bytes.Equal(read(t, dir, "whole", result.File), read(t, dir, "run", result.File)) {
		t.Error("shards gave another result.json than one process")
	}
	if got, want := bytesOf(t, filepath.Join(dir, "run")), bytesOf(t, filepath.Join(dir, "whole")); got != want {
		t.Errorf("shards:\n%s\none process:\n%s", got, want)
	}
}

func TestBadShards(t *testing.T) {
	dir := workFolder(t)
	audit := append(slices.Clone(tinyAudit), "--out", "run")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"shard 2/2: shards are counted from 0", []string{"--shard", "2/2"}},
		{"--shard 3 is no share such as 0/8", []string{"--shard", "3"}},
		{"JOB_COMPLETION_INDEX is not set", []string{"--shard", "auto/4"}},
		{`unknown stage "x" (known: benign, poisons, victims)`, []string{"--shard", "0/2", "--stage", "x"}},
		{"--stage does nothing here: it goes with --shard", []string{"--stage", "benign"}},
		{"--shard and --json exclude each other", []string{"--shard", "0/2", "--json"}},
	} {
		refuses(t, dir, c.want, append(slices.Clone(audit), c.args...)...)
	}
	refuses(t, dir, "nowhere is not a run folder", "collect", "nowhere")
}

// A warning by SIGUSR1, and any signal to a shard, leaves a status that says to run it again, and work that is not
// lost; SIGTERM after the warning, which a requeue sends, does not end the process in the middle of it.
func TestSignals(t *testing.T) {
	dir := workFolder(t)
	flags := append(slices.Clone(tinyAudit), "--epochs", "400")
	for _, c := range []struct {
		args    []string
		signals []syscall.Signal
		code    int
	}{
		{nil, []syscall.Signal{syscall.SIGUSR1}, exitAgain},
		{nil, []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM}, exitAgain},
		{nil, []syscall.Signal{syscall.SIGTERM}, exitInterrupted},
		{[]string{"--shard", "0/1"}, []syscall.Signal{syscall.SIGTERM}, exitAgain},
		{[]string{"--shard", "0/1"}, []syscall.Signal{syscall.SIGINT}, exitAgain},
		{[]string{"--shard", "0/1"}, []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR1}, exitAgain},
	} {
		name := strings.Join(c.args, "") + fmt.Sprint(c.signals)
		run := filepath.Join(dir, "run")
		if err := os.RemoveAll(run); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self(t), append(append(slices.Clone(flags), "--out", "run"), c.args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), asGocp+"=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 500 { // until training has begun
			time.Sleep(10 * time.Millisecond)
			if _, err := os.Stat(filepath.Join(run, "targets")); err == nil {
				break
			}
		}
		time.Sleep(300 * time.Millisecond)
		for _, s := range c.signals {
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%s: status %d, want %d; stderr: %s", name, code, c.code, stderr.String())
		}
		if saved, err := filepath.Glob(filepath.Join(run, "partial", "surrogate-*.safetensors")); err != nil || len(saved) == 0 {
			t.Errorf("%s: no checkpoint is left: %v", name, err)
		}
		if left, err := os.ReadDir(filepath.Join(run, "owners")); err == nil && len(left) > 0 {
			t.Errorf("%s: the lock is left: %v", name, left)
		}
	}
}
