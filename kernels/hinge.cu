// Losses that push labels into prediction sets or out of them, and their gradients.
//
// Pairs q = 0 … m-1 are (sample, label) with score S_q, kind +1 (add: into the set) or -1 (remove)
// and weight w_q; s_(1) <= … <= s_(n) are the sorted calibration scores, r the threshold's rank.
//
//   pairwise   add     w mean_{r <= i <= hi} max(S - s_(i) + margin, 0)
//              remove  w mean_{lo <= i <= r} max(s_(i) - S + margin, 0)
//              lo = 1, hi = n, or with a window the `window` ranks nearest to r
//   quantile   tau = sum_i w_i s_(i),  add  w max(S - tau + margin, 0),  remove  w max(tau - S + …)
//              w_i = (P((i + 1/2 - r)/h) - P((i - 1/2 - r)/h)) / (P((n + 1/2 - r)/h) - P((1/2 -
//              r)/h)) with P the distribution function of Epanechnikov's kernel, h in ranks; for h
//              <= 1/2 tau is s_(r) exactly
//   keep       w max(max_{y != y0} z_y - z_y0, -beta)
//
// An empty mean (add with r > n: the threshold is +inf) is 0; remove then uses the ranks up to n.
// Gradients hold ranks fixed; the hinge's slope at 0 is 0. Sources: method §5 (docs/math.md); the
// kernel quantile is Sheather & Marron's (1990).
//
// sort: rank_i = #{j: s_j < s_i} + #{j < i: s_j = s_i}, by counting: n^2 comparisons, no
// data-dependent order. NaN sorts last, -0 equals +0.
#include "math.cuh"

namespace hinge {

// An integer order that agrees with <, puts NaN last and makes the zeros equal.
FN uint32_t key(float x) {
  uint32_t b = block::to_bits(x + 0.0f);
  b ^= (b >> 31) ? 0xffffffffu : 0x80000000u;
  return x != x ? 0xffffffffu : b;
}

struct Window {
  int64_t lo, hi;  // ranks, 1-based, inclusive
  FN float share() const { return hi < lo ? 0.0f : 1.0f / static_cast<float>(hi - lo + 1); }
};

FN Window window(int kind, int64_t n, int64_t r, int64_t width) {
  if (kind > 0) {
    int64_t hi = width > 0 && r + width - 1 < n ? r + width - 1 : n;
    return {r, hi};
  }
  int64_t lo = width > 0 && r - width + 1 > 1 ? r - width + 1 : 1;
  return {lo, r < n ? r : n};
}

// The mass of the kernel between from and to, in ranks off its centre, for from <= to. With a, b
// the two over h, P(b) - P(a) = (b - a) (3 - a^2 - a b - b^2) / 4, which does not cancel.
FN float mass(float from, float to, float h) {
  from = math::min(math::max(from, -h), h);
  to = math::min(math::max(to, -h), h);
  float a = from / h, b = to / h;
  return (to - from) / h * (0.75f - 0.25f * (a * a + a * b + b * b));
}

// The weight of rank i (1-based) in the kernel quantile.
FN float weight(int64_t i, int64_t n, int64_t r, float h) {
  if (h <= 0.5f) return i == r ? 1.0f : 0.0f;
  float d = static_cast<float>(i - r);
  return mass(d - 0.5f, d + 0.5f, h) /
         mass(0.5f - static_cast<float>(r), static_cast<float>(n - r) + 0.5f, h);
}

FN float weight_of(const float* weights, int64_t q) { return weights ? weights[q] : 1.0f; }

}  // namespace hinge

KERNEL sort_scores(int64_t n, const float* x, float* sorted, int* order) {
  block::each(n, [&](int64_t i) {
    uint32_t ki = hinge::key(x[i]);
    int rank = 0;
    for (int64_t j = 0; j < i; j++) rank += hinge::key(x[j]) <= ki;
    for (int64_t j = i + 1; j < n; j++) rank += hinge::key(x[j]) < ki;
    sorted[rank] = x[i];
    order[rank] = static_cast<int>(i);
  });
}

