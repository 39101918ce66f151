package experiment

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/owner"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/store"
	"github.com/gocp/gocp/gocp/telemetry"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/trainer"
)

// Options are what an audit needs besides its configuration; none of them changes a result.
type Options struct {
	Dir      string // the run folder
	Resume   bool   // go on with the run that Dir holds
	Progress progress.Reporter
	Version  string           // gocp's version, recorded
	More     []*device.Device // of the same kind: jobs are spread over all of them
	Meter    *telemetry.Meter // watches the machine; nil: nobody does
	Tally    *progress.Tally  // counts jobs and what they do
	Store    *store.Store     // of finished jobs, which several audits share; nil: there is none

	Shard    Shard // the part of the work that RunShard does
	TakeOver bool  // from another process that is not at work in the folder any more, although nobody can tell from here
	owner.Life
}

// What Options.Tally counts.
const (
	TallyPlanned = "jobs_planned"
	TallyJobs    = "jobs_done_total"
	TallyEpochs  = "epochs_total"
	TallySteps   = "craft_steps_total"
	TallyPoisons = "poisons_crafted_total"
	TallyFound   = "jobs_found_total" // in Options.Store
)

// run is an audit under way.
type run struct {
	cfg    Config
	opt    Options
	dev    *device.Device // the first, which the result names
	fleet  *fleet
	data   Data
	folder *folder
	split  *splits
	judge  *judge
	goal   attack.Goal
	bars   *bars
	notes  []string // what is said before the work begins

	victimCommand, referenceCommand trainer.Command // without words: gocp trains
	slots                           chan int        // of programs that run at once

	victimSpec     nn.Spec
	surrogateSpecs []nn.Spec // by kind

	maker maker
	asked func() string // digest of splits.whole

	workers int
	said    sync.Map // what was noted of memory

	division *division // into subgroups; nil: none, or none yet

	once   sync.Once
	groups []group
	agreed []int        // what the reference models predict together for every row of splits.whole
	aimed  map[int]bool // rows of splits.whole that are targets
	err    error
}

// Audit runs c on d and returns its result, which it also writes to the run folder. Done on the
// context, it stops after the steps under way and leaves a folder that can be resumed.
func Audit(ctx context.Context, dev *device.Device, c Config, d Data, o Options) (*result.Result, error) {
	o.Shard = Shard{}
	return inFolder(ctx, dev, c, d, o, func(ctx context.Context, r *run, start time.Time) (*result.Result, error) {
		jobs, _ := r.plan()
		err := r.do(ctx, jobs, jobs)
		if err := cmp.Or(err, r.folder.tick("wall", time.Since(start))); err != nil {
			return nil, err
		}
		return r.collect(ctx)
	})
}

// RunShard does o.Shard of an audit's jobs, after those of other shards that they depend on. Where such
// are missing and nobody is at work on them, the error is an *Unfinished.
func RunShard(ctx context.Context, dev *device.Device, c Config, d Data, o Options) error {
	if err := o.Shard.Validate(); err != nil {
		return err
	}
	o.Resume = true
	_, err := inFolder(ctx, dev, c, d, o, func(ctx context.Context, r *run, _ time.Time) (*result.Result, error) {
		return nil, r.shard(ctx)
	})
	return err
}

// Collect makes the result of a run whose jobs shards have done. Where some are missing the error is an
// *Unfinished that names them.
func Collect(ctx context.Context, dev *device.Device, c Config, d Data, o Options) (*result.Result, error) {
	o.Shard, o.Resume = Shard{}, true
	return inFolder(ctx, dev, c, d, o, func(ctx context.Context, r *run, _ time.Time) (*result.Result, error) {
		jobs, _ := r.plan()
		if len(jobs) > 0 {
			u := &Unfinished{Dir: o.Dir}
			for _, j := range jobs {
				u.Missing = append(u.Missing, j.name)
			}
			return nil, u
		}
		return r.collect(ctx)
	})
}

// inFolder opens the run folder for the length of f, whose context is done when somebody else takes the
// work over.
func inFolder(ctx context.Context, dev *device.Device, c Config, d Data, o Options, f func(ctx context.Context, r *run, start time.Time) (*result.Result, error)) (_ *result.Result, err error) {
	start := time.Now()
	fleet, err := newFleet(append([]*device.Device{dev}, o.More...)...)
	if err != nil {
		return nil, err
	}
	r, err := newRun(ctx, fleet, c, d, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = cmp.Or(err, r.folder.close()) }()
	defer r.bars.stop()
	for _, line := range r.notes {
		progress.Or(o.Progress).Note("%s", line)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-r.folder.owner.Lost():
			cancel(r.folder.mine())
		case <-ctx.Done():
		}
	}()
	return f(ctx, r, start)
}

