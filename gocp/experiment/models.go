package experiment

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/trainer"
	"github.com/gocp/gocp/gocp/usage"
)

// Roles of models.
const (
	roleSurrogate = "surrogate" // trained by the adversary: choose targets, carry the crafting
	roleReference = "reference" // benign, measure the benign sets
	roleControl   = "control"   // benign, retrained: natural churn
	roleVictim    = "victim"
)

// logits is what a trained model says: all that the measurements need.
type logits struct {
	k           int
	calibration []float32       // [n,K], of the calibration images of its role
	test        []float32       // [m,K], in the order of splits.whole
	answer      *trainer.Answer // in place of these two, of a model that a command trained
	dropped     *result.Dropped
}

// probs are the probabilities of n calibration and m test images.
func (l *logits) probs(n, m int) (calibration, test *conformal.Probs, err error) {
	if l.answer != nil {
		return l.answer.Probs()
	}
	if calibration, err = conformal.Softmax(n, l.k, l.calibration); err != nil {
		return nil, nil, fmt.Errorf("calibration: %w", err)
	}
	if test, err = conformal.Softmax(m, l.k, l.test); err != nil {
		return nil, nil, fmt.Errorf("test: %w", err)
	}
	return calibration, test, nil
}

// PrecisionAuto as a precision means bf16 where the device is faster at it, else f32. It is
// decided when work starts; what is recorded is the decision.
const PrecisionAuto = "auto"

// decide replaces an undecided precision and reports one that the device has not; f32 is the
// default.
func decide(precision *string, dev *device.Device) error {
	orDefault(precision, "f32")
	if *precision == PrecisionAuto {
		*precision = "f32"
		if dev.Info().FastBF16 {
			*precision = "bf16"
		}
	}
	p, err := kernel.ParsePrecision(*precision)
	if err != nil {
		return knownPrecision(*precision)
	}
	return p.On(dev.Info())
}

// knownPrecision reports a name that is none.
func knownPrecision(name string) error {
	if _, err := kernel.ParsePrecision(name); err != nil && name != PrecisionAuto {
		return usage.Errorf("unknown precision %q (known: %s, %s)", name, strings.Join(kernel.Precisions(), ", "), PrecisionAuto)
	}
	return nil
}

// precision returns the kernel's name of a decided precision.
func precision(name string) kernel.Precision {
	p, _ := kernel.ParsePrecision(name) // decide has been there
	return p
}

// spec is the network of a role, with the normalisation of its own training images.
func (m Model) spec(images attack.Images, classes int) nn.Spec {
	s := nn.Spec{Arch: m.Arch, Width: m.Width, Classes: classes, C: images.C, H: images.H, W: images.W, BatchNorm: m.BatchNorm, Stem: m.Stem, Head: m.Head}
	if s.Dropout = max(m.Dropout, 0); m.Dropout == 0 {
		s.Dropout = s.DefaultDropout()
	}
	s.Mean, s.Std = moments(images)
	return s
}

// moments returns mean and standard deviation of each channel over all pixels, in exact integer
// sums, rounded to three digits as such constants usually are.
func moments(m attack.Images) (mean, std []float64) {
	n := float64(len(m.Pixels) / m.C)
	sum, square := make([]uint64, m.C), make([]uint64, m.C)
	for i, v := range m.Pixels {
		sum[i%m.C] += uint64(v)
		square[i%m.C] += uint64(v) * uint64(v)
	}
	for c := range m.C {
		mu := float64(sum[c]) / n / 255
		variance := float64(square[c])/n/255/255 - mu*mu
		mean = append(mean, round3(mu))
		std = append(std, max(round3(math.Sqrt(variance)), 0.001)) // images of one colour have no deviation
	}
	return mean, std
}

func round3(x float64) float64 { return math.Round(1000*x) / 1000 }

