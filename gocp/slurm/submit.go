package slurm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/owner"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// Names in a run folder.
const (
	Dir      = "slurm"
	logsDir  = "logs"
	jobsFile = "jobs.json"
)

// record is jobs.json: what was submitted for the run.
type record struct {
	Token string      `json:"token"` // in the jobs' names
	Jobs  []Submitted `json:"jobs"`
}

// Submitted is an array that Slurm took.
type Submitted struct {
	ID string `json:"id"`
	Script
}

func readRecord(dir string) (r record, err error) {
	b, err := os.ReadFile(filepath.Join(dir, Dir, jobsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := strictjson.Unmarshal(b, &r); err != nil {
		return r, usage.Errorf("%s: %w", filepath.Join(dir, Dir, jobsFile), err)
	}
	return r, nil
}

func (r record) write(dir string) error {
	b, err := strictjson.Indent(r, " ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, Dir, jobsFile), b)
}

func (r *record) begin() error {
	if r.Token != "" {
		return nil
	}
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return err
	}
	r.Token = hex.EncodeToString(b[:])
	return nil
}

// defaultMaxArray is Slurm's.
const defaultMaxArray = 1001

// maxArray is the cluster's MaxArraySize: indices are below it.
func maxArray(ctx context.Context) (int, error) {
	out, err := command(ctx, "scontrol", "show", "config")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(line, "="); ok && strings.TrimSpace(k) == "MaxArraySize" {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil || n < 1 {
				return 0, fmt.Errorf("scontrol show config: MaxArraySize is %q", strings.TrimSpace(v))
			}
			return n, nil
		}
	}
	return defaultMaxArray, nil
}

// Print is the scripts that Submit would submit.
func (w Work) Print(ctx context.Context, o Options) ([]Script, error) {
	r, err := readRecord(w.Dir)
	if err != nil {
		return nil, err
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	most, err := maxArray(ctx)
	if err != nil { // on a machine without Slurm, to look at
		most = defaultMaxArray
	}
	return w.Scripts(o, r.Token, most)
}

// Submit writes the scripts into the run folder and submits them, each stage after all of those before it
// has ended, however it ended: the program sees for itself what is missing. If Slurm refuses one, those
// before it are cancelled.
func (w Work) Submit(ctx context.Context, o Options) (jobs []Submitted, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(w.Dir, Dir, logsDir), 0o777); err != nil {
		return nil, usage.Errorf("%s: %w", w.Dir, err)
	}
	l, err := owner.Take(filepath.Join(w.Dir, Dir), "submit", owner.Options{})
	var held *owner.Held
	if errors.As(err, &held) {
		return nil, usage.Errorf("%s: another gocp slurm submit is at work on it (%s); wait until it ends, or remove %s/%s/submit.* if it is not", w.Dir, held.Holder, w.Dir, Dir)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Release()) }()
	r, err := readRecord(w.Dir)
	if err != nil {
		return nil, err
	}
	live, err := r.queue(ctx)
	if err != nil {
		return nil, err
	}
	if len(live) > 0 {
		return nil, usage.Errorf("%s: jobs of this run are in the queue already (%s); gocp slurm status tells how they stand, gocp slurm cancel takes them out", w.Dir, strings.Join(arrays(live), ", "))
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	most, err := maxArray(ctx)
	if err != nil {
		return nil, err
	}
	scripts, err := w.Scripts(o, r.Token, most)
	if err != nil {
		return nil, err
	}
	r.Jobs = nil
	if err := r.write(w.Dir); err != nil { // the names are known before a job has one
		return nil, err
	}
	defer func() {
		if err != nil && len(r.Jobs) > 0 {
			err = errors.Join(err, r.cancel(context.WithoutCancel(ctx)))
		}
	}()
	var before, stage []string
	for i, s := range scripts {
		if i > 0 && s.Stage != scripts[i-1].Stage {
			before, stage = append(before, stage...), nil
		}
		file := filepath.Join(w.Dir, Dir, s.Name)
		if err := atomicfile.WriteBytes(file, []byte(s.Text)); err != nil {
			return nil, err
		}
		args := []string{"--parsable"}
		if len(before) > 0 {
			args = append(args, "--dependency=afterany:"+strings.Join(before, ":"))
		}
		out, err := command(ctx, "sbatch", append(args, file)...)
		if err != nil {
			return nil, usage.Errorf("%w; nothing is submitted", err)
		}
		id, _, _ := strings.Cut(strings.TrimSpace(out), ";") // a cluster's name may follow
		if _, err := strconv.Atoi(id); err != nil {
			return nil, fmt.Errorf("sbatch: it printed %q where a job's number was expected", strings.TrimSpace(out))
		}
		r.Jobs, stage = append(r.Jobs, Submitted{id, s}), append(stage, id)
		if err := r.write(w.Dir); err != nil {
			return nil, err
		}
	}
	return r.Jobs, nil
}

// Queued is a task, or an array of tasks that wait, in the queue.
type Queued struct {
	Array, Stage, State string
}

// queue lists what of the run is in the queue, by the jobs' names: one that was submitted and not noted is
// found, and an id that Slurm has forgotten is not taken for anything.
func (r record) queue(ctx context.Context) ([]Queued, error) {
	if r.Token == "" {
		return nil, nil
	}
	out, err := command(ctx, "squeue", "--noheader", "--array", "--format=%F %T %j")
	if err != nil {
		return nil, err
	}
	var live []Queued
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		if stage, ok := strings.CutPrefix(f[2], jobName(r.Token, "")); ok {
			live = append(live, Queued{f[0], stage, f[1]})
		}
	}
	return live, nil
}

