package slurm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

func work(dir string) Work {
	return Work{Dir: dir, Chdir: "/home/me", Program: "/opt/my tools/gocp", Last: []string{"collect", dir}, Stages: []Stage{
		{Name: "benign", Jobs: 7, Left: []int{0, 1, 2, 3, 4, 5, 6}, Args: []string{"audit", "--out", dir}},
		{Name: "poisons", Jobs: 2, Args: []string{"audit"}},
		{Name: "victims", Jobs: 9, Left: []int{3, 4, 5, 8}, Args: []string{"audit", "it's"}},
	}}
}

func TestScripts(t *testing.T) {
	scripts, err := work("/data/50%/run").Scripts(Options{Gres: "gpu:1", Time: "2:00:00", Partition: "long", Throttle: 8, Pack: 1, Extra: []string{"--account=team"}}, "ab12", 5)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range scripts {
		array := s.Text[strings.Index(s.Text, "--array=")+len("--array="):]
		array, _, _ = strings.Cut(array, "\n")
		got = append(got, fmt.Sprintf("%s %s of %d from %d", s.Name, array, s.Shards, s.Offset))
	}
	want := "benign-0.sbatch 0-4%4 of 7 from 0\nbenign-1.sbatch 0-1%4 of 7 from 5\nvictims-0.sbatch 3-4%4 of 9 from 0\nvictims-1.sbatch 0,3%4 of 9 from 5\ncollect.sbatch 0 of 1 from 0"
	if strings.Join(got, "\n") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	text := scripts[1].Text
	for _, line := range []string{"#!/bin/sh\n", "#SBATCH --job-name=gocp-ab12-benign\n", "#SBATCH --chdir=\"/home/me\"\n", "#SBATCH --output=\"/data/50%%/run/slurm/logs/%x-%a.log\"\n", "#SBATCH --open-mode=append\n", "#SBATCH --requeue\n",
		"#SBATCH --signal=B:USR1@150\n", "#SBATCH --gres=gpu:1\n", "#SBATCH --time=2:00:00\n", "#SBATCH --partition=long\n", "#SBATCH --account=team\n",
		"\nexec '/opt/my tools/gocp' audit --out '/data/50%/run' --shard \"$((SLURM_ARRAY_TASK_ID + 5))/7\"\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is not in\n%s", line, text)
		}
	}
	if strings.Contains(text, "GOCP_DEVICE") {
		t.Error("a job that asked for a GPU is kept from it")
	}
	for _, s := range scripts {
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = strings.NewReader(s.Text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", s.Name, err, out)
		}
	}
	if scripts, err = work("/r").Scripts(Options{}, "ab12", 1001); err != nil || !strings.Contains(scripts[0].Text, "export GOCP_DEVICE=cpu") {
		t.Errorf("without a GPU: %v\n%s", err, scripts[0].Text)
	}
}

