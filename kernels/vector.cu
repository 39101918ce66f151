// Vectors of parameters: inner products, norms, linear combinations, the cosine and its gradient.
//
//   dot     sum_i a_i b_i            power   sum_i (|a_i| / scale)^q
//   max     max_i |a_i|              axpby   y <- alpha x + beta y
//   cosine  phi = <u,g> / (|u| |g|),  v = d phi / d g = u / (|u| |g|) - phi g / |g|^2
//   rows    out_i += sum_j x_ij^2,  or  sum_j x_ij y_ij       multiply  out_i = x_i y_i
//
// Reductions are made of two launches: block b leaves its part in partial[b], one block combines
// the parts. Sums are in double, in an order that depends on n and the number of blocks alone, and
// results are doubles on the device, where the next kernel reads them: nothing waits for the host.
// A NaN reaches every sum (max passes over it).
//
// Bytes: 4 n for each operand, limited by memory. One block takes a contiguous range.
#include "dual.cuh"

KERNEL vector_dot(int64_t n, const float* a, const float* b, double* partial) {
  block::Range r = block::range(n);
  double s = block::sum(r.hi - r.lo, [&](int64_t i) {
    return static_cast<double>(a[r.lo + i]) * static_cast<double>(b[r.lo + i]);
  });
  if (block::rank() == 0) partial[block::id()] = s;
}

KERNEL vector_max(int64_t n, const float* a, double* partial) {
  block::Range r = block::range(n);
  float m = block::max(r.hi - r.lo, [&](int64_t i) { return math::abs(a[r.lo + i]); });
  if (block::rank() == 0) partial[block::id()] = m > 0 ? m : 0.0f;
}

KERNEL vector_power(int64_t n, const float* a, float q, const double* scale, double* partial) {
  block::Range r = block::range(n);
  float s = scale ? static_cast<float>(*scale) : 1.0f;
  double sum = block::sum(r.hi - r.lo, [&](int64_t i) {
    float x = math::abs(a[r.lo + i]) / s;
    return static_cast<double>(x == 0 ? 0.0f : math::pow(x, q));
  });
  if (block::rank() == 0) partial[block::id()] = sum;
}

KERNEL vector_combine_sum(int n, const double* partial, double* out) {
  double s = block::sum(n, [&](int64_t i) { return partial[i]; });
  if (block::rank() == 0) *out = s;
}

KERNEL vector_combine_max(int n, const double* partial, double* out) {
  double m = block::max(n, [&](int64_t i) { return partial[i]; });
  if (block::rank() == 0) *out = m;
}

// A coefficient is a number times, if there is one, a double on the device. With beta = 0 y is not
// read.
KERNEL vector_axpby(int64_t n, float alpha, const double* alpha_at, const float* x, float beta,
                    const double* beta_at, float* y) {
  float a = alpha_at ? static_cast<float>(alpha * *alpha_at) : alpha;
  float b = beta_at ? static_cast<float>(beta * *beta_at) : beta;
  block::specialise(b == 0, [&](auto fresh) {
    block::each(n, [&](int64_t i) { y[i] = fresh.value ? a * x[i] : a * x[i] + b * y[i]; });
  });
}

// dots: <u,g>, <u,u>, <g,g>. v may be absent.
KERNEL vector_cosine(int64_t n, const float* u, const float* g, const double* dots, float* v,
                     double* phi) {
  double scale = 1.0 / (block::root(dots[1]) * block::root(dots[2]));
  double cosine = dots[0] * scale;
  if (block::id() == 0 && block::rank() == 0) *phi = cosine;
  if (!v) return;
  float a = static_cast<float>(scale), b = static_cast<float>(cosine / dots[2]);
  block::each(n, [&](int64_t i) { v[i] = a * u[i] - b * g[i]; });
}

// Rows i of x and y [n,k]; y = x for squared norms. out_i <- (add ? out_i : 0) + weight <x_i, y_i>.
KERNEL vector_rows_dot(int64_t n, int64_t k, float weight, const float* x, const float* y, int add,
                       float* out) {
  block::Range r = block::range(n);
  for (int64_t i = r.lo; i < r.hi; i++) {
    const float* xi = x + i * k;
    const float* yi = y + i * k;
    float s = block::sum(k, [&](int64_t j) { return xi[j] * yi[j]; });
    if (block::rank() == 0) out[i] = (add ? out[i] : 0.0f) + weight * s;
  }
}

namespace vector {
template <class T>
FN void multiply(int64_t n, in<T> x, in<T> y, out<T> to) {
  block::each(n, [=](int64_t i) { to.set(i, x[i] * y[i]); });
}
}  // namespace vector

KERNEL vector_multiply_f32(int64_t n, const float* x, const float* y, float* out) {
  vector::multiply<float>(n, {x}, {y}, {out});
}

KERNEL vector_multiply_dual(int64_t n, const float* x, const float* xt, const float* y,
                            const float* yt, float* out, float* outt) {
  vector::multiply<dual>(n, {x, xt}, {y, yt}, {out, outt});
}
