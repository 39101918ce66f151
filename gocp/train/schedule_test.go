package train

import (
	"math"
	"testing"
)

// The rates of PyTorch 2.15's schedulers, stepped after each batch of epochs of three: LinearLR with
// start_factor 1/w and total_iters w-1, and MultiStepLR (milestones in batches) or CosineAnnealingLR,
// chained by SequentialLR where there is a warm-up; steps with a warm-up by ChainedScheduler.
func TestRates(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want []float64
	}{
		"constant": {
			Config{Epochs: 5, LR: 0.2},
			[]float64{0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2},
		},
		"steps": {
			Config{Epochs: 5, LR: 0.2, Schedule: Steps, Milestones: []int{2, 4}, Gamma: 0.5},
			[]float64{0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05},
		},
		"cosine": {
			Config{Epochs: 5, LR: 0.2, Schedule: Cosine},
			[]float64{0.2, 0.197814760073381, 0.19135454576426, 0.180901699437495, 0.166913060635886, 0.15, 0.130901699437495, 0.110452846326765, 0.089547153673235, 0.069098300562505, 0.05, 0.033086939364114, 0.019098300562505, 0.00864545423574, 0.002185239926619},
		},
		"cosine after a warm-up": {
			Config{Epochs: 5, LR: 0.2, Schedule: Cosine, Warmup: 2},
			[]float64{0.033333333333333, 0.066666666666667, 0.1, 0.133333333333333, 0.166666666666667, 0.2, 0.2, 0.193969262078591, 0.176604444311898, 0.15, 0.117364817766693, 0.082635182233307, 0.05, 0.023395555688102, 0.006030737921409},
		},
		"steps in a warm-up": {
			Config{Epochs: 5, LR: 0.2, Schedule: Steps, Milestones: []int{1, 3}, Warmup: 2},
			[]float64{0.033333333333333, 0.066666666666667, 0.1, 0.013333333333333, 0.016666666666667, 0.02, 0.02, 0.02, 0.02, 0.002, 0.002, 0.002, 0.002, 0.002, 0.002},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.cfg.WithDefaults()
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			for i, want := range c.want {
				if got := cfg.rate(i/3, i%3, 3); math.Abs(got-want) > 1e-12 {
					t.Errorf("step %d: %v, PyTorch has %v", i, got, want)
				}
			}
		})
	}
}
