package attack

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// What poisons change.
const (
	PoisonImages = "images" // pixels, inside the ball
	PoisonLabels = "labels" // labels
	PoisonBoth   = "both"   // the labels, and then the pixels of the same images
)

// PoisonKinds lists them.
func PoisonKinds() []string { return []string{PoisonImages, PoisonLabels, PoisonBoth} }

// MovesPixels and TurnsLabels tell what c's poisons change.
func (c Config) MovesPixels() bool { return c.Poison != PoisonLabels }
func (c Config) TurnsLabels() bool { return c.Poison == PoisonLabels || c.Poison == PoisonBoth }

// A Round is one choice of labels to turn.
type Round struct {
	Turned int     `json:"turned"`
	L2     float64 `json:"l2"` // on the surrogates as they were when it was made, mean
	L3     float64 `json:"l3"`
	Most   float64 `json:"most"`  // gain of the first label that it turned: see gains
	Least  float64 `json:"least"` // and of the last one
}

// gains is, for each of the pool's images and each label, ⟨v, ∇_θ l(X,Y′) − ∇_θ l(X,Y)⟩ / ‖v‖ with v the wish, mean over
// surrogates: how far a step on (X,Y′) in the place of (X,Y) goes down the wish.
func (v *Solver) gains() ([]float64, error) {
	pool := v.p.Pool
	k := v.fields[0].Model.Classes
	out := make([]float64, pool.Len()*k)
	for _, f := range v.fields {
		t, err := v.along(f, pool)
		if err != nil {
			return nil, err
		}
		wish, err := v.wishNorm(f)
		if err != nil {
			return nil, err
		}
		for i, y := range pool.Labels {
			for to := range k {
				out[i*k+to] += t.gain(i, int(y), to) / wish / float64(len(v.fields))
			}
		}
	}
	return out, nil
}

// turning is the choice of labels so far.
type turning struct {
	room   []int       // images of each class that can still be turned
	labels map[int]int // by image of the pool
	order  []int       // its keys, as they came
}

// take turns the n labels of the greatest gains, at most one an image, none that gains nothing.
func (t *turning) take(gains []float64, clean []int32, k, n int) (r Round) {
	best := make([]int, len(clean))
	for i := range clean {
		g := gains[i*k : (i+1)*k]
		for y := range g {
			if g[y] > g[best[i]] {
				best[i] = y
			}
		}
	}
	at := func(i int) float64 { return gains[i*k+best[i]] }
	all := make([]int, len(clean))
	for i := range all {
		all[i] = i
	}
	for _, i := range sortBy(all, func(i int) float64 { return -at(i) }) {
		if r.Turned == n || !(at(i) > 0) {
			break
		}
		if _, taken := t.labels[i]; taken || t.room[clean[i]] == 0 {
			continue
		}
		t.room[clean[i]]--
		t.labels[i] = best[i]
		t.order = append(t.order, i)
		if r.Turned++; r.Turned == 1 {
			r.Most = at(i)
		}
		r.Least = at(i)
	}
	return r
}

// turn chooses which of the pool's labels are turned, and into what: within the budget those of the greatest gains. With
// several rounds it turns a part, lets the surrogates move by an epoch of training on what they are then, and looks again.
func (v *Solver) turn(step func()) (bases []int, labels []int32, rounds []Round, err error) {
	defer v.s.Range("labels").End()
	p, k := v.p, v.fields[0].Model.Classes
	t := &turning{room: slices.Clone(p.Room), labels: map[int]int{}}
	if t.room == nil {
		t.room = make([]int, k)
		for _, y := range p.Pool.Labels {
			t.room[y]++
		}
	}
	near, err := v.near(t.room)
	if err != nil {
		return nil, nil, nil, err
	}
	now, gains := v, []float64(nil)
	for r, n := range share(p.Count, v.cfg.Rounds) {
		if r > 0 && now != nil {
			free := v.s.Scope()
			if now, err = v.moved(now, t, r); now != nil {
				gains, err = now.gains()
			}
			free() // its arrays: what goes on is its models
		} else if r == 0 {
			gains, err = v.gains()
		}
		if err == nil {
			err = v.s.Context().Err()
		}
		if err != nil {
			return nil, nil, nil, err
		}
		for i := range p.Pool.Labels {
			if near != nil && !near[i] {
				clear(gains[i*k : (i+1)*k])
			}
		}
		round := t.take(gains, p.Pool.Labels, k, n)
		if now != nil {
			for _, f := range now.fields {
				round.L2 += f.l2 / float64(len(now.fields))
				round.L3 += f.l3 / float64(len(now.fields))
			}
		}
		rounds = append(rounds, round)
		if step != nil {
			step()
		}
	}
	if len(t.order) == 0 {
		return nil, nil, nil, usage.Errorf("attack: turning a label lowers the adversary's loss for none of the %d images that it may turn", p.Pool.Len())
	}
	bases = slices.Sorted(slices.Values(t.order))
	for _, i := range bases {
		labels = append(labels, int32(t.labels[i]))
	}
	return bases, labels, rounds, nil
}

