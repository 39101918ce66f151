package slurm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/owner"
	"github.com/gocp/gocp/gocp/usage"
)

// in sets the variables of a job and no others of Slurm's.
func in(t *testing.T, variables ...string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "SLURM_") {
			t.Setenv(name, "")
		}
	}
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

func TestCurrent(t *testing.T) {
	for _, c := range []struct {
		variables []string
		name      string
		life      owner.Life
	}{
		{nil, "", owner.Life{}},
		{[]string{"SLURM_ARRAY_JOB_ID=7", "SLURM_ARRAY_TASK_ID=1"}, "", owner.Life{}},
		{[]string{"SLURM_JOB_ID=9"}, "9", owner.Life{Task: "9"}},
		{[]string{"SLURM_JOB_ID=7", "SLURM_ARRAY_JOB_ID=7", "SLURM_ARRAY_TASK_ID=1", "SLURM_CLUSTER_NAME=big"}, "7_1", owner.Life{Task: "big:7_1"}},
		{[]string{"SLURM_JOB_ID=8", "SLURM_ARRAY_JOB_ID=7", "SLURM_ARRAY_TASK_ID=0", "SLURM_RESTART_COUNT=2"}, "7_0", owner.Life{Task: "7_0", Number: 2}},
	} {
		t.Run(strings.Join(c.variables, " "), func(t *testing.T) {
			in(t, c.variables...)
			if got := Current(); got.Name() != c.name || got.Life() != c.life {
				t.Errorf("%q, %+v", got.Name(), got.Life())
			}
		})
	}
}

func TestAllowGPU(t *testing.T) {
	for _, c := range []struct {
		variables string
		allowed   bool
	}{{"", true}, {"SLURM_JOB_ID=4", false}, {"SLURM_JOB_ID=4 SLURM_JOB_GPUS=1", true}, {"SLURM_JOB_ID=4 SLURM_STEP_GPUS=1", true}} {
		t.Run(c.variables, func(t *testing.T) {
			in(t, strings.Fields(c.variables)...)
			if err := Current().AllowGPU(); (err == nil) != c.allowed || err != nil && (!usage.Is(err) || !strings.Contains(err.Error(), "job 4 of Slurm asked for no GPU")) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"PATH=/bin", "SLURM_CONF=/etc/x", "SLURM_JOB_ID=1", "SLURM_ARRAY_TASK_ID=2", "SBATCH_PARTITION=p", "SLURMD_NODENAME=n", "GOCP_DEVICE=cpu", "SLURM_CONF_SERVER=h"})
	if want := []string{"PATH=/bin", "SLURM_CONF=/etc/x", "GOCP_DEVICE=cpu", "SLURM_CONF_SERVER=h"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// commands puts programs of Slurm's names in front of PATH: each notes its arguments, and prints a text.
func commands(t *testing.T, prints map[string]string) (said func() string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range prints {
		text := fmt.Sprintf("#!/bin/sh\necho \"%s $*\" >>%s/said\n%s\n", name, dir, script)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "said"))
		return string(b)
	}
}

func TestRequeue(t *testing.T) {
	const show = "scontrol show job -o 7_1\n"
	for _, c := range []struct {
		what, variables, answer string
		did                     bool
		said                    string
	}{
		{"a task", "SLURM_JOB_ID=8 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=1", "JobId=8 ArrayJobId=7 ArrayTaskId=1 JobState=RUNNING", true, show + "scontrol requeue 7_1\n"},
		{"the task whose id is the array's", "SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=1", "JobId=7 ArrayJobId=7 ArrayTaskId=1 JobState=RUNNING", true, show + "scontrol requeue 7_1\n"},
		{"cancelled", "SLURM_JOB_ID=8 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=1", "JobId=8 JobState=COMPLETING", false, show},
		{"a job submitted from inside of the task", "SLURM_JOB_ID=9 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=1", "JobId=8 JobState=RUNNING", false, show},
		{"no array", "SLURM_JOB_ID=9", "", false, ""},
		{"no job", "", "", false, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			in(t, strings.Fields(c.variables)...)
			said := commands(t, map[string]string{"scontrol": "echo '" + c.answer + "'"})
			did, err := Current().Requeue(context.Background())
			if err != nil || did != c.did || said() != c.said {
				t.Errorf("%v, %v; said %q", did, err, said())
			}
		})
	}
	in(t, "SLURM_JOB_ID=8", "SLURM_ARRAY_JOB_ID=7", "SLURM_ARRAY_TASK_ID=1")
	commands(t, map[string]string{"scontrol": "echo 'scontrol: error: no controller' >&2; exit 1"})
	if did, err := Current().Requeue(context.Background()); did || err == nil || !strings.Contains(err.Error(), "no controller") {
		t.Errorf("no controller: %v, %v", did, err)
	}
}