// arrays are the ids of what is in the queue.
func arrays(live []Queued) []string {
	var ids []string
	for _, q := range live {
		if !slices.Contains(ids, q.Array) {
			ids = append(ids, q.Array)
		}
	}
	return ids
}

// cancel takes all arrays of the run out of the queue. A bare id means the whole array, as is meant.
func (r record) cancel(ctx context.Context) error {
	live, err := r.queue(ctx)
	if err != nil || len(live) == 0 {
		return err
	}
	_, err = command(ctx, "scancel", arrays(live)...)
	return err
}

// Cancel takes the run's jobs out of the queue and returns their ids. Tasks that run save what they have done.
func Cancel(ctx context.Context, dir string) ([]string, error) {
	r, err := readRecord(dir)
	if err != nil {
		return nil, err
	}
	live, err := r.queue(ctx)
	if err != nil {
		return nil, err
	}
	return arrays(live), r.cancel(ctx)
}

// Status lists what of the run is in the queue.
func Status(ctx context.Context, dir string) ([]Queued, error) {
	r, err := readRecord(dir)
	if err != nil {
		return nil, err
	}
	return r.queue(ctx)
}

// ShardOf is the share that task t has of the run in dir: only of an array that was submitted for it.
func ShardOf(dir string, t Task) (stage string, index, of int, err error) {
	if t.Array == "" {
		return "", 0, 0, usage.Errorf("this is no task of a Slurm array")
	}
	r, err := readRecord(dir)
	if err != nil {
		return "", 0, 0, err
	}
	task, err := strconv.Atoi(t.Index)
	if err != nil {
		return "", 0, 0, usage.Errorf("SLURM_ARRAY_TASK_ID is %q", t.Index)
	}
	for _, s := range r.Jobs {
		if s.ID == t.Array && s.Stage != lastStage {
			return s.Stage, s.Offset + task, s.Shards, nil
		}
	}
	return "", 0, 0, usage.Errorf("array %s was not submitted for %s by gocp slurm submit; in a script of your own, say which shard it is: --shard \"$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT\"", t.Array, dir)
}
