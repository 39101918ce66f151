package train

import (
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/usage"
)

// maxUp minimises mean_i max_{j ≤ m} l(x_ij), x_ij the copies of sample i, each varied by draws of its own:
// every sample is trained on the copy on which its own loss is largest, and on no other. With batch norm a
// copy's losses are those of the batch of the samples' copies of one number, and the step's gradient that of
// the batch of the chosen ones. Running statistics follow the latter.
var maxUp = method{
	name: "maxup", source: "Gong, Ren, Ye, Liu: MaxUp, CVPR 2021, equation 2",
	defaults: Defense{Copies: 4, Vary: []string{VaryCrop, VaryFlip, VaryCutout}},
	check: func(d Defense) error {
		if d.Copies < 2 {
			return usage.Errorf("train: maxup takes the worst of %d copies; it must be at least 2", d.Copies)
		}
		if d.Copies > 64 {
			return usage.Errorf("train: maxup takes the worst of %d copies; it can be at most 64", d.Copies)
		}
		if len(d.Vary) == 0 {
			return usage.Errorf("train: maxup varies images by nothing, so copies are the same")
		}
		return checkVary("maxup", d.Vary)
	},
	start: func(t *trainer) way {
		m := &worst{varier: newVarier(t, t.cfg.Defense.Copies)}
		n := m.copies * t.room
		m.losses, m.chosen = t.s.Alloc(4*n), t.s.Alloc(4*t.room)
		return m
	},
}

type worst struct {
	*varier
	losses device.Ptr // float32 [copies·size], copy by copy
	chosen device.Ptr // int32 [size]: which of the copies of all samples
}

func (m *worst) batches(epoch int) ([][]int32, error) { return m.shuffled(epoch, m.all()), nil }

func (m *worst) step(epoch, k int, batch []int32) error {
	s, size := m.s, len(batch)
	all := m.ready(epoch, k, batch)
	m.do("copies", size, func() {
		m.drawn(size)
		for j := range m.copies {
			m.forward(m.theta, m.copy(j, size))
			loss, _ := m.against(j, size)
			s.Copy(m.losses.Add(4*j*size), loss.P, 4*size)
		}
	})
	losses := make([]float32, m.copies*size)
	if err := device.Download(s, losses, m.losses); err != nil {
		return err
	}
	chosen := largest(losses, size)
	device.Upload(s, m.chosen, chosen)
	if m.mixes() { // their shares and other labels come where those of the first copy are
		shares := make([]variation, size)
		for i, at := range chosen {
			shares[i] = all[at]
		}
		m.share(shares)
	}
	m.do("chosen", size, func() {
		x := m.batch(m.trainer.x, size)
		kernel.GatherF32(s, m.varier.x.P, 0, m.chosen, kernel.Augmentation{}, size, m.spec.H, m.spec.W, m.spec.C, x)
		if m.mixes() {
			to := m.partner // of no use any more in this step
			kernel.GatherInt32(s, m.other, m.chosen, size, to)
			s.Copy(m.other, to, 4*size)
		}
		m.learn(0, size, x)
	})
	return nil
}

// largest finds, of losses copy by copy, the copy of each of n samples with the largest: i + n·argmax_j, the first of equal
// ones. What is no number is larger than any, so that it is noticed.
func largest(losses []float32, n int) []int32 {
	chosen := make([]int32, n)
	for i := range chosen {
		best := i
		for at := i + n; at < len(losses); at += n {
			if l, b := float64(losses[at]), float64(losses[best]); l > b || math.IsNaN(l) && !math.IsNaN(b) {
				best = at
			}
		}
		chosen[i] = int32(best)
	}
	return chosen
}
