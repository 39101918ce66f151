package attack

import (
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
)

// craftBatch is how many poisons one pass takes, where the alignment leaves that open.
const craftBatch = 256

// Constants of Adam, as in PyTorch.
const (
	adamBeta1   = 0.9
	adamBeta2   = 0.999
	adamEpsilon = 1e-8
)

// A loop is the crafting loop on a device. One step is recorded and then replayed: there is no Go
// between its launches, and nothing is allocated.
type loop struct {
	v       *Solver
	s       *device.Stream
	n       int // poisons
	h, w, c int

	base, delta      tensor.Tensor // [P,H,W,C]
	grad             device.Ptr    // −∇_δ ΣΦ
	m, vv            device.Ptr    // Adam's moments
	labels           device.Ptr    // int32 [P]
	aug              device.Ptr    // int32 [P,3], or absent
	step, draw, rate device.Ptr    // uint64 from 1; uint64; float32
	chunks           []*chunk
	g, part          map[int]device.Ptr // by |θ|: Σ∇l, and a chunk's part of it
	clean            []device.Ptr       // per surrogate: Σ∇l of the clean bases, for align=sum
	dots             device.Ptr         // float64 [3]
	phi              device.Ptr         // float64 [surrogates·cosines]
	cosines          int                // of one surrogate: 1, or one for each mini-batch
	work             *kernel.Workspace
}

// A chunk is a part of the poisons that passes through a network together.
type chunk struct {
	at, n int
	x     tensor.Tensor // [n,H,W,C]
	dx    tensor.Tensor // its gradient: the tangent is ∇_x⟨v, ∇_θ l⟩
	dsrc  device.Ptr    // and that before the augmentation, if there is one
}

func (v *Solver) newLoop(bases Images) *loop {
	s := v.s
	l := &loop{v: v, s: s, n: bases.Len(), h: bases.H, w: bases.W, c: bases.C,
		g: map[int]device.Ptr{}, part: map[int]device.Ptr{}, cosines: 1}
	shape := []int{l.n, l.h, l.w, l.c}
	l.base, l.delta = tensor.New(s, shape...), tensor.New(s, shape...)
	pixels := uploaded(s, bases.Pixels)
	kernel.Gather(s, pixels, 0, 0, l.n, l.h, l.w, l.c, l.base)
	size := 4 * l.base.Len()
	l.grad, l.m, l.vv = s.Alloc(size), s.Alloc(size), s.Alloc(size)
	l.labels = uploaded(s, bases.Labels)
	l.step, l.draw, l.rate = s.Alloc(8), s.Alloc(8), s.Alloc(4)
	batch := craftBatch
	if v.cfg.Align == AlignBatch {
		batch = v.cfg.Batch
	}
	if v.augments() {
		l.aug = s.Alloc(4 * 3 * l.n)
	}
	parts := share(l.n, (l.n+batch-1)/batch)
	at := 0
	for _, n := range parts {
		c := &chunk{at: at, n: n, x: tensor.New(s, n, l.h, l.w, l.c), dx: tensor.Tensor{Shape: []int{n, l.h, l.w, l.c}}}
		c.dx.T = s.Alloc(4 * c.x.Len())
		if l.aug != 0 {
			c.dsrc = s.Alloc(4 * c.x.Len())
		}
		l.chunks = append(l.chunks, c)
		at += n
	}
	if v.cfg.Align == AlignBatch {
		l.cosines = len(l.chunks)
	}
	for _, f := range v.fields {
		params := f.grad.Len()
		if l.g[params] == 0 {
			l.g[params], l.part[params] = s.Alloc(4*params), s.Alloc(4*params)
		}
		for i := range l.chunks {
			l.net(f, i)
		}
	}
	l.dots, l.phi = s.Alloc(8*3), s.Alloc(8*len(v.fields)*l.cosines)
	l.work = kernel.NewWorkspace(s, kernel.VectorBytes)
	return l
}

func (v *Solver) augments() bool { return v.cfg.Shift > 0 || v.cfg.Flip }

