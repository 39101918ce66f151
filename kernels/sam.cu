// The worst point of a ball around w, to first order (sharpness-aware minimisation): for
// 1/p + 1/q = 1 the perturbation z of norm |z|_p = rho that maximises <g, z> is
//
//   z = rho sign(g) |g|^(q-1) / (sum |g|^q)^(1/p)
//     = rho sign(g) a^(1/(p-1)) / (sum a^q)^(1/p),  a = |g| / max |g|
//   p = 2:  rho g / |g|        p = inf:  rho sign(g)
//
// out = w + z; w may be absent. The second form holds because q - 1 = q/p, and it neither overflows
// nor vanishes. A zero gradient gives z = 0. Source: Foret et al., ICLR 2021, eq. 2.
// Bytes: 8 n read, 4 n written.
#include "math.cuh"

namespace sam {
FN float moved(const float* w, int64_t i, float z) { return (w ? w[i] : 0.0f) + z; }
}  // namespace sam

KERNEL sam_l2(int64_t n, const float* w, const float* g, float rho, const double* norm2,
              float* out) {
  float scale = *norm2 == 0 ? 0.0f : static_cast<float>(rho / block::root(*norm2));
  block::each(n, [&](int64_t i) { out[i] = sam::moved(w, i, scale * g[i]); });
}

KERNEL sam_max(int64_t n, const float* w, const float* g, float rho, float* out) {
  block::each(n, [&](int64_t i) {
    float s = g[i] == g[i] ? math::sign(g[i]) : g[i];
    out[i] = sam::moved(w, i, rho * s);
  });
}

// max: max |g|; sum: sum a^q.
KERNEL sam_power(int64_t n, const float* w, const float* g, float rho, float p, const double* max,
                 const double* sum, float* out) {
  float top = static_cast<float>(*max), e = 1.0f / (p - 1.0f);
  float scale = top == 0 ? 0.0f : rho / math::pow(static_cast<float>(*sum), 1.0f / p);
  block::each(n, [&](int64_t i) {
    float a = math::abs(g[i]) / (top == 0 ? 1.0f : top);
    float z = a == 0 ? 0.0f : math::pow(a, e);
    out[i] = sam::moved(w, i, g[i] < 0 ? -scale * z : scale * z);
  });
}
