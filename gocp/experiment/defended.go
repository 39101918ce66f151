package experiment

import (
	"context"
	"fmt"
	"strconv"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/defense"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// Metadata of a model's artefact that say what a defence dropped before it was trained.
const (
	metaDropped        = "dropped"
	metaDroppedPoisons = "dropped_poisons"
)

// defends tells whether models of a role are trained under the defence: all but the adversary's, so that
// what is compared was defended alike.
func (c Config) defends(role string) bool { return c.Defense != "" && role != roleSurrogate }

// passes is how many trainings a model of a role takes.
func (c Config) passes(role string) int {
	if c.defends(role) {
		return 2
	}
	return 1
}

// defended drops from a model's training images what the filter takes for poisoned. Features and losses are
// those of a scout: the same network, trained on all of the images from a seed of its own. The filter is
// told the number of poisons, the most that a defender can know. poisons are the places of the poisons in images.
func (r *run) defended(ctx context.Context, j modelJob, images attack.Images, poisons []int) (attack.Images, *result.Dropped, error) {
	filter, err := defense.Lookup(r.cfg.Defense)
	if err != nil {
		return images, nil, err
	}
	set := &defense.Set{D: j.spec.NumFeatures(), Labels: ints(images.Labels)}
	var dev *device.Device
	err = r.fleet.Do(ctx, 1, func(s *device.Stream) error {
		dev = s.Device()
		defer s.Range("scout of " + j.name).End()
		scout, err := fit(s, j.spec, j.recipe, images, rng.Stream("scout", j.seed), r.cfg.Precision, r.bars.unit(j.role))
		if err != nil {
			return err
		}
		out, err := train.Predict(s, scout, images.Pixels, precision(r.cfg.Precision))
		if err != nil {
			return err
		}
		set.Features = out.Features
		set.Losses, err = losses(out.Logits, set.Labels, r.split.classes, j.name)
		return err
	})
	if err != nil {
		return images, nil, err
	}
	n, err := r.cfg.poisonCount()
	if err != nil {
		return images, nil, err
	}
	v, err := filter.Apply(defense.Run{Context: ctx, Device: dev, Workers: 1}, set, defense.Options{Poisons: n, Seed: j.seed})
	if err != nil {
		return images, nil, fmt.Errorf("%s: %w", j.name, err)
	}
	d := &result.Dropped{Samples: v.Count()}
	for _, at := range poisons {
		if v.Dropped[at] {
			d.Poisons++
		}
	}
	kept := attack.Images{H: images.H, W: images.W, C: images.C}
	for i, dropped := range v.Dropped {
		if !dropped {
			kept.Pixels = append(kept.Pixels, images.At(i)...)
			kept.Labels = append(kept.Labels, images.Labels[i])
		}
	}
	return kept, d, nil
}

// noteDropped writes what was dropped into an artefact.
func noteDropped(f *safetensors.File, d *result.Dropped) {
	if d != nil {
		f.Meta[metaDropped], f.Meta[metaDroppedPoisons] = strconv.Itoa(d.Samples), strconv.Itoa(d.Poisons)
	}
}

// dropped reads what noteDropped wrote.
func dropped(f *safetensors.File, path string) (*result.Dropped, error) {
	if f.Meta[metaDropped] == "" {
		return nil, nil
	}
	samples, err := strconv.Atoi(f.Meta[metaDropped])
	if err != nil {
		return nil, usage.Errorf("%s: it says that %q samples were dropped", path, f.Meta[metaDropped])
	}
	poisons, err := strconv.Atoi(f.Meta[metaDroppedPoisons])
	if err != nil {
		return nil, usage.Errorf("%s: it says that %q poisons were dropped", path, f.Meta[metaDroppedPoisons])
	}
	return &result.Dropped{Samples: samples, Poisons: poisons}, nil
}
