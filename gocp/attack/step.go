package attack

import (
	"fmt"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
)

// Step takes the part that images have in one step of gradient descent on the whole training set,
// θ ← θ* − (lr/|D_tr|)·Σ∇l, on each surrogate, and returns ℓ2 and ℓ3 after it, mean over
// surrogates. Poisons are right when that is less than with the clean images that they replace in
// their place; with noise it is not.
func (v *Solver) Step(images Images, lr float64) (After, error) {
	s := v.s
	if images.Len() == 0 {
		return After{}, fmt.Errorf("attack: a training step on no images")
	}
	defer s.Scope()()
	var out After
	for _, f := range v.fields {
		n := f.grad.Len()
		theta := s.Alloc(4 * n)
		s.Copy(theta, f.theta.P, 4*n)
		v.addGradients(f, images, -lr/float64(v.p.Pool.Len()), theta)
		l2, l3, err := f.after(theta)
		if err != nil {
			return After{}, fmt.Errorf("attack: surrogate %s after a training step: %w", f.Name, err)
		}
		out.L2 += l2 / float64(len(v.fields))
		out.L3 += l3 / float64(len(v.fields))
		s.Free(theta)
	}
	return out, s.Err()
}

// addGradients adds scale·Σ∇_θ l of images, at θ* of surrogate f, to the vector to.
func (v *Solver) addGradients(f *field, images Images, scale float64, to device.Ptr) {
	s, n, batch := v.s, f.grad.Len(), min(craftBatch, images.Len())
	defer s.Scope()()
	pixels, labels := uploaded(s, images.Pixels), uploaded(s, images.Labels)
	net := nn.NewNet(s, f.Model.Spec, batch, nn.Options{Precision: v.p.Precision})
	g, x := tensor.New(s, n), tensor.New(s, batch, images.H, images.W, images.C)
	for at := 0; at < images.Len(); at += batch {
		b := min(batch, images.Len()-at)
		xb := x.Slice(0, b, images.H, images.W, images.C)
		kernel.Gather(s, pixels.Add(at*images.Size()), 0, kernel.Augmentation{}, b, images.H, images.W, images.C, xb)
		net.Forward(nn.Pass{Mode: nn.Eval, Theta: f.theta.Primal(), Running: f.running, X: xb})
		_, dlogits := net.Loss(labels.Add(4 * at))
		net.Backward(dlogits, g, tensor.Tensor{})
		kernel.Axpby(s, kernel.Coef{Value: scale}, g.P, kernel.Coef{Value: 1}, to, n)
	}
}

// after returns ℓ2 and ℓ3 at theta. Where the gradient holds the threshold still, so does this: the
// calibration scores are those of θ*.
func (f *field) after(theta device.Ptr) (l2, l3 float64, err error) {
	l := f.loss
	defer l.open()()
	if l.cfg.Threshold == ThresholdFixed {
		if _, err := l.value(f.theta.P); err != nil {
			return 0, 0, err
		}
		l.held = true
		defer func() { l.held = false }()
	}
	l2, l3, _, err = l.measure(theta, l.grad)
	return l2, l3, err
}
