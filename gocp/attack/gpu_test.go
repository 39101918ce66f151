package attack

import (
	"math"
	"testing"

	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/internal/twin"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/train"
)

// crafted is the beginning of a crafting: what precedes the first sign of a gradient.
type crafted struct {
	L2, L3 []float64 // per surrogate
	Grad   []float32 // ∇ℓ3 of the first surrogate
	Bases  []int
	Phi    []float64 // per surrogate, or mini-batch
	Delta  []float32 // −∇_δ ΣΦ
}

// TestAgainstHost holds the adversary's gradient, the choice of bases and the first crafting step's
// gradient on a GPU against the host engine. Later steps are not compared: they move δ by the sign of
// that gradient, and where it is as small as rounding the two engines may go different ways. In
// bfloat16 ReLUs and maxima near a tie go different ways too.
func TestAgainstHost(t *testing.T) {
	for _, c := range []struct {
		name      string
		cfg       Config
		batchNorm bool
		precision kernel.Precision
		loss, tol float64 // tolerances of losses, relative, and of gradients, in norm
	}{
		{"sum", Config{Align: AlignSum}, false, kernel.F32, 1e-5, 1e-5},
		{"batch, reflected", Config{Align: AlignBatch, Batch: 4, Shift: 2, Pad: train.PadReflect, Flip: true}, false, kernel.F32, 1e-5, 1e-5},
		{"batch, shifted, bn", Config{Align: AlignBatch, Batch: 4, Shift: 2, Flip: true}, true, kernel.F32, 1e-5, 1e-5},
		{"second order", Config{Align: AlignSum, Order: 2, Second: SecondOrder{Iterations: 5}}, true, kernel.F32, 1e-4, 1e-3}, // a solve multiplies roundings
		{"second order, exact, factors", Config{Align: AlignPoison, Order: 2, Second: SecondOrder{Mode: SecondExact, Solver: curvature.Kron, Damping: "1"}}, false, kernel.F32, 1e-4, 1e-3},
		{"bf16", Config{Align: AlignPoison}, false, kernel.BF16, 2e-2, 0.3},
	} {
		t.Run(c.name, func(t *testing.T) {
			onGPU := false
			compute := func() (r crafted) {
				onDevice(t, func(s *device.Stream) error {
					onGPU = s.Device().Info().Backend == "cuda"
					p := task(t, c.batchNorm)
					p.Precision = c.precision
					v, err := NewSolver(s, p, c.cfg)
					if err != nil {
						return err
					}
					for _, f := range v.fields {
						r.L2, r.L3 = append(r.L2, f.l2), append(r.L3, f.l3)
					}
					r.Grad = make([]float32, v.fields[0].grad.Len())
					if err := device.Download(s, r.Grad, v.fields[0].grad.P); err != nil {
						return err
					}
					if r.Bases, err = v.Bases(); err != nil {
						return err
					}
					l, err := v.newLoop(v.p.Pool.Select(r.Bases))
					if err != nil {
						return err
					}
					l.sumClean()
					l.start(0)
					l.drawAugmentation()
					grad := l.gradients()
					r.Phi, r.Delta = make([]float64, len(v.fields)*l.cosines), make([]float32, l.delta.Len())
					if err := device.Download(s, r.Phi, l.phi); err != nil {
						return err
					}
					return device.Download(s, r.Delta, grad)
				})
				return r
			}
			got := compute()
			host, ok := twin.OnHost(t, onGPU, compute)
			if !ok {
				host = got
			}
			near := func(what string, a, b []float64) {
				for i := range b {
					if !(math.Abs(a[i]-b[i]) <= c.loss*math.Max(1, math.Abs(b[i]))) {
						t.Errorf("%s: %v, on the host engine %v", what, a, b)
						return
					}
				}
			}
			near("ℓ2", got.L2, host.L2)
			near("ℓ3", got.L3, host.L3)
			for i := range host.Bases {
				if got.Bases[i] != host.Bases[i] {
					t.Fatalf("bases %v, on the host engine %v", got.Bases, host.Bases)
				}
			}
			near("Φ", got.Phi, host.Phi)
			grad, delta := testkit.Relative(got.Grad, host.Grad), testkit.Relative(got.Delta, host.Delta)
			t.Logf("∇ℓ3 %.2g, ∇Φ %.2g from the host engine's", grad, delta)
			if !(grad <= c.tol) || !(delta <= c.tol) {
				t.Errorf("∇ℓ3 is %.2g, ∇Φ %.2g from the host engine's in norm, allowed %.2g", grad, delta, c.tol)
			}
		})
	}
}

// TestStepIsOneList counts driver calls: a crafting step is recorded once; then it is one launch of that
// list, one download of Φ and one wait for it.
func TestStepIsOneList(t *testing.T) {
	calls := twin.Counted(t)
	if calls == nil {
		return
	}
	const steps = 3
	var at [][]string // the calls until the end of each step
	onDevice(t, func(s *device.Stream) error {
		p := task(t, false)
		p.Count, p.Surrogates = 3, p.Surrogates[:1]
		v, err := NewSolver(s, p, Config{Steps: steps, Shift: 1, Decay: 1})
		if err != nil {
			return err
		}
		bases, err := v.Bases()
		if err != nil {
			return err
		}
		before := calls.All(t)
		if _, err = v.Craft(bases, func() { at = append(at, calls.All(t)) }); err != nil {
			return err
		}
		all := calls.All(t)[len(before):]
		if b, e, l := twin.Count(all, "cuStreamBeginCapture"), twin.Count(all, "cuStreamEndCapture"), twin.Count(all, "cuGraphLaunch"); b != 1 || e != 1 || l != steps {
			t.Errorf("%d recordings begun, %d ended, %d launches of a list; want 1, 1, %d", b, e, l, steps)
		}
		recording := false
		for _, c := range all {
			switch c {
			case "cuStreamBeginCapture":
				recording = true
			case "cuStreamEndCapture":
				recording = false
			case "cuMemAlloc_v2", "cuMemFree_v2", "cuStreamSynchronize", "cuCtxSynchronize", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2":
				if recording {
					t.Errorf("%s inside of the recording", c)
				}
			}
		}
		return nil
	})
	for i := 1; i < len(at); i++ {
		step := at[i][len(at[i-1]):]
		if n := twin.Count(step, "cuGraphLaunch"); n != 1 || len(step) != 3 || twin.Count(step, "cuMemcpyDtoHAsync_v2") != 1 || twin.Count(step, "cuStreamSynchronize") != 1 {
			t.Errorf("step %d: %v", i+1, step)
		}
	}
}
