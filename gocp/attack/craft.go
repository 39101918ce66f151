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
)

// craftBatch is how many images one pass takes at most, where the alignment leaves that open, and craftFloats how many
// outputs their convolutions may have in all: of deep, wide networks fewer images pass.
const (
	craftBatch  = 256
	craftFloats = 64 << 20
)

// Constants of Adam, as in PyTorch.
const (
	adamBeta1   = 0.9
	adamBeta2   = 0.999
	adamEpsilon = 1e-8
)

// A loop is the crafting loop on a device. One step is recorded and then replayed: there is no Go
// between its launches, and nothing is allocated. What it has of every poison is δ, two moments and the
// clean image in bytes; all else is of one chunk of them, or of those whose activations are kept (memory.go).
type loop struct {
	v       *Solver
	s       *device.Stream
	n       int // poisons
	h, w, c int

	pixels           device.Ptr    // uint8 [P,H,W,C]: the clean images
	delta            tensor.Tensor // [P,H,W,C]
	m, vv            device.Ptr    // Adam's moments
	labels           device.Ptr    // int32 [P]
	aug              kernel.Augmentation
	step, draw, rate device.Ptr // uint64 from 1; uint64; float32

	chunks  []chunk
	base, x tensor.Tensor // of a chunk: its clean images, and the input made of them
	dx      tensor.Tensor // the input's gradient: the tangent is ∇_x⟨v, ∇_θ l⟩
	dsrc    device.Ptr    // and that before the augmentation, if there is one
	slots   *slots

	part    map[int]device.Ptr // by |θ|: a chunk's part of Σ∇l
	clean   []device.Ptr       // per surrogate: Σ∇l of the clean bases, for align=sum
	dots    device.Ptr         // float64 [3]
	phi     device.Ptr         // float64 [surrogates·cosines]
	cosines int                // of one surrogate: 1, or one for each mini-batch
	work    *kernel.Workspace
}

// A chunk is a part of the poisons that passes through a network together.
type chunk struct{ at, n int }

// newDelta allocates what a loop has of every poison, and base.
func (v *Solver) newDelta(bases Images) *loop {
	s := v.s
	l := &loop{v: v, s: s, n: bases.Len(), h: bases.H, w: bases.W, c: bases.C,
		part: map[int]device.Ptr{}, cosines: 1}
	l.delta = tensor.Tensor{Shape: []int{l.n, l.h, l.w, l.c}}
	size := 4 * l.delta.Len()
	l.delta.P, l.m, l.vv = s.AllocFor(size, l.delta.Shape), s.Alloc(size), s.Alloc(size)
	l.pixels, l.labels = uploaded(s, bases.Pixels), uploaded(s, bases.Labels)
	l.step, l.draw, l.rate = s.Alloc(8), s.Alloc(8), s.Alloc(4)
	at := 0
	for _, n := range share(l.n, (l.n+v.chunk-1)/v.chunk) {
		l.chunks = append(l.chunks, chunk{at, n})
		at += n
	}
	l.base = tensor.New(s, l.chunks[0].n, l.h, l.w, l.c) // the first are the largest
	return l
}

func (v *Solver) newLoop(bases Images) (*loop, error) {
	s, l := v.s, v.newDelta(bases)
	whole := tensor.Tensor{Shape: l.base.Shape}
	size := 4 * whole.Len()
	l.x, l.dx = whole, whole
	l.x.P, l.dx.T = s.Alloc(size), s.Alloc(size)
	if v.augments() {
		l.aug = kernel.Augmentation{Draws: s.Alloc(4 * 3 * l.n), Reflect: v.cfg.Pad == train.PadReflect}
		l.dsrc = s.Alloc(size)
	}
	if v.cfg.Align == AlignBatch {
		l.cosines = len(l.chunks)
	}
	for _, f := range v.fields {
		if params := f.grad.Len(); l.part[params] == 0 && len(l.chunks) > 1 && v.cfg.Align != AlignBatch {
			l.part[params] = s.Alloc(4 * params)
		}
	}
	l.dots, l.phi = s.Alloc(8*3), s.Alloc(8*len(v.fields)*l.cosines)
	l.work = kernel.NewWorkspace(s, kernel.VectorBytes)
	var err error
	l.slots, err = l.newSlots(size)
	return l, err
}

func (v *Solver) augments() bool { return v.cfg.Shift > 0 || v.cfg.Flip }

// drawAugmentation draws how the step's poisons are shifted and flipped.
func (l *loop) drawAugmentation() {
	if cfg := l.v.cfg; l.v.augments() {
		kernel.AugmentDraw(l.s, l.v.p.Seed, l.draw, l.n, max(cfg.Shift, 0), cfg.Flip, l.aug.Draws)
	}
}

