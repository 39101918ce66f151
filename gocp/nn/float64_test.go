package nn

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/internal/twin"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
)

// A hyper is a number a + u ε + v η + uv εη with ε² = η² = 0, in float64: evaluated at θ + du ε + dv η,
// a function's parts are its value, ⟨du, ∇⟩, ⟨dv, ∇⟩ and duᵀ H dv. So a forward pass alone, written
// down a second time, is a reference for the gradients and their derivatives too.
type hyper struct{ a, u, v, uv float64 }

func (x hyper) add(y hyper) hyper { return hyper{x.a + y.a, x.u + y.u, x.v + y.v, x.uv + y.uv} }

func (x hyper) mul(y hyper) hyper {
	return hyper{x.a * y.a, x.a*y.u + x.u*y.a, x.a*y.v + x.v*y.a, x.a*y.uv + x.u*y.v + x.v*y.u + x.uv*y.a}
}

func (x hyper) times(c float64) hyper { return hyper{c * x.a, c * x.u, c * x.v, c * x.uv} }

// of is f(x), for f with the value f0 and the derivatives f1 and f2 at x.a.
func (x hyper) of(f0, f1, f2 float64) hyper {
	return hyper{f0, f1 * x.u, f1 * x.v, f2*x.u*x.v + f1*x.uv}
}

func (x hyper) exp() hyper { e := math.Exp(x.a); return x.of(e, e, e) }
func (x hyper) log() hyper { return x.of(math.Log(x.a), 1/x.a, -1/(x.a*x.a)) }

func (x hyper) rsqrt() hyper {
	r := 1 / math.Sqrt(x.a)
	return x.of(r, -r/(2*x.a), 3*r/(4*x.a*x.a))
}

// hypers are values with directions, which may be nil.
func hypers(value, u, v []float32) []hyper {
	out := make([]hyper, len(value))
	for i := range out {
		out[i].a = float64(value[i])
		if u != nil {
			out[i].u = float64(u[i])
		}
		if v != nil {
			out[i].v = float64(v[i])
		}
	}
	return out
}

// An array is the output of a node: of n samples, h × w pixels with c channels.
type array struct {
	shape
	v []hyper
}

// reference computes the logits [n,K] and the losses [n] of f's network at theta and x, from its nodes.
func (f *fixture) reference(theta, x []hyper) (logits, losses []hyper) {
	spec, n := f.net.spec, f.n
	params, stats := map[string][]hyper{}, map[string]float64{}
	for _, p := range spec.Params() {
		params[p.Name] = theta[p.Off : p.Off+p.Len]
	}
	for _, p := range spec.Buffers() {
		for i := range p.Len {
			stats[fmt.Sprint(p.Name, i)] = float64(f.stats[p.Off+i])
		}
	}
	h := array{shape{spec.H, spec.W, spec.C}, make([]hyper, len(x))}
	for i, p := range x {
		c := i % spec.C
		h.v[i] = p.add(hyper{a: -spec.Mean[c]}).times(1 / spec.Std[c])
	}
	outputs, drops := map[string]array{Input: h}, 0
	architecture, _ := Lookup(spec.Arch)
	for _, node := range architecture.Nodes(spec) {
		if node.X != "" {
			h = outputs[node.X]
		}
		z := array{h.shape, slices.Clone(h.v)}
		if m := node.Map; m.Out > 0 {
			g := shape{m.Kernel, m.Kernel, h.c / max(m.Groups, 1)}
			if m.Kernel == 0 {
				m.Stride, g = 1, h.shape
			}
			z = h.convolved(n, m, g, params[node.Name+".weight"])
			if m.Bias {
				for j := range z.v {
					z.v[j] = z.v[j].add(params[node.Name+".bias"][j%z.c])
				}
			}
		}
		if node.Norm != "" {
			for c := range z.c {
				mean, variance := hyper{a: stats[fmt.Sprint(node.Norm+".running_mean", c)]}, hyper{a: stats[fmt.Sprint(node.Norm+".running_var", c)]}
				if f.mode == Train {
					mean, variance = moments(z.v, c, z.c)
				}
				scale := params[node.Norm+".weight"][c].mul(variance.add(hyper{a: Epsilon}).rsqrt())
				shift := params[node.Norm+".bias"][c].add(mean.mul(scale).times(-1))
				for j := c; j < len(z.v); j += z.c {
					z.v[j] = z.v[j].mul(scale).add(shift)
				}
			}
		}
		if node.R != "" {
			for j, r := range outputs[node.R].v {
				z.v[j] = z.v[j].add(r)
			}
		}
		for j, v := range z.v {
			switch {
			case node.Activation != kernel.Linear && v.a <= 0:
				z.v[j] = hyper{}
			case node.Activation == kernel.ReLU6 && v.a >= 6:
				z.v[j] = hyper{a: 6}
			}
		}
		h = z.pooled(n, node.Pool)
		if node.Dropout > 0 {
			if f.mode == Train {
				f.drop(h.v, drops, node.Dropout)
			}
			drops++
		}
		outputs[node.Name] = h
	}
	logits = h.v
	k := spec.Classes
	for i, y := range f.classes {
		row := logits[i*k : (i+1)*k]
		top := row[0].a
		for _, z := range row {
			top = math.Max(top, z.a)
		}
		var sum hyper
		for _, z := range row {
			sum = sum.add(z.add(hyper{a: -top}).exp())
		}
		losses = append(losses, sum.log().add(hyper{a: top}).add(row[y].times(-1)))
	}
	return logits, losses
}

