package nn

import (
	"fmt"

	"github.com/gocp/gocp/gocp/tensor"
)

// BackwardGaussNewton follows a forward pass in dual numbers θ + κv, or its replay, and the Loss of it:
// it writes Gv to dtheta [|θ|], G = Jᵀ H_out J the Gauss–Newton matrix of the summed loss, J the
// derivatives of the logits and H_out those of dlogits with respect to them. The tangent of dlogits is
// H_out J v already, so what is left is a backward pass in floats from there. The pass stays as it was,
// and another replay of its forward half may follow; a replay of Backward wants a Backward before it.
//
// Source: Schraudolph, "Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent",
// Neural Computation 14, 2002.
func (n *Net) BackwardGaussNewton(dlogits, dtheta tensor.Tensor) {
	if n.s.Err() != nil {
		return
	}
	if !n.pass.dual() || dlogits.T == 0 {
		n.s.Fail(fmt.Errorf("nn: a product with the Gauss–Newton matrix wants a forward pass in dual numbers and the tangent of its dlogits"))
		return
	}
	pass := n.pass
	n.pass.Theta, n.pass.X, n.pass.Replay = pass.Theta.Primal(), pass.X.Primal(), false
	n.Backward(tensor.Tensor{Shape: dlogits.Shape, P: dlogits.T}, dtheta.Primal(), tensor.Tensor{})
	n.pass = pass
}