// of is the part of an array over a chunk's images that chunk i takes.
func (l *loop) of(i int, t tensor.Tensor) tensor.Tensor {
	return t.Slice(0, l.chunks[i].n, l.h, l.w, l.c)
}

// off is where chunk i begins in an array of floats over all poisons.
func (l *loop) off(i int) int { return 4 * l.chunks[i].at * l.h * l.w * l.c }

// bases sets base to the clean images of chunk i.
func (l *loop) bases(i int) tensor.Tensor {
	c, base := l.chunks[i], l.of(i, l.base)
	kernel.Gather(l.s, l.pixels.Add(l.off(i)/4), 0, kernel.Augmentation{}, c.n, l.h, l.w, l.c, base)
	return base
}

// augOf is the augmentation of chunk i.
func (l *loop) augOf(i int) kernel.Augmentation { return l.aug.At(l.chunks[i].at) }

// forth sends chunk i, base + δ, augmented, through surrogate e and back: the gradient of the parameters
// to g, if that is not absent. It leaves behind what a replay reads.
func (l *loop) forth(e, i int, g device.Ptr) {
	f, c, x, base := l.v.fields[e], l.chunks[i], l.of(i, l.x), l.bases(i)
	kernel.GatherF32(l.s, base.P, l.delta.P.Add(l.off(i)), 0, l.augOf(i), c.n, l.h, l.w, l.c, x)
	net := l.slots.use(e, i)
	net.Forward(nn.Pass{Mode: nn.Eval, Theta: f.theta.Primal(), Running: f.running, X: x})
	_, dlogits := net.Loss(l.labels.Add(4 * c.at))
	net.Backward(dlogits, tensor.Tensor{Shape: f.grad.Shape, P: g}, tensor.Tensor{})
}

// pass runs chunk i through surrogate e and adds or writes Σ∇l to g.
func (l *loop) pass(e, i int, g device.Ptr, add bool) {
	n := l.v.fields[e].grad.Len()
	if !add {
		l.forth(e, i, g)
		return
	}
	part := l.part[n]
	l.forth(e, i, part)
	kernel.Axpby(l.s, kernel.Coef{Value: 1}, part, kernel.Coef{Value: 1}, g, n)
}

// cosine sets phi number at to Φ of surrogate e for the gradient g, which lies where the direction of its
// dual passes is to be and becomes that: ∂Φ/∂g.
func (l *loop) cosine(e, at int) {
	f := l.v.fields[e]
	n, g := f.grad.Len(), f.theta.T
	if l.clean != nil {
		kernel.Axpby(l.s, kernel.Coef{Value: -1}, l.clean[e], kernel.Coef{Value: 1}, g, n)
	}
	if phi := l.phi.Add(8 * (e*l.cosines + at)); f.inverse != nil {
		l.exactly(f, g, phi)
	} else {
		l.cosineOf(f.grad.P, g, n, g, phi)
	}
}

// cosineOf sets phi to the cosine of u and g, and v to its derivative with respect to g.
func (l *loop) cosineOf(u, g device.Ptr, n int, v, phi device.Ptr) {
	kernel.Dot(l.s, u, g, n, l.dots, l.work)
	kernel.Norm2(l.s, u, n, l.dots.Add(8), l.work)
	kernel.Norm2(l.s, g, n, l.dots.Add(16), l.work)
	kernel.CosineDirection(l.s, u, g, l.dots, n, v, phi)
}

// reverse adds −∂Φ/∂δ of chunk i through surrogate e to grad, which the first surrogate writes. A chunk
// whose activations are gone passes once more: two products a layer, and the same bits.
func (l *loop) reverse(e, i int, grad device.Ptr) {
	if !l.slots.holds(e, i) {
		l.forth(e, i, 0)
	}
	f, c, net := l.v.fields[e], l.chunks[i], l.slots.use(e, i)
	net.Forward(nn.Pass{Mode: nn.Eval, Theta: f.theta, Running: f.running, X: l.of(i, l.x), Replay: true})
	_, dlogits := net.Loss(l.labels.Add(4 * c.at))
	x := l.of(i, l.dx)
	net.Backward(dlogits, tensor.Tensor{}, x)
	dx := x.T
	if l.aug.Draws != 0 {
		kernel.AugmentAdjoint(l.s, c.n, l.h, l.w, l.c, l.augOf(i), tensor.Tensor{Shape: x.Shape, P: dx}, tensor.Tensor{Shape: x.Shape, P: l.dsrc})
		dx = l.dsrc
	}
	keep := 1.0
	if e == 0 {
		keep = 0
	}
	kernel.Axpby(l.s, kernel.Coef{Value: -1}, dx, kernel.Coef{Value: keep}, grad, x.Len())
}