// net returns the network that chunk i of surrogate f passes through.
func (l *loop) net(f *field, i int) *nn.Net { return l.v.net(f, i, l.chunks[i].n) }

// pass runs chunk i through surrogate f and adds or writes Σ∇l to g.
func (l *loop) pass(f *field, i int, g device.Ptr, add bool) {
	c, net := l.chunks[i], l.net(f, i)
	net.Forward(nn.Pass{Mode: nn.Eval, Theta: f.theta.Primal(), Running: f.running, X: c.x})
	_, dlogits := net.Loss(l.labels.Add(4 * c.at))
	out := tensor.Tensor{Shape: f.grad.Shape, P: g}
	if add {
		out.P = l.part[f.grad.Len()]
	}
	net.Backward(dlogits, out, tensor.Tensor{})
	if add {
		kernel.Axpby(l.s, kernel.Coef{Value: 1}, out.P, kernel.Coef{Value: 1}, g, out.Len())
	}
}

// gather sets every chunk's input to base + δ, augmented.
func (l *loop) gather() {
	for _, c := range l.chunks {
		off := 4 * c.at * l.h * l.w * l.c
		var aug device.Ptr
		if l.aug != 0 {
			aug = l.aug.Add(4 * 3 * c.at)
		}
		kernel.GatherF32(l.s, l.base.P.Add(off), l.delta.P.Add(off), 0, aug, c.n, l.h, l.w, l.c, c.x)
	}
}

// cosine sets phi number at to Φ of surrogate e for the gradient g, and the direction of its dual
// passes to ∂Φ/∂g.
func (l *loop) cosine(e, at int, g device.Ptr) {
	f := l.v.fields[e]
	n := f.grad.Len()
	if l.clean != nil {
		kernel.Axpby(l.s, kernel.Coef{Value: -1}, l.clean[e], kernel.Coef{Value: 1}, g, n)
	}
	kernel.Dot(l.s, f.grad.P, g, n, l.dots, l.work)
	kernel.Norm2(l.s, f.grad.P, n, l.dots.Add(8), l.work)
	kernel.Norm2(l.s, g, n, l.dots.Add(16), l.work)
	kernel.CosineDirection(l.s, f.grad.P, g, l.dots, n, f.theta.T, l.phi.Add(8*(e*l.cosines+at)))
}

// reverse adds −∂Φ/∂δ of chunk i through surrogate f to grad.
func (l *loop) reverse(f *field, i int, first bool) {
	c, net := l.chunks[i], l.net(f, i)
	net.Forward(nn.Pass{Mode: nn.Eval, Theta: f.theta, Running: f.running, X: c.x, Replay: true})
	_, dlogits := net.Loss(l.labels.Add(4 * c.at))
	net.Backward(dlogits, tensor.Tensor{}, c.dx)
	dx := c.dx.T
	if l.aug != 0 {
		kernel.AugmentAdjoint(l.s, c.n, l.h, l.w, l.c, l.aug.Add(4*3*c.at), tensor.Tensor{Shape: c.x.Shape, P: dx}, tensor.Tensor{Shape: c.x.Shape, P: c.dsrc})
		dx = c.dsrc
	}
	keep := 1.0
	if first {
		keep = 0
	}
	kernel.Axpby(l.s, kernel.Coef{Value: -1}, dx, kernel.Coef{Value: keep}, l.grad.Add(4*c.at*l.h*l.w*l.c), c.x.Len())
}

// align computes Φ on every surrogate and, with back, −∇_δ ΣΦ.
func (l *loop) align(back bool) {
	for e, f := range l.v.fields {
		g := l.g[f.grad.Len()]
		if l.v.cfg.Align == AlignBatch {
			for i := range l.chunks {
				l.pass(f, i, g, false)
				l.cosine(e, i, g)
				if back {
					l.reverse(f, i, e == 0)
				}
			}
			continue
		}
		for i := range l.chunks {
			l.pass(f, i, g, i > 0)
		}
		l.cosine(e, 0, g)
		if back {
			for i := range l.chunks {
				l.reverse(f, i, e == 0)
			}
		}
	}
}

