package result

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/journal"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// File names inside a run folder.
const (
	File          = "result.json"
	TimingsFile   = "timings.json"
	TelemetryFile = "telemetry.json"
)

// Encode returns the bytes of result.json.
func (r *Result) Encode() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return encode(r)
}

func encode(v any) ([]byte, error) { return strictjson.Indent(v, " ") }

// Decode reads the bytes of a result.json and validates them. Its errors are usage errors: the file
// is not what it should be.
func Decode(b []byte) (*Result, error) {
	var head struct {
		Schema int `json:"schema"`
	}
	if err := strictjson.Unmarshal(b, &head); err != nil {
		return nil, usage.Errorf("%s: %w", File, err)
	}
	if head.Schema != Schema {
		return nil, usage.Errorf("%s has schema %d; this gocp reads schema %d", File, head.Schema, Schema)
	}
	r := new(Result)
	if err := strictjson.Unmarshal(b, r); err != nil {
		return nil, usage.Errorf("%s: %w", File, err)
	}
	if err := r.Validate(); err != nil {
		return nil, usage.Errorf("%s: %w", File, err)
	}
	return r, nil
}

// Save writes result.json, timings.json and, if there is any, telemetry.json into the folder, each
// whole or not at all.
func (r *Result) Save(dir string) error {
	b, err := r.Encode()
	if err != nil {
		return fmt.Errorf("%s: %w", File, err)
	}
	if err := atomicfile.WriteBytes(filepath.Join(dir, File), b); err != nil {
		return err
	}
	t, err := encode(r.Timings)
	if err != nil {
		return fmt.Errorf("%s: %w", TimingsFile, err)
	}
	if err := atomicfile.WriteBytes(filepath.Join(dir, TimingsFile), t); err != nil || r.Telemetry == nil {
		return err
	}
	if t, err = encode(r.Telemetry); err != nil {
		return fmt.Errorf("%s: %w", TelemetryFile, err)
	}
	return atomicfile.WriteBytes(filepath.Join(dir, TelemetryFile), t)
}

// Load reads a run folder. Timings and telemetry are optional.
//
// A result.json, or a picture that it shows, that is not as the folder's journal says is refused; where
// there is no journal, or none that knows it, nobody can tell.
func Load(dir string) (*Result, error) {
	j, err := journal.Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return LoadFS(os.DirFS(dir))
	}
	if err != nil {
		return nil, err
	}
	if err := undamaged(j, dir, File); err != nil {
		return nil, err
	}
	r, err := LoadFS(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	return r, undamaged(j, dir, r.pictures()...)
}

func undamaged(j *journal.Journal, dir string, files ...string) error {
	for _, file := range files {
		if err := j.Check(file); err != nil && !errors.Is(err, journal.ErrUnknown) && !(file == File && errors.Is(err, fs.ErrNotExist)) {
			return usage.Errorf("%s is damaged: %w; gocp audit --resume --out %s makes it again", file, err, dir)
		}
	}
	return nil
}