// do runs jobs, some or all of the planned ones.
func (r *run) do(ctx context.Context, jobs, planned []*job) error {
	r.bars.plan(planned)
	r.opt.Tally.Add(TallyPlanned, len(planned))
	var unwritten error
	err := runJobs(ctx, capacity{ours: r.workers, theirs: r.cfg.VictimsAtOnce}, jobs, func(j *job) {
		r.opt.Tally.Add(TallyJobs, 1)
		r.bars.done(j)
		// Now, so that a run that is killed keeps it.
		unwritten = cmp.Or(unwritten, r.folder.watched(r.opt.Meter.Take()))
	})
	return cmp.Or(err, unwritten, r.folder.watched(r.opt.Meter.Take()))
}

// shard does the run's share of the jobs, in rounds: jobs that depend on those of other shards come when
// these are done.
func (r *run) shard(ctx context.Context) error {
	left, _ := r.plan()
	planned := left
	for len(left) > 0 {
		if err := r.folder.journal.Reread(); err != nil {
			return err
		}
		ready, missing := r.ready(left)
		if len(ready) == 0 {
			wait, err := r.expected(missing)
			if err != nil {
				return err
			}
			if !wait {
				u := &Unfinished{Dir: r.opt.Dir, Shard: r.opt.Shard}
				for _, j := range missing {
					u.Missing = append(u.Missing, j.name)
				}
				return u
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(pollEvery):
			}
			continue
		}
		if err := r.do(ctx, ready, planned); err != nil {
			return err
		}
		planned = nil
		left = slices.DeleteFunc(left, func(j *job) bool { return slices.Contains(ready, j) })
	}
	return nil
}

// ready lists the jobs that can be done before any other shard does more, and the jobs of other shards
// that the rest waits for.
func (r *run) ready(left []*job) (ready, missing []*job) {
	blocked := map[*job]bool{}
	for _, j := range left { // after those that it depends on
		for _, d := range j.deps {
			blocked[j] = blocked[j] || blocked[d]
		}
		j.foreign = slices.DeleteFunc(j.foreign, func(d *job) bool { return r.folder.made(d.files...) })
		for _, d := range j.foreign {
			blocked[j] = true
			if !slices.Contains(missing, d) {
				missing = append(missing, d)
			}
		}
		if !blocked[j] {
			ready = append(ready, j)
		}
	}
	for _, j := range ready { // those before are done
		j.deps = slices.DeleteFunc(j.deps, func(d *job) bool { return !slices.Contains(ready, d) })
	}
	return ready, missing
}

