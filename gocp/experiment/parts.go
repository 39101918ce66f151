package experiment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// The parts of an audit one by one, each reading and writing files: train a model, calibrate it,
// craft poisons, evaluate prediction sets. Each computes on a stream whose width is its Threads,
// 1 if that is 0: the last bits of what it computes depend on that number, on no other.

// A Pick names images: of a split, in a random order that Seed fixes, those from First on. Picks
// with one seed and ranges apart have no image in common.
type Pick struct {
	Data  string `json:"data"`  // name or path of the data set
	Split string `json:"split"` // train, test, …
	First int    `json:"first"`
	Count int    `json:"count"` // 0: all that follow
	Seed  uint64 `json:"seed"`
}

// picked is what a Pick found.
type picked struct {
	data.Drawn
	set *data.Dataset // the whole split
}

func (p picked) images() attack.Images {
	return attack.Images{H: p.H, W: p.W, C: p.C, Pixels: p.Images, Labels: p.Labels}
}

func (p Pick) open() (picked, error) {
	src, err := data.Open(p.Data)
	if err != nil {
		return picked{}, err
	}
	set, err := src.Need(p.Split)
	if err != nil {
		return picked{}, err
	}
	n := p.Count
	if n == 0 {
		n = set.Len() - p.First
	}
	if p.First < 0 || n < 1 || p.First+n > set.Len() {
		return picked{}, usage.Errorf("%s: images %d to %d of %s were asked for; it has %d, counted from 0", p.Data, p.First, p.First+n-1, p.Split, set.Len())
	}
	parts := []data.Part{{Name: p.Split, N: n}}
	if p.First > 0 {
		parts = append([]data.Part{{Name: "before", N: p.First}}, parts...)
	}
	drawn, _, err := data.Split(set, data.Draw{Seed: p.Seed}, parts...)
	if err != nil {
		return picked{}, err
	}
	return picked{drawn[len(drawn)-1], set}, nil
}

// fits reports, as a usage error, images that a model does not read.
func fits(m *nn.Model, file string, d *data.Dataset) error {
	if m.H != d.H || m.W != d.W || m.C != d.C || m.Classes != len(d.Classes) {
		return usage.Errorf("%s reads images of %dx%dx%d and has %d classes; the data have %dx%dx%d and %d", file, m.H, m.W, m.C, m.Classes, d.H, d.W, d.C, len(d.Classes))
	}
	return nil
}

// fresh refuses to write over a file or folder.
func fresh(path string) error {
	if path == "" {
		return usage.Errorf("no output was named")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return usage.Errorf("%s exists already; give another name", path)
	}
	return nil
}

func hashFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// TrainJob trains one model.
type TrainJob struct {
	Images    Pick
	Poisons   string // folder of poisons that go into the training images; "": none
	Model     Model
	Train     Train
	Precision string
	Seed      uint64
	Threads   int
	Out       string // model file to write
}

// Trained is what came of a TrainJob.
type Trained struct {
	File     string  `json:"file"`
	SHA256   string  `json:"sha256"`
	Images   int     `json:"images"`
	Poisoned int     `json:"poisoned"`
	Data     string  `json:"data_sha256"` // of the training images with the poisons in place
	Accuracy float64 `json:"accuracy"`    // on the training images
}

// TrainModel trains a fresh model and writes it.
func TrainModel(ctx context.Context, dev *device.Device, j TrainJob, report progress.Reporter) (*Trained, error) {
	j.Model, j.Train = j.Model.withDefaults(), j.Train.withDefaults()
	if err := decide(&j.Precision, dev); err != nil {
		return nil, err
	}
	if err := j.Train.config(0, j.Precision).Validate(); err != nil {
		return nil, err
	}
	if err := fresh(j.Out); err != nil {
		return nil, err
	}
	p, err := j.Images.open()
	if err != nil {
		return nil, err
	}
	images, poisoned := p.images(), 0
	if j.Poisons != "" {
		if images, poisoned, err = poison(p, j.Poisons, j.Seed); err != nil {
			return nil, err
		}
	}
	spec := j.Model.spec(p.images(), len(p.Classes))
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	content := data.Dataset{H: p.H, W: p.W, C: p.C, Images: images.Pixels, Labels: images.Labels, Classes: p.Classes}
	t := &Trained{File: j.Out, Images: images.Len(), Poisoned: poisoned, Data: content.Hash()}
	task := progress.Or(report).Phase("train", j.Train.Epochs)
	defer task.Done()
	err = dev.Do(ctx, max(j.Threads, 1), func(s *device.Stream) error {
		defer s.Range("train").End()
		m, err := fit(s, spec, j.Train, images, j.Seed, j.Precision, func() { task.Add(1) })
		if err != nil {
			return err
		}
		m.Record["data_sha256"] = t.Data
		out, err := train.Predict(s, m, images.Pixels, precision(j.Precision))
		if err != nil {
			return err
		}
		t.Accuracy = accuracy(out.Logits, images.Labels, m.Classes)
		return m.Save(j.Out)
	})
	if err != nil {
		return nil, err
	}
	t.SHA256, err = hashFile(j.Out)
	return t, err
}

