package experiment

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/owner"
	"github.com/gocp/gocp/gocp/usage"
)

func smallestShard(t *testing.T, dev *device.Device, dir string, s Shard) error {
	t.Helper()
	return RunShard(context.Background(), dev, smallest(), miniatureData(t), Options{Dir: dir, Shard: s, Version: "test"})
}

// sameAsWhole collects dir and holds its files against those of a run by one process.
func sameAsWhole(t *testing.T, dev *device.Device, dir, whole string) {
	t.Helper()
	if _, err := Collect(context.Background(), dev, smallest(), miniatureData(t), Options{Dir: dir, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, dir), contents(t, whole); got != want {
		t.Errorf("collected:\n%s\nby one process:\n%s", got, want)
	}
	if err := os.RemoveAll(filepath.Join(dir, shardsDir)); err != nil { // the joined journal stands alone
		t.Fatal(err)
	}
	if said, err := smallestRun(t, dev, dir, true); err != nil || len(said) > 0 {
		t.Errorf("the whole run again: %q, %v", said, err)
	}
}

func unfinished(t *testing.T, err error) string {
	t.Helper()
	var u *Unfinished
	if !errors.As(err, &u) {
		t.Fatalf("finished, or failed otherwise: %v", err)
	}
	return strings.Join(u.Missing, ", ")
}

func TestShards(t *testing.T) {
	dev := testkit.Open(t)
	whole := filepath.Join(t.TempDir(), "run")
	if _, err := smallestRun(t, dev, whole, false); err != nil {
		t.Fatal(err)
	}
	collect := func(dir string) error {
		_, err := Collect(context.Background(), dev, smallest(), miniatureData(t), Options{Dir: dir, Version: "test"})
		return err
	}

	t.Run("one after the other, in any order, twice", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		if got := unfinished(t, smallestShard(t, dev, dir, Shard{Index: 1, Of: 2})); got != "craft poisons 0" && !strings.HasPrefix(got, "train surrogate-") {
			t.Errorf("the second shard alone waits for %s", got)
		}
		if got := unfinished(t, collect(dir)); !strings.Contains(got, "train surrogate-0") || !strings.Contains(got, "craft poisons 0") {
			t.Errorf("missing: %s", got)
		}
		for range 2 {
			for _, i := range []int{0, 1} {
				if err := smallestShard(t, dev, dir, Shard{Index: i, Of: 2}); err != nil {
					t.Fatalf("shard %d: %v", i, err)
				}
			}
		}
		sameAsWhole(t, dev, dir, whole)
	})
	t.Run("all at once", func(t *testing.T) {
		defer func(d time.Duration) { pollEvery = d }(pollEvery)
		pollEvery = 20 * time.Millisecond
		dir := filepath.Join(t.TempDir(), "run")
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				for range 200 { // one that comes before the others are at work says that it waits, and is run again
					err := smallestShard(t, dev, dir, Shard{Index: i, Of: 3})
					var u *Unfinished
					if errors.As(err, &u) {
						time.Sleep(pollEvery)
						continue
					}
					if err != nil {
						t.Errorf("shard %d: %v", i, err)
					}
					return
				}
				t.Errorf("shard %d is never done", i)
			})
		}
		wg.Wait()
		sameAsWhole(t, dev, dir, whole)
	})
	t.Run("stage by stage", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		if got := unfinished(t, smallestShard(t, dev, dir, Shard{Index: 0, Of: 1, Stage: StageVictims})); got != "craft poisons 0" {
			t.Errorf("victims before poisons wait for %s", got)
		}
		for _, stage := range Stages() {
			for _, i := range []int{2, 0, 1} {
				if err := smallestShard(t, dev, dir, Shard{Index: i, Of: 3, Stage: stage}); err != nil {
					t.Fatalf("%s %d: %v", stage, i, err)
				}
			}
		}
		sameAsWhole(t, dev, dir, whole)
	})
	t.Run("the whole run finishes what a shard began", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		unfinished(t, smallestShard(t, dev, dir, Shard{Index: 1, Of: 2}))
		if _, err := smallestRun(t, dev, dir, true); err != nil {
			t.Fatal(err)
		}
		sameAsWhole(t, dev, dir, whole)
	})
}

