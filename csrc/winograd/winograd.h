// Winograd's F(4×4, 3×3): 3×3 convolutions of stride 1 with 36 multiplications for every 144.
//
//   Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A   for a 6×6 input tile d, 3×3 taps g, 4×4 outputs Y
//
// summed over channels: 36 matrix products. The maps evaluate polynomials at 0, ±a, ±b and ∞: with
// M(x) = x(x² − a²)(x² − b²), the point p has in Bᵀ the coefficients of M(x)/(x − p) (∞: those of
// M), in G (1, p, p²)/M′(p) and in Aᵀ (1, p, p², p³). a = 5/8 and b = 3/2 have half the rounding
// error of the textbook's 1 and 2: relative to the result's norm about 1e-6, 4 times a direct
// sum's. The gradient of g is the same three maps transposed. A dual product transforms each of its
// four operands once, and sums its two parts before A. Source: A. Lavin, S. Gray, "Fast Algorithms
// for Convolutional Neural Networks", CVPR 2016, §4.3; the points are those of oneDNN's F(4×4,
// 3×3). Sums over channels and tiles are in one order whatever the number of threads.
//
// An output's roundings depend on where in its tile it lies, so equal windows (3×3 pixels, zeros of
// the padding among them) would give outputs that differ in their last bits, and max pooling would
// take another than the first of equal maxima. So a forward pass ends by giving every output of an
// image, in its primal, the value of the first whose window is the same, bit for bit.
#pragma once

#include "../onednn/linear_maps.h"

namespace gocp {

// Whether it is worth it: 3×3, stride 1, a CPU with AVX2, images whose tiles save a third of the
// multiplications, and channels in multiples of 16; of 32 with AVX-512 (with fewer, the tiles' own
// arithmetic costs what the products save) unless both operands have tangents, whose products share
// transforms.
bool winograd_fits(const ConvShape& g, bool dual);

// y = x ∗ w; tangents as in linear_maps.h. `windows`: equal ones of an image give equal primals.
void winograd_forward(const ConvShape& g, Operand x, Operand w, Result y, bool windows);
// dw = the adjoint in w applied to dy
void winograd_backward_weight(const ConvShape& g, Operand x, Operand dy, Result dw);

}  // namespace gocp
