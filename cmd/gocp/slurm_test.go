package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// slurmRun is a run that the cluster does.
type slurmRun struct {
	*cluster
	dir   string // where the data are
	name  string // of the run folder
	whole string // the bytes of the same run by one process
}

// prepared is a run that waits for the cluster, of trainings that take this many epochs, the smaller steps the more.
func (c *cluster) prepared(t *testing.T, epochs int) *slurmRun {
	t.Helper()
	t.Setenv("GOCP_DEVICE", "cpu")
	t.Setenv(asGocp, "1") // of the jobs, too
	r := &slurmRun{cluster: c, dir: workFolder(t), name: "run"}
	flags := append(slices.Clone(tinyAudit), "--repeats", "1", "--victims", "1", "--references", "1", "--epochs", fmt.Sprint(epochs), "--lr", fmt.Sprint(0.8/float64(epochs)))
	succeeds(t, r.dir, append(slices.Clone(flags), "--out", "whole")...)
	r.whole = bytesOf(t, filepath.Join(r.dir, "whole"))
	succeeds(t, r.dir, append(slices.Clone(flags), "--out", r.name, "--prepare")...)
	return r
}

func (r *slurmRun) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir, r.name}, parts...)...)
}

func (r *slurmRun) submit(t *testing.T, more ...string) {
	t.Helper()
	succeeds(t, r.dir, append([]string{"slurm", "submit", r.name, "--gres", "gpu:1", "--pack", "1"}, more...)...)
}

func (r *slurmRun) status(t *testing.T) map[string]stageStatus {
	t.Helper()
	var all []stageStatus
	if err := json.Unmarshal([]byte(succeeds(t, r.dir, "slurm", "status", r.name, "--json").stdout), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]stageStatus{}
	for _, s := range all {
		out[s.Stage] = s
	}
	return out
}

func (r *slurmRun) inQueue(t *testing.T) int {
	t.Helper()
	n := 0
	for _, s := range r.status(t) {
		for _, k := range s.Queued {
			n += k
		}
	}
	return n
}

// ends waits until nothing of the run is in the queue.
func (r *slurmRun) ends(t *testing.T) {
	t.Helper()
	r.until(t, 3*time.Minute, "the queue is empty", func() bool { return r.inQueue(t) == 0 })
}

// isWhole checks that the run is finished, with the bytes of one process.
func (r *slurmRun) isWhole(t *testing.T) {
	t.Helper()
	if s := r.status(t)["collect"]; s.Done != 1 {
		t.Fatalf("the run is not finished: %+v\n%s", r.status(t), r.output())
	}
	if got := bytesOf(t, r.path()); got != r.whole {
		t.Errorf("on the cluster:\n%s\nby one process:\n%s", got, r.whole)
	}
}

// output is what the tasks printed.
func (r *slurmRun) output() string {
	var b strings.Builder
	files, _ := filepath.Glob(r.path("slurm", "logs", "*"))
	for _, f := range files {
		log, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(f), log[max(0, len(log)-600):])
	}
	return b.String()
}

// running lists the tasks of a stage that run, as ARRAY_TASK.
func (r *slurmRun) running(t *testing.T, stage string) (tasks []string) {
	t.Helper()
	for line := range strings.Lines(r.command(t, "squeue", "-h", "--array", "-o", "%F_%K %T %j")) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == "RUNNING" && strings.HasSuffix(f[2], "-"+stage) {
			tasks = append(tasks, f[0])
		}
	}
	return tasks
}

// midway waits until a task of the stage has a checkpoint or has trained for a while, and returns the task.
func (r *slurmRun) midway(t *testing.T, stage string) string {
	t.Helper()
	var tasks []string
	r.until(t, time.Minute, "a task of "+stage+" runs", func() bool { tasks = r.running(t, stage); return len(tasks) > 0 })
	time.Sleep(time.Second)
	return tasks[0]
}

// holders are the processes that the locks of the run name.
func (r *slurmRun) holders(t *testing.T) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir(r.path("owners"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(r.path("owners", e.Name()))
		var o struct{ PID int }
		if err == nil && json.Unmarshal(b, &o) == nil && o.PID > 0 {
			pids = append(pids, o.PID)
		}
	}
	return pids
}

