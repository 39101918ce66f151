package nn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// mixed is ∇_x⟨v, ∇_θ L⟩ with the loss's tangents, by a replay of a pass in floats that asked for the
// gradient of the parameters or for none.
func (f *fixture) mixed(t *testing.T, n *Net, asks bool) (dx, loss []float32) {
	t.Helper()
	pass, dtheta, out := f.pass(), tensor.Tensor{Shape: []int{len(f.host)}}, tensor.NewDual(f.s, f.x.Shape...)
	if asks {
		dtheta = tensor.New(f.s, len(f.host))
	}
	n.Forward(pass)
	_, dlogits := n.Loss(f.labels)
	n.Backward(dlogits, dtheta, tensor.Tensor{})
	device.Upload(f.s, f.theta.T, f.v)
	pass.Theta.T, pass.Replay = f.theta.T, true
	n.Forward(pass)
	l, dlogits := n.Loss(f.labels)
	n.Backward(dlogits, tensor.Tensor{}, out)
	dx, loss = download(t, f.s, out.Tangent()), download(t, f.s, l.Tangent())
	for _, p := range []device.Ptr{dtheta.P, out.P, out.T} {
		f.s.Free(p)
	}
	return dx, loss
}

// A network with memory for the mixed derivative alone has the bits of one that keeps everything, whether
// the pass before the replay was asked for the parameters' gradient or not, in memory of its own or not.
func TestMixed(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		if f.mode == Train {
			return
		}
		want, err := f.run(f.v, true)
		if err != nil {
			t.Fatal(err)
		}
		spec, o := f.net.spec, Options{Mixed: true}
		arena, work := Needs(f.s, spec, f.n+1, o)
		own := NewNet(f.s, spec, f.n+1, o)
		o.Arena, o.Work = f.s.Alloc(arena), kernel.NewWorkspace(f.s, work)
		for _, c := range []struct {
			net  *Net
			asks bool
		}{{own, true}, {NewNet(f.s, spec, f.n+1, o), false}, {NewNet(f.s, spec, f.n+1, o), true}} { // few: the emulator takes its time
			dx, loss := f.mixed(t, c.net, c.asks)
			if !slices.Equal(dx, want.xDot) || !slices.Equal(loss, want.lossDot) {
				t.Fatalf("%v: mixed derivative %g from that of a network that keeps everything, tangents of the loss %g; want the same bits", c.asks, testkit.Relative(dx, want.xDot), testkit.Relative(loss, want.lossDot))
			}
		}
	})
}

// What a network for the mixed derivative has no room for is refused.
func TestMixedRefusals(t *testing.T) {
	dev := testkit.Open(t)
	for name, use := range map[string]func(f *fixture, n *Net, p Pass){
		"training mode": func(_ *fixture, n *Net, p Pass) { p.Mode = Train; n.Forward(p) },
		"a direction of the images": func(f *fixture, n *Net, p Pass) {
			n.Forward(p)
			p.X.T, p.Replay = f.x.T, true
			n.Forward(p)
		},
		"no replay": func(f *fixture, n *Net, p Pass) { p.Theta.T = f.theta.T; n.Forward(p) },
		"the parameters' gradient": func(f *fixture, n *Net, p Pass) {
			n.Forward(p)
			p.Theta.T, p.Replay = f.theta.T, true
			n.Forward(p)
			_, dlogits := n.Loss(f.labels)
			n.Backward(dlogits, tensor.NewDual(f.s, len(f.host)), tensor.Tensor{})
		},
	} {
		err := dev.Do(context.Background(), 1, func(s *device.Stream) error {
			f := newFixture(s, testSpec(), Eval, 2, kernel.F32)
			use(f, NewNet(s, f.net.spec, 2, Options{Mixed: true}), f.pass())
			return s.Err()
		})
		if err == nil || !strings.Contains(err.Error(), "Options.Mixed") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A network takes what Needs says, and nothing where it is lent everything.
func TestNeeds(t *testing.T) {
	err := testkit.Open(t).Do(context.Background(), 1, func(s *device.Stream) error {
		for _, o := range []Options{{}, {Dual: true}, {Mixed: true}, {Forward: true}} {
			before := s.InUse()
			arena, work := Needs(s, testSpec(), 4, o)
			if used := s.InUse() - before; used != 0 {
				t.Errorf("%+v: asking took %d bytes", o, used)
			}
			constants := int64(2 * 4 * testSpec().C)
			NewNet(s, testSpec(), 4, o)
			if used := s.InUse() - before; used != int64(arena+max(work, 1))+constants {
				t.Errorf("%+v: a network took %d bytes, needs were %d, %d and %d", o, used, arena, work, constants)
			}
			o.Arena, o.Work = s.Alloc(arena), kernel.NewWorkspace(s, work)
			before = s.InUse()
			if NewNet(s, testSpec(), 4, o); s.InUse()-before != constants {
				t.Errorf("%+v: took %d bytes beside the memory lent", o, s.InUse()-before)
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The arenas of the published networks, batch 128, 32 × 32. One that grows is to be noticed; one that
// shrinks is to be written down.
func TestArenas(t *testing.T) {
	want := map[string]float64{ // MiB
		"convnet w32 dual":         116.9,
		"convnet w32 floats":       40.3,
		"convnet w32 forward":      21.5,
		"convnet w32 mixed":        63.2,
		"mobilenet_v2 w32 dual":    4996.0,
		"mobilenet_v2 w32 floats":  878.7,
		"mobilenet_v2 w32 forward": 168.6,
		"mobilenet_v2 w32 mixed":   1755.4,
		"resnet18 w16 dual":        458.2,
		"resnet18 w16 floats":      126.4,
		"resnet18 w16 forward":     24.1,
		"resnet18 w16 mixed":       184.2,
		"resnet18 w64 dual":        1823.6,
		"resnet18 w64 floats":      500.9,
		"resnet18 w64 forward":     96.2,
		"resnet18 w64 mixed":       736.6,
		"vgg16 w64 dual":           701.1,
		"vgg16 w64 floats":         162.4,
		"vgg16 w64 forward":        72.2,
		"vgg16 w64 mixed":          314.8,
	}
	got := map[string]float64{}
	err := testkit.Open(t).Do(context.Background(), 1, func(s *device.Stream) error {
		for _, spec := range []Spec{{Arch: "convnet", Width: 32, Stem: StemPool, BatchNorm: true}, {Arch: "resnet18", Width: 64}, {Arch: "resnet18", Width: 16},
			{Arch: "vgg16", Width: 64, BatchNorm: true}, {Arch: "mobilenet_v2", Width: 32}} {
			spec.C, spec.H, spec.W, spec.Classes, spec.Mean, spec.Std = 3, 32, 32, 10, []float64{.5, .5, .5}, []float64{.25, .25, .25}
			spec = spec.WithDefaults()
			for _, o := range []struct {
				name string
				Options
			}{{"floats", Options{}}, {"mixed", Options{Mixed: true}}, {"dual", Options{Dual: true}}, {"forward", Options{Forward: true}}} {
				arena, _ := Needs(s, spec, 128, o.Options)
				got[fmt.Sprintf("%s w%d %s", spec.Arch, spec.Width, o.name)] = float64(arena) / (1 << 20)
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, mib := range got {
		if w := want[name]; fmt.Sprintf("%.1f", mib) != fmt.Sprintf("%.1f", w) {
			t.Errorf("%s: %.1f MiB, want %.1f", name, mib, w)
		}
	}
}