// config is the training run of a role.
func (t Train) config(seed uint64, precisionName string) train.Config {
	momentum, decay := max(t.Momentum, 0), max(t.WeightDecay, 0)
	return train.Config{Epochs: t.Epochs, Batch: t.Batch, LR: t.LR, Schedule: t.Schedule, Milestones: t.Milestones, Gamma: t.Gamma,
		Warmup: t.Warmup, Momentum: &momentum, Nesterov: on(t.Nesterov), WeightDecay: &decay,
		Shift: max(t.Shift, 0), Pad: t.Pad, Flip: on(t.Flip), Seed: seed, Precision: precision(precisionName)}
}

// validate reports the first value that training cannot work with, as a usage error.
func (t Train) validate(d train.Defense) error {
	if err := knownRecipe(t.Recipe); err != nil {
		return err
	}
	c := t.config(0, "f32")
	c.Defense = d
	return c.Validate()
}

// metadata is what a model file says of the training.
func (t Train) metadata(seed uint64, images int) map[string]string {
	decimal := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	m := map[string]string{"seed": strconv.FormatUint(seed, 10), "images": strconv.Itoa(images), "recipe": t.Recipe,
		"epochs": strconv.Itoa(t.Epochs), "batch": strconv.Itoa(t.Batch), "lr": decimal(t.LR), "schedule": t.Schedule,
		"momentum": decimal(max(t.Momentum, 0)), "weight_decay": decimal(max(t.WeightDecay, 0))}
	if t.Schedule == train.Steps {
		m["milestones"], m["gamma"] = strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Milestones), " ", ","), "[]"), decimal(t.Gamma)
	}
	if t.Warmup > 0 {
		m["warmup"] = strconv.Itoa(t.Warmup)
	}
	if t.Shift > 0 {
		m["shift"], m["pad"] = strconv.Itoa(t.Shift), t.Pad
	}
	for name, set := range map[string]*bool{"nesterov": t.Nesterov, "flip": t.Flip} {
		if on(set) {
			m[name] = "true"
		}
	}
	return m
}

// seed derives the seed of one model or draw from the run's.
func (c Config) seedOf(what string, index ...int) uint64 {
	at := []uint64{c.Seed}
	for _, i := range index {
		at = append(at, uint64(i))
	}
	return rng.Stream("audit "+what, at...)
}

// fit trains a fresh model of the given network, under a defence if that has a name, or goes on with one where p, if
// given, has a checkpoint. dropped, if given, hears which samples the defence has dropped.
func fit(s *device.Stream, spec nn.Spec, t Train, d train.Defense, images attack.Images, seed uint64, precisionName string, epoch func(), dropped func([]int32), p *partial) (*nn.Model, error) {
	m, err := nn.New(spec, seed)
	if err != nil {
		return nil, err
	}
	m.Record = t.metadata(seed, images.Len())
	if d.Name != "" {
		m.Record["defense"] = d.String()
	}
	c := t.config(seed, precisionName)
	c.Defense = d
	o := train.Options{Dropped: dropped, Progress: func(int, float64) {
		if epoch != nil {
			epoch()
		}
	}}
	if p != nil {
		p.training(m, &o)
	}
	return m, train.Run(s, m, train.Set{Images: images.Pixels, Labels: images.Labels}, c, o)
}

// modelJob trains one model and writes what it says of calibration and test images.
type modelJob struct {
	name      string // of its files
	role      string
	repeat    int // -1: it serves all
	spec      nn.Spec
	recipe    Train
	seed      uint64
	images    func() (attack.Images, []int, error) // what it trains on, and the places of the poisons in it
	cal       part
	keepModel bool
	features  bool             // and writes the features of its training images and of splits.whole
	command   *trainer.Command // which trains it; nil: gocp does
}

// files are what the job writes.
func (j modelJob) files() []string {
	if j.keepModel {
		return []string{modelFile(j.name), logitsFile(j.name)}
	}
	return []string{logitsFile(j.name)}
}

