package experiment

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	if filters, _, err := defenses(c.Defense); err == nil && c.defends(role) {
		return 1 + len(filters)
	}
	return 1
}

// training is the defence that models of a role are trained under.
func (c Config) training(role string) train.Defense {
	if c.defends(role) {
		return c.Training
	}
	return train.Defense{}
}

// trainingText says that in words, empty if there is none.
func (c Config) trainingText() string {
	if c.Training.Name == "" {
		return ""
	}
	text := c.Training.String()
	if epsilon, delta, err := c.privacy(); err == nil && delta > 0 {
		text += fmt.Sprintf(", ε = %.3g at δ = %g", epsilon, delta)
	}
	return text
}

// privacy is what training a victim spends under dp-sgd; without it δ is 0.
func (c Config) privacy() (epsilon, delta float64, err error) {
	if c.Training.Name != "dp-sgd" {
		return 0, 0, nil
	}
	t := c.VictimTrain.config(0, "f32")
	t.Defense = c.Training
	return t.Privacy(c.TrainSize)
}

// defenses reads Config.Defense.
func defenses(names string) (filters []defense.Filter, training string, err error) {
	if names == "" {
		return nil, "", nil
	}
	for name := range strings.SplitSeq(names, ",") {
		switch name = strings.TrimSpace(name); {
		case slices.Contains(train.Defenses(), name) && training != "":
			return nil, "", usage.Errorf("the defences %s and %s both say what a step of training does; take one", training, name)
		case slices.Contains(train.Defenses(), name):
			training = name
		default:
			f, err := defense.Lookup(name)
			if err != nil {
				return nil, "", usage.Errorf("there is no defence %q; there are the filters %s, and of training %s", name, strings.Join(defense.Names(), ", "), strings.Join(train.Defenses(), ", "))
			}
			if slices.ContainsFunc(filters, func(g defense.Filter) bool { return g.Name == name }) {
				return nil, "", usage.Errorf("the filter %s is named twice", name)
			}
			filters = append(filters, f)
		}
	}
	if training == "dp-sgd" && len(filters) > 0 {
		return nil, "", usage.Errorf("dp-sgd after the filter %s: its ε does not count what the filter learns from the data; take one of the two", filters[0].Name)
	}
	return filters, training, nil
}

// DefenseNames lists all defences of audits.
func DefenseNames() []string { return slices.Concat(defense.Names(), train.Defenses()) }

// defended drops from a model's training images what the filters take for poisoned, one after the other. poisoned
// marks the poisons in images.
func (r *run) defended(ctx context.Context, j modelJob, images attack.Images, poisoned []bool) (attack.Images, []bool, *result.Dropped, error) {
	filters, _, err := defenses(r.cfg.Defense)
	if err != nil || len(filters) == 0 {
		return images, poisoned, nil, err
	}
	all := result.Dropped{}
	for i, f := range filters {
		seed := rng.Stream("scout", j.seed)
		if i > 0 {
			seed = rng.Stream("scout", j.seed, uint64(i))
		}
		v, err := r.filtered(ctx, j, i, f, images, seed)
		if err != nil {
			return images, nil, nil, err
		}
		kept := attack.Images{H: images.H, W: images.W, C: images.C}
		var left []bool
		for at, dropped := range v.Dropped {
			if dropped {
				all.Samples++
				if poisoned[at] {
					all.Poisons++
				}
				continue
			}
			kept.Pixels, kept.Labels, left = append(kept.Pixels, images.At(at)...), append(kept.Labels, images.Labels[at]), append(left, poisoned[at])
		}
		images, poisoned = kept, left
	}
	return images, poisoned, &all, nil
}

// alsoDropped adds what a defence of training has dropped to what filters did. One that drops nothing by its nature leaves
// that as it is.
func alsoDropped(d *result.Dropped, samples []int32, poisoned []bool, training train.Defense) *result.Dropped {
	if !training.Drops() {
		return d
	}
	all := result.Dropped{}
	if d != nil {
		all = *d
	}
	for _, i := range samples {
		all.Samples++
		if poisoned[i] {
			all.Poisons++
		}
	}
	return &all
}

// filtered is what a filter, by its number among them, says of a model's training images. Features and losses are those of a scout: the same
// network, trained on all of them from a seed of its own. The filter is told the number of poisons, the most that
// a defender can know.
func (r *run) filtered(ctx context.Context, j modelJob, number int, filter defense.Filter, images attack.Images, seed uint64) (*defense.Verdict, error) {
	set := &defense.Set{D: j.spec.NumFeatures(), Labels: ints(images.Labels)}
	var dev *device.Device
	onDevice, ended := steady(ctx)
	defer ended()
	err := r.fleet.Do(onDevice, 1, func(s *device.Stream) error {
		dev = s.Device()
		defer s.Range("scout of " + j.name).End()
		scout, err := fit(s, j.spec, j.recipe, train.Defense{}, images, seed, r.cfg.Precision, r.bars.unit(j.role), nil, r.partial(ctx, scoutOf(j.name, number)))
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
		return nil, err
	}
	n, err := r.cfg.poisonCount()
	if err != nil {
		return nil, err
	}
	v, err := filter.Apply(defense.Run{Context: ctx, Device: dev, Workers: 1}, set, defense.Options{Poisons: n, Seed: j.seed})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.name, err)
	}
	return v, nil
}

// scoutOf names a filter's scout of a model.
func scoutOf(model string, filter int) string { return fmt.Sprintf("scout-%d-%s", filter, model) }

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