// drop is inverted dropout, by the draws that kernel.Dropout takes.
func (f *fixture) drop(v []hyper, number int, rate float64) {
	for i := range v {
		words := rng.Block(dropSeed, kernel.DropoutStream(number), dropStep<<32+uint64(i/4))
		if float64(rng.Uniform(words[i%4])) >= rate {
			v[i] = v[i].times(1 / (1 - rate))
		} else {
			v[i] = hyper{}
		}
	}
}

// convolved is x convolved with w [m.Out, g], windows of shape g.
func (x array) convolved(n int, m Map, g shape, w []hyper) array {
	z := array{shape: shape{(x.h+2*m.Pad-g.h)/m.Stride + 1, (x.w+2*m.Pad-g.w)/m.Stride + 1, m.Out}}
	for i := range n * z.h * z.w {
		image, oy, ox := i/z.w/z.h, i/z.w%z.h, i%z.w
		for o := range z.c {
			first := o / (m.Out / max(m.Groups, 1)) * g.c
			var sum hyper
			for r := range g.h {
				for s := range g.w {
					y, q := oy*m.Stride-m.Pad+r, ox*m.Stride-m.Pad+s
					if y < 0 || y >= x.h || q < 0 || q >= x.w {
						continue
					}
					for c := range g.c {
						sum = sum.add(x.v[((image*x.h+y)*x.w+q)*x.c+first+c].mul(w[((o*g.h+r)*g.w+s)*g.c+c]))
					}
				}
			}
			z.v = append(z.v, sum)
		}
	}
	return z
}

func (z array) pooled(n int, p Pool) array {
	if p.Size > 1 {
		z = z.windows(n, shape{(z.h+2*p.Pad-p.Size)/p.Stride + 1, (z.w+2*p.Pad-p.Size)/p.Stride + 1, z.c}, func(o, in int) (lo, hi int) {
			return max(0, o*p.Stride-p.Pad), min(in, o*p.Stride-p.Pad+p.Size)
		}, func(window []hyper) hyper {
			best := window[0]
			for _, v := range window {
				if v.a > best.a {
					best = v
				}
			}
			return best
		})
	}
	if p.H > 0 {
		outs := map[int]int{z.h: p.H, z.w: p.W}
		z = z.windows(n, shape{p.H, p.W, z.c}, func(o, in int) (lo, hi int) {
			out := outs[in]
			return o * in / out, ((o+1)*in + out - 1) / out
		}, func(window []hyper) (sum hyper) {
			for _, v := range window {
				sum = sum.add(v.times(1 / float64(len(window))))
			}
			return sum
		})
	}
	return z
}

// windows applies f to windows of the pixels of each channel; bounds says where the o-th begins and ends.
func (z array) windows(n int, out shape, bounds func(o, in int) (lo, hi int), f func([]hyper) hyper) array {
	y := array{shape: out}
	for i := range n * out.h * out.w {
		top, bottom := bounds(i/out.w%out.h, z.h)
		left, right := bounds(i%out.w, z.w)
		for c := range z.c {
			var window []hyper
			for r := top; r < bottom; r++ {
				for s := left; s < right; s++ {
					window = append(window, z.v[((i/out.w/out.h*z.h+r)*z.w+s)*z.c+c])
				}
			}
			y.v = append(y.v, f(window))
		}
	}
	return y
}

