package experiment

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/checkpoint"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// AttackJob crafts one set of poisons.
type AttackJob struct {
	Surrogates  []string        // model files
	Said        checkpoint.Said // what the files do not say
	Pool        Pick            // the adversary's training images: poisons are made from some of them
	Calibration Pick            // images the surrogates are calibrated on
	Targets     []int           // images of the test split whose sets are to change
	Goal        attack.GoalConfig
	Score       conformal.Variant
	Miscoverage string
	Budget      string // share of the pool
	Craft       attack.Config
	Precision   string
	Seed        uint64
	Threads     int
	Memory      int64  // bytes that it may take on the device; 0: three quarters of what is free
	Out         string // folder to write
}

// AttackModels crafts poisons on surrogates and writes them as a folder.
func AttackModels(ctx context.Context, dev *device.Device, j AttackJob, report progress.Reporter) (*attack.Bundle, error) {
	c := Config{Goal: j.Goal, Score: j.Score, Miscoverage: j.Miscoverage, Budget: j.Budget, Craft: j.Craft, Precision: j.Precision, Seed: j.Seed}.WithDefaults()
	if err := decide(&c.Precision, dev); err != nil {
		return nil, err
	}
	if _, err := attack.NewGoal(c.Goal); err != nil {
		return nil, err
	}
	if err := c.Craft.Validate(); err != nil {
		return nil, err
	}
	switch {
	case c.Budget == BudgetAuto:
		return nil, usage.Errorf("budget auto needs victims to try; gocp audit has them")
	case len(j.Surrogates) == 0:
		return nil, usage.Errorf("an attack needs at least one surrogate model")
	case len(j.Targets) == 0:
		return nil, usage.Errorf("an attack needs at least one target")
	}
	if err := fresh(j.Out); err != nil {
		return nil, err
	}
	pool, err := j.Pool.open()
	if err != nil {
		return nil, err
	}
	named, err := c.Goal.Settle(pool.Classes)
	if err != nil {
		return nil, err
	}
	for _, line := range named {
		progress.Or(report).Note("%s", line)
	}
	goal, err := c.Craft.GoalOf(c.Goal, c.seedOf("method"))
	if err != nil {
		return nil, err
	}
	cal, err := j.Calibration.open()
	if err != nil {
		return nil, err
	}
	targets, err := Pick{Data: j.Pool.Data, Reading: j.Pool.Reading, Split: "test", Seed: j.Pool.Seed}.open()
	if err != nil {
		return nil, err
	}
	c.TrainSize, c.CalSize = pool.Len(), cal.Len()
	p := &attack.Problem{Pool: pool.images(), Precision: precision(c.Precision), Seed: c.seedOf("craft", 0),
		Memory: attack.Memory{Limit: j.Memory, Note: progress.Or(report).Note}}
	if p.Count, err = c.poisonCount(); err != nil {
		return nil, err
	}
	if p.Count < 1 {
		return nil, usage.Errorf("budget %s of %d images is less than one image; raise --budget", c.fraction(), pool.Len())
	}
	if p.Level, err = conformal.ParseLevel(c.Miscoverage); err != nil {
		return nil, usage.Wrap(err)
	}
	if n := p.Level.MinCalibration(); cal.Len() < n {
		return nil, usage.Errorf("%d calibration images are too few for miscoverage %s, which needs at least %d", cal.Len(), c.Miscoverage, n)
	}
	if err := cmp.Or(attack.CheckScore(c.Score), labelsExist(c.Goal, len(pool.Classes)), shiftFits(c.Craft.Shift, pool.Dataset)); err != nil {
		return nil, err
	}
	for _, at := range j.Targets {
		if !slices.Contains(targets.Index, at) {
			return nil, usage.Errorf("there is no image %d in the test split; it has %d, counted from 0", at, targets.Len())
		}
	}
	if err := unseen(targets, j.Targets, pool, cal); err != nil {
		return nil, err
	}
	var models []*nn.Model
	for _, file := range j.Surrogates {
		m, _, err := checkpoint.Load(file, j.Said)
		if err != nil {
			return nil, err
		}
		if err := fits(m, file, pool.Dataset); err != nil {
			return nil, err
		}
		models = append(models, m)
		p.Surrogates = append(p.Surrogates, attack.Surrogate{Name: file, Model: m, Calibration: cal.images(), Train: c.SurrogateTrain.of(m.Arch).config(0, c.Precision)})
	}
	p.Training = func(i int) (nn.Spec, train.Config) {
		of := p.Surrogates[i%len(p.Surrogates)]
		return of.Model.Spec, of.Train
	}
	b := &attack.Bundle{Dataset: pool.set.SHA256}
	aims, err := believe(ctx, dev, c, goal, models, cal, targets, j.Targets)
	if err != nil {
		return nil, err
	}
	scorer, err := conformal.NewScorer(c.Score)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	p.Score = scorer.Variant()
	for _, t := range aims {
		p.Targets = append(p.Targets, attack.Target{Image: targets.Image(t.row), Aim: t.aim})
		b.Targets = append(b.Targets, attack.Aimed{Index: targets.Index[t.row], Label: t.belief.Label, Aim: t.aim})
	}
	if !c.Craft.TurnsLabels() {
		p.Classes = sourcesOf(goal, aims)
	}
	if have := classCounts(pool.Labels, len(pool.Classes)); !c.Craft.TurnsLabels() && !attack.Fits(p.Count, p.Classes, have) {
		return nil, usage.Errorf("the budget is %d poisons, split among the classes %v, and the pool's images of these are %s; change --budget", p.Count, p.Classes, countsOf(p.Classes, have))
	}

	task := progress.Or(report).Phase("craft", c.Craft.Work())
	defer task.Done()
	err = dev.Do(ctx, max(j.Threads, 1), func(s *device.Stream) error {
		solver, err := attack.NewSolver(s, p, c.Craft)
		if err != nil {
			return err
		}
		b.Poisons, err = solver.Poisons(func() { task.Add(1) })
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, i := range b.Bases {
		b.DataIndex = append(b.DataIndex, pool.Index[i])
	}
	_, err = attack.WriteBundle(j.Out, b)
	return b, err
}

// countsOf lists the counts of some classes.
func countsOf(classes, counts []int) string {
	var s []string
	for _, y := range classes {
		s = append(s, strconv.Itoa(counts[y]))
	}
	return strings.Join(s, ", ")
}

// believe asks the surrogates about the targets and states what is wanted of each.
func believe(ctx context.Context, dev *device.Device, c Config, goal attack.Goal, models []*nn.Model, cal, images picked, wanted []int) ([]target, error) {
	s := &splits{auxCal: part{Images: cal.images()}, whole: part{Images: images.images()}, classes: len(cal.Classes)}
	judge, err := newJudge(c, s)
	if err != nil {
		return nil, err
	}
	var vs []*verdict
	for _, m := range models {
		l := &logits{k: m.Classes}
		err := dev.Do(ctx, 1, func(s *device.Stream) error {
			a, err := train.Predict(s, m, cal.Images, precision(c.Precision))
			if err != nil {
				return err
			}
			b, err := train.Predict(s, m, images.Images, precision(c.Precision))
			l.calibration, l.test = a.Logits, b.Logits
			return err
		})
		if err != nil {
			return nil, err
		}
		v, err := judge.rule(l, s.auxCal, judge.uAux)
		if err != nil {
			return nil, err
		}
		vs = append(vs, v)
	}
	var out []target
	for _, at := range wanted {
		i := slices.Index(images.Index, at)
		b := belief(vs, i, int(images.Labels[i]))
		aim, err := goal.Aim(b)
		if err != nil {
			return nil, usage.Errorf("target %d: %w", at, err)
		}
		out = append(out, target{row: i, belief: b, aim: aim})
	}
	return out, nil
}

// unseen refuses targets that are exact copies of an image of the pool or of the calibration part, as an
// audit leaves them out.
func unseen(targets picked, wanted []int, pool, cal picked) error {
	rows := map[[32]byte]int{}
	for i, at := range targets.Index {
		if slices.Contains(wanted, at) {
			rows[data.Digest(targets.Image(i))] = at
		}
	}
	for _, p := range []struct {
		picked
		use string
	}{{pool, "poisons are made from"}, {cal, "models calibrate on"}} {
		for i := range p.Len() {
			if at, ok := rows[data.Digest(p.Image(i))]; ok {
				return usage.Errorf("target %d is an exact copy of image %d of %s, which %s: what a model says of it tells nothing of images that it has not seen; take another (gocp data check lists copies)", at, p.Index[i], p.Name, p.use)
			}
		}
	}
	return nil
}
