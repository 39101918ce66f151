package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/report"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/store"
	"github.com/gocp/gocp/gocp/sweep"
	"github.com/gocp/gocp/gocp/usage"
)

// Names inside the folder of a sweep.
const (
	planFile  = "plan.yaml"
	tableFile = "sweep.csv"
	pointsDir = "points"
	storeDir  = "store"
)

func sweepCommand() *cli.Command {
	return &cli.Command{
		Name:      "sweep",
		Usage:     "run many audits by a plan; what they share is made once",
		ArgsUsage: "PLAN.yaml | status DIR | report DIR",
		Description: "A plan is a base and axes, with the names of the flags of gocp audit (docs/sweeps.md). Audits that are\n" +
			"interrupted go on when the same command is given again, and a changed plan reuses what still fits.\n" +
			"status tells how far the sweep in DIR is; report prints its table and writes sweep.csv.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "folder of the sweep"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and make nothing"},
			&cli.IntFlag{Name: "workers", Usage: "models trained side by side; does not change results", DefaultText: "one a core"},
			memoryFlag(), metricsFlag(), deviceFlag(), devicesFlag(), quietFlag(),
		},
		Before: refuse([]rule{above0("workers")}),
		Action: func(c *cli.Context) error {
			switch what, n := c.Args().First(), c.NArg(); {
			case n == 0:
				return usage.Errorf("gocp sweep needs a plan: gocp sweep plan.yaml --out runs/sweep")
			case what != "status" && what != "report":
				if n > 1 {
					return usage.Errorf("gocp sweep takes one plan, but also got %q", c.Args().Get(1))
				}
				return runSweep(c, what)
			case n != 2:
				return usage.Errorf("gocp sweep %s needs the folder of a sweep, and nothing else", what)
			case c.IsSet("out") || c.IsSet("dry-run"):
				return usage.Errorf("gocp sweep %s only reads: it takes neither --out nor --dry-run", what)
			default:
				return showSweep(c, what, c.Args().Get(1))
			}
		},
	}
}

// sweepFields are the flags of gocp audit that say what an audit is.
func sweepFields() []string {
	names := flagNames(slices.Concat(flagsOf(auditOptions()), readingFlags(), []cli.Flag{dataFlag(), testSplitFlag(), &cli.BoolFlag{Name: "quick"}}))
	for i, n := range names {
		names[i] = strings.TrimPrefix(n, "--")
	}
	return names
}

// A point is an audit of a sweep, ready to run.
type point struct {
	sweep.Point
	dir     string
	cfg     experiment.Config
	ref     data.Ref
	set     experiment.Data
	outline *experiment.Outline
}

// configOf reads a point's fields as gocp audit reads its flags.
func configOf(p sweep.Point) (cfg experiment.Config, ref data.Ref, err error) {
	cmd, options := auditCommand(), auditOptions()
	cmd.Action = func(c *cli.Context) error {
		if cfg, ref, err = auditConfig(c, options, ""); err != nil {
			return err
		}
		whole := cfg.WithDefaults()
		return first(whole.Validate(), wanted(c, options, &whole))
	}
	app := &cli.App{Name: "gocp", Commands: []*cli.Command{cmd}, Writer: io.Discard, ErrWriter: io.Discard, ExitErrHandler: func(*cli.Context, error) {}}
	prepare(app.Commands)
	args := []string{"gocp", "audit"}
	for _, f := range p.Fields {
		args = append(args, "--"+f.Name+"="+f.Value)
	}
	err = app.Run(args)
	return cfg, ref, err
}

