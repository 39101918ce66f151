// Winograd's F(2×2, 3×3): 3×3 convolutions of stride 1 with 16 multiplications for every 36.
//
//   Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A   for a 4×4 input tile d, 3×3 taps g, 2×2 outputs Y
//   Bᵀ = [1 0 −1 0; 0 1 1 0; 0 −1 1 0; 0 1 0 −1],  G = [1 0 0; ½ ½ ½; ½ −½ ½; 0 0 1],
//   Aᵀ = [1 1 1 0; 0 1 −1 −1]
//
// summed over channels: 16 matrix products. The gradient of g is the same three maps transposed.
// A dual product transforms each of its four operands once, and sums its two parts before A.
// Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, §4.
// In float32 its error is about twice that of the direct sum (tests hold it to 1e-6 in norm).
// Sums over channels and tiles are in one order whatever the number of threads.
#pragma once

#include "../onednn/linear_maps.h"

namespace gocp {

// Whether it is worth it: 3×3, stride 1, a CPU with AVX2, and channels in multiples of 16; of 32
// with AVX-512 (with fewer, the tiles' own arithmetic costs what the products save) unless both
// operands have tangents, whose products share transforms.
bool winograd_fits(const ConvShape& g, bool dual);

// y = x ∗ w; tangents as in linear_maps.h
void winograd_forward(const ConvShape& g, Operand x, Operand w, Result y);
// dw = the adjoint in w applied to dy
void winograd_backward_weight(const ConvShape& g, Operand x, Operand dy, Result dw);

}  // namespace gocp