func accuracy(logits []float32, labels []int32, k int) float64 {
	right := 0
	for i, y := range labels {
		row := logits[i*k : (i+1)*k]
		best := 0
		for c, z := range row {
			if z > row[best] {
				best = c
			}
		}
		if best == int(y) {
			right++
		}
	}
	return float64(right) / float64(len(labels))
}

// poison puts a bundle into training images: each poison in the place of its own base where that
// is among them, otherwise in that of an image of its class.
func poison(p picked, dir string, seed uint64) (attack.Images, int, error) {
	images := p.images()
	b, err := attack.ReadBundle(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return images, 0, usage.Errorf("%s holds no poisons: %w", dir, err)
	}
	if err != nil {
		return images, 0, err
	}
	if b.Before.Size() != images.Size() {
		return images, 0, usage.Errorf("%s: poisons of %dx%dx%d for training images of %dx%dx%d", dir, b.Before.H, b.Before.W, b.Before.C, images.H, images.W, images.C)
	}
	row := make(map[int]int, len(p.Index))
	for i, at := range p.Index {
		row[at] = i
	}
	place := make([]int, len(b.DataIndex))
	for i, at := range b.DataIndex {
		place[i] = -1
		if r, ok := row[at]; ok && b.Dataset == p.set.SHA256 {
			place[i] = r
			delete(row, at) // a second poison of the same base needs another place
		}
	}
	if y := room(rng.Stream("places", seed), images.Labels, len(p.Classes), b.Before.Labels, place); y >= 0 {
		return images, 0, usage.Errorf("%s: there are more poisons of class %d than training images of it", dir, y)
	}
	return replace(images, b.Poisons.Images(), place), len(place), nil
}

// CalibrateJob finds a model's threshold.
type CalibrateJob struct {
	Model       string // file
	Images      Pick
	Score       conformal.Variant
	Miscoverage string
	Precision   string
	Seed        uint64 // of u
	Threads     int
	Out         string // calibration file to write
}

// Calibration is a calibration file: a threshold and all that it depends on.
type Calibration struct {
	Schema      int                 `json:"schema"`
	Model       string              `json:"model_sha256"`
	Images      Pick                `json:"images"`
	Data        string              `json:"data_sha256"`
	Score       conformal.Variant   `json:"score"`
	Seed        uint64              `json:"seed"`
	Miscoverage string              `json:"miscoverage"`
	Precision   string              `json:"precision"`
	Threshold   conformal.Threshold `json:"threshold"`
	Accuracy    float64             `json:"accuracy"`
}

// CalibrateModel calibrates a model on images it was not trained on and writes the threshold.
func CalibrateModel(ctx context.Context, dev *device.Device, j CalibrateJob) (*Calibration, error) {
	orDefault(&j.Score.Name, "hps")
	orDefault(&j.Miscoverage, "0.1")
	if err := decide(&j.Precision, dev); err != nil {
		return nil, err
	}
	scorer, err := conformal.NewScorer(j.Score)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	level, err := conformal.ParseLevel(j.Miscoverage)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	if err := fresh(j.Out); err != nil {
		return nil, err
	}
	p, logits, sum, err := predict(ctx, dev, j.Model, j.Images, j.Precision, j.Threads)
	if err != nil {
		return nil, err
	}
	if n := level.MinCalibration(); p.Len() < n {
		return nil, usage.Errorf("%d calibration images are too few for miscoverage %s, which needs at least %d", p.Len(), j.Miscoverage, n)
	}
	v := scorer.Variant()
	probs, err := conformal.Softmax(p.Len(), len(p.Classes), logits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.Model, err)
	}
	c := &Calibration{Schema: 1, Model: sum, Images: j.Images, Data: p.SHA256, Score: v, Seed: j.Seed,
		Miscoverage: j.Miscoverage, Precision: j.Precision, Accuracy: accuracy(logits, p.Labels, len(p.Classes))}
	u := v.Uniforms(rng.Stream("u calibration", j.Seed), 0, probs.N, probs.K)
	if c.Threshold, err = scorer.Calibrate(probs, ints(p.Labels), u, level); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return nil, err
	}
	return c, atomicfile.WriteBytes(j.Out, append(b, '\n'))
}

