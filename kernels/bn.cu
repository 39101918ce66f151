// Batch norm's per-channel half: statistics, the affine map they make, its adjoint, the running
// statistics. The passes over pixels are act.cu's. z is seen as [n,c]; all else is [c].
//
//   mean = sum_i z / n, var = sum_i (z - mean)^2 / n                  partial, combine (biased)
//   r = 1 / sqrt(var + eps), scale = gamma r, shift = beta - mean scale              affine
//   with S1 = sum dy, S2 = sum dy z (act_reduce):
//     dbeta = S1, dgamma = r (S2 - mean S1)
//     p = -gamma r^3 (S2 - mean S1) / n, q = -gamma r S1 / n - p mean                backward
//     so that dz = gamma r dy + p z + q in training; in evaluation mode p = q = 0
//   running = (1 - momentum) running + momentum (mean, var n / (n - 1))              running
//
// Source: Ioffe, Szegedy 2015; PyTorch's conventions. The statistics take two passes over a part
// that stays in cache (the sum, then squares about the part's mean), merged by Chan, Golub and
// LeVeque's formula: no cancellation when |mean| is large.
// Bytes of the statistics: 4 n c a plane (the second pass reads cache). FLOPs: 4 n c, in dual 8 n
// c.
#include "dual.cuh"

namespace bn {

// Sums of channel i, one row of [c] a plane.
template <class T>
FN void store(float* planes, int c, int64_t i, const float (&v)[kPlanes<T>], float scale) {
  for (int k = 0; k < kPlanes<T>; k++) planes[k * c + i] = scale * v[k];
}

// Block b leaves part[b] = {mean, sum of squares about it} of its rows, each kPlanes x [c].
template <class T>
FN void partial(int64_t n, int c, in<T> z, float* part) {
  constexpr int K = kPlanes<T>;
  block::Range r = block::range(n);
  float* mean = part + static_cast<int64_t>(block::id()) * 2 * K * c;
  float* square = mean + K * c;
  float inverse = r.hi > r.lo ? 1.0f / static_cast<float>(r.hi - r.lo) : 0.0f;
  block::columns<K>(
      r.lo, r.hi, c,
      [=](int64_t row) {
        in<T> zr = z + row * c;
        return [=](int64_t i, float(&v)[K]) { put(v, zr[i]); };
      },
      [=](int64_t i, const float(&v)[K]) { store<T>(mean, c, i, v, inverse); });
  block::sync();
  block::columns<K>(
      r.lo, r.hi, c,
      [=](int64_t row) {
        in<T> zr = z + row * c;
        return [=](int64_t i, float(&v)[K]) {
          T d = zr[i] - get<T>(mean + i, c);
          put(v, d * d);
        };
      },
      [=](int64_t i, const float(&v)[K]) { store<T>(square, c, i, v, 1.0f); });
}

// One block merges the parts of a launch of `parts` blocks; behind them is room for the mean.
template <class T>
FN void combine(int64_t n, int c, int parts, float* part, out<T> mean, out<T> variance) {
  constexpr int K = kPlanes<T>;
  int64_t step = 2 * K * static_cast<int64_t>(c);
  float* whole = part + parts * step;
  float inverse = 1.0f / static_cast<float>(n);
  // Rows of part b, as block::range gave them.
  auto rows = [=](int64_t b) { return static_cast<float>(n / parts + (b < n % parts ? 1 : 0)); };
  block::columns<K>(
      0, parts, c,
      [=](int64_t b) {
        const float* mine = part + b * step;
        float m = rows(b);
        return [=](int64_t i, float(&v)[K]) { put(v, m * get<T>(mine + i, c)); };
      },
      [=](int64_t i, const float(&v)[K]) {
        store<T>(whole, c, i, v, inverse);
        mean.set(i, get<T>(v) * inverse);
      });
  block::sync();
  block::columns<K>(
      0, parts, c,
      [=](int64_t b) {
        const float* mine = part + b * step;
        float m = rows(b);
        return [=](int64_t i, float(&v)[K]) {
          T d = get<T>(mine + i, c) - get<T>(whole + i, c);
          put(v, get<T>(mine + K * c + i, c) + m * (d * d));
        };
      },
      [=](int64_t i, const float(&v)[K]) { variance.set(i, get<T>(v) * inverse); });
}

template <class T>
FN void affine(int c, float eps, in<T> mean, in<T> variance, in<T> gamma, in<T> beta, out<T> scale,
               out<T> shift) {
  block::each(c, [=](int64_t i) {
    T s = gamma[i] * math::rsqrt(variance[i] + eps);
    T b = beta[i] - mean[i] * s;
    scale.set(i, s);
    shift.set(i, b);
  });
}

template <class T>
FN void backward(int64_t n, int c, float eps, in<T> mean, in<T> variance, in<T> gamma, in<T> dscale,
                 in<T> dshift, out<T> dgamma, out<T> p, out<T> q) {
  float inverse = 1.0f / static_cast<float>(n);
  block::each(c, [=](int64_t i) {
    T r = math::rsqrt(variance[i] + eps);
    T s1 = dshift[i];
    T g = r * (dscale[i] - mean[i] * s1);
    if (p) {
      T gr = gamma[i] * r;
      T pi = -(gr * r * g * inverse);
      T qi = -(gr * s1 * inverse) - pi * mean[i];
      p.set(i, pi);
      q.set(i, qi);
    }
    if (dgamma) dgamma.set(i, g);
  });
}
}  // namespace bn

