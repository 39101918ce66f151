package slurm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/gocp/gocp/gocp/owner"
	"github.com/gocp/gocp/gocp/usage"
)

// Task is the job that this process runs in, as its environment tells: the zero value is none. What runs in
// a job that was submitted from inside another one may see the other's array.
type Task struct {
	Cluster string
	Job     string // SLURM_JOB_ID
	Array   string // SLURM_ARRAY_JOB_ID, "": it is no array
	Index   string // SLURM_ARRAY_TASK_ID
	Restart int    // how often it was started again
	GPUs    bool   // it asked for GPUs and has some
}

// Current is the task that the environment tells of.
func Current() Task {
	t := Task{Cluster: os.Getenv("SLURM_CLUSTER_NAME"), Job: os.Getenv("SLURM_JOB_ID"), Array: os.Getenv("SLURM_ARRAY_JOB_ID"), Index: os.Getenv("SLURM_ARRAY_TASK_ID")}
	if t.Job == "" {
		return Task{}
	}
	if t.Array == "" || t.Index == "" {
		t.Array, t.Index = "", ""
	}
	t.Restart, _ = strconv.Atoi(os.Getenv("SLURM_RESTART_COUNT")) // unset at first
	t.GPUs = os.Getenv("SLURM_JOB_GPUS") != "" || os.Getenv("SLURM_STEP_GPUS") != ""
	return t
}

// Name is what Slurm's commands know the task by, and it alone.
func (t Task) Name() string {
	if t.Array == "" {
		return t.Job
	}
	return t.Array + "_" + t.Index
}

// Life is that of the task, for the lock of what it works on.
func (t Task) Life() owner.Life {
	if t.Job == "" {
		return owner.Life{}
	}
	name := t.Name()
	if t.Cluster != "" {
		name = t.Cluster + ":" + name
	}
	return owner.Life{Task: name, Number: t.Restart}
}

// AllowGPU refuses the node's GPUs to a job that asked for none: where jobs are not confined to their
// devices it would see those of others.
func (t Task) AllowGPU() error {
	if t.Job == "" || t.GPUs {
		return nil
	}
	return usage.Errorf("job %s of Slurm asked for no GPU, and those of the node are for jobs that did: submit it with --gres=gpu:1, or run with --device cpu", t.Name())
}

// patience bounds a command of Slurm's: where its controller is gone each tries for long.
const patience = 30 * time.Second

// command runs one of Slurm's commands and returns what it printed.
func command(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment(os.Environ())
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	if ctx.Err() == context.DeadlineExceeded {
		return "", fmt.Errorf("%s: no answer in %v", name, patience)
	}
	if exit, ok := err.(*exec.ExitError); ok {
		said := strings.Join(strings.Fields(string(exit.Stderr)), " ")
		if said == "" {
			said = exit.Error()
		}
		return string(out), fmt.Errorf("%s: %s", name, strings.TrimPrefix(said, name+": "))
	}
	return "", usage.Errorf("%s cannot be run: %w; is Slurm installed here?", name, err)
}

// environment leaves out what a job's own variables, and those that stand for options, would do to another
// job; where Slurm's configuration is stays.
func environment(all []string) []string {
	var out []string
	for _, v := range all {
		name, _, _ := strings.Cut(v, "=")
		keep := name == "SLURM_CONF" || name == "SLURM_CONF_SERVER"
		if !keep && (strings.HasPrefix(name, "SLURM_") || strings.HasPrefix(name, "SBATCH_") || strings.HasPrefix(name, "SLURMD_") || strings.HasPrefix(name, "SQUEUE_") || strings.HasPrefix(name, "SCANCEL_")) {
			continue
		}
		out = append(out, v)
	}
	return out
}

// Requeue puts a task that has been warned of its end, and has saved what it has done, into the queue
// again. It reports whether it did: not outside of an array, nor for a task that was cancelled, or that
// is not the one which the environment tells of.
func (t Task) Requeue(ctx context.Context) (bool, error) {
	if t.Array == "" {
		return false, nil
	}
	fields, err := show(ctx, t.Name())
	if err != nil {
		return false, err
	}
	if fields["JobId"] != t.Job || fields["JobState"] != "RUNNING" {
		return false, nil
	}
	_, err = command(ctx, "scontrol", "requeue", t.Name())
	return err == nil, err
}

// show asks for one job.
func show(ctx context.Context, name string) (map[string]string, error) {
	out, err := command(ctx, "scontrol", "show", "job", "-o", name)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for _, f := range strings.Fields(out) {
		if k, v, ok := strings.Cut(f, "="); ok && fields[k] == "" {
			fields[k] = v
		}
	}
	return fields, nil
}
