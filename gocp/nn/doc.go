// Package nn holds the models that are poisoned, trained and calibrated, and the two
// passes everything else is made of: one forward and one backward.
//
// A pass runs in ordinary or in dual numbers a + κb, κ² = 0 (docs/math.md). With a
// direction v in the tangent of the parameters, θ + κv,
//
//   - the tangent of the backward pass's parameter gradient is the Hessian-vector product Hv,
//   - the tangent of its input gradient is the mixed derivative ∇ₓ⟨v, ∇_θ Σl⟩, and
//   - the tangent of sample i's loss is the directional derivative ⟨v, ∇_θ l_i⟩.
//
// Activations are NHWC and weights KRSC ([out, kh, kw, in]) on every device; files use
// PyTorch's names and layouts.
package nn