func TestPacking(t *testing.T) {
	for _, c := range []struct {
		jobs, pack int
		seconds    float64
		shards     int
	}{{100, 0, 0, 25}, {100, 7, 0, 15}, {100, 0, 60, 10}, {100, 0, 0.001, 1}, {100, 0, 5000, 100}, {3, 0, 0, 1}, {0, 0, 0, 1}} {
		if got := (Stage{Jobs: c.jobs, Seconds: c.seconds}).shards(c.pack); got != c.shards {
			t.Errorf("%+v: %d shards", c, got)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for want, o := range map[string]Options{
		`--gres: "gpu:1 #"`:           {Gres: "gpu:1 #"},
		"is more than one line":       {Extra: []string{"--account=a\n#SBATCH -x"}},
		"is no option of sbatch":      {Extra: []string{"account=a"}},
		"gocp sets --array by itself": {Extra: []string{"--array=0-3"}},
		"gocp sets -d by itself":      {Extra: []string{"-d afterok:3"}},
	} {
		if err := o.Check(); !usage.Is(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	w := work("/data")
	w.Dir = "/data/a\nb"
	if _, err := w.Scripts(Options{}, "x", 5); !usage.Is(err) {
		t.Errorf("a path of two lines: %v", err)
	}
}

// fake is a Slurm whose sbatch counts from 100 and refuses the script of a name.
func fake(t *testing.T, queue, refused string) (said func() string) {
	t.Helper()
	counter := filepath.Join(t.TempDir(), "n")
	return commands(t, map[string]string{
		"scontrol": "echo 'MaxArraySize            = 5'",
		"squeue":   "printf '" + queue + "'",
		"scancel":  "",
		"sbatch":   fmt.Sprintf("case \"$*\" in *%s*) echo 'sbatch: error: invalid partition' >&2; exit 1;; esac; if env | grep -q '^SLURM_\\|^SBATCH_'; then echo variables came along >&2; exit 1; fi; echo x >>%s; echo $((99 + $(wc -l <%[2]s)))", refused, counter),
	})
}

func TestSubmit(t *testing.T) {
	dir := t.TempDir()
	in(t, "SLURM_JOB_ID=3", "SLURM_ARRAY_JOB_ID=3", "SLURM_ARRAY_TASK_ID=1") // from inside of a task of another run
	t.Setenv("SBATCH_PARTITION", "else")
	said := fake(t, "", "nothing")
	jobs, err := work(dir).Submit(context.Background(), Options{Pack: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) != 5 {
		t.Fatalf("%d jobs", len(jobs))
	}
	lines := strings.Split(strings.TrimSpace(said()), "\n")
	var sbatch []string
	for _, l := range lines {
		if strings.HasPrefix(l, "sbatch") {
			sbatch = append(sbatch, strings.ReplaceAll(l, dir+"/slurm/", ""))
		}
	}
	want := "sbatch --parsable benign-0.sbatch\nsbatch --parsable benign-1.sbatch\nsbatch --parsable --dependency=afterany:100:101 victims-0.sbatch\n" +
		"sbatch --parsable --dependency=afterany:100:101 victims-1.sbatch\nsbatch --parsable --dependency=afterany:100:101:102:103 collect.sbatch"
	if got := strings.Join(sbatch, "\n"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	r, err := readRecord(dir)
	if err != nil || len(r.Jobs) != 5 || r.Token == "" {
		t.Errorf("%+v, %v", r, err)
	}
	stage, index, of, err := ShardOf(dir, Task{Job: "9", Array: "103", Index: "3"})
	if err != nil || stage != "victims" || index != 8 || of != 9 {
		t.Errorf("task 103_3 is shard %d/%d of %s, %v", index, of, stage, err)
	}
	for _, other := range []Task{{}, {Job: "9", Array: "3", Index: "1"}, {Job: "9", Array: "104", Index: "0"}} {
		if _, _, _, err := ShardOf(dir, other); !usage.Is(err) {
			t.Errorf("%+v: %v", other, err)
		}
	}

	// While some are in the queue nothing is submitted, and they are cancelled by their arrays.
	said = fake(t, "101 PENDING gocp-"+r.Token+"-benign\\n101 RUNNING gocp-"+r.Token+"-benign\\n7 RUNNING another\\n", "nothing")
	if _, err := work(dir).Submit(context.Background(), Options{}); !usage.Is(err) || !strings.Contains(err.Error(), "in the queue already (101)") {
		t.Errorf("%v", err)
	}
	if ids, err := Cancel(context.Background(), dir); err != nil || strings.Join(ids, " ") != "101" || !strings.HasSuffix(said(), "scancel 101\n") {
		t.Errorf("cancelled %v, %v; said %s", ids, err, said())
	}
	if q, err := Status(context.Background(), dir); err != nil || len(q) != 2 || q[0] != (Queued{"101", "benign", "PENDING"}) {
		t.Errorf("%+v, %v", q, err)
	}
}

// What was submitted before Slurm refuses a script is taken back.
func TestRefusedHalfWay(t *testing.T) {
	dir := t.TempDir()
	in(t)
	fake(t, "", "victims-0")
	_, err := work(dir).Submit(context.Background(), Options{Pack: 1})
	if !usage.Is(err) || !strings.Contains(err.Error(), "invalid partition") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, Dir, "submit.1")); !os.IsNotExist(err) {
		t.Errorf("the lock is left: %v", err)
	}
}

func TestNoSlurm(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir := t.TempDir()
	if _, err := work(dir).Submit(context.Background(), Options{}); !usage.Is(err) || !strings.Contains(err.Error(), "is Slurm installed here?") {
		t.Errorf("%v", err)
	}
	if s, err := work(dir).Print(context.Background(), Options{}); err != nil || len(s) == 0 {
		t.Errorf("to look at: %v", err)
	}
}