KERNEL bn_partial_f32(int64_t n, int c, const float* z, float* part) {
  bn::partial<float>(n, c, {z}, part);
}

KERNEL bn_partial_dual(int64_t n, int c, const float* z, const float* zt, float* part) {
  bn::partial<dual>(n, c, {z, zt}, part);
}

KERNEL bn_combine_f32(int64_t n, int c, int parts, float* part, float* mean, float* variance) {
  bn::combine<float>(n, c, parts, part, {mean}, {variance});
}

KERNEL bn_combine_dual(int64_t n, int c, int parts, float* part, float* mean, float* meant,
                       float* variance, float* variancet) {
  bn::combine<dual>(n, c, parts, part, {mean, meant}, {variance, variancet});
}

KERNEL bn_affine_f32(int c, float eps, const float* mean, const float* variance, const float* gamma,
                     const float* beta, float* scale, float* shift) {
  bn::affine<float>(c, eps, {mean}, {variance}, {gamma}, {beta}, {scale}, {shift});
}

KERNEL bn_affine_dual(int c, float eps, const float* mean, const float* meant,
                      const float* variance, const float* variancet, const float* gamma,
                      const float* gammat, const float* beta, const float* betat, float* scale,
                      float* scalet, float* shift, float* shiftt) {
  bn::affine<dual>(c, eps, {mean, meant}, {variance, variancet}, {gamma, gammat}, {beta, betat},
                   {scale, scalet}, {shift, shiftt});
}

KERNEL bn_backward_f32(int64_t n, int c, float eps, const float* mean, const float* variance,
                       const float* gamma, const float* dscale, const float* dshift, float* dgamma,
                       float* p, float* q) {
  bn::backward<float>(n, c, eps, {mean}, {variance}, {gamma}, {dscale}, {dshift}, {dgamma}, {p},
                      {q});
}

KERNEL bn_backward_dual(int64_t n, int c, float eps, const float* mean, const float* meant,
                        const float* variance, const float* variancet, const float* gamma,
                        const float* gammat, const float* dscale, const float* dscalet,
                        const float* dshift, const float* dshiftt, float* dgamma, float* dgammat,
                        float* p, float* pt, float* q, float* qt) {
  bn::backward<dual>(n, c, eps, {mean, meant}, {variance, variancet}, {gamma, gammat},
                     {dscale, dscalet}, {dshift, dshiftt}, {dgamma, dgammat}, {p, pt}, {q, qt});
}

// unbiased is n / (n - 1).
KERNEL bn_running(int c, float momentum, float unbiased, const float* mean, const float* variance,
                  float* running_mean, float* running_variance) {
  block::each(c, [=](int64_t i) {
    float keep = 1.0f - momentum;
    running_mean[i] = keep * running_mean[i] + momentum * mean[i];
    running_variance[i] = keep * running_variance[i] + momentum * (unbiased * variance[i]);
  });
}