// pictures lists the files that a result shows.
func (r *Result) pictures() []string {
	var names []string
	for i := range r.Repeats {
		for _, t := range r.Repeats[i].Targets {
			names = append(names, t.Picture)
			if t.Near != nil {
				names = append(names, t.Near.Picture)
			}
		}
		for _, s := range r.Repeats[i].Poisons.Samples {
			names = append(names, s.Before, s.After)
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

// LoadFS is Load from any file system.
func LoadFS(fsys fs.FS) (*Result, error) {
	b, err := fs.ReadFile(fsys, File)
	if err != nil {
		return nil, err
	}
	r, err := Decode(b)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		to   any
	}{{TimingsFile, &r.Timings}, {TelemetryFile, &r.Telemetry}} {
		b, err := fs.ReadFile(fsys, f.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := strictjson.Unmarshal(b, f.to); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return r, nil
}

// Validate checks that a Result holds together, so that nobody who reads it must check again:
// labels lie in [0, K), every victim has one outcome per target, every outcome one margin per
// attacked label, counts are not negative, paths stay inside the run folder.
func (r *Result) Validate() error {
	k := len(r.Dataset.Classes)
	switch {
	case r.Schema != Schema:
		return fmt.Errorf("schema is %d, want %d", r.Schema, Schema)
	case k == 0:
		return errors.New("dataset has no classes")
	}
	if _, err := conformal.ParseLevel(r.Config.Miscoverage); err != nil {
		return err
	}
	seen := map[int]bool{}
	for i := range r.Repeats {
		p := &r.Repeats[i]
		if seen[p.ID] {
			return fmt.Errorf("repeat %d is there twice", p.ID)
		}
		seen[p.ID] = true
		if err := cmp.Or(p.validate(k), p.divided(r.Config.Subgroups)); err != nil {
			return fmt.Errorf("repeat %d: %w", p.ID, err)
		}
	}
	return nil
}

func label(what string, y, k int) error {
	if y < 0 || y >= k {
		return fmt.Errorf("%s %d is not in [0, %d)", what, y, k)
	}
	return nil
}

func inside(name string) error {
	if name != "" && (!fs.ValidPath(name) || strings.Contains(name, `\`) || path.IsAbs(name)) {
		return fmt.Errorf("path %q does not stay inside the run folder", name)
	}
	return nil
}

// divided reports a repeat that does not fit the subgroups.
func (r *Repeat) divided(s *Subgroups) error {
	n := 0
	if s != nil {
		n = len(s.Names)
	}
	if (r.Subgroup != nil) != (s != nil) || r.Subgroup != nil && (*r.Subgroup < 0 || *r.Subgroup >= n) {
		return fmt.Errorf("the subgroup that is attacked is none of %d", n)
	}
	for i := range r.Victims {
		if got := len(r.Victims[i].Test.Groups); got != n {
			return fmt.Errorf("test coverage of %d subgroups, want %d", got, n)
		}
	}
	return nil
}

func (r *Repeat) validate(k int) error {
	for t := range r.Targets {
		if err := r.Targets[t].validate(k); err != nil {
			return fmt.Errorf("target %d: %w", r.Targets[t].ID, err)
		}
	}
	p := &r.Poisons
	if p.Count < 0 || (len(p.Restarts) > 0 && (p.Best < 0 || p.Best >= len(p.Restarts))) {
		return fmt.Errorf("poisons: %d poisons, restart %d of %d", p.Count, p.Best, len(p.Restarts))
	}
	for _, y := range p.Labels {
		if err := label("poison label", y, k); err != nil {
			return err
		}
	}
	for _, c := range p.Split {
		if err := label("poison label", c.Label, k); err != nil {
			return err
		}
	}
	for _, s := range p.Samples {
		if err := cmp.Or(label("poison label", s.Label, k), inside(s.Before), inside(s.After)); err != nil {
			return err
		}
	}
	type key struct {
		c Condition
		s uint64
	}
	seen := map[key]bool{}
	for v := range r.Victims {
		vic := &r.Victims[v]
		if seen[key{vic.Condition, vic.Seed}] {
			return fmt.Errorf("victim %s seed %d is there twice", vic.Condition, vic.Seed)
		}
		seen[key{vic.Condition, vic.Seed}] = true
		if err := vic.validate(r.Targets, k); err != nil {
			return fmt.Errorf("victim %s seed %d: %w", vic.Condition, vic.Seed, err)
		}
	}
	return nil
}

func (t *Target) validate(k int) error {
	if err := cmp.Or(label("label", t.Label, k), label("predicted label", t.Predicted, k), inside(t.Picture)); err != nil {
		return err
	}
	if n := t.Near; n != nil {
		if err := cmp.Or(label("label of the nearest image", n.Label, k), inside(n.Picture)); err != nil {
			return err
		}
		if !(n.Distance >= 0) || !n.Distance.Finite() || !(n.Levels >= 0 && n.Levels <= 255) {
			return fmt.Errorf("the nearest image is at distance %v and %v levels", n.Distance, n.Levels)
		}
	}
	for _, n := range append(t.Chosen[:len(t.Chosen):len(t.Chosen)], t.Benign...) {
		if n < 0 || n > k {
			return fmt.Errorf("set size %d is not in [0, %d]", n, k)
		}
	}
	for _, a := range t.Attacked {
		if err := label("attacked label", a.Label, k); err != nil {
			return err
		}
		if a.Role != RoleAdd && a.Role != RoleRemove {
			return fmt.Errorf("attacked label %d has role %q: known are add, remove", a.Label, a.Role)
		}
	}
	return nil
}

func (v *Victim) validate(targets []Target, k int) error {
	switch v.Condition {
	case Attack, RandUn, RandGa, RandLabel, Clean:
	default:
		return fmt.Errorf("unknown condition %q: known are attack, randun, randga, randlabel, clean", v.Condition)
	}
	if len(v.Outcomes) != len(targets) {
		return fmt.Errorf("%d outcomes for %d targets", len(v.Outcomes), len(targets))
	}
	if n := len(v.Test.Classes); n != 0 && n != k {
		return fmt.Errorf("test coverage of %d classes, want %d", n, k)
	}
	for g, p := range v.Test.Groups {
		if p.N < 0 || p.Covered < 0 || p.Covered > p.N || p.Correct < 0 || p.Correct > p.N || p.Size < 0 || p.Size > p.N*k {
			return fmt.Errorf("subgroup %d: %d covered, %d correct and %d labels of %d test images", g, p.Covered, p.Correct, p.Size, p.N)
		}
	}
	for t := range v.Outcomes {
		o := &v.Outcomes[t]
		if len(o.Margins) != len(targets[t].Attacked) {
			return fmt.Errorf("target %d: %d margins for %d attacked labels", targets[t].ID, len(o.Margins), len(targets[t].Attacked))
		}
		if err := label("predicted label", o.Predicted, k); err != nil {
			return err
		}
		last := -1
		for _, y := range o.Set {
			if err := label("label of a set", y, k); err != nil {
				return err
			}
			if y <= last {
				return fmt.Errorf("target %d: set %v is not ascending", targets[t].ID, o.Set)
			}
			last = y
		}
	}
	return nil
}