func TestSlurm(t *testing.T) {
	c := startCluster(t)
	t.Run("two nodes give the bytes of one process", func(t *testing.T) {
		r := c.prepared(t, 16)
		r.submit(t)
		// Two at once: the second is told.
		if o := gocp(t, r.dir, "slurm", "submit", r.name, "--gres", "gpu:1"); o.code != exitUsage || !strings.Contains(o.stderr, "jobs of this run are in the queue already") {
			t.Errorf("a second submit: status %d: %s", o.code, o.stderr)
		}
		r.ends(t)
		r.isWhole(t)
		if o := succeeds(t, r.dir, "slurm", "submit", r.name); !strings.Contains(o.stdout, "there is nothing to submit") {
			t.Errorf("of a finished run: %s", o.stdout)
		}
		nodes := map[string]bool{}
		for _, name := range []string{"n1", "n2"} {
			log, _ := os.ReadFile(filepath.Join(c.dir, "log", name))
			nodes[name] = strings.Contains(string(log), "Launching batch job") || strings.Contains(string(log), "launch")
		}
		if !nodes["n1"] || !nodes["n2"] {
			t.Errorf("nodes that had jobs: %v", nodes)
		}
	})
	t.Run("two submits at the same moment", func(t *testing.T) {
		r := c.prepared(t, 16)
		var wg sync.WaitGroup
		codes := make([]int, 2)
		for i := range codes {
			wg.Go(func() { codes[i] = gocp(t, r.dir, "slurm", "submit", r.name, "--gres", "gpu:1", "--pack", "1").code })
		}
		wg.Wait()
		slices.Sort(codes)
		if !slices.Equal(codes, []int{exitOK, exitUsage}) {
			t.Errorf("statuses %v", codes)
		}
		r.ends(t)
		r.isWhole(t)
	})
	t.Run("warned, the task goes on as another life", func(t *testing.T) {
		r := c.prepared(t, 500)
		r.submit(t)
		task := r.midway(t, "benign")
		r.command(t, "scancel", "-b", "-s", "USR1", task)
		r.until(t, 20*time.Second, "the task waits again", func() bool {
			return strings.Contains(r.command(t, "scontrol", "show", "job", "-o", task), "Restarts=1")
		})
		r.ends(t)
		r.isWhole(t)
		if !strings.Contains(r.output(), "is requeued") {
			t.Errorf("nobody says that a task is requeued:\n%s", r.output())
		}
	})
	t.Run("cancelled, it stays so, and another submit finishes it", func(t *testing.T) {
		r := c.prepared(t, 500)
		r.submit(t)
		r.midway(t, "benign")
		succeeds(t, r.dir, "slurm", "cancel", r.name)
		r.until(t, 20*time.Second, "nothing runs", func() bool { return r.inQueue(t) == 0 })
		time.Sleep(8 * time.Second) // longer than a requeue takes
		if n := r.inQueue(t); n > 0 {
			t.Fatalf("%d tasks came back", n)
		}
		if saved, _ := filepath.Glob(r.path("partial", "*")); len(saved) == 0 {
			t.Errorf("no checkpoint is left:\n%s", r.output())
		}
		r.submit(t)
		r.ends(t)
		r.isWhole(t)
	})
	t.Run("killed", func(t *testing.T) {
		r := c.prepared(t, 500)
		r.submit(t)
		r.midway(t, "benign")
		pids := r.holders(t)
		if len(pids) == 0 {
			t.Fatal("nobody holds a lock")
		}
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.ends(t)
		if s := r.status(t); s["collect"].Done != 0 || !strings.Contains(r.output(), "is not finished: of its jobs, ") {
			t.Errorf("collected with a task killed: %+v\n%s", s, r.output())
		}
		r.submit(t)
		r.ends(t)
		r.isWhole(t)
	})
	t.Run("a node goes down while its old life writes on", func(t *testing.T) {
		r := c.prepared(t, 800)
		r.submit(t)
		r.midway(t, "benign")
		c.command(t, "scontrol", "update", "nodename=n1", "state=down", "reason=test")
		time.Sleep(2 * time.Second)
		_ = exec.Command("scontrol", "update", "nodename=n1", "state=resume").Run() // unless it is back by itself
		r.ends(t)
		if r.status(t)["collect"].Done == 0 {
			r.submit(t)
			r.ends(t)
		}
		r.isWhole(t)
	})
	t.Run("collected after the jobs are forgotten", func(t *testing.T) {
		r := c.prepared(t, 16)
		r.submit(t)
		r.ends(t)
		ids := r.recorded(t)
		r.until(t, 2*time.Minute, "Slurm has forgotten the jobs", func() bool {
			return exec.Command("scontrol", "show", "job", ids[0]).Run() != nil
		})
		if err := os.Remove(r.path("result.json")); err != nil {
			t.Fatal(err)
		}
		r.submit(t) // only the last call is left
		if n := len(r.recorded(t)); n != 1 {
			t.Errorf("%d arrays were submitted", n)
		}
		r.ends(t)
		r.isWhole(t)
	})
}

// recorded are the arrays that were submitted last.
func (r *slurmRun) recorded(t *testing.T) (ids []string) {
	t.Helper()
	var record struct{ Jobs []struct{ ID string } }
	if err := json.Unmarshal(read(t, r.path("slurm", "jobs.json")), &record); err != nil {
		t.Fatal(err)
	}
	for _, j := range record.Jobs {
		if _, err := strconv.Atoi(j.ID); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID)
	}
	return ids
}
