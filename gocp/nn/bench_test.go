package nn

import (
	"context"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// The passes of a training step, a Hessian-vector product and a crafting step, batch 128, on
// all cores. `gocp bench passes` measures the whole steps.
func BenchmarkPasses(b *testing.B) {
	d, err := device.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for _, c := range []struct {
		name string
		spec Spec
	}{
		{"28x28x1-w32", Spec{Arch: "convnet", Width: 32, Classes: 10, C: 1, H: 28, W: 28, Stem: StemPool, Mean: []float64{.5}, Std: []float64{.25}}},
		{"32x32x3-w64", Spec{Arch: "convnet", Width: 64, Classes: 10, C: 3, H: 32, W: 32, Stem: StemPool, Mean: []float64{.5, .5, .5}, Std: []float64{.25, .25, .25}}},
		{"32x32x3-w16-stride", Spec{Arch: "convnet", Width: 16, Classes: 10, C: 3, H: 32, W: 32, Stem: StemStride, Mean: []float64{.5, .5, .5}, Std: []float64{.25, .25, .25}}},
	} {
		for _, precision := range []kernel.Precision{kernel.F32, kernel.BF16} {
			for _, pass := range []string{"train", "hvp", "craft"} {
				b.Run(c.name+"/"+precision.String()+"/"+pass, func(b *testing.B) {
					err := d.Do(context.Background(), 0, func(s *device.Stream) error {
						return benchmarkPass(b, s, c.spec, precision, pass)
					})
					if err != nil {
						b.Fatal(err)
					}
				})
			}
		}
	}
}

func benchmarkPass(b *testing.B, s *device.Stream, spec Spec, precision kernel.Precision, pass string) error {
	const n = 128
	f := newFixture(s, spec, Eval, n, precision)
	if f == nil {
		return s.Sync()
	}
	dtheta, dx := tensor.NewDual(s, len(f.host)), tensor.NewDual(s, f.x.Shape...)
	device.Upload(s, f.theta.T, f.v)
	run := func(theta, dtheta, dx tensor.Tensor, replay bool) {
		f.net.Forward(Pass{Theta: theta, X: f.x.Primal(), Replay: replay})
		_, dz := f.net.Loss(f.labels)
		f.net.Backward(dz, dtheta, dx)
	}
	none := tensor.Tensor{}
	step := map[string]func(){
		"train": func() { run(f.theta.Primal(), dtheta.Primal(), none, false) },
		"hvp":   func() { run(f.theta, dtheta, none, false) },
		"craft": func() {
			run(f.theta.Primal(), dtheta.Primal(), none, false)
			run(f.theta, none, dx.TangentOnly(), true)
		},
	}[pass]
	for b.Loop() {
		step()
		if err := s.Sync(); err != nil {
			return err
		}
	}
	return nil
}