// moments are mean and biased variance of channel c of channels.
func moments(z []hyper, c, channels int) (mean, variance hyper) {
	m := float64(len(z) / channels)
	for j := c; j < len(z); j += channels {
		mean = mean.add(z[j].times(1 / m))
	}
	for j := c; j < len(z); j += channels {
		d := z[j].add(mean.times(-1))
		variance = variance.add(d.mul(d).times(1 / m))
	}
	return mean, variance
}

// A tolerance is a relative difference in norm, for values, for gradients, and for derivatives of
// gradients.
type tolerance struct{ value, gradient, second float64 }

// apart is how far roundings take these networks from float64, and one engine from another; about
// four times what was seen. Products are of 24, 11 or 8 bits; two engines round the same inputs, which
// differ in their last digits and then may go to neighbours. A deep network takes them several times as far. No ReLU and no maximum of a window lies
// so near to a tie that it goes another way in one of them: the fixture's seed is chosen for that, as
// a single one changes a gradient by some per cent.
var apart = map[kernel.Precision]tolerance{
	kernel.F32:  {5e-7, 5e-6, 5e-6},
	kernel.TF32: {5e-4, 4e-3, 4e-3},
	kernel.BF16: {5e-3, 4e-2, 4e-2},
}

// passes are what one network's passes gave, to be held against others.
type passes struct {
	Loss, LossDot, Theta, ThetaDot, X, XDot []float32
	Float, Replay                           []float32 // gradient of a pass in float, and Hv of a replay
}

func (f *fixture) passes() (p passes, err error) {
	float, err := f.run(nil, false)
	if err != nil {
		return p, err
	}
	full, err := f.run(f.v, false)
	if err != nil {
		return p, err
	}
	replay, err := f.run(f.v, true)
	return passes{full.loss, full.lossDot, full.theta, full.thetaDot, full.x, full.xDot, float.theta, replay.thetaDot}, err
}

