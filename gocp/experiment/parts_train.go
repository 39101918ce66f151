package experiment

import (
	"context"
	"errors"
	"io/fs"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// TrainJob trains one model.
type TrainJob struct {
	Images    Pick
	Poisons   string // folder of poisons that go into the training images; "": none
	Model     Model
	Train     Train
	Defense   train.Defense // "": none
	Precision string
	Seed      uint64
	Threads   int
	Out       string // model file to write
}

// Trained is what came of a TrainJob.
type Trained struct {
	File     string `json:"file"`
	SHA256   string `json:"sha256"`
	Images   int    `json:"images"`
	Poisoned int    `json:"poisoned"`
	// InOwnPlace of the poisons replace the image they were made from, the others one of their class.
	InOwnPlace int                    `json:"in_own_place,omitempty"`
	Split      []result.PoisonedClass `json:"split,omitempty"`   // of the poisons
	Data       string                 `json:"data_sha256"`       // of the training images with the poisons in place
	Accuracy   float64                `json:"accuracy"`          // on the training images
	Dropped    *result.Dropped        `json:"dropped,omitempty"` // by a defence that drops
	Epsilon    *result.Number         `json:"epsilon,omitempty"` // what dp-sgd spent at Delta, "inf" without noise
	Delta      float64                `json:"delta,omitempty"`

	places []int // of the poisons among the images
}

// TrainModel trains a fresh model and writes it.
func TrainModel(ctx context.Context, dev *device.Device, j TrainJob, report progress.Reporter) (*Trained, error) {
	j.Model = j.Model.withDefaults()
	j.Train = j.Train.of(j.Model.Arch)
	if err := decide(&j.Precision, dev); err != nil {
		return nil, err
	}
	if err := j.Train.validate(j.Defense); err != nil {
		return nil, err
	}
	if err := fresh(j.Out); err != nil {
		return nil, err
	}
	p, err := j.Images.open()
	if err != nil {
		return nil, err
	}
	if err := shiftFits(j.Train.Shift, p.Dataset); err != nil {
		return nil, err
	}
	images, t := p.images(), &Trained{File: j.Out}
	if j.Poisons != "" {
		if images, err = poison(p, j.Poisons, j.Seed, t); err != nil {
			return nil, err
		}
	}
	spec := j.Model.spec(p.images(), len(p.Classes))
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if err := (train.Config{Defense: j.Defense}).Fits(spec); err != nil {
		return nil, err
	}
	if j.Defense.Name == "dp-sgd" {
		c := j.Train.config(0, "f32")
		c.Defense = j.Defense
		epsilon, delta, err := c.Privacy(images.Len())
		if err != nil {
			return nil, err
		}
		e := result.Number(epsilon)
		t.Epsilon, t.Delta = &e, delta
	}
	content := data.Dataset{H: p.H, W: p.W, C: p.C, Images: images.Pixels, Labels: images.Labels, Classes: p.Classes}
	t.Images, t.Data = images.Len(), content.Hash()
	task := progress.Or(report).Phase("train", j.Train.Epochs)
	defer task.Done()
	err = dev.Do(ctx, max(j.Threads, 1), func(s *device.Stream) error {
		defer s.Range("train").End()
		m, err := fit(s, spec, j.Train, j.Defense, images, j.Seed, j.Precision, func() { task.Add(1) }, func(samples []int32) {
			poisoned := make([]bool, images.Len())
			for _, at := range t.places {
				poisoned[at] = true
			}
			t.Dropped = alsoDropped(nil, samples, poisoned, j.Defense)
		}, nil)
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

// poison puts a bundle into training images: each poison in the place of its own base where that
// is among them, otherwise in that of an image of its class. It notes in t what it did.
func poison(p picked, dir string, seed uint64, t *Trained) (attack.Images, error) {
	images := p.images()
	b, err := attack.ReadBundle(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return images, usage.Errorf("%s holds no poisons: %w", dir, err)
	}
	if err != nil {
		return images, err
	}
	if b.Before.Size() != images.Size() {
		return images, usage.Errorf("%s: poisons of %dx%dx%d for training images of %dx%dx%d", dir, b.Before.H, b.Before.W, b.Before.C, images.H, images.W, images.C)
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
			t.InOwnPlace++
			delete(row, at) // a second poison of the same base needs another place
		}
	}
	if y := room(rng.Stream("places", seed), images.Labels, len(p.Classes), b.Before.Labels, place); y >= 0 {
		return images, usage.Errorf("%s: there are more poisons of class %d than training images of it", dir, y)
	}
	t.places = place
	t.Poisoned, t.Split = len(place), splitOf(b.Before.Labels, classCounts(images.Labels, len(p.Classes)))
	return replace(images, b.Poisons.Images(), place), nil
}
