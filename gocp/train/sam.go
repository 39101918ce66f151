package train

import (
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// sharpness descends along the gradient at the worst point of a ball around the parameters, to first order:
// θ + ρ g/‖g‖ with g the gradient of the batch's mean loss at θ. The running statistics of batch norm
// follow the pass at θ. Weight decay and momentum are those of plain SGD.
var sharpness = method{
	name: "sam", source: "Foret, Kleiner, Mobahi, Neyshabur: Sharpness-Aware Minimization, ICLR 2021",
	defaults: Defense{Radius: 0.05},
	check:    func(d Defense) error { return positive("sam's radius", d.Radius) },
	start: func(t *trainer) way {
		return &sam{plain: plain{t}, moved: tensor.New(t.s, t.theta.Len()), work: kernel.NewWorkspace(t.s, kernel.VectorBytes)}
	},
}

type sam struct {
	plain
	moved tensor.Tensor // θ + ζ̂
	work  *kernel.Workspace
}

func (a *sam) step(_, _ int, batch []int32) error {
	size := len(batch)
	a.do("step", size, func() {
		x := a.batch(a.x, size)
		a.drawn(size)
		a.load(size, x)
		a.forward(a.theta, x)
		_, dlogits := a.net.Loss(a.batchLabels)
		a.net.Backward(dlogits, a.grad, tensor.Tensor{})
		a.net.UpdateRunning(a.running)
		kernel.SAMPerturb(a.s, a.theta.P, a.grad.P, a.cfg.Defense.Radius, 2, a.moved.P, a.theta.Len(), a.work)
		a.forward(a.moved, x)
		_, dlogits = a.net.Loss(a.batchLabels)
		a.net.Backward(dlogits, a.grad, tensor.Tensor{})
		a.descend(float64(size))
	})
	return nil
}