// TestPasses holds the passes of every network in every precision against float64 and, on a GPU,
// against the host engine.
func TestPasses(t *testing.T) {
	for _, c := range networks {
		for _, precision := range []kernel.Precision{kernel.F32, kernel.TF32, kernel.BF16} {
			if c.deep && precision != kernel.F32 {
				continue
			}
			t.Run(c.name+"/"+precision.String(), func(t *testing.T) {
				d, err := device.Open()
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				if precision == kernel.TF32 && d.Info().Backend == "host" {
					precision = kernel.F32 // is the same there
				}
				var f *fixture
				compute := func() (p passes) {
					err := d.Do(context.Background(), 1, func(s *device.Stream) (err error) {
						if f = newFixture(s, c.spec, c.mode, c.n, precision); f == nil {
							return s.Err()
						}
						p, err = f.passes()
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
					return p
				}
				host, onGPU := twin.OnHost(t, d.Info().Backend == "cuda", compute)
				got := compute()
				tol := apart[precision]
				if c.deep {
					tol = tolerance{4 * tol.value, 4 * tol.gradient, 8 * tol.second}
				}
				if onGPU {
					for _, x := range []struct {
						what      string
						got, want []float32
						tol       float64
					}{
						{"losses", got.Loss, host.Loss, tol.value},
						{"directional derivatives", got.LossDot, host.LossDot, tol.gradient},
						{"gradient", got.Theta, host.Theta, tol.gradient},
						{"gradient of a pass in float", got.Float, host.Float, tol.gradient},
						{"input gradient", got.X, host.X, tol.gradient},
						{"Hv", got.ThetaDot, host.ThetaDot, tol.second},
						{"Hv of a replay", got.Replay, host.Replay, tol.second},
						{"mixed derivative", got.XDot, host.XDot, tol.second},
					} {
						e := testkit.Relative(x.got, x.want)
						if !(e <= x.tol) {
							t.Errorf("%s: %.2g from the host engine's in norm, allowed %.2g", x.what, e, x.tol)
						}
						t.Logf("%s: %.2g from the host engine's", x.what, e)
					}
				}
				f.against64(t, got, tol)
			})
		}
	}
}

// against64 compares with the reference: losses and their derivatives one by one, the gradients and
// their derivatives by inner products with a random direction in each parameter's part and in the input.
func (f *fixture) against64(t *testing.T, got passes, tol tolerance) {
	t.Helper()
	worst := map[string]float64{}
	check := func(what string, e, limit float64) {
		if worst[what] = math.Max(worst[what], e); !(e <= limit) {
			t.Errorf("%s: %.2g from float64, allowed %.2g", what, e, limit)
		}
	}
	u := make([]float32, len(f.host))
	rng.FillNormal(12, 1, 1, u)
	one := func(lo, hi int) []float32 { // u in one parameter's part
		out := make([]float32, len(u))
		copy(out[lo:hi], u[lo:hi])
		return out
	}
	// The inner product of a difference of norm e with a direction of independent normal numbers is of
	// size e: 5 of them are allowed.
	inner := func(what string, want float64, g, direction []float32, size, limit float64) {
		check(what, math.Abs(dot(g, direction)-want)/(5*size), limit)
	}
	norm := func(g []float32) float64 { return math.Sqrt(dot(g, g)) }
	x := hypers(f.pixels, nil, nil)
	params := f.net.spec.Params()
	for i, p := range params {
		// Of a deep network one direction moves several parameters.
		if each := (len(params) + 23) / 24; i%each == 0 {
			p.Len = end(params[:min(i+each, len(params))]) - p.Off
		} else {
			continue
		}
		lo, hi := p.Off, p.Off+p.Len
		direction := one(lo, hi)
		_, losses := f.reference(hypers(f.host, direction, f.v), x)
		var sum hyper
		for j, l := range losses {
			sum = sum.add(l)
			if i == 0 {
				check("loss", math.Abs(float64(got.Loss[j])-l.a)/math.Max(1, math.Abs(l.a)), tol.value)
				check("directional derivative", math.Abs(float64(got.LossDot[j])-l.v)/math.Max(1, norm(got.LossDot)), tol.gradient)
			}
		}
		inner("gradient", sum.u, got.Theta, direction, norm(got.Theta[lo:hi])+1e-3*norm(got.Theta), tol.gradient)
		inner("Hv", sum.uv, got.ThetaDot, direction, norm(got.ThetaDot[lo:hi])+1e-3*norm(got.ThetaDot), tol.second)
	}
	w := make([]float32, len(f.pixels))
	rng.FillNormal(12, 2, 1, w)
	_, losses := f.reference(hypers(f.host, nil, f.v), hypers(f.pixels, w, nil))
	var sum hyper
	for _, l := range losses {
		sum = sum.add(l)
	}
	inner("input gradient", sum.u, got.X, w, norm(got.X), tol.gradient)
	inner("mixed derivative", sum.uv, got.XDot, w, norm(got.XDot), tol.second)
	for what, e := range worst {
		t.Logf("%s: %.2g from float64", what, e)
	}
}

// On images with flat areas max pooling chooses among equal maxima, whose order the definition settles:
// the first. Winograd's roundings differ inside a tile, so these passes, with channels enough for it, go
// another way than float64 wherever equal windows do not stay equal (docs/math.md, §8).
func TestPassesOnFlatImages(t *testing.T) {
	for _, stem := range []string{StemPool, StemStride} {
		t.Run(stem, func(t *testing.T) {
			spec := testSpec()
			spec.Width, spec.Stem, spec.BatchNorm, spec.H, spec.W = 32, stem, true, 24, 20
			d, err := device.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			err = d.Do(context.Background(), 1, func(s *device.Stream) error {
				f := newFixture(s, spec, Eval, 3, kernel.F32)
				if f == nil {
					return s.Err()
				}
				flatten(f.pixels, spec)
				device.Upload(s, f.x.P, f.pixels)
				got, err := f.passes()
				if err == nil {
					f.against64(t, got, apart[kernel.F32])
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// flatten leaves noise in a corner of each image, the rest is one colour with a stripe of another.
func flatten(pixels []float32, spec Spec) {
	for i := range pixels {
		c, x, y := i%spec.C, i/spec.C%spec.W, i/spec.C/spec.W%spec.H
		switch {
		case x < 6 && y < 6:
		case y == 11:
			pixels[i] = float32(c+1) / 8
		default:
			pixels[i] = float32(2*c+3) / 8
		}
	}
}