// ReadCalibration reads a calibration file.
func ReadCalibration(path string) (*Calibration, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, usage.Errorf("calibration: %w", err)
	}
	c := new(Calibration)
	if err := json.Unmarshal(b, c); err != nil {
		return nil, usage.Errorf("%s is no calibration file: %w", path, err)
	}
	if c.Schema != 1 {
		return nil, usage.Errorf("%s has schema %d; this gocp reads schema 1", path, c.Schema)
	}
	return c, nil
}

// predict runs a model file on picked images.
func predict(ctx context.Context, dev *device.Device, file string, pick Pick, precisionName string, threads int) (p picked, logits []float32, sum string, err error) {
	m, err := nn.Load(file)
	if err != nil {
		return p, nil, "", err
	}
	if p, err = pick.open(); err != nil {
		return p, nil, "", err
	}
	if err := fits(m, file, p.Dataset); err != nil {
		return p, nil, "", err
	}
	if sum, err = hashFile(file); err != nil {
		return p, nil, "", err
	}
	err = dev.Do(ctx, max(threads, 1), func(s *device.Stream) error {
		out, err := train.Predict(s, m, p.Images, precision(precisionName))
		logits = out.Logits
		return err
	})
	return p, logits, sum, err
}

// EvaluateJob makes prediction sets and holds them against the labels.
type EvaluateJob struct {
	Model       string // file
	Calibration string // file
	Images      Pick
	Show        []int // images of the split whose sets are listed
	Threads     int
}

// Evaluation is what came of an EvaluateJob.
type Evaluation struct {
	Model     string              `json:"model_sha256"`
	Images    Pick                `json:"images"`
	Data      string              `json:"data_sha256"`
	Classes   []string            `json:"class_names"`
	Score     conformal.Variant   `json:"score"`
	Threshold conformal.Threshold `json:"threshold"`
	Accuracy  float64             `json:"accuracy"`
	Metrics   conformal.Metrics   `json:"metrics"`
	Shown     []ShownSet          `json:"shown,omitempty"`
}

// ShownSet is the prediction set of one image.
type ShownSet struct {
	Index     int     `json:"index"` // in the split
	Label     int     `json:"label"`
	Predicted int     `json:"predicted"`
	Prob      float64 `json:"prob"` // of the predicted label
	Set       []int   `json:"set"`
}

// EvaluateModel measures a calibrated model.
func EvaluateModel(ctx context.Context, dev *device.Device, j EvaluateJob) (*Evaluation, error) {
	c, err := ReadCalibration(j.Calibration)
	if err != nil {
		return nil, err
	}
	scorer, err := conformal.NewScorer(c.Score)
	if err != nil {
		return nil, usage.Errorf("%s: %w", j.Calibration, err)
	}
	if err := decide(&c.Precision, dev); err != nil { // the threshold is one of that rounding
		return nil, usage.Errorf("%s: %w", j.Calibration, err)
	}
	if j.Images.Data == c.Images.Data && j.Images.Split == c.Images.Split && overlap(j.Images, c.Images) {
		return nil, usage.Errorf("%s was calibrated on some of these images; evaluate on others", j.Calibration)
	}
	p, logits, sum, err := predict(ctx, dev, j.Model, j.Images, c.Precision, j.Threads)
	if err != nil {
		return nil, err
	}
	if sum != c.Model {
		return nil, usage.Errorf("%s was made for another model than %s", j.Calibration, j.Model)
	}
	k := len(p.Classes)
	probs, err := conformal.Softmax(p.Len(), k, logits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.Model, err)
	}
	sets, err := scorer.Predict(probs, scorer.Variant().Uniforms(rng.Stream("u test", c.Seed), 0, p.Len(), k), c.Threshold)
	if err != nil {
		return nil, err
	}
	e := &Evaluation{Model: sum, Images: j.Images, Data: p.SHA256, Classes: p.Classes, Score: scorer.Variant(),
		Threshold: c.Threshold, Accuracy: accuracy(logits, p.Labels, k)}
	if e.Metrics, err = conformal.Evaluate(sets, ints(p.Labels)); err != nil {
		return nil, err
	}
	for _, at := range j.Show {
		i := slices.Index(p.Index, at)
		if i < 0 {
			return nil, usage.Errorf("image %d of %s is not among those that are evaluated", at, j.Images.Split)
		}
		top := probs.Top(i)
		e.Shown = append(e.Shown, ShownSet{Index: at, Label: int(p.Labels[i]), Predicted: top, Prob: probs.At(i, top), Set: sets.Labels(i)})
	}
	return e, nil
}

