package cases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/device"
)

const (
	// step of the central differences in float64: truncation and rounding are both below 1e-9.
	step = 1e-6
	// tangentSlack widens an output's tolerance for its tangent, a sum of products where the
	// output is a few of them.
	tangentSlack = 4
	// kinkShare is the share of elements that may be skipped because of a kink.
	kinkShare = 0.01
)

// Check runs the checks of a case on a shape and returns everything that is wrong.
func Check(ctx context.Context, d *device.Device, c Case, sh Shape) error {
	if len(sh.Dims) != len(c.Axes) {
		return fmt.Errorf("case %s: shape %v has not the axes %v", c.Name, sh.Dims, c.Axes)
	}
	p := c.New(sh, newRand(c, sh))
	k := &checker{p: p, d: d, ctx: ctx, r: newRand(Case{Name: c.Name + "/directions", Axes: c.Axes}, sh)}
	k.primal()
	if sh.Fill == Normal && len(k.errs) == 0 {
		k.gradients()
		if p.differentiable() {
			k.dual()
			k.symmetry()
		}
	}
	for i, err := range k.errs {
		k.errs[i] = fmt.Errorf("case %s %s: %w", c.Name, c.Label(sh), err)
	}
	return errors.Join(k.errs...)
}

type checker struct {
	p     *Problem
	d     *device.Device
	ctx   context.Context
	r     *Rand
	errs  []error
	first *Bound // the first run's result
}

func (k *checker) fail(format string, args ...any) {
	k.errs = append(k.errs, fmt.Errorf(format, args...))
}

// run runs the problem on a stream of its own.
func (k *checker) run(what string, width int, m mode) *Bound {
	var b *Bound
	err := k.d.Do(k.ctx, width, func(s *device.Stream) error {
		var err error
		b, err = k.p.run(s, m)
		return err
	})
	if err != nil {
		k.fail("%s: %w", what, err)
		return nil
	}
	return b
}

func (k *checker) report(what string, e Errors) {
	if e.Wrong > 0 {
		k.fail("%s: %d of %d wrong, largest error %.2g: %s", what, e.Wrong, e.Count, e.Max, e.First)
	}
}

// primal is check 1, with 4 inside every run.
func (k *checker) primal() {
	k.first = k.run("run", 1, mode{})
	if k.first == nil {
		return
	}
	k.report("against float64", k.p.outputs(k.first, k.p.reference(nil, 0)))
	k.same("rerun", k.run("rerun", 1, mode{}))
	if k.p.Bits == OnNothing {
		k.same("on 3 threads", k.run("on 3 threads", 3, mode{}))
		k.same("misaligned", k.run("misaligned", 1, mode{shift: 1}))
	}
}

func (k *checker) same(what string, b *Bound) {
	if b == nil {
		return
	}
	for _, buf := range k.p.buffers {
		if pl := k.first.primal[buf]; pl != nil && !bytes.Equal(pl.now, b.primal[buf].now) {
			k.fail("%s: %s has other bits", what, buf.name)
		}
	}
}

// direction draws a tangent for every differentiable input.
func (k *checker) direction() map[*Buffer][]float32 {
	t := map[*Buffer][]float32{}
	for _, buf := range k.p.buffers {
		if buf.diff && buf.role == input {
			t[buf] = k.r.Normal(buf.len())
		}
	}
	return t
}

// gradients is check 2.
func (k *checker) gradients() {
	for _, g := range k.p.Gradients {
		u := k.r.Normal(g.In.len())
		along := map[*Buffer][]float32{g.In: u}
		difference := func(h float64) float64 {
			return (g.Of(k.p.values(along, h)) - g.Of(k.p.values(along, -h))) / (2 * h)
		}
		want, check := difference(step), difference(step/8)
		got, size := inner(k.first.primal[g.Out].result(g.Out.data), u)
		slack := 1e-6*math.Abs(want) + (tangentSlack*g.Out.tol.Rel+1e-6)*size + g.Out.tol.Abs
		if math.Abs(want-check) > 100*slack {
			k.fail("gradient %s: the differences cross a kink: %.9g, %.9g", g.Out.name, want, check)
			continue
		}
		slack += math.Abs(want - check)
		if d := math.Abs(got - want); !(d <= slack) {
			k.fail("gradient %s: ⟨%s, u⟩ = %.9g, differences give %.9g", g.Out.name, g.Out.name, got, want)
		}
	}
}

