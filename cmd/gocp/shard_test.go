package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
