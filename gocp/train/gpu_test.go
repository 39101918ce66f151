package train

import (
	"math"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/internal/twin"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
)

// run is what a short training gave.
type run struct {
	Losses []float64
	First  []float32 // the momentum after the first epoch, of one step: its gradient
	Logits []float32 // of the end, on other images
}

// TestAgainstHost trains for a few steps on a GPU and on the host engine. Sums are made in another
// order, so the first gradient agrees to float32's last digits, and the difference grows from step to
// step. In bfloat16 a last digit can send an input to the neighbouring number.
func TestAgainstHost(t *testing.T) {
	for _, c := range []struct {
		name               string
		bn                 bool
		cfg                Config
		loss, first, final float64 // tolerances: relative, the gradient's and the logits' in norm
	}{
		{"plain", false, Config{Epochs: 3, Batch: 24}, 1e-6, 2e-6, 1e-5},
		{"batch norm, shifted and flipped", true, Config{Epochs: 3, Batch: 18, Shift: 1, Flip: true}, 1e-5, 5e-6, 1e-4},
		{"reflected, Nesterov, cosine after a warm-up", false, Config{Epochs: 3, Batch: 18, Shift: 2, Pad: PadReflect, Flip: true, Nesterov: true, Schedule: Cosine, Warmup: 1}, 1e-5, 5e-6, 1e-4},
		{"bf16", false, Config{Epochs: 3, Batch: 24, Precision: kernel.BF16}, 2e-3, 3e-2, 3e-2},
	} {
		t.Run(c.name, func(t *testing.T) {
			onGPU := false
			compute := func() (r run) {
				on(t, 1, func(s *device.Stream) error {
					onGPU = s.Device().Info().Backend == "cuda"
					m, err := nn.New(spec(c.bn), 1)
					if err != nil {
						return err
					}
					err = Run(s, m, blobs(24, 4), c.cfg, Options{
						Progress: func(_ int, l float64) { r.Losses = append(r.Losses, l) },
						Checkpoint: func(_ *nn.Model, st State) error {
							if st.Epoch == 1 {
								r.First = st.Momentum
							}
							return nil
						},
					})
					if err != nil {
						return err
					}
					out, err := Predict(s, m, blobs(12, 4).Images, c.cfg.Precision)
					r.Logits = out.Logits
					return err
				})
				return r
			}
			got := compute()
			host, ok := twin.OnHost(t, onGPU, compute)
			if !ok {
				host = got // the same computation twice gives the same
			}
			for i := range host.Losses {
				if e := math.Abs(got.Losses[i]-host.Losses[i]) / host.Losses[i]; !(e <= c.loss) {
					t.Errorf("epoch %d: loss %v, on the host engine %v", i+1, got.Losses[i], host.Losses[i])
				}
			}
			first, final := testkit.Relative(got.First, host.First), testkit.Relative(got.Logits, host.Logits)
			t.Logf("the first gradient %.2g, logits at the end %.2g from the host engine's", first, final)
			if !(first <= c.first) || !(final <= c.final) || len(host.Losses) != 3 {
				t.Errorf("the first gradient is %.2g from the host engine's, the logits %.2g; allowed %.2g and %.2g", first, final, c.first, c.final)
			}
		})
	}
}

// TestStepIsOneList counts driver calls: a step is recorded once for each size of batch; after that it
// is one launch of that list and the copies around it, and neither a launch of its own, an allocation,
// an upload nor a wait.
func TestStepIsOneList(t *testing.T) {
	calls := twin.Counted(t)
	if calls == nil {
		return
	}
	var at [][]string // the calls until the end of each epoch
	on(t, 1, func(s *device.Stream) error {
		m, err := nn.New(spec(true), 1)
		if err != nil {
			return err
		}
		return Run(s, m, blobs(22, 4), Config{Epochs: 3, Batch: 8, Shift: 1}, Options{Progress: func(int, float64) {
			at = append(at, calls.All(t))
		}})
	})
	const steps = 3 // of 8, 8 and 6
	first := at[0]
	if n := twin.Count(first, "cuStreamBeginCapture"); n != 2 || twin.Count(first, "cuGraphInstantiate") > 2 {
		t.Errorf("%d recordings in the first epoch, want one for each of two sizes", n)
	}
	recording := false
	for _, c := range first {
		switch c {
		case "cuStreamBeginCapture":
			recording = true
		case "cuStreamEndCapture":
			recording = false
		case "cuLaunchKernel":
			if !recording {
				t.Error("a launch outside of the recordings")
			}
		case "cuMemAlloc_v2", "cuMemFree_v2", "cuStreamSynchronize", "cuCtxSynchronize", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2":
			if recording {
				t.Errorf("%s inside of a recording", c)
			}
		}
	}
	for e := 1; e < len(at); e++ {
		epoch := at[e][len(at[e-1]):]
		if n := twin.Count(epoch, "cuGraphLaunch"); n != steps {
			t.Errorf("epoch %d: %d launches of a list, want %d", e+1, n, steps)
		}
		for name, want := range map[string]int{
			"cuLaunchKernel": 0, "cuMemAlloc_v2": 0, "cuMemFree_v2": 0, "cuStreamBeginCapture": 0, "cuGraphInstantiate": 0,
			"cuMemcpyDtoDAsync_v2": 2 * steps, // the learning rate with the batch's indices, and its losses
			"cuMemcpyHtoDAsync_v2": 2,         // the epoch's order with its learning rates, and the count of draws
			"cuMemcpyDtoHAsync_v2": 1,         // its losses
			"cuStreamSynchronize":  1,
		} {
			if n := twin.Count(epoch, name); n != want {
				t.Errorf("epoch %d: %s %d times, want %d", e+1, name, n, want)
			}
		}
	}
}