// align computes Φ on every surrogate and, with a function for it, hands that −∇_δ ΣΦ of each chunk.
func (l *loop) align(back func(i int, grad device.Ptr)) {
	all := len(l.v.fields)
	l.slots.forget()
	if l.v.cfg.Align == AlignBatch { // each chunk has a cosine of its own
		for i := range l.chunks {
			grad := l.slots.grad(i)
			for e, f := range l.v.fields {
				l.pass(e, i, f.theta.T, false)
				if l.cosine(e, i); back != nil {
					l.reverse(e, i, grad)
				}
			}
			if back != nil {
				back(i, grad)
			}
		}
		return
	}
	for e, f := range l.v.fields {
		for i := range l.chunks {
			l.pass(e, i, f.theta.T, i > 0)
		}
		if l.cosine(e, 0); back == nil {
			continue
		}
		for i := range l.chunks {
			if l.slots.keeps(i) {
				l.reverse(e, i, l.slots.grad(i))
			}
		}
	}
	if back == nil {
		return
	}
	for _, kept := range []bool{true, false} {
		for i := range l.chunks {
			if l.slots.keeps(i) != kept {
				continue
			}
			grad := l.slots.grad(i)
			for e := 0; e < all && !kept; e++ {
				l.reverse(e, i, grad)
			}
			back(i, grad)
		}
	}
}

// record issues the launches of one step.
func (l *loop) record() {
	l.drawAugmentation()
	kernel.Increment(l.s, l.step)
	kernel.Increment(l.s, l.draw)
	l.align(l.move)
}

// move takes a step of signed Adam down grad with the δ of chunk i.
func (l *loop) move(i int, grad device.Ptr) {
	off, base := l.off(i), l.bases(i)
	kernel.SignAdam(l.s, l.delta.P.Add(off), grad, l.m.Add(off), l.vv.Add(off), base.P, l.step, l.rate, adamBeta1, adamBeta2, adamEpsilon, l.v.cfg.epsilon(), base.Len())
}

// mean waits for the step under way and returns Φ, mean over surrogates and mini-batches.
func (l *loop) mean() (float64, error) {
	phi := make([]float64, len(l.v.fields)*l.cosines)
	if err := device.Download(l.s, phi, l.phi); err != nil {
		return 0, err
	}
	var sum float64
	for i, p := range phi {
		if math.IsNaN(p) || math.IsInf(p, 0) {
			return 0, fmt.Errorf("attack: surrogate %s: the alignment is %v: the poisons' gradient is zero or not finite", l.v.fields[i/l.cosines].Name, p)
		}
		sum += p
	}
	return sum / float64(len(phi)), nil
}

// start sets δ, Adam and the counters to the beginning of a restart.
func (l *loop) start(restart int) {
	s, cfg, n := l.s, l.v.cfg, l.delta.Len()
	stream := rng.Stream("delta", uint64(restart))
	if cfg.Start == StartNormal {
		kernel.NormalNoise(s, l.v.p.Seed, stream, cfg.epsilon(), cfg.epsilon(), l.delta.P, n)
	} else {
		kernel.UniformNoise(s, l.v.p.Seed, stream, cfg.epsilon(), l.delta.P, n)
	}
	s.Memset32(l.m, 0, n)
	s.Memset32(l.vv, 0, n)
	device.Upload(s, l.step, []uint64{0})
	device.Upload(s, l.draw, []uint64{uint64(restart * cfg.Steps)})
}

// plainly runs f without augmentation.
func (l *loop) plainly(f func()) {
	aug := l.aug
	l.aug = kernel.Augmentation{}
	f()
	l.aug = aug
}

// quantise moves δ to the 8-bit grid.
func (l *loop) quantise() {
	for i := range l.chunks {
		base := l.bases(i)
		kernel.Quantize8(l.s, base.P, l.delta.P.Add(l.off(i)), l.v.cfg.epsilon(), base.Len())
	}
}

// quantised moves δ to the 8-bit grid and returns Φ there, without augmentation.
func (l *loop) quantised() (float64, error) {
	l.quantise()
	l.plainly(func() { l.align(nil) })
	return l.mean()
}

// images writes the poisons as 8-bit images.
func (l *loop) images(clean, out []uint8) error {
	part := make([]float32, l.of(0, l.x).Len())
	for i, c := range l.chunks {
		from, to := l.off(i)/4, l.off(i)/4+c.n*l.h*l.w*l.c
		part := part[:to-from]
		if err := device.Download(l.s, part, l.delta.P.Add(l.off(i))); err != nil {
			return err
		}
		quantise(out[from:to], clean[from:to], part, l.v.cfg.Epsilon255)
	}
	return nil
}

// Craft moves the pool's images at the given indices to where training on them goes down ℓ3, and
// calls step, if given, after every step: Config.Work times in all.
func (v *Solver) Craft(bases []int, step func()) (*Poisons, error) {
	return v.CraftFrom(bases, CraftOptions{Step: step})
}

