package attack

import (
	"fmt"
	"math"
	"slices"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// MetaPoison is the ensemble of the method metapoison and how far it looks ahead.
type MetaPoison struct {
	Ages     int `json:"ages"`      // surrogates, of staggered ages (default 24)
	Unroll   int `json:"unroll"`    // K: steps of SGD that each look-ahead unrolls (default 2)
	AgeEvery int `json:"age_every"` // crafting steps after which every surrogate trains for an epoch (default 1)
}

// metaPoison is the method of Huang et al. 2020 with ℓ2 of prediction sets for its adversary's loss (docs/attacks.md).
var metaPoison = method{
	name: MethodMetaPoison,
	defaults: func(c *Config) {
		orDefault(&c.Steps, 60)
		orDefault(&c.Loss, LossPairwise)
		orDefault(&c.Meta.Ages, 24)
		orDefault(&c.Meta.Unroll, 2)
		orDefault(&c.Meta.AgeEvery, 1)
		c.Plain = true
	},
	validate: func(c Config) error {
		switch {
		case c.Align != "":
			return usage.Errorf(doesNothingWithout, "the alignment "+c.Align, c.Method)
		case c.Order != 1:
			return usage.Errorf("crafting: metapoison unrolls training; order %d goes with the method %s", c.Order, MethodAlignment)
		case c.AdversarialLabel != "":
			return usage.Errorf(doesNothingWithout, "the adversarial label", c.Method)
		case c.Meta.Ages < 1 || c.Meta.Unroll < 1 || c.Meta.AgeEvery < 1:
			return usage.Errorf("crafting: %d ages, %d unrolled steps and ageing every %d steps; each must be at least 1", c.Meta.Ages, c.Meta.Unroll, c.Meta.AgeEvery)
		}
		return oneOf("loss", c.Loss, LossPairwise, LossSoftQuantile)
	},
	loss:  newLoss,
	craft: (*Solver).unroll,
}

// LookBatch is how many images a step ahead takes where training takes so many, 0 of methods that take none.
func (c Config) LookBatch(batch int) int {
	if c.Method != MethodMetaPoison {
		return 0
	}
	return batch
}

// A Lookahead is what metapoison saw: the mean over surrogates of the adversary's loss after the unrolled steps.
type Lookahead struct {
	Epochs int     `json:"epochs"` // at which a surrogate starts afresh
	Batch  int     `json:"batch"`  // of an unrolled step
	Share  int     `json:"share"`  // of it poisons
	Before float64 `json:"before"` // ℓ2 of the first step of the restart kept
	After  float64 `json:"after"`  // and of its poisons on the 8-bit grid
}

// An aged is a surrogate in training.
type aged struct {
	number, births int
	model          *nn.Model
	state          train.State
	cfg            train.Config
}

// An ensemble is the surrogates of metapoison, with the training set that they see.
type ensemble struct {
	v      *Solver
	draw   uint64 // of a restart
	pixels []uint8
	all    []*aged
}

// birth makes a surrogate anew.
func (e *ensemble) birth(a *aged) error {
	spec, cfg := e.v.p.Training(a.number)
	seed := rng.Stream("metapoison surrogate", e.v.p.Seed, e.draw, uint64(a.number), uint64(a.births))
	m, err := nn.New(spec, seed)
	if err != nil {
		return err
	}
	cfg = cfg.WithDefaults()
	cfg.Seed = seed
	a.model, a.cfg, a.state = m, cfg, train.State{}
	a.births++
	return nil
}

// train lets a come to an age, in epochs.
func (e *ensemble) train(a *aged, age int) error {
	if a.state.Epoch >= age {
		return nil
	}
	o := train.Options{Stop: age, Checkpoint: func(_ *nn.Model, st train.State) error {
		a.state = st
		return nil
	}}
	if a.state.Epoch > 0 {
		from := a.state
		o.Resume = &from
	}
	err := train.Run(e.v.s, a.model, train.Set{Images: e.pixels, Labels: e.v.p.Pool.Labels}, a.cfg, o)
	if err != nil {
		return fmt.Errorf("surrogate %d: %w", a.number, err)
	}
	return nil
}

// stagger makes the surrogates, the m-th of M at an age of ⌊mT/M⌋ of T epochs.
func (e *ensemble) stagger(step func()) error {
	for i := range e.v.cfg.Meta.Ages {
		a := &aged{number: i}
		if err := e.birth(a); err != nil {
			return err
		}
		if err := e.train(a, (i+1)*a.cfg.Epochs/e.v.cfg.Meta.Ages); err != nil {
			return err
		}
		e.all = append(e.all, a)
		if step != nil {
			step()
		}
	}
	return nil
}

// age lets every surrogate train for an epoch; one that has had all of its epochs starts afresh.
func (e *ensemble) age() error {
	for _, a := range e.all {
		if a.state.Epoch < a.cfg.Epochs {
			if err := e.train(a, a.state.Epoch+1); err != nil {
				return err
			}
		} else if err := e.birth(a); err != nil {
			return err
		}
	}
	return nil
}

// A meta is the crafting loop of metapoison on a device. What it has of every poison is what alignment's has, and the
// gradient; all else is of one batch.
type meta struct {
	*loop
	bases  []int
	others []int      // of the pool
	pool   device.Ptr // uint8 [N,H,W,C]
	grad   device.Ptr // [P,H,W,C]
	batch  int        // of an unrolled step at most
	share  int        // poisons in it
	losses map[string]*loss
	part   tensor.Tensor // [share,H,W,C]: δ of a batch, shifted
}

func (v *Solver) newMeta(bases []int, images Images) (*meta, error) {
	m := &meta{loop: v.newDelta(images), bases: bases, losses: map[string]*loss{}}
	n, k := v.p.Pool.Len(), v.cfg.Meta
	taken := make(map[int]bool, len(bases))
	for _, at := range bases {
		taken[at] = true
	}
	for at := range n {
		if !taken[at] {
			m.others = append(m.others, at)
		}
	}
	for i := range k.Ages {
		spec, cfg := v.p.Training(i)
		m.batch = max(m.batch, min(cfg.WithDefaults().Batch, n))
		name := fmt.Sprint(spec)
		if m.losses[name] != nil {
			continue
		}
		l, err := newLoss(v.s, v.p, v.cfg, Surrogate{Model: &nn.Model{Spec: spec}, Calibration: v.p.Surrogates[i%len(v.p.Surrogates)].Calibration}, 0)
		if err != nil {
			return nil, err
		}
		m.losses[name] = l
	}
	// At least its share of a batch is poisons, and as many as it takes for each to be in one in every crafting step.
	up := func(a, b int) int { return (a + b - 1) / b }
	m.share = min(max(up(m.batch*m.n, n), up(m.n, k.Ages*k.Unroll)), m.n, m.batch)
	m.pool, m.grad = uploaded(v.s, v.p.Pool.Pixels), v.s.Alloc(4*m.delta.Len())
	m.part = tensor.New(v.s, m.share, m.h, m.w, m.c)
	return m, v.s.Err()
}

// looks draws the batches of one surrogate's look-ahead in a crafting step, and the poisons at the beginning of each.
func (m *meta) looks(order []int, number, batch int, at uint64) (looks []look, poisons [][]int, augs []kernel.Augmentation) {
	s, cfg, p := m.s, m.v.cfg, m.v.p
	share := min(m.share, batch)
	size := min(batch, share+len(m.others))
	src := rng.New(p.Seed, rng.Stream("look ahead", at, uint64(number)))
	for k := range cfg.Meta.Unroll {
		mine := make([]int, share)
		first := (number*cfg.Meta.Unroll + k) * share
		var which, rows, labels []int32
		for i := range mine {
			mine[i] = order[(first+i)%m.n]
			which, labels = append(which, int32(mine[i])), append(labels, p.Pool.Labels[m.bases[mine[i]]])
		}
		for _, j := range src.Perm(len(m.others))[:size-share] {
			rows, labels = append(rows, int32(m.others[j])), append(labels, p.Pool.Labels[m.others[j]])
		}
		b := look{x: tensor.New(s, size, m.h, m.w, m.c), labels: uploaded(s, labels), draws: nn.Draws{Seed: p.Seed, Step: s.Alloc(8)}}
		device.Upload(s, b.draws.Step, []uint64{at<<20 + uint64(number*cfg.Meta.Unroll+k)})
		var aug kernel.Augmentation
		if m.v.augments() {
			aug = kernel.Augmentation{Draws: s.Alloc(4 * 3 * size), Reflect: cfg.Pad == train.PadReflect}
			kernel.AugmentDraw(s, p.Seed, b.draws.Step, size, max(cfg.Shift, 0), cfg.Flip, aug.Draws)
		}
		image, index := m.h*m.w*m.c, uploaded(s, which)
		head := b.x.Slice(0, share, m.h, m.w, m.c)
		part := m.part.Slice(0, share, m.h, m.w, m.c)
		kernel.Gather(s, m.pixels, index, aug, share, m.h, m.w, m.c, head)
		kernel.GatherF32(s, m.delta.P, 0, index, aug, share, m.h, m.w, m.c, part)
		kernel.Add(s, part, head)
		if n := size - share; n > 0 {
			kernel.Gather(s, m.pool, uploaded(s, rows), aug.At(share), n, m.h, m.w, m.c, b.x.Slice(share*image, n, m.h, m.w, m.c))
		}
		looks, poisons, augs = append(looks, b), append(poisons, mine), append(augs, aug)
	}
	return looks, poisons, augs
}

// look looks ahead from every surrogate and returns the mean of the adversary's loss; with back it sets grad to its gradient,
// summed over surrogates.
func (m *meta) look(e *ensemble, t int, back bool) (float64, error) {
	s, p := m.s, m.v.p
	defer s.Range("look ahead").End()
	at := e.draw*uint64(m.v.cfg.Steps+1) + uint64(t)
	order := rng.New(p.Seed, rng.Stream("poisons ahead", at)).Perm(m.n)
	if back {
		s.Memset32(m.grad, 0, m.delta.Len())
	}
	var mean float64
	for _, a := range e.all {
		if err := s.Context().Err(); err != nil {
			return 0, err
		}
		value, err := m.from(a, order, at, back)
		if err != nil {
			return 0, fmt.Errorf("surrogate %d after %d epochs: %w", a.number, a.state.Epoch, err)
		}
		mean += value / float64(len(e.all))
	}
	return mean, s.Err()
}

// from looks ahead from one surrogate.
func (m *meta) from(a *aged, order []int, at uint64, back bool) (float64, error) {
	s, v := m.s, m.v
	defer s.Scope()()
	steps, batch := v.cfg.Meta.Unroll, min(a.cfg.Batch, m.batch)
	looks, poisons, augs := m.looks(order, a.number, batch, at)
	arenas, err := m.arenas(a.model.Spec, batch)
	if err != nil {
		return 0, err
	}
	ahead := newLookahead(s, a.model.Spec, steps, batch, arenas, nn.Options{Precision: v.p.Precision})
	ahead.begin(a.model.Theta, a.state.Momentum, a.model.Running)
	outer := m.losses[fmt.Sprint(a.model.Spec)]
	outer.running = ahead.running
	defer outer.open()()
	image := m.h * m.w * m.c
	out := func(k int, dx tensor.Tensor) {
		n := len(poisons[k])
		from := dx.Slice(0, n, m.h, m.w, m.c)
		if augs[k].Draws != 0 {
			to := m.part.Slice(0, n, m.h, m.w, m.c)
			kernel.AugmentAdjoint(s, n, m.h, m.w, m.c, augs[k], from, to)
			from = to
		}
		for i, j := range poisons[k] {
			kernel.Axpby(s, kernel.Coef{Value: 1}, from.P.Add(4*i*image), kernel.Coef{Value: 1}, m.grad.Add(4*j*image), image)
		}
	}
	if !back {
		out = nil
	}
	c := a.cfg
	sgd := descent{lr: c.RateOf(min(a.state.Epoch, c.Epochs-1)), momentum: *c.Momentum, decay: *c.WeightDecay, nesterov: c.Nesterov}
	return ahead.run(looks, sgd, func(theta device.Ptr, grad tensor.Tensor) (float64, error) {
		value, _, err := outer.gradient(theta, grad)
		return value, err
	}, out)
}

// arenas is how many steps have an arena of their own: all, or none where there is no room.
func (m *meta) arenas(spec nn.Spec, batch int) (int, error) {
	steps := m.v.cfg.Meta.Unroll
	each, rest := lookaheadBytes(m.s, spec, steps, batch, nn.Options{Precision: m.v.p.Precision, Dual: true})
	room, err := m.v.p.Memory.room(m.s)
	switch {
	case err != nil:
		return 0, err
	case room >= each*int64(steps)+rest:
		return steps, nil
	case room < each+rest && m.v.p.Memory.Limit > 0:
		return 0, m.v.p.Memory.Refuse("looking ahead", m.s.InUse()+each+rest)
	}
	return 1, nil
}

// ascend moves δ by one step of signed Adam down the gradient.
func (m *meta) ascend() {
	kernel.Increment(m.s, m.step)
	for i := range m.chunks {
		m.move(i, m.grad.Add(m.off(i)))
	}
}

// into puts the poisons, as 8-bit images, into the surrogates' training set.
func (m *meta) into(e *ensemble, clean []uint8) error {
	now := make([]uint8, len(clean))
	if err := m.images(clean, now); err != nil {
		return err
	}
	size := m.v.p.Pool.Size()
	for i, at := range m.bases {
		copy(e.pixels[at*size:(at+1)*size], now[i*size:(i+1)*size])
	}
	return nil
}

// unroll crafts by looking ahead.
func (v *Solver) unroll(bases []int, step func()) (*Poisons, error) {
	defer v.s.Range("craft").End()
	free := v.s.Scope()
	images := v.p.Pool.Select(bases)
	if v.p.Training == nil {
		free()
		return nil, fmt.Errorf("attack: %s trains surrogates of its own, and is not told how", v.cfg.Method)
	}
	report, best, err := v.unrolled(bases, images, step)
	free()
	if err != nil {
		return nil, fmt.Errorf("attack: %w", err)
	}
	p := &Poisons{Method: v.cfg.record(), Epsilon255: v.cfg.Epsilon255, Seed: v.p.Seed, Bases: bases, Before: images, After: best, Report: report}
	if report.Phi, err = v.alignmentOf(p); err != nil {
		return nil, err
	}
	return p, p.check()
}

func (v *Solver) unrolled(bases []int, images Images, step func()) (*Crafting, []uint8, error) {
	m, err := v.newMeta(bases, images)
	if err != nil {
		return nil, nil, err
	}
	report := v.report()
	best := make([]uint8, len(images.Pixels))
	for r := range v.cfg.Restarts {
		m.start(r)
		e := &ensemble{v: v, draw: uint64(r), pixels: slices.Clone(v.p.Pool.Pixels)}
		if err := m.into(e, images.Pixels); err != nil {
			return nil, nil, err
		}
		if err := e.stagger(step); err != nil {
			return nil, nil, err
		}
		trace := Restart{Seed: rng.Stream("delta", uint64(r)), Phi: []float64{}}
		for t := range v.cfg.Steps {
			device.Upload(m.s, m.rate, []float32{float32(v.cfg.rate(t))})
			part := m.s.RangeOf("step", t)
			value, err := m.look(e, t, true)
			part.End()
			if err != nil {
				return nil, nil, err
			}
			m.ascend()
			trace.Loss = append(trace.Loss, value)
			if t+1 < v.cfg.Steps && (t+1)%v.cfg.Meta.AgeEvery == 0 {
				if err := m.into(e, images.Pixels); err != nil {
					return nil, nil, err
				}
				if err := e.age(); err != nil {
					return nil, nil, err
				}
			}
			if step != nil {
				step()
			}
		}
		m.quantise()
		if trace.Final, err = m.look(e, v.cfg.Steps, false); err != nil {
			return nil, nil, err
		}
		report.Restarts = append(report.Restarts, trace)
		if r > 0 && !(trace.Final < report.Lookahead.After) {
			continue
		}
		report.Best = r
		report.Lookahead = &Lookahead{Epochs: e.all[0].cfg.Epochs, Batch: m.batch, Share: m.share, Before: trace.Loss[0], After: trace.Final}
		if err := m.images(images.Pixels, best); err != nil {
			return nil, nil, err
		}
	}
	return report, best, nil
}

// alignmentOf is Φ of poisons on the surrogates, against the clean images that they replace.
func (v *Solver) alignmentOf(p *Poisons) (float64, error) {
	defer v.s.Scope()()
	w := *v
	w.cfg.Align = AlignSum
	l, err := w.newLoop(p.Before)
	if err != nil {
		return 0, err
	}
	l.sumClean()
	device.Upload(v.s, l.delta.P, p.Delta())
	l.plainly(func() { l.align(nil) })
	phi, err := l.mean()
	if err == nil && math.IsNaN(phi) {
		err = fmt.Errorf("attack: the alignment is no number")
	}
	return phi, err
}
