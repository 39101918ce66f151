// The convolution kernels of the host engine: unpack a launch's parameters, one call per product.
//
// Each kernel takes primal and tangent planes of its two inputs and its output. A null tangent
// input is zero and costs nothing; a null primal output means that it is known already (a replay).
#include <cstring>

#include "../host/host.h"
#include "linear_maps.h"

namespace gocp {
namespace {

using Product = void (*)(const ConvShape&, Precision, const float*, const float*, float*, bool);

struct Launch {
  const float *a, *a_tangent, *b, *b_tangent;
  float *out, *out_tangent;
  ConvShape g;
  Precision precision;

  explicit Launch(void** params) {
    auto pointer = [&](int i) { return *static_cast<float**>(params[i]); };
    auto integer = [&](int i) { return *static_cast<int*>(params[i]); };
    a = pointer(0), a_tangent = pointer(1);
    b = pointer(2), b_tangent = pointer(3);
    out = pointer(4), out_tangent = pointer(5);
    g = {integer(6),  integer(7),  integer(8),  integer(9), integer(10),
         integer(11), integer(12), integer(13), integer(14)};
    precision = static_cast<Precision>(integer(15));
  }
};

// The product rule for a bilinear map: out = ab, out' = a'b + ab'.
void bilinear(Product product, const Launch& l, size_t out_len) {
  const ConvertOnce once;
  if (l.out != nullptr) product(l.g, l.precision, l.a, l.b, l.out, false);
  if (l.out_tangent == nullptr) return;
  if (l.a_tangent == nullptr && l.b_tangent == nullptr) {
    std::memset(l.out_tangent, 0, out_len * sizeof(float));
    return;
  }
  if (l.a_tangent != nullptr) product(l.g, l.precision, l.a_tangent, l.b, l.out_tangent, false);
  if (l.b_tangent != nullptr) {
    product(l.g, l.precision, l.a, l.b_tangent, l.out_tangent, l.a_tangent != nullptr);
  }
}

void run_forward(Grid, void** params, int) {
  const Launch l(params);
  bilinear(conv_forward, l, static_cast<size_t>(l.g.n) * l.g.out_h() * l.g.out_w() * l.g.k);
}

void run_backward_data(Grid, void** params, int) {
  const Launch l(params);
  bilinear(conv_backward_data, l, static_cast<size_t>(l.g.n) * l.g.h * l.g.w * l.g.c);
}

void run_backward_weight(Grid, void** params, int) {
  const Launch l(params);
  bilinear(conv_backward_weight, l, static_cast<size_t>(l.g.k) * l.g.r * l.g.s * l.g.c);
}

constexpr ParamKind kKinds[] = {kPointer, kPointer, kPointer, kPointer, kPointer, kPointer,
                                kScalar,  kScalar,  kScalar,  kScalar,  kScalar,  kScalar,
                                kScalar,  kScalar,  kScalar,  kScalar};

}  // namespace
}  // namespace gocp

extern "C" const gocp::HostKernel gocp_onednn_kernels[] = {
    {"conv_forward", 16, gocp::kKinds, nullptr, gocp::run_forward},
    {"conv_backward_data", 16, gocp::kKinds, nullptr, gocp::run_backward_data},
    {"conv_backward_weight", 16, gocp::kKinds, nullptr, gocp::run_backward_weight},
};
extern "C" const int gocp_onednn_count = 3;
