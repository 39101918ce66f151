package slurm

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// Work is what is submitted: stages, each after all of those before it, and at last one call that joins
// what came of them.
type Work struct {
	Dir     string // the run folder, absolute
	Chdir   string // where the program is started
	Program string // absolute
	Stages  []Stage
	Last    []string // arguments of the last call
}

// Stage is jobs that do not depend on each other.
type Stage struct {
	Name    string
	Jobs    int
	Left    []int    // the numbers of those that are not done
	Seconds float64  // that one takes, as measured; 0: unknown
	Args    []string // of the program; --shard I/N is added
}

// Options are what the user says of the jobs.
type Options struct {
	Partition string
	Gres      string // "": no GPU, and the program is kept from taking one
	Time      string
	Throttle  int      // tasks at once, at most; 0: any number
	Pack      int      // jobs of a task; 0: as measured times say
	Extra     []string // options of sbatch, as for the command line
}

// warnBefore is how many seconds before its end a task is warned: the minute that gocp gives the step under
// way, the minute by which Slurm may come early or the limit late, and some to write.
const warnBefore = 150

// taskSeconds is how long a task is to last at least, as its start costs seconds; unmeasured is how many
// jobs it has where nothing was measured.
const (
	taskSeconds = 600
	unmeasured  = 4
)

// ours are the options that only gocp sets.
var ours = []string{"--array", "-a", "--dependency", "-d", "--signal", "--open-mode", "--output", "-o", "--error", "-e", "--requeue", "--no-requeue", "--wrap",
	"--job-name", "-J", "--chdir", "-D", "--parsable", "--wait", "-W", "--export", "--partition", "-p", "--gres", "--time", "-t"}

// Check reports what is wrong with o, as a usage error.
func (o Options) Check() error {
	for _, v := range []struct{ name, value string }{{"partition", o.Partition}, {"gres", o.Gres}, {"time", o.Time}} {
		if strings.ContainsAny(v.value, "\r\n\"'\\ #") {
			return usage.Errorf("--%s: %q has characters that sbatch would read otherwise", v.name, v.value)
		}
	}
	for _, line := range o.Extra {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		name, _, _ = strings.Cut(name, " ")
		switch {
		case strings.ContainsAny(line, "\r\n"):
			return usage.Errorf("--sbatch: %q is more than one line; give --sbatch for each option", line)
		case !strings.HasPrefix(name, "-"):
			return usage.Errorf("--sbatch: %q is no option of sbatch, such as --account=team", line)
		case slices.Contains(ours, name):
			return usage.Errorf("--sbatch: gocp sets %s by itself, or has a flag for it", name)
		}
	}
	if o.Throttle < 0 || o.Pack < 0 {
		return usage.Errorf("a throttle of %d, %d jobs of a task: they must be at least 1", o.Throttle, o.Pack)
	}
	return nil
}

// Script is one batch script.
type Script struct {
	Name   string `json:"script"` // its file's
	Stage  string `json:"stage"`
	Shards int    `json:"shards"` // of the stage
	Offset int    `json:"offset"` // shard = Offset + task id
	Text   string `json:"-"`
}

// lastStage names the call that joins.
const lastStage = "collect"

// jobName is what squeue shows of a stage.
func jobName(token, stage string) string { return "gocp-" + token + "-" + stage }

// shards is how many shares a stage is cut into.
func (s Stage) shards(pack int) int {
	if pack == 0 {
		pack = unmeasured
		if s.Seconds > 0 {
			pack = int(math.Ceil(min(taskSeconds/s.Seconds, float64(s.Jobs))))
		}
	}
	return max(1, (s.Jobs+pack-1)/pack)
}

// Scripts are the batch scripts of what is left of w, in the order of their submission. Indices of an array
// are below maxArray.
func (w Work) Scripts(o Options, token string, maxArray int) ([]Script, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	for _, p := range []string{w.Dir, w.Chdir, w.Program} {
		if strings.ContainsAny(p, "\r\n\"\\") {
			return nil, usage.Errorf("%q: a path with such characters cannot stand in a batch script; move it to another one", p)
		}
	}
	var out []Script
	for _, s := range w.Stages {
		n := s.shards(o.Pack)
		left := map[int]bool{}
		for _, job := range s.Left {
			left[job%n] = true
		}
		chunks := (n + maxArray - 1) / maxArray
		for c := range chunks {
			var tasks []int
			for i := c * maxArray; i < min(n, (c+1)*maxArray); i++ {
				if left[i] {
					tasks = append(tasks, i-c*maxArray)
				}
			}
			if len(tasks) == 0 { // an empty --array is a plain job
				continue
			}
			array := ranges(tasks)
			if o.Throttle > 0 {
				array += fmt.Sprintf("%%%d", max(1, o.Throttle/chunks))
			}
			script := Script{Name: fmt.Sprintf("%s-%d.sbatch", s.Name, c), Stage: s.Name, Shards: n, Offset: c * maxArray}
			script.Text = w.text(o, jobName(token, s.Name), array, quoted(s.Args)+fmt.Sprintf(` --shard "$((SLURM_ARRAY_TASK_ID + %d))/%d"`, script.Offset, n))
			out = append(out, script)
		}
	}
	// An array of one, so that the task has a name that means it alone.
	last := Script{Name: lastStage + ".sbatch", Stage: lastStage, Shards: 1}
	last.Text = w.text(o, jobName(token, lastStage), "0", quoted(w.Last))
	return append(out, last), nil
}

// text is a script. exec makes the program the process that the warning reaches.
func (w Work) text(o Options, name, array, args string) string {
	logs := strings.ReplaceAll(filepath.Join(w.Dir, Dir, logsDir), "%", "%%")
	lines := []string{
		"--job-name=" + name,
		"--array=" + array,
		fmt.Sprintf("--chdir=%q", w.Chdir),
		fmt.Sprintf("--output=%q", filepath.Join(logs, "%x-%a.log")),
		"--open-mode=append",
		"--requeue",
		fmt.Sprintf("--signal=B:USR1@%d", warnBefore),
	}
	for _, v := range []struct{ name, value string }{{"partition", o.Partition}, {"gres", o.Gres}, {"time", o.Time}} {
		if v.value != "" {
			lines = append(lines, fmt.Sprintf("--%s=%s", v.name, v.value))
		}
	}
	for _, e := range o.Extra {
		lines = append(lines, strings.TrimSpace(e))
	}
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# Written by gocp slurm submit, which writes it anew each time.\n")
	for _, l := range lines {
		b.WriteString("#SBATCH " + l + "\n")
	}
	if o.Gres == "" {
		b.WriteString("export GOCP_DEVICE=cpu # no GPU was asked for\n")
	}
	b.WriteString("exec " + quoted([]string{w.Program}) + " " + args + "\n")
	return b.String()
}

// quoted is words for a shell.
func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		if w != "" && strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,") == "" {
			out[i] = w
		}
	}
	return strings.Join(out, " ")
}

// ranges is rising numbers as sbatch reads them: 0-3,7.
func ranges(n []int) string {
	var parts []string
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(n[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", n[i], n[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
