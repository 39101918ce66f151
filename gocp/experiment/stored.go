package experiment

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/store"
	"github.com/gocp/gocp/gocp/train"
)

// A job's key in a store is a hash of what it reads, not of the configuration that led to it: of
// images as bytes, of surrogates as files, of targets as they were chosen. So audits share whatever
// comes out alike, and a field of the configuration that does not reach a job keeps nothing apart.

// maker is what computes: part of every key.
type maker struct {
	Engine  engine  `json:"engine"`
	Program program `json:"program"`
}

// modelKey is all that determines the files of a modelJob.
type modelKey struct {
	Kind        string            `json:"kind"` // model
	Maker       maker             `json:"maker"`
	Name        string            `json:"name"` // it stands in the files
	Spec        nn.Spec           `json:"spec"`
	Train       train.Config      `json:"train"`            // with seed, precision and defence of training
	Record      map[string]string `json:"record,omitempty"` // of the model file
	Images      string            `json:"images"`           // that it trains on, with labels
	Calibration string            `json:"calibration"`      // pixels
	Test        string            `json:"test"`             // pixels
	Features    bool              `json:"features,omitempty"`
	Defense     *defenseKey       `json:"defense,omitempty"`
}

type defenseKey struct {
	Filters []string `json:"filters"`
	Count   int      `json:"count"`  // poisons that they reckon with
	Places  []int    `json:"places"` // where they are: the files say how many were dropped
}

// craftKey is all that determines a bundle.
type craftKey struct {
	Kind        string            `json:"kind"` // poisons
	Maker       maker             `json:"maker"`
	Dataset     string            `json:"dataset"` // SHA-256, which the bundle names
	Pool        string            `json:"pool"`
	Index       []int             `json:"index"` // of the pool in the data set
	Surrogates  []string          `json:"surrogates"`
	Files       []string          `json:"files"` // their SHA-256
	Calibration string            `json:"calibration"`
	Score       conformal.Variant `json:"score"`
	Level       string            `json:"level"`
	Targets     []targetKey       `json:"targets"`
	Classes     []int             `json:"classes"`
	Room        []int             `json:"room,omitempty"`   // where labels are turned
	Trains      []train.Config    `json:"trains,omitempty"` // of the surrogates between rounds
	Specs       []nn.Spec         `json:"specs,omitempty"`  // of the surrogates that training is unrolled on; Trains are theirs
	Count       int               `json:"count"`
	Precision   string            `json:"precision"`
	Seed        uint64            `json:"seed"`
	Craft       attack.Config     `json:"craft"`
	NoiseSeed   uint64            `json:"noise_seed"` // of the step that poisons are compared with
	StepLR      float64           `json:"step_lr"`
	Lowered     *loweredKey       `json:"lowered,omitempty"`
}

type targetKey struct {
	Image     string     `json:"image"`
	Index     int        `json:"index"` // in the data set; −1 of a bystander, which the bundle does not name
	Label     int        `json:"label"`
	Aim       attack.Aim `json:"aim"`
	Bystander bool       `json:"bystander,omitempty"`
}

// loweredKey is what BudgetAuto adds: the surrogates that are retrained, and what they are to predict.
type loweredKey struct {
	Specs     []nn.Spec      `json:"specs"`
	Trains    []train.Config `json:"trains"`
	Predicted []int          `json:"predicted"`
}