// points reads the points of a plan; where keeps says so it holds them against their data too.
func points(plan *sweep.Plan, dir string, load bool) ([]point, error) {
	sets := map[string]experiment.Data{}
	var out []point
	dirs := map[string]string{}
	for _, sp := range plan.Points {
		wrong := func(err error) error {
			return usage.Errorf("%s:%d: %s: %w", plan.File, sp.Line(), sp.Name(), err)
		}
		p := point{Point: sp}
		var err error
		if p.cfg, p.ref, err = configOf(sp); err != nil {
			return nil, wrong(err)
		}
		key, err := store.Key(struct {
			Config experiment.Config `json:"config"`
			Data   data.Ref          `json:"data"`
		}{p.cfg.WithDefaults(), p.ref})
		if err != nil {
			return nil, err
		}
		if twin, ok := dirs[key]; ok {
			return nil, wrong(fmt.Errorf("it is the same audit as %s", twin))
		}
		dirs[key] = sp.Name()
		p.dir = filepath.Join(dir, pointsDir, fileName(sp.Name())+"-"+key[:8])
		if load {
			at := fmt.Sprintf("%+v", p.ref)
			if _, ok := sets[at]; !ok {
				if sets[at], err = loadData(p.ref); err != nil {
					return nil, wrong(err)
				}
			}
			p.set = sets[at]
			if p.outline, err = experiment.NewOutline(p.cfg, p.set); err != nil {
				return nil, wrong(err)
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// fileName is a point's name as the name of a folder.
func fileName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("=,._-", r) {
			return r
		}
		return '_'
	}, name)
	return name[:min(len(name), 100)]
}

func runSweep(c *cli.Context, file string) error {
	dir := c.String("out")
	if dir == "" {
		return usage.Errorf("gocp sweep needs a folder to write: --out runs/sweep")
	}
	plan, err := sweep.Read(file, sweepFields())
	if err != nil {
		return err
	}
	list, err := points(plan, dir, true)
	if err != nil {
		return err
	}
	if err := sweepFolder(dir); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return tellSweep(c.App.Writer, list)
	}
	mem, err := memory(c)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return usage.Errorf("plan: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, pointsDir), 0o777); err != nil {
		return usage.Errorf("sweep: %w", err)
	}
	if err := atomicfile.WriteBytes(filepath.Join(dir, planFile), text); err != nil {
		return err
	}
	kept, err := store.Open(filepath.Join(dir, storeDir))
	if err != nil {
		return err
	}
	err = watchedAll(c, func(ctx context.Context, devs []*device.Device, w watch) error {
		for i, p := range list {
			if _, err := result.Load(p.dir); err == nil {
				continue
			}
			w.Progress.Note("%s (%d of %d)", p.Name(), i+1, len(list))
			p.cfg.Workers, p.cfg.Memory = c.Int("workers"), mem
			res, err := experiment.Audit(ctx, devs[0], p.cfg, p.set, experiment.Options{Dir: p.dir, Resume: true, Progress: w.Progress,
				Version: version().Gocp, More: devs[1:], Meter: w.Meter, Tally: w.Tally, Store: kept})
			if err == nil {
				err = writeReport(p.dir, res)
			}
			if errors.Is(err, context.Canceled) {
				err = context.Canceled
			}
			if err != nil {
				return fmt.Errorf("%s: %w; what is done is kept: the same command goes on where this stopped", p.Name(), err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return showSweep(c, "report", dir)
}

// sweepFolder refuses a folder of other things.
func sweepFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return usage.Errorf("sweep: %w", err)
	}
	for _, e := range entries {
		if n := e.Name(); !slices.Contains([]string{planFile, tableFile, pointsDir, storeDir}, n) && !atomicfile.Temporary(n) {
			return usage.Errorf("%s holds %s, which is of no sweep; give another folder", dir, n)
		}
	}
	return nil
}

// tellSweep prints what a sweep would do.
func tellSweep(w io.Writer, list []point) error {
	var b strings.Builder
	known := map[string]bool{}
	benign, shared, crafts, victims, done := 0, 0, 0, 0, 0
	for _, p := range list {
		state := ""
		if _, err := result.Load(p.dir); err == nil {
			state = ", done"
			done++
		}
		own := 0
		for _, key := range p.outline.Benign {
			if key != "" && known[key] {
				shared++
				continue
			}
			known[key] = true
			own++
		}
		benign += own
		crafts, victims = crafts+p.outline.Poisons, victims+p.outline.Victims
		fmt.Fprintf(&b, "%s: %d benign models, %d of them shared with points before, %d sets of poisons, %d victims%s\n",
			p.Name(), len(p.outline.Benign), len(p.outline.Benign)-own, p.outline.Poisons, p.outline.Victims, state)
	}
	fmt.Fprintf(&b, "%d audits, %d done: %d benign models to train where each by itself would train %d; at most %d sets of poisons and %d victims, fewer where poisons come out alike\n",
		len(list), done, benign, benign+shared, crafts, victims)
	_, err := io.WriteString(w, b.String())
	return err
}

// showSweep prints how far a sweep is, or its table.
func showSweep(c *cli.Context, what, dir string) error {
	plan, err := sweep.Read(filepath.Join(dir, planFile), sweepFields())
	if err != nil {
		return usage.Errorf("%s is no folder of a sweep: %w", dir, err)
	}
	list, err := points(plan, dir, false)
	if err != nil {
		return err
	}
	var rows []report.SweepRow
	done := 0
	for _, p := range list {
		row := report.SweepRow{Values: make([]string, len(plan.Axes))}
		for _, f := range p.Fields[p.Own:] {
			row.Values[slices.Index(plan.Axes, f.Name)] = f.Value
		}
		state := "not begun"
		if res, err := result.Load(p.dir); err == nil {
			row.Result, state = res, "done"
			done++
		} else if _, _, err := experiment.LoadConfig(p.dir); err == nil {
			state = "begun"
		}
		if what == "status" {
			if _, err := fmt.Fprintf(c.App.Writer, "%s: %s\n", p.Name(), state); err != nil {
				return err
			}
		}
		rows = append(rows, row)
	}
	if what == "status" {
		_, err := fmt.Fprintf(c.App.Writer, "%d of %d audits are done\n", done, len(list))
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, tableFile), func(w io.Writer) error { return report.SweepCSV(w, plan.Axes, rows) }); err != nil {
		return err
	}
	if err := report.SweepText(c.App.Writer, plan.Axes, rows); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "\nTable: %s; the audits' own reports are in %s\n", filepath.Join(dir, tableFile), filepath.Join(dir, pointsDir))
	return err
}
