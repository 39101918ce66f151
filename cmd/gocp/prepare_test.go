package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/result"
)

// A run that was prepared is begun elsewhere, with the settings that it was prepared with.
func TestPrepared(t *testing.T) {
	dir := workFolder(t)
	succeeds(t, dir, append(slices.Clone(tinyAudit), "--out", "whole")...)
	audit := append(slices.Clone(tinyAudit), "--out", "run", "--prepare")
	if o := succeeds(t, dir, audit...); !strings.Contains(o.stdout, "run is prepared") {
		t.Errorf("%s", o.stdout)
	}
	o := succeeds(t, dir, "slurm", "submit", "run", "--print", "--gres", "gpu:1", "--pack", "2")
	for _, line := range []string{"# run/slurm/benign-0.sbatch\n", "#SBATCH --array=0-2\n", " --stage benign --shard \"$((SLURM_ARRAY_TASK_ID + 0))/3\"\n", "#SBATCH --array=0-4\n", "# run/slurm/collect.sbatch\n"} {
		if !strings.Contains(o.stdout, line) {
			t.Errorf("%q is not in\n%s", line, o.stdout)
		}
	}
	refuses(t, dir, "--sbatch: gocp sets --array by itself", "slurm", "submit", "run", "--sbatch", "--array=0-3")
	refuses(t, dir, "this is no task of a Slurm array", "audit", "--resume", "--out", "run", "--shard", "auto")
	for _, stage := range []string{"benign", "poisons", "victims"} {
		succeeds(t, dir, "audit", "--resume", "--out", "run", "--shard", "0/1", "--stage", stage)
	}
	o = succeeds(t, dir, "slurm", "submit", "run", "--print")
	if strings.Contains(o.stdout, "--stage") || !strings.Contains(o.stdout, " collect ") {
		t.Errorf("all jobs are done; what is left:\n%s", o.stdout)
	}
	succeeds(t, dir, "collect", "run")
	if !bytes.Equal(read(t, dir, "whole", result.File), read(t, dir, "run", result.File)) {
		t.Error("the prepared run gave another result.json")
	}
	if got, want := bytesOf(t, filepath.Join(dir, "run")), bytesOf(t, filepath.Join(dir, "whole")); got != want {
		t.Errorf("prepared:\n%s\nat once:\n%s", got, want)
	}
	if o := succeeds(t, dir, "slurm", "submit", "run"); !strings.Contains(o.stdout, "there is nothing to submit") {
		t.Errorf("of a finished run: %s", o.stdout)
	}
	refuses(t, dir, "run holds a run already", audit...)
	refuses(t, dir, "nowhere is not a run folder", "slurm", "submit", "nowhere")
}
