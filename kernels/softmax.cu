// Softmax and softmax cross entropy of logits z [n,k]; labels [n].
//
//   m = max_j z_j,  e_j = exp(z_j - m),  s = sum_j e_j
//   p_j = e_j / s,  loss = log s + m - z_y,  dz_j = p_j - [j = y]   (of the SUMMED loss)
//
// A NaN logit makes its row NaN; -inf is probability 0. A label outside 0 … k-1 gives a NaN loss
// and a NaN row of dz. Source: the usual max-shifted form; in dual numbers m is a constant shift,
// so its tangent cancels and is dropped.
//
// One block takes a range of rows, one row after another, lanes over classes.
// Bytes: n k (4 read + 4 written) a plane. FLOPs: about 30 n k, mostly exp.
#include "dual.cuh"

namespace softmax_cu {

// The shift m and the sum s of one row.
template <class T>
struct RowSum {
  float shift;
  T sum;
};

template <class T>
FN RowSum<T> row_sum(in<T> z, int k) {
  float m = block::max(k, [&](int64_t j) { return primal(z[j]); });
  T s = block::sum(k, [&](int64_t j) { return math::exp(z[j] - m); });
  return {m, s};
}

template <class T>
FN void probabilities(int64_t n, int k, in<T> z, out<T> p) {
  block::Range r = block::range(n);
  for (int64_t i = r.lo; i < r.hi; i++) {
    in<T> zi = z + i * k;
    out<T> pi = p + i * k;
    RowSum<T> row = row_sum(zi, k);
    T scale = 1.0f / row.sum;
    LANES(j, k) pi.set(j, math::exp(zi[j] - row.shift) * scale);
  }
}

template <class T>
FN void cross_entropy(int64_t n, int k, in<T> z, const int* labels, out<T> loss, out<T> dz) {
  block::Range r = block::range(n);
  for (int64_t i = r.lo; i < r.hi; i++) {
    in<T> zi = z + i * k;
    int y = labels[i];
    bool known = y >= 0 && y < k;
    float bad = known ? 0.0f : math::not_a_number();
    RowSum<T> row = row_sum(zi, k);
    if (loss && block::rank() == 0)
      loss.set(i, math::log(row.sum) + row.shift - zi[known ? y : 0] + bad);
    if (dz) {
      out<T> di = dz + i * k;
      T scale = 1.0f / row.sum;
      LANES(j, k) {
        di.set(j, math::exp(zi[j] - row.shift) * scale - (j == y ? 1.0f : 0.0f) + bad);
      }
    }
  }
}

}  // namespace softmax_cu

KERNEL softmax_f32(int64_t n, int k, const float* z, float* p) {
  softmax_cu::probabilities<float>(n, k, {z}, {p});
}

KERNEL softmax_dual(int64_t n, int k, const float* z, const float* zt, float* p, float* pt) {
  softmax_cu::probabilities<dual>(n, k, {z, zt}, {p, pt});
}

KERNEL softmax_xent_f32(int64_t n, int k, const float* z, const int* labels, float* loss,
                        float* dz) {
  softmax_cu::cross_entropy<float>(n, k, {z}, labels, {loss}, {dz});
}

KERNEL softmax_xent_dual(int64_t n, int k, const float* z, const float* zt, const int* labels,
                         float* loss, float* losst, float* dz, float* dzt) {
  softmax_cu::cross_entropy<dual>(n, k, {z, zt}, labels, {loss, losst}, {dz, dzt});
}