// CraftFrom is Craft that may be stopped and gone on with; a method with a loop of its own begins anew.
func (v *Solver) CraftFrom(bases []int, o CraftOptions) (*Poisons, error) {
	m, err := v.cfg.method()
	if err != nil {
		return nil, err
	}
	if m.craft != nil {
		return m.craft(v, bases, o.Step)
	}
	return v.craft(bases, nil, o)
}

// craft is CraftFrom for images whose labels are turned, if turned is not nil.
func (v *Solver) craft(bases []int, turned []int32, o CraftOptions) (*Poisons, error) {
	defer v.s.Range("craft").End()
	defer v.s.Scope()()
	images := v.p.Pool.Select(bases)
	l, err := v.newLoop(images)
	if err != nil {
		return nil, err
	}
	l.sumClean()
	if turned != nil {
		l.labels = uploaded(l.s, turned)
	}
	if err := l.s.Sync(); err != nil {
		return nil, err
	}
	launch := l.record // a step that solves has Go in it, and cannot be recorded
	if v.cfg.Order == 1 || v.cfg.Second.Mode == SecondOnce {
		recording := l.s.Range("record a step")
		graph, err := l.s.Capture(l.record)
		recording.End()
		if err != nil {
			return nil, fmt.Errorf("attack: record a crafting step: %w", err)
		}
		defer graph.Close()
		launch = graph.Launch
	}

	report := v.report()
	best := make([]uint8, len(images.Pixels))
	from := o.Resume
	if from == nil {
		from = &CraftState{}
	} else if err := l.fits(from, best); err != nil {
		return nil, err
	}
	report.Restarts, report.Best, report.Phi = slices.Clone(from.Done), from.Kept, from.Phi
	copy(best, from.Best)
	for r := from.Restart; r < v.cfg.Restarts; r++ {
		l.start(r)
		trace := Restart{Seed: rng.Stream("delta", uint64(r))}
		first := 0
		if r == from.Restart && from.Step > 0 {
			first, trace.Phi = from.Step, slices.Clone(from.Trace)
			l.goOn(from)
		}
		rate := 0.0
		for t := first; t < v.cfg.Steps; t++ {
			if err := l.s.Context().Err(); err != nil {
				return nil, err
			}
			if err := o.before(func() (*CraftState, error) {
				return l.state(CraftState{Restart: r, Step: t, Trace: trace.Phi, Done: report.Restarts, Kept: report.Best, Phi: report.Phi, Best: best})
			}); err != nil {
				return nil, err
			}
			if next := v.cfg.rate(t); next != rate {
				rate = next
				device.Upload(l.s, l.rate, []float32{float32(rate)})
			}
			r := l.s.RangeOf("step", t)
			launch()
			phi, err := l.mean()
			r.End()
			if err != nil {
				return nil, err
			}
			trace.Phi = append(trace.Phi, phi)
			if o.Step != nil {
				o.Step()
			}
		}
		if trace.Final, err = l.quantised(); err != nil {
			return nil, err
		}
		report.Restarts = append(report.Restarts, trace)
		if r == 0 || trace.Final > report.Phi {
			report.Best, report.Phi = r, trace.Final
			if err := l.images(images.Pixels, best); err != nil {
				return nil, err
			}
		}
	}
	if o.Last && o.Checkpoint != nil {
		if err := o.Checkpoint(&CraftState{Restart: v.cfg.Restarts, Done: report.Restarts, Kept: report.Best, Phi: report.Phi, Best: best}); err != nil {
			return nil, err
		}
	}
	p := &Poisons{Method: v.cfg.record(), Epsilon255: v.cfg.Epsilon255, Seed: v.p.Seed, Bases: bases, Before: images, After: best, Turned: turned, Report: report}
	return p, p.check()
}

// report begins with what the surrogates have.
func (v *Solver) report() *Crafting {
	r := &Crafting{}
	for _, f := range v.fields {
		r.L2 += f.l2 / float64(len(v.fields))
		r.L3 += f.l3 / float64(len(v.fields))
		if f.solve != nil {
			r.Solves = append(r.Solves, *f.solve)
		}
	}
	return r
}

// sumClean stores Σ∇l of the clean bases on every surrogate, if that is part of the alignment.
func (l *loop) sumClean() {
	if l.v.cfg.Align != AlignSum {
		return
	}
	l.s.Memset32(l.delta.P, 0, l.delta.Len())
	l.plainly(func() {
		for e, f := range l.v.fields {
			g := l.s.Alloc(4 * f.grad.Len())
			for i := range l.chunks {
				l.pass(e, i, g, i > 0)
			}
			l.clean = append(l.clean, g)
		}
	})
}