// One pair after another, lanes over calibration scores.
KERNEL hinge_pairs(int m, int64_t n, int64_t r, int64_t width, float margin, const float* score,
                   const int* kind, const float* weights, const float* sorted, float* loss,
                   float* dscore) {
  block::Range range = block::range(m);
  for (int64_t q = range.lo; q < range.hi; q++) {
    hinge::Window in = hinge::window(kind[q], n, r, width);
    float sign = kind[q] > 0 ? 1.0f : -1.0f;
    const float* s = sorted + in.lo - 1;
    int64_t len = in.hi < in.lo ? 0 : in.hi - in.lo + 1;
    float value = block::sum(len, [&](int64_t i) {
      float x = sign * (score[q] - s[i]) + margin;
      return x > 0 || x != x ? x : 0.0f;
    });
    float active = block::sum(
        len, [&](int64_t i) { return sign * (score[q] - s[i]) + margin > 0 ? 1.0f : 0.0f; });
    float scale = hinge::weight_of(weights, q) * in.share();
    if (block::rank() == 0) {
      loss[q] = scale * value;
      dscore[q] = sign * scale * active;
    }
  }
}

// The same loss's gradient to the calibration scores, in their own order.
KERNEL hinge_pairs_calibration(int m, int64_t n, int64_t r, int64_t width, float margin,
                               const float* score, const int* kind, const float* weights,
                               const float* sorted, const int* order, float* dcal) {
  block::each(n, [&](int64_t i) {
    float d = 0;
    for (int q = 0; q < m; q++) {
      hinge::Window in = hinge::window(kind[q], n, r, width);
      float sign = kind[q] > 0 ? 1.0f : -1.0f;
      bool active = i + 1 >= in.lo && i + 1 <= in.hi && sign * (score[q] - sorted[i]) + margin > 0;
      d -= active ? sign * hinge::weight_of(weights, q) * in.share() : 0.0f;
    }
    dcal[order[i]] = d;
  });
}

// Launched with one block.
KERNEL soft_quantile(int64_t n, int64_t r, float h, const float* sorted, float* tau) {
  float t = block::sum(n, [&](int64_t i) {
    float w = hinge::weight(i + 1, n, r, h);
    return w == 0 ? 0.0f : w * sorted[i];  // an infinite score outside the kernel has no part
  });
  if (block::rank() == 0) *tau = t;
}

KERNEL hinge_threshold(int m, float margin, const float* tau, const float* score, const int* kind,
                       const float* weights, float* loss, float* dscore) {
  block::each(m, [&](int64_t q) {
    float sign = kind[q] > 0 ? 1.0f : -1.0f, w = hinge::weight_of(weights, q);
    float x = sign * (score[q] - *tau) + margin;
    loss[q] = x > 0 || x != x ? w * x : 0.0f;
    dscore[q] = x > 0 ? sign * w : 0.0f;
  });
}

// S - tau enters every hinge, so d/dtau is minus the sum of dscore.
KERNEL soft_quantile_backward(int m, int64_t n, int64_t r, float h, const float* dscore,
                              const int* order, float* dcal) {
  float dtau = -block::sum(m, [&](int64_t q) { return dscore[q]; });
  block::each(n, [&](int64_t i) { dcal[order[i]] = dtau * hinge::weight(i + 1, n, r, h); });
}

// z [n,k]; labels y0 [n]. dz <- (add ? dz : 0) + gradient; ties of the runner-up go by index.
KERNEL keep_prediction(int64_t n, int k, float beta, float weight, const float* z,
                       const int* labels, int add, float* loss, float* dz) {
  block::Range r = block::range(n);
  for (int64_t i = r.lo; i < r.hi; i++) {
    const float* zi = z + i * k;
    float* di = dz + i * k;
    int y0 = labels[i];
    bool known = y0 >= 0 && y0 < k && k > 1;
    auto other = [&](int64_t j) { return j == y0 ? -math::infinity() : zi[j]; };
    int64_t runner = known ? block::argmax(k, other) : -1;
    float gap = known ? -math::infinity() + zi[y0] : math::not_a_number();
    if (runner >= 0) gap = zi[runner] - zi[y0];
    bool active = gap > -beta;
    if (block::rank() == 0) loss[i] = weight * (gap > -beta || gap != gap ? gap : -beta);
    LANES(j, k) {
      float d = active ? weight * ((j == runner) - (j == y0)) : 0.0f;
      di[j] = (add ? di[j] : 0.0f) + d;
    }
  }
}
