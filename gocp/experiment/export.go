package experiment

import (
	"fmt"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/journal"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

// Export gathers from the run in dir what another framework needs to train and judge victims of
// its own: the victim's clean data, the poisons of the attack and of the noise controls with the
// images that they replace, and the targets.
func Export(dir string, d Data) (*data.Victim, error) {
	h, _, err := readIdentity(dir)
	if err != nil {
		return nil, err
	}
	if h.Train != d.Train.SHA256 || h.Test != d.Test.SHA256 {
		return nil, usage.Errorf("%s ran on other data than %s: the hashes differ", dir, d.Train.Name)
	}
	r, err := prepare(h.Config, d)
	if err != nil {
		return nil, err
	}
	r.folder = &folder{dir: dir}
	if r.folder.journal, err = journal.Read(dir); err != nil {
		return nil, err
	}
	var read []string
	for i := range r.cfg.Surrogates {
		read = append(read, logitsFile(benignName(roleSurrogate, i)))
	}
	for g := range r.cfg.Repeats {
		read = append(read, r.folder.bundle(g)...)
	}
	if err := r.folder.needs(read...); err != nil {
		return nil, err
	}
	groups, err := r.targets()
	if err != nil {
		return nil, err
	}
	set := func(name string, p attack.Images) (*data.Dataset, error) {
		return data.New(name, p.H, p.W, p.C, p.Pixels, p.Labels, d.Train.Classes)
	}
	v := &data.Victim{}
	var rows []int
	for g, gr := range groups {
		for _, t := range gr.targets {
			rows, v.Group = append(rows, t.row), append(v.Group, g)
		}
	}
	for _, x := range []struct {
		dst  **data.Dataset
		name string
		p    attack.Images
	}{{&v.Train, "train", r.split.train.Images}, {&v.Calibration, "calibration", r.split.cal.Images},
		{&v.Test, "test", r.split.whole.Select(r.tested())}, {&v.Targets, "targets", r.split.whole.Select(rows)}} {
		if *x.dst, err = set(x.name, x.p); err != nil {
			return nil, err
		}
	}
	for _, c := range r.cfg.Conditions {
		if c == result.Clean {
			continue
		}
		arm := data.Arm{Name: string(c)}
		for g := range groups {
			b, err := attack.ReadBundle(r.folder.path(poisonsDir, bundleName(g)))
			if err != nil {
				return nil, err
			}
			p, err := r.poisonsOf(g, c, b)
			if err != nil {
				return nil, err
			}
			_, place, err := r.inject(g, p)
			if err != nil {
				return nil, fmt.Errorf("group %d: %w", g, err)
			}
			arm.Sets = append(arm.Sets, data.Poisons{Index: place, Images: p.After, Labels: p.Images().Labels})
		}
		v.Arms = append(v.Arms, arm)
	}
	return v, nil
}

// tested lists the rows of splits.whole that coverage and accuracy are measured on.
func (r *run) tested() []int {
	var rows []int
	for i := range r.split.test {
		if !r.aimed[i] {
			rows = append(rows, i)
		}
	}
	return rows
}