// overlap tells whether two picks of one split may share images.
func overlap(a, b Pick) bool {
	if a.Seed != b.Seed {
		return true
	}
	before := func(x, y Pick) bool { return x.Count > 0 && x.First+x.Count <= y.First }
	return !before(a, b) && !before(b, a)
}

// AttackJob crafts one set of poisons.
type AttackJob struct {
	Surrogates  []string // model files
	Pool        Pick     // the adversary's training images: poisons are made from some of them
	Calibration Pick     // images the surrogates are calibrated on
	Targets     []int    // images of the test split whose sets are to change
	Goal        attack.GoalConfig
	Score       conformal.Variant
	Miscoverage string
	Budget      string // share of the pool
	Craft       attack.Config
	Precision   string
	Seed        uint64
	Threads     int
	Out         string // folder to write
}

// AttackModels crafts poisons on surrogates and writes them as a folder.
func AttackModels(ctx context.Context, dev *device.Device, j AttackJob, report progress.Reporter) (*attack.Bundle, error) {
	c := Config{Goal: j.Goal, Score: j.Score, Miscoverage: j.Miscoverage, Budget: j.Budget, Craft: j.Craft, Precision: j.Precision, Seed: j.Seed}.WithDefaults()
	if err := decide(&c.Precision, dev); err != nil {
		return nil, err
	}
	goal, err := attack.NewGoal(c.Goal)
	if err != nil {
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
	cal, err := j.Calibration.open()
	if err != nil {
		return nil, err
	}
	targets, err := Pick{Data: j.Pool.Data, Split: "test", Seed: j.Pool.Seed}.open()
	if err != nil {
		return nil, err
	}
	c.TrainSize, c.CalSize = pool.Len(), cal.Len()
	p := &attack.Problem{Pool: pool.images(), Precision: precision(c.Precision), Seed: c.seedOf("craft", 0)}
	if p.Count, err = c.poisonCount(); err != nil {
		return nil, err
	}
	var models []*nn.Model
	for _, file := range j.Surrogates {
		m, err := nn.Load(file)
		if err != nil {
			return nil, err
		}
		if err := fits(m, file, pool.Dataset); err != nil {
			return nil, err
		}
		models = append(models, m)
		p.Surrogates = append(p.Surrogates, attack.Surrogate{Name: file, Model: m, Calibration: cal.images()})
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
	if p.Level, err = conformal.ParseLevel(c.Miscoverage); err != nil {
		return nil, usage.Wrap(err)
	}
	for _, t := range aims {
		p.Targets = append(p.Targets, attack.Target{Image: targets.Image(t.row), Aim: t.aim})
		p.Classes = append(p.Classes, goal.Classes(t.belief, t.aim)...)
		b.Targets = append(b.Targets, attack.Aimed{Index: targets.Index[t.row], Label: t.belief.Label, Aim: t.aim})
	}
	slices.Sort(p.Classes)
	p.Classes = slices.Compact(p.Classes)

	task := progress.Or(report).Phase("craft", c.Craft.Steps*c.Craft.Restarts)
	defer task.Done()
	err = dev.Do(ctx, max(j.Threads, 1), func(s *device.Stream) error {
		solver, err := attack.NewSolver(s, p, c.Craft)
		if err != nil {
			return err
		}
		bases, err := solver.Bases()
		if err != nil {
			return err
		}
		b.Poisons, err = solver.Craft(bases, func() { task.Add(1) })
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, i := range b.Bases {
		b.DataIndex = append(b.DataIndex, pool.Index[i])
	}
	return b, attack.WriteBundle(j.Out, b)
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
		if i < 0 {
			return nil, usage.Errorf("there is no image %d in the test split; it has %d, counted from 0", at, images.Len())
		}
		b := belief(vs, i, int(images.Labels[i]))
		aim, err := goal.Aim(b)
		if err != nil {
			return nil, usage.Errorf("target %d: %w", at, err)
		}
		out = append(out, target{row: i, belief: b, aim: aim})
	}
	return out, nil
}