// fitted trains the model and writes its files.
func (r *run) fitted(j modelJob) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		start, pieces := time.Now(), 0
		end := r.opt.Meter.Begin("train " + j.role)
		defer func() { end(pieces) }()
		images, poisons, err := j.images()
		if err != nil {
			return err
		}
		_, found, err := r.shared(ctx, func() (string, error) { return r.modelKey(j, images, poisons) }, r.folder.dir,
			func() ([]string, error) { return j.files(), r.train(ctx, j, images, poisons) })
		if err != nil {
			return err
		}
		if err := r.folder.journal.Wrote(j.files()...); err != nil {
			return err
		}
		r.done(j.name)
		for i := range strings.Count(r.cfg.Defense, ",") + 1 {
			r.done(scoutOf(j.name, i))
		}
		if found {
			r.found(j.role)
			return nil
		}
		pieces = 1
		return r.folder.tick("train "+j.role, time.Since(start))
	}
}

// train trains the model on what the defence leaves of its images and writes its files.
func (r *run) train(ctx context.Context, j modelJob, images attack.Images, poisons []int) (err error) {
	var dropped *result.Dropped
	poisoned := make([]bool, images.Len())
	for _, at := range poisons {
		poisoned[at] = true
	}
	training := r.cfg.training(j.role)
	if r.cfg.defends(j.role) {
		if images, poisoned, dropped, err = r.defended(ctx, j, images, poisoned); err != nil {
			return err
		}
	}
	onDevice, ended := steady(ctx)
	defer ended()
	return r.fleet.Do(onDevice, 1, func(s *device.Stream) error {
		if j.repeat >= 0 {
			defer s.RangeOf("repeat", j.repeat).End()
		}
		defer s.Range("train " + j.name).End()
		all := dropped
		m, err := fit(s, j.spec, j.recipe, training, images, j.seed, r.cfg.Precision, r.bars.unit(j.role),
			func(samples []int32) { all = alsoDropped(dropped, samples, poisoned, training) }, r.partial(ctx, j.name))
		if err != nil {
			return err
		}
		out := &safetensors.File{Meta: map[string]string{"name": j.name, "seed": strconv.FormatUint(j.seed, 10)}}
		noteDropped(out, all)
		for _, set := range []struct {
			name string
			part part
		}{{"calibration", j.cal}, {"test", r.split.whole}} {
			p, err := train.Predict(s, m, set.part.Pixels, precision(r.cfg.Precision))
			if err != nil {
				return err
			}
			out.Tensors = append(out.Tensors, safetensors.FromFloat32(set.name, p.Logits, set.part.Len(), r.split.classes))
			if j.features && set.name == "test" {
				out.Tensors = append(out.Tensors, safetensors.FromFloat32(featuresTest, p.Features, set.part.Len(), j.spec.NumFeatures()))
			}
		}
		if j.features {
			p, err := train.Predict(s, m, images.Pixels, precision(r.cfg.Precision))
			if err != nil {
				return err
			}
			out.Tensors = append(out.Tensors, safetensors.FromFloat32(featuresTrain, p.Features, images.Len(), j.spec.NumFeatures()))
		}
		if err := r.folder.mine(); err != nil {
			return err
		}
		if j.keepModel {
			if err := m.Save(r.folder.path(modelFile(j.name))); err != nil {
				return err
			}
		}
		return out.Save(r.folder.path(logitsFile(j.name)))
	})
}

// readLogits reads a model's artefact.
func (r *run) readLogits(name string, cal part) (*logits, error) {
	path := r.folder.path(logitsFile(name))
	f, err := safetensors.Load(path)
	if err != nil {
		return nil, err
	}
	l := &logits{k: r.split.classes}
	if l.dropped, err = dropped(f, path); err != nil {
		return nil, err
	}
	if kind := f.Meta[metaKind]; kind != "" {
		l.answer, err = r.readAnswer(f, kind, cal, path)
		return l, err
	}
	for _, t := range []struct {
		name string
		n    int
		dst  *[]float32
	}{{"calibration", cal.Len(), &l.calibration}, {"test", r.split.whole.Len(), &l.test}} {
		x, err := f.Need(t.name, "F32", t.n, l.k)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if *t.dst, err = x.Float32s(); err != nil {
			return nil, usage.Errorf("%s: %w", path, err)
		}
	}
	return l, nil
}