// inner is ⟨a, b⟩ and the 2-norm of its terms.
func inner(a []float64, b []float32) (sum, size float64) {
	for i := range a {
		t := a[i] * float64(b[i])
		sum += t
		size += t * t
	}
	return sum, math.Sqrt(size)
}

// dual is the first half of check 3.
func (k *checker) dual() {
	all := k.direction()
	k.tangents("dual", all, nil)
	for buf := range all {
		some := map[*Buffer][]float32{}
		for b, t := range all {
			if b != buf {
				some[b] = t
			}
		}
		k.tangents("dual without "+buf.name+"'s tangent", some, nil)
	}
	if k.p.Replay {
		known := map[*Buffer][]byte{}
		for _, buf := range k.p.buffers {
			if buf.role == output && !buf.diff {
				known[buf] = k.first.primal[buf].now
			}
		}
		k.tangents("replay", all, known)
	}
}

func (k *checker) tangents(what string, t map[*Buffer][]float32, replay map[*Buffer][]byte) {
	b := k.run(what, 1, mode{dual: true, tangents: t, replay: replay})
	if b == nil {
		return
	}
	k.report(what+", primal", k.p.outputs(b, k.p.reference(nil, 0)))
	at := func(h float64) (*Values, *Values) { return k.p.reference(t, h), k.p.reference(t, -h) }
	plus, minus := at(step)
	plus8, minus8 := at(step / 8)
	for _, buf := range k.p.buffers {
		if buf.role != output || !buf.diff {
			continue
		}
		want, skip := make([]float64, buf.len()), make([]bool, buf.len())
		tol := Tol{Rel: tangentSlack*buf.tol.Rel + 1e-6, Abs: tangentSlack*buf.tol.Abs + 1e-8, Norm: buf.tol.Norm}
		kinks := 0
		for i := range want {
			want[i] = (plus.F(buf)[i] - minus.F(buf)[i]) / (2 * step)
			check := (plus8.F(buf)[i] - minus8.F(buf)[i]) / (2 * step / 8)
			if math.Abs(check-want[i]) > 1e-4*(1+math.Abs(want[i])) {
				skip[i] = true
				kinks++
			}
		}
		if float64(kinks) > 1+kinkShare*float64(len(want)) {
			k.fail("%s: %d kinks in %d elements of %s", what, kinks, len(want), buf.name)
		}
		k.report(what, compare(buf.name+"'s tangent", b.tangent[buf].result(buf.data), want, tol, skip))
	}
}

// symmetry is the second half of check 3.
func (k *checker) symmetry() {
	for _, g := range k.p.Gradients {
		if !g.Out.diff || !g.In.diff {
			continue
		}
		u, v := k.r.Normal(g.In.len()), k.r.Normal(g.In.len())
		product := func(v []float32) []float64 {
			b := k.run("symmetry", 1, mode{dual: true, tangents: map[*Buffer][]float32{g.In: v}})
			if b == nil {
				return nil
			}
			return b.tangent[g.Out].result(g.Out.data)
		}
		hv, hu := product(v), product(u)
		if hv == nil || hu == nil {
			return
		}
		uhv, size := inner(hv, u)
		vhu, _ := inner(hu, v)
		if d := math.Abs(uhv - vhu); !(d <= (10*g.Out.tol.Rel+1e-6)*size+g.Out.tol.Abs+1e-12) {
			k.fail("symmetry of %s: uᵀHv = %.9g, vᵀHu = %.9g", g.Out.name, uhv, vhu)
		}
	}
}
