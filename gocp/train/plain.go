package train

import "github.com/gocp/gocp/gocp/tensor"

// A way is how a run trains: what its epochs visit, and what a step does. What it remembers from one epoch to the
// next beside parameters, momentum and running statistics has to be in State.
type way interface {
	// batches are the samples of each step of an epoch.
	batches(epoch int) ([][]int32, error)
	// step does step k of an epoch on a batch, whose rate and numbers are in place. It leaves the samples' losses
	// where the network has them.
	step(epoch, k int, batch []int32) error
}

// plain is SGD.
type plain struct{ *trainer }

func (p plain) batches(epoch int) ([][]int32, error) { return p.shuffled(epoch, p.all()), nil }

func (p plain) step(_, _ int, batch []int32) error {
	size := len(batch)
	p.do("step", size, func() {
		x := p.trainer.batch(p.x, size)
		p.drawn(size)
		p.load(size, x)
		p.learn(size, x)
	})
	return nil
}

// learn passes x forth and back and descends.
func (t *trainer) learn(size int, x tensor.Tensor) {
	t.forward(t.theta, x)
	_, dlogits := t.net.Loss(t.batchLabels)
	t.net.Backward(dlogits, t.grad, tensor.Tensor{})
	t.net.UpdateRunning(t.running)
	t.descend(float64(size))
}