// digest is the SHA-256 of images, and of their labels where these matter.
func digest(m attack.Images, labelled bool) string {
	h := sha256.New()
	shape := []uint64{uint64(m.H), uint64(m.W), uint64(m.C), uint64(len(m.Pixels))}
	_ = binary.Write(h, binary.LittleEndian, shape) // a hash takes everything
	h.Write(m.Pixels)
	if labelled {
		_ = binary.Write(h, binary.LittleEndian, m.Labels)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// modelKey is that of a job which trains on images, with poisons in these places of them.
func (r *run) modelKey(j modelJob, images attack.Images, poisons []int) (string, error) {
	k := modelKey{Kind: "model", Maker: r.maker, Name: j.name, Spec: j.spec, Train: j.recipe.config(j.seed, r.cfg.Precision),
		Images: digest(images, true), Calibration: digest(j.cal.Images, false), Test: r.asked(), Features: j.features}
	if j.keepModel {
		k.Record = j.recipe.metadata(j.seed, images.Len())
	}
	k.Train.Defense = r.cfg.training(j.role)
	if !j.keepModel {
		k.Train.Defense.Delta = 0 // δ stands in a model's file and moves nothing
	}
	if filters, _, err := defenses(r.cfg.Defense); err != nil {
		return "", err
	} else if (len(filters) > 0 || k.Train.Defense.Drops()) && r.cfg.defends(j.role) {
		n, err := r.cfg.poisonCount()
		if err != nil {
			return "", err
		}
		k.Defense = &defenseKey{Count: n, Places: poisons}
		for _, f := range filters {
			k.Defense.Filters = append(k.Defense.Filters, f.Name)
		}
	}
	return store.Key(k)
}

// craftKey is that of the poisons of group g.
func (r *run) craftKey(g int, gr group, p *attack.Problem) (string, error) {
	k := craftKey{Kind: "poisons", Maker: r.maker, Dataset: r.data.Train.SHA256, Pool: digest(p.Pool, true), Index: r.split.auxTrain.index,
		Calibration: digest(r.split.auxCal.Images, true), Score: p.Score, Level: p.Level.String(), Classes: p.Classes, Room: p.Room, Count: p.Count,
		Precision: r.cfg.Precision, Seed: p.Seed, Craft: r.cfg.Craft, NoiseSeed: r.cfg.noiseSeed(g, r.cfg.control()), StepLR: r.cfg.VictimTrain.LR}
	for _, s := range p.Surrogates {
		k.Surrogates = append(k.Surrogates, s.Name)
		if r.cfg.Craft.Rounds > 1 {
			k.Trains = append(k.Trains, s.Train)
		}
		k.Files = append(k.Files, r.folder.journal.SHA256(modelFile(s.Name)))
	}
	for i := range r.cfg.Craft.Meta.Ages {
		spec, trains := p.Training(i)
		k.Specs, k.Trains = append(k.Specs, spec), append(k.Trains, trains)
	}
	for i, t := range slices.Concat(gr.targets, gr.bystanders) {
		x := targetKey{Image: digest(r.split.whole.Select([]int{t.row}), false), Index: -1, Aim: t.aim, Bystander: i >= len(gr.targets)}
		if !x.Bystander {
			x.Index, x.Label = r.split.whole.index[t.row], t.belief.Label
		}
		k.Targets = append(k.Targets, x)
	}
	if r.cfg.Budget == BudgetAuto {
		k.Lowered = &loweredKey{}
		for i := range r.judges() {
			spec, recipe := r.surrogate(i)
			k.Lowered.Specs = append(k.Lowered.Specs, spec)
			k.Lowered.Trains = append(k.Lowered.Trains, recipe.config(r.cfg.seedOf("budget", g, i), r.cfg.Precision))
		}
		for _, t := range gr.targets {
			k.Lowered.Predicted = append(k.Lowered.Predicted, t.belief.Predicted)
		}
	}
	return store.Key(k)
}

// shared does work unless the store has its files, which go to and come from the folder dir. It tells
// whether they were found, and returns their names there.
func (r *run) shared(ctx context.Context, key func() (string, error), dir string, work func() ([]string, error)) (files []string, found bool, err error) {
	s := r.opt.Store
	if s == nil {
		files, err = work()
		return files, false, err
	}
	k, err := key()
	if err != nil {
		return nil, false, err
	}
	if err := r.folder.mine(); err != nil {
		return nil, false, err
	}
	files, err = s.Take(k, dir)
	if errors.Is(err, store.ErrDamaged) {
		progress.Or(r.opt.Progress).Note("%v; it is made again", err)
		err = nil
	}
	if err != nil || files != nil {
		return files, files != nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	if files, err = work(); err != nil {
		return nil, false, err
	}
	return files, false, s.Put(k, dir, files...)
}