// near are the images whose labels may be turned, where they are to lie near the targets: as many as the budget, of any class
// as long as it has room. Nil: all.
func (v *Solver) near(room []int) (map[int]bool, error) {
	if v.cfg.Bases != BasesNearest {
		return nil, nil
	}
	all := make([]int, v.p.Pool.Len())
	for i := range all {
		all[i] = i
	}
	d, err := v.distances(all)
	if err != nil {
		return nil, err
	}
	left, out := slices.Clone(room), map[int]bool{}
	for _, i := range sortBy(all, func(i int) float64 { return d[i] }) {
		if y := v.p.Pool.Labels[i]; len(out) < v.p.Count && left[y] > 0 {
			left[y]--
			out[i] = true
		}
	}
	return out, nil
}

// moved is the problem with surrogates that trained for an epoch on the pool as t has it. It is nil where one of them gives
// the adversary no gradient any more: the sets are as wanted there.
func (v *Solver) moved(from *Solver, t *turning, round int) (*Solver, error) {
	pool := v.p.Pool
	labels := slices.Clone(pool.Labels)
	for i, y := range t.labels {
		labels[i] = int32(y)
	}
	p := *v.p
	p.Surrogates = nil
	for e, f := range from.fields {
		m := *f.Model
		m.Theta, m.Running = slices.Clone(m.Theta), slices.Clone(m.Running)
		c := f.Train
		c.Epochs, c.Schedule, c.Milestones, c.Warmup = 1, train.Constant, nil, 0
		c.Seed, c.Precision = rng.Stream("round", p.Seed, uint64(round), uint64(e)), p.Precision
		if err := train.Run(v.s, &m, train.Set{Images: pool.Pixels, Labels: labels}, c, train.Options{}); err != nil {
			return nil, fmt.Errorf("attack: surrogate %s, round %d: %w", f.Name, round+1, err)
		}
		p.Surrogates = append(p.Surrogates, Surrogate{Name: f.Name, Model: &m, Calibration: f.Calibration, Train: f.Train})
	}
	out, err := NewSolver(v.s, &p, v.cfg)
	if errors.Is(err, errZero) {
		return nil, nil
	}
	return out, err
}

// Poisons makes the poisons of the problem, and calls step, if given, after every step of crafting.
func (v *Solver) Poisons(step func()) (*Poisons, error) {
	return v.PoisonsFrom(CraftOptions{Step: step})
}

// PoisonsFrom is Poisons that may be stopped in the crafting of pixels and gone on with. Labels are turned anew.
func (v *Solver) PoisonsFrom(o CraftOptions) (*Poisons, error) {
	if !v.cfg.TurnsLabels() {
		bases, err := v.Bases()
		if err != nil {
			return nil, err
		}
		return v.CraftFrom(bases, o)
	}
	bases, labels, rounds, err := v.turn(o.Step)
	if err != nil {
		return nil, err
	}
	var p *Poisons
	if v.cfg.MovesPixels() {
		p, err = v.craft(bases, labels, o)
	} else {
		p, err = v.relabelled(bases, labels)
	}
	if err != nil {
		return nil, err
	}
	p.Report.Rounds = rounds
	return p, p.check()
}

// relabelled are the pool's images at the given indices with other labels.
func (v *Solver) relabelled(bases []int, labels []int32) (*Poisons, error) {
	images := v.p.Pool.Select(bases)
	p := &Poisons{Method: v.cfg.record(), Seed: v.p.Seed, Bases: bases, Before: images, After: slices.Clone(images.Pixels), Turned: labels, Report: v.report()}
	for _, f := range v.fields {
		phi, err := v.phi(f, p)
		if err != nil {
			return nil, fmt.Errorf("attack: surrogate %s: %w", f.Name, err)
		}
		p.Report.Phi += phi / float64(len(v.fields))
	}
	return p, nil
}

// phi is the cosine of f's wish and G = Σ∇l(Z̃) − Σ∇l(Z).
func (v *Solver) phi(f *field, p *Poisons) (float64, error) {
	defer v.s.Scope()()
	n := f.grad.Len()
	g := v.s.Alloc(4 * n)
	v.s.Memset32(g, 0, n)
	v.addGradients(f, p.Images(), 1, g)
	v.addGradients(f, p.Before, -1, g)
	return v.cos(f.grad.P, g, n)
}
