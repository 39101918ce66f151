package nn

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
)

// Norms that are made without gradients are those of the gradients, also where products of positions
// cancel: filters of a centre tap alone give a constant image the same pixel at every position of
// every layer, so the last one's gradient is that pixel times the sum of its outputs' gradients, and
// fc1 makes this sum a small part of them, and all of them zero where a patch hangs over the border.
func TestNormsOfConstantImages(t *testing.T) {
	spec := Spec{Arch: "convnet", Stem: StemStride, Width: 16, Classes: 10, C: 3, H: 32, W: 32,
		Mean: []float64{0.5, 0.5, 0.5}, Std: []float64{0.25, 0.25, 0.25}}
	const n = 16
	err := testkit.Open(t).Do(context.Background(), 1, func(s *device.Stream) error {
		f := newFixture(s, spec, Eval, n, kernel.F32)
		if f == nil {
			return s.Err()
		}
		for _, p := range spec.Params() {
			if !strings.HasPrefix(p.Name, "conv") || !strings.HasSuffix(p.Name, "weight") {
				continue
			}
			taps, side := p.Torch[2]*p.Torch[3], p.Torch[3]
			for i := range p.Len { // [K,R,S,C]
				if i/p.Torch[1]%taps != side/2*side+side/2 {
					f.host[p.Off+i] = 0
				} else {
					f.host[p.Off+i] *= float32(side)
				}
			}
		}
		r := rng.New(8, 0)
		const h, w, c = 4, 4, 64 // what enters fc1
		for _, p := range spec.Params() {
			if p.Name != "fc1.weight" {
				continue
			}
			for i := range p.Len { // [4 width, h, w, c]
				switch y, x := i/c/w%h, i/c%w; {
				case y == 0 || y == h-1 || x == 0 || x == w-1:
					f.host[p.Off+i] = 0
				case x%2 == 1:
					f.host[p.Off+i] = float32(math.Round(float64(3000 * r.Normal())))
				default:
					f.host[p.Off+i] = 0.125 - f.host[p.Off+i-c]
				}
			}
		}
		for i := range n {
			for c := range 3 {
				v := r.Float32()
				for at := range 32 * 32 {
					f.pixels[(i*32*32+at)*3+c] = v
				}
			}
		}
		device.Upload(s, f.theta.P, f.host)
		device.Upload(s, f.x.P, f.pixels)
		if _, err := f.run(nil, false); err != nil {
			return err
		}
		size := spec.NumParams()
		norms, grads := s.Alloc(4*n), s.Alloc(4*n*size)
		p := NewPersample(f.net)
		dlogits := f.net.stored(f.net.dlogits, false)
		p.SqNorm(dlogits, norms)
		p.Grad(dlogits, grads)
		got, each := make([]float32, n), make([]float32, n*size)
		if err := device.Download(s, got, norms); err != nil {
			return err
		}
		if err := device.Download(s, each, grads); err != nil {
			return err
		}
		for i, g := range got {
			want := dot(each[i*size:][:size], each[i*size:][:size])
			if d := math.Abs(float64(g) - want); !(d <= 1e-5*want) {
				t.Errorf("sample %d: the squared norm is %g, its gradient's %g", i, g, want)
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
