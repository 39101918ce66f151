package experiment

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/trainer"
	"github.com/gocp/gocp/gocp/usage"
)

// metaKind is the metadata of the artefact of a model that a command trained: what its numbers are.
const metaKind = "kind"

// Folders of such models: of those under way, and what the programs of the others said.
const (
	jobsDir   = "jobs"
	outputDir = "output"
)

// resolve finds the commands that train models, if there are any.
func (r *run) resolve() (err error) {
	if len(r.cfg.VictimCommand) == 0 {
		return nil
	}
	if r.victimCommand, err = trainer.Resolve(r.cfg.VictimCommand); err != nil {
		return err
	}
	if r.referenceCommand, err = trainer.Resolve(r.cfg.ReferenceCommand); err != nil {
		return err
	}
	r.cfg.VictimCommand, r.cfg.ReferenceCommand = r.victimCommand.Words, r.referenceCommand.Words
	r.slots = make(chan int, r.cfg.VictimsAtOnce)
	for i := range r.cfg.VictimsAtOnce {
		r.slots <- i
	}
	return nil
}

// by has the model trained by a command, if that has words.
func (j modelJob) by(c trainer.Command) modelJob {
	if len(c.Words) > 0 {
		j.command, j.keepModel, j.seed = &c, false, j.seed%trainer.MaxSeed
	}
	return j
}

// blindName is the name of a model's folder: it does not tell what the model is for.
func (r *run) blindName(j modelJob) string {
	return fmt.Sprintf("%016x", rng.Stream("job "+j.name, r.cfg.Seed))
}

// devicesOf are the GPUs of the program in a slot: all are dealt out, and if there are more slots than
// GPUs, several slots have the same one.
func (r *run) devicesOf(slot int) []int {
	var out []int
	n := len(r.fleet.devices)
	for i := slot % n; i < n; i += r.cfg.VictimsAtOnce {
		if info := r.fleet.devices[i].Info(); info.Backend != "host" {
			out = append(out, info.Index)
		}
	}
	return out
}

// commanded has the model trained by its command and writes its files.
func (r *run) commanded(j modelJob) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		start, pieces := time.Now(), 0
		end := r.opt.Meter.Begin("train " + j.role)
		defer func() { end(pieces) }()
		whole := r.bars.whole(j.role)
		images, _, err := j.images()
		if err != nil {
			return err
		}
		slot := <-r.slots
		defer func() { r.slots <- slot }()
		dir := r.folder.path(jobsDir, r.blindName(j))
		if err := os.RemoveAll(dir); err != nil { // of an earlier try
			return fmt.Errorf("run folder: %w", err)
		}
		answer, err := j.command.Train(ctx, dir, trainer.Job{H: images.H, W: images.W, C: images.C, Classes: r.data.Train.Classes, Seed: j.seed,
			Train: images.Pixels, Labels: images.Labels, Calibration: j.cal.Pixels, Test: r.split.whole.Pixels},
			trainer.Options{Limit: r.cfg.VictimTimeout, Devices: r.devicesOf(slot)})
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			return fmt.Errorf("%w; its folder is %s", err, dir)
		}
		out := &safetensors.File{Meta: map[string]string{"name": j.name, "seed": strconv.FormatUint(j.seed, 10), metaKind: answer.Kind}, Tensors: []safetensors.Tensor{
			safetensors.FromFloat64("calibration", answer.Calibration, j.cal.Len(), answer.K),
			safetensors.FromFloat64("test", answer.Test, r.split.whole.Len(), answer.K)}}
		if err := r.folder.mine(); err != nil {
			return err
		}
		if err := r.keepOutput(j, dir); err != nil {
			return err
		}
		if err := out.Save(r.folder.path(logitsFile(j.name))); err != nil {
			return err
		}
		if err := r.folder.journal.Wrote(j.files()...); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("run folder: %w", err)
		}
		pieces = 1
		whole()
		return r.folder.tick("train "+j.role, time.Since(start))
	}
}

// keepOutput moves what a program said to where it stays. It is no part of what must come out the same twice.
func (r *run) keepOutput(j modelJob, dir string) error {
	if err := os.MkdirAll(r.folder.path(outputDir), 0o777); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	if err := os.Rename(filepath.Join(dir, trainer.OutputFile), r.folder.path(outputDir, j.name+".txt")); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	return nil
}

// readAnswer reads the artefact of a model that a command trained.
func (r *run) readAnswer(f *safetensors.File, kind string, cal part, path string) (*trainer.Answer, error) {
	a := &trainer.Answer{Kind: kind, K: r.split.classes}
	for _, t := range []struct {
		name string
		n    int
		dst  *[]float64
	}{{"calibration", cal.Len(), &a.Calibration}, {"test", r.split.whole.Len(), &a.Test}} {
		x, err := f.Need(t.name, "F64", t.n, a.K)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if *t.dst, err = x.Float64s(); err != nil {
			return nil, usage.Errorf("%s: %w", path, err)
		}
	}
	return a, nil
}
