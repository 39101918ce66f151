package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/slurm"
	"github.com/gocp/gocp/gocp/usage"
)

func slurmCommand() *cli.Command {
	return &cli.Command{
		Name:  "slurm",
		Usage: "do an audit on a cluster that Slurm schedules",
		Subcommands: []*cli.Command{
			{
				Name:      "submit",
				Usage:     "submit what is left of a run, as arrays that depend on each other",
				ArgsUsage: "DIR",
				Description: "DIR is what gocp audit --prepare wrote, or a run that is not finished. The scripts are written into\n" +
					"DIR/slurm, with the tasks' output. The last job is gocp collect DIR.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "partition", Usage: "as sbatch's"},
					&cli.StringFlag{Name: "gres", Usage: "as sbatch's, such as gpu:1", DefaultText: "none: on the CPU"},
					&cli.StringFlag{Name: "time", Usage: "limit of a task, as sbatch's; one that comes to it saves and goes on as another"},
					&cli.IntFlag{Name: "throttle", Usage: "tasks of a stage that run at once, at most", DefaultText: "any number"},
					&cli.IntFlag{Name: "pack", Usage: "jobs of a task", DefaultText: "ten minutes' worth, where times were measured, else 4"},
					&cli.StringSliceFlag{Name: "sbatch", Usage: "another option for sbatch, such as --account=team; once for each"},
					&cli.BoolFlag{Name: "print", Usage: "show the scripts and submit nothing"},
				},
				Before: refuse([]rule{above0("throttle", "pack")}),
				Action: slurmSubmit,
			},
			{
				Name: "status", Usage: "how far a run is, and what of it is in the queue", ArgsUsage: "DIR",
				Flags: []cli.Flag{jsonFlag()}, Action: slurmStatus,
			},
			{
				Name: "cancel", Usage: "take a run's jobs out of the queue; those that run save what they have done", ArgsUsage: "DIR",
				Action: slurmCancel,
			},
		},
	}
}

// workOf is what is left of the run in dir.
func workOf(dir string) (w slurm.Work, err error) {
	jobs, seconds, err := experiment.Jobs(dir)
	if err != nil {
		return w, err
	}
	if w.Dir, err = filepath.Abs(dir); err != nil {
		return w, err
	}
	if w.Chdir, err = os.Getwd(); err != nil {
		return w, err
	}
	if w.Program, err = os.Executable(); err != nil {
		return w, fmt.Errorf("finding this program: %w", err)
	}
	for _, name := range experiment.Stages() {
		s := slurm.Stage{Name: name, Jobs: len(jobs[name]), Seconds: seconds[name], Args: []string{"audit", "--resume", "--out", w.Dir, "--stage", name}}
		for i, j := range jobs[name] {
			if !j.Done {
				s.Left = append(s.Left, i)
			}
		}
		w.Stages = append(w.Stages, s)
	}
	w.Last = []string{"collect", w.Dir}
	return w, nil
}

func slurmSubmit(c *cli.Context) error {
	dir, err := oneArg(c, "the folder of a run")
	if err != nil {
		return err
	}
	o := slurm.Options{Partition: c.String("partition"), Gres: c.String("gres"), Time: c.String("time"), Throttle: c.Int("throttle"), Pack: c.Int("pack"), Extra: c.StringSlice("sbatch")}
	w, err := workOf(dir)
	if err != nil {
		return err
	}
	out := c.App.Writer
	if c.Bool("print") {
		scripts, err := w.Print(c.Context, o)
		if err != nil {
			return err
		}
		for _, s := range scripts {
			if _, err := fmt.Fprintf(out, "# %s\n%s\n", filepath.Join(dir, slurm.Dir, s.Name), s.Text); err != nil {
				return err
			}
		}
		return nil
	}
	if experiment.Finished(dir) && !slices.ContainsFunc(w.Stages, func(s slurm.Stage) bool { return len(s.Left) > 0 }) {
		_, err := fmt.Fprintf(out, "%s is finished; there is nothing to submit\n", dir)
		return err
	}
	jobs, err := w.Submit(c.Context, o)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if _, err := fmt.Fprintf(out, "%s: array %s\n", j.Stage, j.ID); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "gocp slurm status %s tells how far it is\n", dir)
	return err
}

// stageStatus is how far a stage is.
type stageStatus struct {
	Stage  string         `json:"stage"`
	Done   int            `json:"done"`
	Jobs   int            `json:"jobs"`
	Queued map[string]int `json:"queued"` // tasks by Slurm's word for their state
}

func slurmStatus(c *cli.Context) error {
	dir, err := oneArg(c, "the folder of a run")
	if err != nil {
		return err
	}
	jobs, _, err := experiment.Jobs(dir)
	if err != nil {
		return err
	}
	queued, err := slurm.Status(c.Context, dir)
	if err != nil {
		return err
	}
	var all []stageStatus
	for _, name := range append(experiment.Stages(), "collect") {
		s := stageStatus{Stage: name, Jobs: len(jobs[name]), Queued: map[string]int{}}
		for _, j := range jobs[name] {
			if j.Done {
				s.Done++
			}
		}
		if name == "collect" {
			if s.Jobs = 1; experiment.Finished(dir) {
				s.Done = 1
			}
		}
		for _, q := range queued {
			if q.Stage == name {
				s.Queued[q.State]++
			}
		}
		all = append(all, s)
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, all)
	}
	for _, s := range all {
		line := fmt.Sprintf("%-8s %d of %d done", s.Stage, s.Done, s.Jobs)
		var states []string
		for state, n := range s.Queued {
			states = append(states, fmt.Sprintf("%d %s", n, strings.ToLower(state)))
		}
		slices.Sort(states)
		if len(states) > 0 {
			line += "; tasks: " + strings.Join(states, ", ")
		}
		if _, err := fmt.Fprintln(c.App.Writer, line); err != nil {
			return err
		}
	}
	if len(queued) == 0 && !experiment.Finished(dir) {
		_, err = fmt.Fprintf(c.App.Writer, "nothing of it is in the queue; gocp slurm submit %s submits what is left\n", dir)
	}
	return err
}

func slurmCancel(c *cli.Context) error {
	dir, err := oneArg(c, "the folder of a run")
	if err != nil {
		return err
	}
	if !experiment.IsRun(dir) {
		return usage.Errorf("%s is not a run folder", dir)
	}
	ids, err := slurm.Cancel(context.WithoutCancel(c.Context), dir)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		_, err = fmt.Fprintf(c.App.Writer, "nothing of %s is in the queue\n", dir)
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "cancelled: %s\n", strings.Join(ids, ", "))
	return err
}
