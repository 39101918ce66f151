package train

import (
	"math"
	"slices"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// epic drops, every few epochs, samples whose gradient is like no other's of their class: of each class it chooses the
// medoids of the last layer's gradients p − e_y that facility location gives, by the greedy algorithm, and drops those
// that stand for themselves alone. What is dropped never comes back. Where a learning rate drops for the last time,
// pruning ends. A class of which all would go keeps all.
var epic = method{
	name: "epic", source: "Yang, Liu, Mirzasoleiman: Not All Poisons are Created Equal, ICML 2022, algorithm 1",
	defaults: Defense{Fraction: 0.1, Every: 1},
	check: func(d Defense) error {
		switch {
		case !(d.Fraction > 0 && d.Fraction < 1):
			return usage.Errorf("train: epic takes %g of each class as medoids; it must be above 0 and below 1", d.Fraction)
		case d.Every < 1:
			return usage.Errorf("train: epic drops every %d epochs; it must be at least 1", d.Every)
		case d.From < 0:
			return usage.Errorf("train: epic drops from epoch %d on; it must be 0 or more", d.From)
		}
		return nil
	},
	start: func(t *trainer) way {
		return &pruned{plain: plain{t}, index: t.s.Alloc(4 * t.room), images: tensor.New(t.s, t.room, t.spec.H, t.spec.W, t.spec.C)}
	},
}

type pruned struct {
	plain
	index  device.Ptr // int32 [room]
	images tensor.Tensor
}

// Drops reports whether training under d drops samples.
func (d Defense) Drops() bool { return d.Name == "epic" }

// from is the first epoch that drops: a quarter of all unless said.
func (p *pruned) from() int {
	if f := p.cfg.Defense.From; f > 0 {
		return f
	}
	return max(1, p.cfg.Epochs/4)
}

// until is the epoch of the learning rate's last drop, or the end.
func (p *pruned) until() int {
	if m := p.cfg.Milestones; p.cfg.Schedule == Steps && len(m) > 0 {
		return m[len(m)-1]
	}
	return p.cfg.Epochs
}

func (p *pruned) batches(epoch int) ([][]int32, error) {
	if d := p.cfg.Defense; epoch >= p.from() && (epoch-p.from())%d.Every == 0 && epoch < p.until() {
		if err := p.prune(); err != nil {
			return nil, err
		}
	}
	return p.shuffled(epoch, p.kept()), nil
}

// kept are the samples that are not dropped.
func (t *trainer) kept() []int32 {
	return slices.DeleteFunc(t.all(), func(i int32) bool { _, gone := slices.BinarySearch(t.dropped, i); return gone })
}

// prune drops what stands alone now.
func (p *pruned) prune() error {
	kept, k := p.kept(), p.spec.Classes
	grads, err := p.proxies(kept)
	if err != nil {
		return err
	}
	classes := make([][]int, k)
	for at, i := range kept {
		y := p.known[i]
		classes[y] = append(classes[y], at)
	}
	for _, members := range classes {
		rows := make([][]float64, len(members))
		for i, at := range members {
			rows[i] = grads[at*k : (at+1)*k]
		}
		alone := alone(rows, budget(p.cfg.Defense.Fraction, len(rows)))
		if len(alone) == len(members) {
			continue
		}
		for _, i := range alone {
			p.dropped = append(p.dropped, kept[members[i]])
		}
	}
	slices.Sort(p.dropped)
	return nil
}

// proxies are p − e_y of samples under the model as it is, in evaluation mode, without augmentation.
func (p *pruned) proxies(samples []int32) ([]float64, error) {
	s, k := p.s, p.spec.Classes
	logits := make([]float32, len(samples)*k)
	for at := 0; at < len(samples); at += p.room {
		if err := s.Context().Err(); err != nil {
			return nil, err
		}
		part := samples[at:min(at+p.room, len(samples))]
		device.Upload(s, p.index, part)
		x := p.batch(p.images, len(part))
		kernel.Gather(s, p.trainer.images, p.index, kernel.Augmentation{}, len(part), p.spec.H, p.spec.W, p.spec.C, x)
		z := p.net.Forward(nn.Pass{Mode: nn.Eval, Theta: p.theta, Running: p.running, X: x})
		if err := device.Download(s, logits[at*k:(at+len(part))*k], z.P); err != nil {
			return nil, err
		}
	}
	grads := make([]float64, len(logits))
	for i, y := range samples {
		softmaxMinus(logits[i*k:(i+1)*k], int(p.known[y]), grads[i*k:(i+1)*k])
	}
	return grads, nil
}

// softmaxMinus sets g to softmax(z) − e_y.
func softmaxMinus(z []float32, y int, g []float64) {
	top, sum := float64(slices.Max(z)), 0.0
	for j, v := range z {
		g[j] = math.Exp(float64(v) - top)
		sum += g[j]
	}
	for j := range g {
		g[j] /= sum
	}
	g[y]--
}

// budget is ⌈fraction·n⌉, without what a binary fraction adds to it.
func budget(fraction float64, n int) int {
	return int(math.Ceil(fraction*float64(n) - 1e-9))
}

// alone are the medoids among k of the rows that are nearest to no row but themselves, in rising order.
func alone(rows [][]float64, k int) []int {
	chosen := medoids(rows, k)
	slices.Sort(chosen)
	size := make([]int, len(chosen))
	for i := range rows {
		best, least := -1, math.Inf(1)
		for c, m := range chosen {
			if d := distance(rows[i], rows[m]); d < least {
				best, least = c, d
			}
		}
		if best >= 0 {
			size[best]++
		}
	}
	var out []int
	for c, m := range chosen {
		if size[c] == 1 {
			out = append(out, m)
		}
	}
	return out
}
