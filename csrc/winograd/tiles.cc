// The arithmetic of winograd.h, compiled once for each instruction set (GOCP_ISA is v3 or v4).
// It uses no std:: templates, so the linker cannot mix the builds.
#include <omp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../onednn/linear_maps.h"

#define GOCP_PASTE_(a, b) a##b
#define GOCP_PASTE(a, b) GOCP_PASTE_(a, b)
#define GOCP_NAMESPACE GOCP_PASTE(gocp_winograd_, GOCP_ISA)

namespace GOCP_NAMESPACE {

using gocp::ConvShape;
using gocp::Operand;
using gocp::Result;

#ifdef __AVX512F__
constexpr int kLanes = 16, kSums = 24;  // accumulators, of 32 registers
constexpr int kGradSums = 16;
#else
constexpr int kLanes = 8, kSums = 12;  // accumulators, of 16 registers
constexpr int kGradSums = 8;
#endif
constexpr int kChunk = 24;  // image tiles at a time: their 16 planes stay in L2
constexpr int kPlanes = 16;
constexpr int kGradColumns = 128;  // output channels at a time in the weight gradient

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
#define INLINE static inline __attribute__((always_inline))

INLINE Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
INLINE void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
INLINE Vec splat(float x) { return x - Vec{}; }

// Scratch that grows to the largest request and stays with its thread: fresh pages for every call
// would cost more than some of the arithmetic.
class Scratch {
 public:
  float* get(size_t floats) {
    const size_t bytes = (floats * sizeof(float) + 4095) / 4096 * 4096;
    if (bytes > bytes_) {
      free(p_);
      bytes_ = 0;
      p_ = static_cast<float*>(aligned_alloc(4096, bytes));
      if (p_ == nullptr) gocp::out_of_memory(bytes);
      bytes_ = bytes;
    }
    return p_;
  }
  ~Scratch() { free(p_); }