// No two shards write one file.
func TestShardsShareNoFile(t *testing.T) {
	dev := testkit.Open(t)
	dir := filepath.Join(t.TempDir(), "run")
	whose := map[string]string{}
	for _, stage := range Stages() {
		for i := range 2 {
			s := Shard{Index: i, Of: 2, Stage: stage}
			before := contents(t, dir)
			if err := smallestShard(t, dev, dir, s); err != nil {
				t.Fatal(err)
			}
			for _, line := range strings.Split(contents(t, dir), "\n") {
				file, _, _ := strings.Cut(line, " ")
				if file == "" || strings.Contains(before, line) {
					continue
				}
				if o, ok := whose[file]; ok {
					t.Errorf("%s is written by %s and %s", file, o, s)
				}
				whose[file] = s.String()
			}
		}
	}
	if len(whose) < 10 {
		t.Errorf("only %d files: %v", len(whose), whose)
	}
}

func TestWhoMayWork(t *testing.T) {
	victims := Shard{Index: 1, Of: 4, Stage: StageVictims}
	for _, c := range []struct {
		has, wants Shard
		refused    string
	}{
		{victims, victims, "shard 1/4 of stage victims: another gocp is at work"},
		{victims, Shard{Index: 2, Of: 4, Stage: StageVictims}, ""},
		{victims, Shard{Index: 2, Of: 5, Stage: StageVictims}, "shard 1/4 of stage victims: another"},
		{victims, Shard{Index: 1, Of: 5, Stage: StagePoisons}, ""},
		{victims, Shard{Index: 2, Of: 4}, ""},
		{victims, Shard{Index: 1, Of: 4}, "another gocp is at work"},
		{victims, Shard{}, "shard 1/4 of stage victims: another"},
		{Shard{}, victims, "another gocp is at work"},
		{Shard{}, Shard{}, "another gocp is at work"},
	} {
		dir := t.TempDir()
		l, err := lock(dir, Options{Shard: c.has})
		if err != nil {
			t.Fatal(err)
		}
		second, err := lock(dir, Options{Shard: c.wants})
		if (err == nil) != (c.refused == "") || err != nil && (!usage.Is(err) || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s while %s is at work: %v, want %q", c.wants.name(), c.has.name(), err, c.refused)
		}
		if err == nil {
			if err := unlock(dir, second); err != nil {
				t.Error(err)
			}
		}
		if err := l.Check(); err != nil {
			t.Errorf("%s, after %s came: %v", c.has.name(), c.wants.name(), err)
		}
		if err := unlock(dir, l); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, ownersDir)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is left: %v", err)
		}
	}
}

// A task that the scheduler started again takes over from its earlier life, which is told and writes no more.
func TestEarlierLife(t *testing.T) {
	dir := t.TempDir()
	s := Shard{Index: 0, Of: 2}
	old, err := lock(dir, Options{Shard: s, Life: owner.Life{Task: "9_0"}})
	if err != nil {
		t.Fatal(err)
	}
	next, err := lock(dir, Options{Shard: s, Life: owner.Life{Task: "9_0", Number: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := (&folder{dir: dir, owner: old}).mine(); !usage.Is(err) || !strings.Contains(err.Error(), "took over the work of this process; nothing more is written") {
		t.Errorf("the earlier life: %v", err)
	}
	if err := (&folder{dir: dir, owner: next}).mine(); err != nil {
		t.Errorf("the later life: %v", err)
	}
	if err := errors.Join(unlock(dir, old), unlock(dir, next)); err != nil {
		t.Error(err)
	}
}

func TestBadShards(t *testing.T) {
	for _, s := range []Shard{{Index: 0, Of: 0}, {Index: -1, Of: 3}, {Index: 3, Of: 3}, {Of: mostVictims + 1}, {Of: 1, Stage: "sunday"}} {
		if err := s.Validate(); !usage.Is(err) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, s := range []Shard{{Index: 2, Of: 3}, {Index: 0, Of: 1000, Stage: StagePoisons}} {
		if back, ok := shardNamed(s.name()); !ok || back != s {
			t.Errorf("%+v became %+v", s, back)
		}
	}
}