// record issues the launches of one step.
func (l *loop) record() {
	cfg := l.v.cfg
	if l.aug != 0 {
		kernel.AugmentDraw(l.s, l.v.p.Seed, l.draw, l.n, cfg.Shift, cfg.Flip, l.aug)
	}
	l.gather()
	l.align(true)
	kernel.Increment(l.s, l.step)
	kernel.Increment(l.s, l.draw)
	kernel.SignAdam(l.s, l.delta.P, l.grad, l.m, l.vv, l.base.P, l.step, l.rate, adamBeta1, adamBeta2, adamEpsilon, cfg.epsilon(), l.base.Len())
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
	s, cfg, n := l.s, l.v.cfg, l.base.Len()
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

// quantised moves δ to the 8-bit grid and returns Φ there, without augmentation.
func (l *loop) quantised() (float64, error) {
	kernel.Quantize8(l.s, l.base.P, l.delta.P, l.v.cfg.epsilon(), l.base.Len())
	aug := l.aug
	l.aug = 0
	l.gather()
	l.align(false)
	l.aug = aug
	return l.mean()
}

// Craft moves the pool's images at the given indices to where training on them goes down ℓ3, and
// calls step, if given, after every step.
func (v *Solver) Craft(bases []int, step func()) (*Poisons, error) {
	defer v.s.Range("craft").End()
	images := v.p.Pool.Select(bases)
	l := v.newLoop(images)
	if v.cfg.Align == AlignSum {
		l.s.Memset32(l.delta.P, 0, l.delta.Len())
		l.gatherClean()
	}
	if err := l.s.Sync(); err != nil {
		return nil, err
	}
	recording := l.s.Range("record a step")
	graph, err := l.s.Capture(l.record)
	recording.End()
	if err != nil {
		return nil, fmt.Errorf("attack: record a crafting step: %w", err)
	}
	defer graph.Close()

	report := &Crafting{}
	for _, f := range v.fields {
		report.L2 += f.l2 / float64(len(v.fields))
		report.L3 += f.l3 / float64(len(v.fields))
	}
	best := make([]float32, l.delta.Len())
	for r := range v.cfg.Restarts {
		l.start(r)
		trace := Restart{Seed: rng.Stream("delta", uint64(r))}
		rate := 0.0
		for t := range v.cfg.Steps {
			if err := l.s.Context().Err(); err != nil {
				return nil, err
			}
			if next := v.cfg.rate(t); next != rate {
				rate = next
				device.Upload(l.s, l.rate, []float32{float32(rate)})
			}
			r := l.s.RangeOf("step", t)
			graph.Launch()
			phi, err := l.mean()
			r.End()
			if err != nil {
				return nil, err
			}
			trace.Phi = append(trace.Phi, phi)
			if step != nil {
				step()
			}
		}
		if trace.Final, err = l.quantised(); err != nil {
			return nil, err
		}
		report.Restarts = append(report.Restarts, trace)
		if r == 0 || trace.Final > report.Phi {
			report.Best, report.Phi = r, trace.Final
			if err := device.Download(l.s, best, l.delta.P); err != nil {
				return nil, err
			}
		}
	}
	p := &Poisons{Method: MethodFirstOrder, Epsilon255: v.cfg.Epsilon255, Seed: v.p.Seed, Bases: bases, Before: images,
		After: quantise(images.Pixels, best, v.cfg.Epsilon255), Report: report}
	return p, p.check()
}

// gatherClean stores Σ∇l of the clean bases on every surrogate.
func (l *loop) gatherClean() {
	aug := l.aug
	l.aug = 0
	l.gather()
	l.aug = aug
	for _, f := range l.v.fields {
		g := l.s.Alloc(4 * f.grad.Len())
		for i := range l.chunks {
			l.pass(f, i, g, i > 0)
		}
		l.clean = append(l.clean, g)
	}
}