 private:
  float* p_ = nullptr;
  size_t bytes_ = 0;
};

// Floats from a plane of a chunk to the next: one cache line more than its tiles, lest the planes
// of a tile fall into one set of the cache.
INLINE size_t plane_of(int columns) { return static_cast<size_t>(kChunk) * columns + 16; }

// Vectors across the tile of a product whose result has k columns, a multiple of 16.
INLINE int panel_vectors(int k) { return k % (2 * kLanes) == 0 ? 2 : 1; }

struct Tiling {
  int rows, columns;  // tiles of an image
  int total;          // tiles of the batch
  explicit Tiling(const ConvShape& g)
      : rows((g.out_h() + 1) / 2), columns((g.out_w() + 1) / 2), total(g.n * rows * columns) {}
};

struct Place {
  int image, y, x;  // of the tile's first output
};

INLINE Place place(const Tiling& t, int tile) {
  const int per = t.rows * t.columns, in = tile % per;
  return {tile / per, in / t.columns * 2, in % t.columns * 2};
}

// Bᵀ·d: four values in, four out.
INLINE void to_planes(const Vec* d, Vec* out) {
  out[0] = d[0] - d[2];
  out[1] = d[1] + d[2];
  out[2] = d[2] - d[1];
  out[3] = d[1] - d[3];
}

// planes[p][t][c] = (Bᵀ d B)_p for `count` tiles from `first`; outside the image d is zero.
// Along a row of tiles the columns that two of them share are transformed once.
static void input_planes(const ConvShape& g, const Tiling& tiling, const float* x,
                         const float* zeros, int first, int count, float* planes) {
  const size_t plane = plane_of(g.c);
  for (int t = 0; t < count;) {
    const Place at = place(tiling, first + t);
    const int left = tiling.columns - at.x / 2, run = left < count - t ? left : count - t;
    const float* rows[4];
    size_t step[4];
    for (int i = 0; i < 4; i++) {
      const int y = at.y + i - g.pad;
      const bool inside = y >= 0 && y < g.h;
      rows[i] = inside ? x + (static_cast<size_t>(at.image) * g.h + y) * g.w * g.c : zeros;
      step[i] = inside ? g.c : 0;
    }
    for (int c = 0; c < g.c; c += kLanes) {
      Vec columns[4][4];  // columns[j][i]: row i of Bᵀd at the tile's column j
      auto column = [&](int xx, Vec* to) {
        if (xx < 0 || xx >= g.w) {
          for (int i = 0; i < 4; i++) to[i] = Vec{};
          return;
        }
        Vec d[4];
        for (int i = 0; i < 4; i++) d[i] = load(rows[i] + xx * step[i] + c);
        to_planes(d, to);
      };
      column(at.x - g.pad, columns[2]);
      column(at.x - g.pad + 1, columns[3]);
      float* to = planes + static_cast<size_t>(t) * g.c + c;
      for (int r = 0; r < run; r++, to += g.c) {
        for (int i = 0; i < 4; i++) {
          columns[0][i] = columns[2][i];
          columns[1][i] = columns[3][i];
        }
        column(at.x + 2 * r - g.pad + 2, columns[2]);
        column(at.x + 2 * r - g.pad + 3, columns[3]);
        for (int i = 0; i < 4; i++) {
          const Vec d[4] = {columns[0][i], columns[1][i], columns[2][i], columns[3][i]};
          Vec out[4];
          to_planes(d, out);
          for (int j = 0; j < 4; j++) store(to + (4 * i + j) * plane, out[j]);
        }
      }
    }
    t += run;
  }
}

// u[p][k/panel][c][k%panel] = (G g Gᵀ)_p
static void weight_planes(const ConvShape& g, const float* w, int panel, float* u) {
  const size_t plane = static_cast<size_t>(g.c) * g.k;
#pragma omp parallel for schedule(static)
  for (int k = 0; k < g.k; k++) {
    float* column = u + static_cast<size_t>(k / panel) * g.c * panel + k % panel;
    const float* taps = w + static_cast<size_t>(k) * 9 * g.c;
    for (int c = 0; c < g.c; c += kLanes) {
      Vec rows[4][3];
      for (int s = 0; s < 3; s++) {
        const Vec g0 = load(taps + s * g.c + c), g1 = load(taps + (3 + s) * g.c + c),
                  g2 = load(taps + (6 + s) * g.c + c);
        rows[0][s] = g0;
        rows[1][s] = 0.5f * ((g0 + g2) + g1);
        rows[2][s] = 0.5f * ((g0 + g2) - g1);
        rows[3][s] = g2;
      }
      for (int i = 0; i < 4; i++) {
        const Vec* r = rows[i];
        const Vec out[4] = {r[0], 0.5f * ((r[0] + r[2]) + r[1]), 0.5f * ((r[0] + r[2]) - r[1]),
                            r[2]};
        for (int j = 0; j < 4; j++) {
          float* to = column + (4 * i + j) * plane + static_cast<size_t>(c) * panel;
          for (int l = 0; l < kLanes; l++) to[static_cast<size_t>(l) * panel] = out[j][l];
        }
      }
    }
  }
}

// One or two products of a sum: the second's b is null where there is none.
struct Factors {
  const float *a, *b;
};

// out[rows][panel] = Σ a[rows][depth] · b[depth][panel]
template <int V>
INLINE void product(int depth, const Factors* f, size_t a_off, size_t b_off, float* out, int ldo) {
  constexpr int kRows = kSums / V;
  Vec acc[kRows][V] = {};
  for (int i = 0; i < 2 && f[i].b != nullptr; i++) {
    const float *a = f[i].a + a_off, *b = f[i].b + b_off;
    for (int c = 0; c < depth; c++) {
      Vec bv[V];
      for (int j = 0; j < V; j++) bv[j] = load(b + (static_cast<size_t>(c) * V + j) * kLanes);
#pragma GCC unroll 32
      for (int r = 0; r < kRows; r++) {
        const Vec v = splat(a[static_cast<size_t>(r) * depth + c]);
        for (int j = 0; j < V; j++) acc[r][j] += v * bv[j];
      }
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < kRows; r++) {
    for (int j = 0; j < V; j++) store(out + static_cast<size_t>(r) * ldo + j * kLanes, acc[r][j]);
  }
}

// y = Aᵀ m A for `count` tiles, m[p][t][k].
static void output_tiles(const ConvShape& g, const Tiling& tiling, const float* m, int first,
                         int count, float* y) {
  const size_t plane = plane_of(g.k);
  const int oh = g.out_h(), ow = g.out_w();
  for (int t = 0; t < count; t++) {
    const Place at = place(tiling, first + t);
    const bool below = at.y + 1 < oh, right = at.x + 1 < ow;
    float* to = y + ((static_cast<size_t>(at.image) * oh + at.y) * ow + at.x) * g.k;
    const float* from = m + static_cast<size_t>(t) * g.k;
    for (int k = 0; k < g.k; k += kLanes) {
      Vec top[4], bottom[4];
      for (int j = 0; j < 4; j++) {
        const Vec m0 = load(from + j * plane + k), m1 = load(from + (4 + j) * plane + k),
                  m2 = load(from + (8 + j) * plane + k), m3 = load(from + (12 + j) * plane + k);
        top[j] = m0 + m1 + m2;
        bottom[j] = m1 - m2 - m3;
      }
      store(to + k, top[0] + top[1] + top[2]);
      if (right) store(to + g.k + k, top[1] - top[2] - top[3]);
      float* next = to + static_cast<size_t>(ow) * g.k;
      if (below) store(next + k, bottom[0] + bottom[1] + bottom[2]);
      if (below && right) store(next + g.k + k, bottom[1] - bottom[2] - bottom[3]);
    }
  }
}

// m = the sum of products, plane by plane.
template <int V>
static void multiply(const ConvShape& g, int count, const Factors* f, float* m) {
  constexpr int kPanel = V * kLanes;
  for (int p = 0; p < kPlanes; p++) {
    const size_t vp = p * plane_of(g.c), mp = p * plane_of(g.k);
    for (int k = 0; k < g.k; k += kPanel) {
      for (int t = 0; t < count; t += kSums / V) {
        product<V>(g.c, f, vp + static_cast<size_t>(t) * g.c,
                   (static_cast<size_t>(p) * g.k + k) * g.c,
                   m + mp + static_cast<size_t>(t) * g.k + k, g.k);
      }
    }
  }
}

void forward(const ConvShape& g, Operand x, Operand w, Result y) {
  const Tiling tiling(g);
  const int vectors = panel_vectors(g.k);
  const size_t weights = static_cast<size_t>(kPlanes) * g.c * g.k;
  const size_t inputs = kPlanes * plane_of(g.c);
  const bool tangent = y.tangent != nullptr;
  const bool dx = tangent && x.tangent != nullptr, dw = tangent && w.tangent != nullptr;
  const bool primal = y.primal != nullptr;
  thread_local Scratch weight_scratch, border;
  float* u = weight_scratch.get(2 * weights);
  float* zeros = border.get(g.c);
  memset(zeros, 0, g.c * sizeof(float));
  if (primal || dx) weight_planes(g, w.primal, vectors * kLanes, u);
  if (dw) weight_planes(g, w.tangent, vectors * kLanes, u + weights);
  const int chunks = (tiling.total + kChunk - 1) / kChunk;
#pragma omp parallel
  {
    thread_local Scratch input_scratch, sums;
    float* v = input_scratch.get(2 * inputs);
    float* m = sums.get(kPlanes * plane_of(g.k));
    // The last chunk may leave rows that no tile fills: they are multiplied, and not stored.
    memset(v, 0, (dx ? 2 : 1) * inputs * sizeof(float));
    auto multiply_by = vectors == 2 ? multiply<2> : multiply<1>;
#pragma omp for schedule(static)
    for (int chunk = 0; chunk < chunks; chunk++) {
      const int first = chunk * kChunk;
      const int count = tiling.total - first < kChunk ? tiling.total - first : kChunk;
      if (primal || dw) input_planes(g, tiling, x.primal, zeros, first, count, v);
      if (primal) {
        const Factors f[2] = {{v, u}, {}};
        multiply_by(g, count, f, m);
        output_tiles(g, tiling, m, first, count, y.primal);
      }
      if (!tangent) continue;
      Factors f[2] = {};
      int terms = 0;
      if (dx) {
        input_planes(g, tiling, x.tangent, zeros, first, count, v + inputs);
        f[terms++] = {v + inputs, u};
      }
      if (dw) f[terms++] = {v, u + weights};
      multiply_by(g, count, f, m);
      output_tiles(g, tiling, m, first, count, y.tangent);
    }
  }
}

// planes[p][t][columns] = (A dy Aᵀ)_p of output channels k0 … k0+columns.
static void gradient_planes(const ConvShape& g, const Tiling& tiling, const float* dy,
                            const float* zeros, int k0, int columns, int first, int count,
                            float* planes) {
  const size_t plane = plane_of(columns);
  const int oh = g.out_h(), ow = g.out_w();
  for (int t = 0; t < count; t++) {
    const Place at = place(tiling, first + t);
    const float* from[4];
    for (int i = 0; i < 2; i++) {
      for (int j = 0; j < 2; j++) {
        const int y = at.y + i, x = at.x + j;
        from[2 * i + j] = y < oh && x < ow
                              ? dy + ((static_cast<size_t>(at.image) * oh + y) * ow + x) * g.k + k0
                              : zeros;
      }
    }
    float* to = planes + static_cast<size_t>(t) * columns;
    for (int k = 0; k < columns; k += kLanes) {
      const Vec a = load(from[0] + k), b = load(from[1] + k), c = load(from[2] + k),
                d = load(from[3] + k);
      const Vec left[4] = {a, a + c, a - c, -c}, right[4] = {b, b + d, b - d, -d};
      for (int i = 0; i < 4; i++) {
        float* row = to + 4 * i * plane + k;
        store(row, left[i]);
        store(row + plane, left[i] + right[i]);
        store(row + 2 * plane, left[i] - right[i]);
        store(row + 3 * plane, -right[i]);
      }
    }
  }
}

// out[rows][panel] += Σ aᵀ[depth][rows] · b[depth][panel]
template <int V>
INLINE void outer_products(int depth, const Factors* f, size_t a_off, int lda, size_t b_off,
                           int ldb, float* out) {
  constexpr int kRows = kGradSums / V;
  Vec acc[kRows][V];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) {
    for (int j = 0; j < V; j++) acc[r][j] = load(out + static_cast<size_t>(r) * ldb + j * kLanes);
  }
  for (int i = 0; i < 2 && f[i].b != nullptr; i++) {
    const float *a = f[i].a + a_off, *b = f[i].b + b_off;
    for (int t = 0; t < depth; t++) {
      Vec bv[V];
      for (int j = 0; j < V; j++) bv[j] = load(b + static_cast<size_t>(t) * ldb + j * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; r++) {
        const Vec v = splat(a[static_cast<size_t>(t) * lda + r]);
        for (int j = 0; j < V; j++) acc[r][j] += v * bv[j];
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) {
    for (int j = 0; j < V; j++) store(out + static_cast<size_t>(r) * ldb + j * kLanes, acc[r][j]);
  }
}

// dw[k][·][·][c] = Gᵀ u G for output channels k0 … k0+columns, u[p][c][columns].
static void weight_taps(const ConvShape& g, const float* u, int k0, int columns, float* dw) {
  const size_t plane = static_cast<size_t>(g.c) * columns;
  for (int c = 0; c < g.c; c++) {
    for (int k = 0; k < columns; k += kLanes) {
      const float* from = u + static_cast<size_t>(c) * columns + k;
      Vec rows[3][4];
      for (int j = 0; j < 4; j++) {
        const Vec u0 = load(from + j * plane), u1 = load(from + (4 + j) * plane),
                  u2 = load(from + (8 + j) * plane), u3 = load(from + (12 + j) * plane);
        rows[0][j] = u0 + 0.5f * (u1 + u2);
        rows[1][j] = 0.5f * (u1 - u2);
        rows[2][j] = 0.5f * (u1 + u2) + u3;
      }
      for (int r = 0; r < 3; r++) {
        const Vec* q = rows[r];
        const Vec taps[3] = {q[0] + 0.5f * (q[1] + q[2]), 0.5f * (q[1] - q[2]),
                             0.5f * (q[1] + q[2]) + q[3]};
        for (int s = 0; s < 3; s++) {
          for (int l = 0; l < kLanes && k + l < columns; l++) {
            dw[(static_cast<size_t>(k0 + k + l) * 9 + 3 * r + s) * g.c + c] = taps[s][l];
          }
        }
      }
    }
  }
}

// u += the sum of products, plane by plane: u[p][c][columns].
template <int V>
static void accumulate(const ConvShape& g, int columns, int count, const Factors* f, float* u) {
  for (int p = 0; p < kPlanes; p++) {
    const size_t vp = p * plane_of(g.c), dp = p * plane_of(columns);
    for (int k = 0; k < columns; k += V * kLanes) {
      for (int c = 0; c < g.c; c += kGradSums / V) {
        outer_products<V>(count, f, vp + c, g.c, dp + k, columns,
                          u + (static_cast<size_t>(p) * g.c + c) * columns + k);
      }
    }
  }
}

// The weight gradient of output channels k0 … k0+columns, columns a multiple of a panel.
template <int V>
static void gradient_columns(const ConvShape& g, const Tiling& tiling, Operand x, Operand dy,
                             const float* zeros, int k0, int columns, Result dw) {
  const size_t inputs = kPlanes * plane_of(g.c);
  const size_t gradients = kPlanes * plane_of(columns);
  const size_t taps = static_cast<size_t>(kPlanes) * g.c * columns;
  const bool primal = dw.primal != nullptr, tangent = dw.tangent != nullptr;
  const bool x_dot = tangent && x.tangent != nullptr, dy_dot = tangent && dy.tangent != nullptr;
  thread_local Scratch input_scratch, gradient_scratch, sums;
  float* v = input_scratch.get(2 * inputs);
  float* d = gradient_scratch.get(2 * gradients);
  float* u = sums.get(2 * taps);
  if (primal) memset(u, 0, taps * sizeof(float));
  if (tangent) memset(u + taps, 0, taps * sizeof(float));
  for (int first = 0; first < tiling.total; first += kChunk) {
    const int count = tiling.total - first < kChunk ? tiling.total - first : kChunk;
    if (primal || dy_dot) input_planes(g, tiling, x.primal, zeros, first, count, v);
    if (primal || x_dot) {
      gradient_planes(g, tiling, dy.primal, zeros, k0, columns, first, count, d);
    }
    if (primal) {
      const Factors f[2] = {{v, d}, {}};
      accumulate<V>(g, columns, count, f, u);
    }
    if (!tangent) continue;
    Factors f[2] = {};
    int terms = 0;
    if (x_dot) {
      input_planes(g, tiling, x.tangent, zeros, first, count, v + inputs);
      f[terms++] = {v + inputs, d};
    }
    if (dy_dot) {
      float* to = d + gradients;
      gradient_planes(g, tiling, dy.tangent, zeros, k0, columns, first, count, to);
      f[terms++] = {v, to};
    }
    accumulate<V>(g, columns, count, f, u + taps);
  }
  if (primal) weight_taps(g, u, k0, columns, dw.primal);
  if (tangent) weight_taps(g, u + taps, k0, columns, dw.tangent);
}

void backward_weight(const ConvShape& g, Operand x, Operand dy, Result dw) {
  const Tiling tiling(g);
  const int widest = g.c > g.k ? g.c : g.k;
  thread_local Scratch border;
  float* zeros = border.get(widest);
  memset(zeros, 0, sizeof(float) * widest);
  const int vectors = panel_vectors(g.k), panel = vectors * kLanes;
  auto gradient = vectors == 2 ? gradient_columns<2> : gradient_columns<1>;
  const int panels = g.k / panel;  // each output channel's sum is one thread's alone
#pragma omp parallel
  {
    const int threads = omp_get_num_threads(), me = omp_get_thread_num();
    const int last = panels * (me + 1) / threads * panel;
    for (int k = panels * me / threads * panel; k < last; k += kGradColumns) {
      const int columns = last - k < kGradColumns ? last - k : kGradColumns;
      gradient(g, tiling, x, dy, zeros, k, columns, dw);
    }
  }
}

}  // namespace GOCP_NAMESPACE
