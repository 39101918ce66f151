// Convolutions and matrix products of the host engine, by oneDNN; depthwise ones by csrc/depthwise.
//
// Every function is one bilinear map on NHWC activations and KRSC weights, with tangents by the
// product rule: out = ab, out' = a'b + ab'. A null tangent of an operand is zero and costs nothing;
// a null primal of the result means that it is known already (a replay); a null tangent of the
// result means that it is not wanted.
// Primitives are cached per thread, for a stream's executor thread always has the same width.
#pragma once

#include <stddef.h>

namespace gocp {

struct ConvShape {
  int n, h, w, c;   // input: [n,h,w,c]
  int k, r, s;      // weights: [k,r,s,c/groups]
  int stride, pad;  // the same in both directions
  int groups = 1;
  int out_h() const { return (h + 2 * pad - r) / stride + 1; }
  int out_w() const { return (w + 2 * pad - s) / stride + 1; }
  size_t input() const { return static_cast<size_t>(n) * h * w * c; }
  size_t output() const { return static_cast<size_t>(n) * out_h() * out_w() * k; }
  size_t weights() const { return static_cast<size_t>(k) * r * s * (c / groups); }
  bool is_linear() const { return h == 1 && w == 1 && r == 1 && s == 1 && pad == 0 && groups == 1; }
};

// bf16: inputs rounded to bfloat16, float32 sums, on every processor, though fast only where it has
// instructions for it. Any other precision is float32.
enum class Precision { kF32 = 0, kBF16 = 1 };

struct Operand {
  const float *primal, *tangent;
};
struct Result {
  float *primal, *tangent;
};

// y[n,oh,ow,k] = x ∗ w
void conv_forward(const ConvShape& g, Precision p, Operand x, Operand w, Result y);
// dx[n,h,w,c] = the adjoint in x applied to dy
void conv_backward_data(const ConvShape& g, Precision p, Operand dy, Operand w, Result dx);
// dw[k,r,s,c] = the adjoint in w applied to dy
void conv_backward_weight(const ConvShape& g, Precision p, Operand x, Operand dy, Result dw);

}  // namespace gocp
