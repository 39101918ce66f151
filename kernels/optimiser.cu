// Steps of optimisers and what they stay inside of.
//
//   sgd        d = scale g + decay w;  m <- mu m + d;  w <- w - lr m          (PyTorch's SGD)
//              with nesterov  w <- w - lr (d + mu m)
//   sign_adam  s = sign(g);  m <- b1 m + (1-b1) s;  v <- b2 v + (1-b2) s^2
//              delta <- delta - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
//              then |delta| <= radius and 0 <= base + delta <= 1
//   quantize8  delta <- q/255 - base, q the integer nearest to 255 (base + delta) of those with
//              |q/255 - base| <= radius and 0 <= q <= 255
//   increment  t <- t + 1
//
// lr and t are read on the device, so a recorded step can be replayed as they change.
// Bytes: sgd 12 n read and 8 n written; sign_adam 20 n and 12 n; quantize8 8 n and 4 n.
#include "math.cuh"

// m may be absent: no momentum.
KERNEL sgd(int64_t n, float* w, const float* g, float* m, const float* lr, float mu, float decay,
           float scale, int nesterov) {
  float rate = *lr;
  block::specialise(m != nullptr, [&](auto momentum) {
    block::specialise(nesterov != 0, [&](auto ahead) {
      block::each(n, [&](int64_t i) {
        float d = scale * g[i] + decay * w[i];
        if (momentum.value) {
          float next = mu * m[i] + d;
          m[i] = next;
          d = ahead.value ? d + mu * next : next;
        }
        w[i] -= rate * d;
      });
    });
  });
}

namespace optimiser {

// b^t by squaring: products alone, so the same on every back end.
FN double integer_power(double b, uint64_t t) {
  double r = 1;
  for (; t; t >>= 1) {
    if (t & 1) r *= b;
    b *= b;
  }
  return r;
}

FN float project(float d, float radius, float base, bool bounded) {
  d = math::min(math::max(d, -radius), radius);
  if (bounded) d = math::min(math::max(base + d, 0.0f), 1.0f) - base;
  return d;
}

FN float nearest(float x) {  // to even, |x| < 2^22
  const float round = 12582912.0f;
  return (x + round) - round;
}

}  // namespace optimiser

// base may be absent: no bounds of [0,1].
KERNEL sign_adam(int64_t n, float* delta, const float* g, float* m, float* v, const float* base,
                 const uint64_t* t, const float* lr, float b1, float b2, float eps, float radius) {
  float rate = *lr;
  float c1 = static_cast<float>(1.0 / (1.0 - optimiser::integer_power(b1, *t)));
  float c2 = static_cast<float>(1.0 / (1.0 - optimiser::integer_power(b2, *t)));
  block::specialise(base != nullptr, [&](auto bounded) {
    block::each(n, [&](int64_t i) {
      float s = math::sign(g[i]);
      float mi = b1 * m[i] + (1.0f - b1) * s;
      float vi = b2 * v[i] + (1.0f - b2) * (s * s);
      m[i] = mi;
      v[i] = vi;
      float d = delta[i] - rate * (mi * c1) / (math::sqrt(vi * c2) + eps);
      delta[i] = optimiser::project(d, radius, bounded.value ? base[i] : 0.0f, bounded.value);
    });
  });
}

// The slack of 1e-3 of a step takes up the rounding of base and radius, which are multiples of
// 1/255 in all uses but in name. A base off the grid with a ball that holds no grid point keeps
// its nearest one.
KERNEL quantize8(int64_t n, const float* base, float* delta, float radius) {
  block::each(n, [&](int64_t i) {
    float b = 255.0f * base[i], r = 255.0f * radius;
    float lo = math::max(optimiser::nearest(b - r - 1e-3f + 0.5f), 0.0f);
    float hi = math::min(optimiser::nearest(b + r + 1e-3f - 0.5f), 255.0f);
    float q = optimiser::nearest(b + 255.0f * delta[i]);
    q = lo > hi ? optimiser::nearest(b) : math::min(math::max(q, lo), hi);
    delta[i] = q / 255.0f - base[i];
  });
}

KERNEL increment(uint64_t* t) {
  if (block::id() == 0 && block::rank() == 0) *t += 1;
}
