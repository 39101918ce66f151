// Package attack makes poisons: images with unchanged labels, moved inside a small ball, or images with other labels, that
// steer the conformal prediction sets of whoever trains on them.
//
// A Goal says which labels are to leave (R_v) or enter (A_v) the prediction set of a target. On
// each surrogate the loss ℓ2 measures how far that is from being so: with calibration scores
// s_(1) ≤ … ≤ s_(n), r the rank of the threshold and m a margin,
//
//	add     Σ_v Σ_{a∈A_v} mean_{i≥r} max(S(X_v,a) − s_(i) + m, 0)
//	remove  Σ_v Σ_{a∈R_v} mean_{i≤r} max(s_(i) − S(X_v,a) + m, 0)
//	keep    Σ_v max(max_{y≠ŷ} z_y − z_ŷ, −β)
//
// and ℓ3 is its worst case in a ball of parameters, ∇ℓ3 = ∇ℓ2(θ* + ζ̂). Training on poisons
// X_i + δ_i moves θ along −Σ∇l(X_i+δ_i, Y_i), so FirstOrder maximises
//
//	Φ = ⟨∇ℓ3, g⟩ / (‖∇ℓ3‖ ‖g‖),   g = Σ∇l(Z̃) (− Σ∇l(Z) with align=sum),
//
// averaged over surrogates (SecondOrder: with (C + λI)⁻¹∇ℓ3 for ∇ℓ3, C the curvature of the training loss, docs/math.md §10), by signed Adam on δ inside the ball, on the 8-bit grid in the end. Its
// gradient ∇_δi Φ = ∇_x ⟨v, ∇_θ l(X_i+δ_i, Y_i)⟩, v = ∂Φ/∂g, is the tangent of the input gradient
// of one pass in dual numbers θ + κv. RandUn and RandGa are noise of the same size on the same
// images: the controls. Other methods (method.go, docs/attacks.md) take another loss or unroll training.
//
// Labels (Config.Poison) are turned where that gains most: ⟨∇ℓ3, ∇l(X,Y′) − ∇l(X,Y)⟩ = ż_Y − ż_Y′, of all images and all
// labels from one forward pass in dual numbers θ* + κ∇ℓ3. RandLabel is the control.
//
// Source: Li, Chen, Qian, Zhao, Lidder, Huai, "Data Poisoning Attacks against Conformal
// Prediction", ICML 2024; Geiping et al., "Witches' Brew", ICLR 2021 (gradient matching).
package attack