// expected tells whether some shard seems to be at work that has one of the jobs.
func (r *run) expected(missing []*job) (bool, error) {
	for _, j := range missing {
		if ok, err := worksOn(r.opt.Dir, r.opt.Shard, j.stage, j.number); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// collect makes the result of jobs that are all done.
func (r *run) collect(ctx context.Context) (*result.Result, error) {
	if err := os.RemoveAll(r.folder.path(jobsDir)); err != nil { // what a killed run left of jobs that were done
		return nil, fmt.Errorf("run folder: %w", err)
	}
	res, err := r.assemble(ctx)
	if err != nil {
		return nil, err
	}
	if res.Timings, res.Telemetry, err = r.folder.read(); err != nil {
		return nil, err
	}
	r.folder.holds(result.File, result.File) // says it if it was damaged
	if err := r.folder.mine(); err != nil {
		return nil, err
	}
	if err := res.Save(r.opt.Dir); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(r.folder.path(partialDir)); err != nil { // of jobs that were done and then killed
		return nil, fmt.Errorf("run folder: %w", err)
	}
	return res, r.folder.journal.Replaced(result.File)
}

// prepare cuts the data and settles everything that does not need a device or a folder.
func prepare(c Config, d Data) (*run, error) {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	named, err := c.Goal.Settle(d.Train.Classes)
	if err != nil {
		return nil, err
	}
	goal, err := c.Craft.GoalOf(c.Goal, c.seedOf("method"))
	if err != nil {
		return nil, err
	}
	split, err := newSplits(c, d)
	if err != nil {
		return nil, err
	}
	j, err := newJudge(c, split)
	if err != nil {
		return nil, err
	}
	r := &run{cfg: c, data: d, split: split, judge: j, goal: goal,
		victimSpec: c.Victim.spec(split.train.Images, split.classes)}
	if err := cmp.Or(r.victimSpec.Validate(), r.readSubgroups()); err != nil {
		return nil, err
	}
	if err := (train.Config{Defense: c.Training}).Fits(r.victimSpec); err != nil {
		return nil, err
	}
	if r.surrogateSpecs, err = c.Surrogate.specs(split.auxTrain.Images, split.classes); err != nil {
		return nil, err
	}
	if err := cmp.Or(labelsExist(c.Goal, split.classes), shiftFits(max(c.VictimTrain.Shift, c.SurrogateTrain.Shift, c.Craft.Shift), d.Train)); err != nil {
		return nil, err
	}
	r.notes, err = affordable(c, goal, split, d.Train.Classes)
	r.notes = append(named, r.notes...)
	return r, err
}

func newRun(ctx context.Context, f *fleet, c Config, d Data, o Options) (*run, error) {
	dev := f.devices[0]
	if err := decide(&c.Precision, dev); err != nil {
		return nil, err
	}
	r, err := prepare(c, d)
	if err != nil {
		return nil, err
	}
	r.dev, r.fleet, r.opt, r.bars = dev, f, o, newBars(progress.Or(o.Progress), r.cfg, o.Tally)
	if r.workers = c.Workers; r.workers == 0 {
		r.workers = max(runtime.GOMAXPROCS(0), len(f.devices))
	}
	if err := cmp.Or(r.fits(ctx), r.resolve()); err != nil {
		return nil, err
	}
	id, err := newIdentity(r.cfg, d, dev.Info(), o.Version)
	if err != nil {
		return nil, err
	}
	id.Commands = commands{commandRecord(r.victimCommand), commandRecord(r.referenceCommand)}
	r.maker = maker{Engine: id.Engine, Program: id.Program}
	r.asked = sync.OnceValue(func() string { return digest(r.split.whole.Images, false) })
	r.folder, err = openFolder(id, o, progress.Or(o.Progress).Note)
	return r, err
}

// Priorities of jobs. Surrogates gate everything; crafting gates the attacked victims.
const (
	surrogateFirst = 4
	craftNext      = 3
	benignEarly    = 2
	victimsLast    = 1
)

// plan lists the jobs of the run's shard that are not done yet, and all jobs by stage.
func (r *run) plan() (left []*job, all map[string][]*job) {
	c := r.cfg
	all = map[string][]*job{}
	// add numbers a job. What is left of it are the jobs that others wait for.
	add := func(stage string, j *job, deps ...*job) *job {
		j.stage, j.number = stage, len(all[stage])
		all[stage] = append(all[stage], j)
		if !r.opt.Shard.has(stage, j.number) || r.folder.holds(j.what, j.files...) {
			return j
		}
		for _, d := range deps {
			switch {
			case slices.Contains(left, d):
				j.deps = append(j.deps, d)
			case !r.opt.Shard.has(d.stage, d.number):
				j.foreign = append(j.foreign, d)
			}
		}
		left = append(left, j)
		return j
	}
	fitJob := func(stage string, m modelJob, priority float64, deps ...*job) *job {
		j := &job{name: "train " + m.name, what: m.name, files: m.files(), role: m.role, cost: priority, run: r.fitted(m)}
		if m.command != nil {
			j.lane, j.run = theirs, r.commanded(m)
		}
		return add(stage, j, deps...)
	}
	var surrogates []*job
	for i := range c.Surrogates {
		surrogates = append(surrogates, fitJob(StageBenign, r.benign(roleSurrogate, i), surrogateFirst))
	}
	for _, b := range []struct {
		role string
		n    int
		on   bool
	}{{roleReference, c.References, true}, {roleControl, c.Controls, slices.Contains(c.Conditions, result.Clean)}} {
		for i := range b.n {
			if b.on {
				fitJob(StageBenign, r.benign(b.role, i), benignEarly)
			}
		}
	}
	for g := range c.Repeats {
		craft := add(StagePoisons, &job{name: fmt.Sprintf("craft poisons %d", g), what: poisonsDir + "/" + bundleName(g), files: r.folder.bundle(g), role: roleCraft, cost: craftNext,
			run: func(ctx context.Context) error { return r.craft(ctx, g) }}, surrogates...)
		// Poisons of the noise controls lie on the bases that the attack chose.
		for _, cond := range c.Conditions {
			for v := range r.victims(cond) {
				fitJob(StageVictims, r.victim(g, cond, v), victimsLast, craft)
			}
		}
	}
	return left, all
}

// victims is the number of victims of a group that are trained under a condition. Retraining on
// clean data does not depend on the group: the controls show it.
func (r *run) victims(c result.Condition) int {
	switch c {
	case result.Clean:
		return 0
	case result.RandGa:
		return r.cfg.GaussVictims
	}
	return r.cfg.Victims
}

func bundleName(g int) string { return fmt.Sprintf("%03d", g) }

func victimName(g int, c result.Condition, v int) string {
	return fmt.Sprintf("victim-%03d-%s-%d", g, c, v)
}

func benignName(role string, i int) string { return fmt.Sprintf("%s-%d", role, i) }

// benign is a model on clean data.
func (r *run) benign(role string, i int) modelJob {
	j := modelJob{name: benignName(role, i), role: role, repeat: -1, seed: r.cfg.seedOf(role, i), keepModel: true,
		spec: r.victimSpec, recipe: r.cfg.VictimTrain, cal: r.split.cal,
		images: func() (attack.Images, []int, error) { return r.split.train.Images, nil, nil }}
	if role == roleSurrogate {
		j.spec, j.recipe = r.surrogate(i)
		j.cal = r.split.auxCal
		j.features = i < r.cfg.Attackers && r.cfg.Subgroups.By == SubgroupClusters
		j.images = func() (attack.Images, []int, error) { return r.split.auxTrain.Images, nil, nil }
		return j
	}
	return j.by(r.referenceCommand)
}

// victim is a fresh model on poisoned data. Its seed is the same under every condition, so that
// the conditions are compared victim by victim.
func (r *run) victim(g int, c result.Condition, v int) modelJob {
	return modelJob{name: victimName(g, c, v), role: roleVictim, repeat: g, seed: r.cfg.seedOf(roleVictim, g, v),
		spec: r.victimSpec, recipe: r.cfg.VictimTrain, cal: r.split.cal,
		images: func() (attack.Images, []int, error) {
			b, err := attack.ReadBundle(r.folder.path(poisonsDir, bundleName(g)))
			if err != nil {
				return attack.Images{}, nil, err
			}
			p, err := r.poisonsOf(g, c, b)
			if err != nil {
				return attack.Images{}, nil, err
			}
			return r.inject(g, p)
		}}.by(r.victimCommand)
}

// verdicts reads and judges the benign models of a role.
func (r *run) verdicts(role string, n int) ([]*verdict, error) {
	cal, u := r.split.cal, r.judge.uCal
	if role == roleSurrogate {
		cal, u = r.split.auxCal, r.judge.uAux
	}
	var out []*verdict
	for i := range n {
		l, err := r.readLogits(benignName(role, i), cal)
		if err != nil {
			return nil, err
		}
		v, err := r.judge.rule(l, cal, u)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", benignName(role, i), err)
		}
		out = append(out, v)
	}
	return out, nil
}

// targets chooses the targets once, from the surrogates' logits.
func (r *run) targets() ([]group, error) {
	r.once.Do(func() {
		var vs []*verdict
		if vs, r.err = r.verdicts(roleSurrogate, r.cfg.Surrogates); r.err != nil {
			return
		}
		switch {
		case !r.cfg.divides():
			r.groups, r.err = choose(r.cfg, r.goal, r.split, r.judge, vs)
		case r.division == nil:
			if r.division, r.err = r.cluster(); r.err != nil {
				return
			}
			fallthrough
		default:
			r.groups, r.err = chooseSubgroups(r.cfg, r.goal, r.split, r.judge, vs, r.division)
		}
		if r.err != nil {
			return
		}
		r.aimed = map[int]bool{}
		for g := range r.groups {
			for _, t := range r.groups[g].targets {
				r.aimed[t.row] = true
			}
		}
	})
	return r.groups, r.err
}

func pictureName(g, v int) string { return fmt.Sprintf("%s/%03d-%d.png", targetsDir, g, v) }

// pictures draws the targets and notes who has one: images that PNG cannot hold have none.
func (r *run) pictures() error {
	m := r.split.whole
	if m.C != 1 && m.C != 3 {
		return nil
	}
	var names []string
	for g := range r.groups {
		for v := range r.groups[g].targets {
			t := &r.groups[g].targets[v]
			t.picture = pictureName(g, v)
			if r.folder.holds(t.picture, t.picture) {
				continue
			}
			b, err := attack.EncodePNG(m.At(t.row), m.H, m.W, m.C)
			if err != nil {
				return err
			}
			if err := atomicfile.WriteBytes(r.folder.path(t.picture), b); err != nil {
				return err
			}
			names = append(names, t.picture)
		}
	}
	return r.folder.journal.Wrote(names...)
}
