package train

import (
	"math"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// Schedules of the learning rate.
const (
	Constant = "constant" // it stays
	Steps    = "steps"    // at each of Milestones it is multiplied by Gamma
	Cosine   = "cosine"   // half a cosine from LR, after the warm-up, to 0
)

// Schedules lists the known ones.
func Schedules() []string { return []string{Constant, Steps, Cosine} }

// What a shift shows outside the image, as torchvision's RandomCrop with padding.
const (
	PadZero    = "zero"    // black
	PadReflect = "reflect" // the mirror image, about the outermost pixels
)

// Pads lists the known ones.
func Pads() []string { return []string{PadZero, PadReflect} }

// checkSchedule reports the first thing that is wrong with the learning rate's course, as a usage error.
func (c Config) checkSchedule() error {
	switch {
	case !slices.Contains(Schedules(), c.Schedule):
		return usage.Errorf("train: unknown schedule %q (known: %s)", c.Schedule, strings.Join(Schedules(), ", "))
	case c.Schedule == Steps && len(c.Milestones) == 0:
		return usage.Errorf("train: schedule %s has no milestones; name the epochs after which the learning rate drops, such as 15,25,35", Steps)
	case c.Schedule == Steps && !(c.Gamma > 0 && c.Gamma < math.Inf(1)):
		return usage.Errorf("train: the learning rate is multiplied by %v at milestones; it must be a number above 0", c.Gamma)
	case c.Warmup < 0 || c.Warmup > c.Epochs:
		return usage.Errorf("train: %d epochs of warm-up; it must be 0 to the %d epochs that there are", c.Warmup, c.Epochs)
	}
	for i, m := range c.Milestones {
		if m < 1 || m >= c.Epochs || i > 0 && m <= c.Milestones[i-1] {
			return usage.Errorf("train: milestones %v; they must be in ascending order and within the %d epochs", c.Milestones, c.Epochs)
		}
	}
	return nil
}

// RateOf is the learning rate at the end of an epoch, counted from 0.
func (c Config) RateOf(epoch int) float64 { return c.rate(epoch, 0, 1) }

// rate is the learning rate of a step, counted from 0 in its epoch of so many. With a warm-up step t,
// counted from the beginning, has (t+1)/w of the rate for its w steps (Goyal et al. 2017, section 2.2).
// Milestones count epochs from the beginning; a cosine begins where the warm-up ends (Loshchilov and
// Hutter 2017, without restarts), as PyTorch's CosineAnnealingLR stepped after each batch.
func (c Config) rate(epoch, step, steps int) float64 {
	t, warm := epoch*steps+step, c.Warmup*steps
	lr := c.LR
	switch c.Schedule {
	case Steps:
		for _, m := range c.Milestones {
			if epoch >= m {
				lr *= c.Gamma
			}
		}
	case Cosine:
		if t >= warm {
			lr *= (1 + math.Cos(math.Pi*float64(t-warm)/float64(c.Epochs*steps-warm))) / 2
		}
	}
	if t < warm {
		lr *= float64(t+1) / float64(warm)
	}
	return lr
}
