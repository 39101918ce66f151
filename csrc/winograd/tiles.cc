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

#ifdef __AVX512F__
constexpr int kLanes = 16, kRows = 12;  // 24 accumulators of 32 registers
#else
constexpr int kLanes = 8, kRows = 6;  // 12 accumulators of 16 registers
#endif
constexpr int kPanel = 2 * kLanes;  // columns of a product's tile
constexpr int kChunk = 48;          // image tiles at a time: their 16 planes stay in L2
constexpr int kPlanes = 16;
constexpr int kGradRows = kRows == 12 ? 8 : 4;  // divides every admitted channel count
constexpr int kGradColumns = 128;               // output channels at a time in the weight gradient

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
#define INLINE static inline __attribute__((always_inline))

INLINE Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
INLINE void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
INLINE Vec splat(float x) { return x - Vec{}; }
INLINE void add_to(float* p, Vec v, bool accumulate) { store(p, accumulate ? load(p) + v : v); }

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

// One row or column of Bᵀ·d: four values in, four out.
INLINE void to_planes(Vec* a, int step) {
  const Vec d0 = a[0], d1 = a[step], d2 = a[2 * step], d3 = a[3 * step];
  a[0] = d0 - d2;
  a[step] = d1 + d2;
  a[2 * step] = d2 - d1;
  a[3 * step] = d1 - d3;
}

// planes[p][t][c] = (Bᵀ d B)_p for `count` tiles from `first`; outside the image d is zero.
static void input_planes(const ConvShape& g, const Tiling& tiling, const float* x,
                         const float* zeros, int first, int count, float* planes) {
  const size_t plane = static_cast<size_t>(kChunk) * g.c;
  for (int t = 0; t < count; t++) {
    const Place at = place(tiling, first + t);
    const float* from[kPlanes];
    for (int i = 0; i < 4; i++) {
      for (int j = 0; j < 4; j++) {
        const int y = at.y + i - g.pad, xx = at.x + j - g.pad;
        const bool inside = y >= 0 && y < g.h && xx >= 0 && xx < g.w;
        from[4 * i + j] =
            inside ? x + ((static_cast<size_t>(at.image) * g.h + y) * g.w + xx) * g.c : zeros;
      }
    }
    float* to = planes + static_cast<size_t>(t) * g.c;
    for (int c = 0; c < g.c; c += kLanes) {
      Vec d[kPlanes];
      for (int p = 0; p < kPlanes; p++) d[p] = load(from[p] + c);
      for (int j = 0; j < 4; j++) to_planes(d + j, 4);
      for (int i = 0; i < 4; i++) to_planes(d + 4 * i, 1);
      for (int p = 0; p < kPlanes; p++) store(to + p * plane + c, d[p]);
    }
  }
}

// u[p][k/kPanel][c][k%kPanel] = (G g Gᵀ)_p; columns past k stay zero.
static void weight_planes(const ConvShape& g, const float* w, int padded_k, float* u) {
  const size_t plane = static_cast<size_t>(g.c) * padded_k;
#pragma omp parallel for schedule(static)
  for (int k = 0; k < padded_k; k++) {
    float* column = u + static_cast<size_t>(k / kPanel) * g.c * kPanel + k % kPanel;
    if (k >= g.k) {
      for (int p = 0; p < kPlanes; p++) {
        for (int c = 0; c < g.c; c++) column[p * plane + static_cast<size_t>(c) * kPanel] = 0;
      }
      continue;
    }
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
          float* to = column + (4 * i + j) * plane + static_cast<size_t>(c) * kPanel;
          for (int l = 0; l < kLanes; l++) to[static_cast<size_t>(l) * kPanel] = out[j][l];
        }
      }
    }
  }
}

// out[kRows][kPanel] = a[kRows][depth] · b[depth][kPanel]
INLINE void product(int depth, const float* a, int lda, const float* b, float* out, int ldo) {
  Vec acc[kRows][2] = {};
  for (int c = 0; c < depth; c++) {
    const Vec b0 = load(b + static_cast<size_t>(c) * kPanel),
              b1 = load(b + static_cast<size_t>(c) * kPanel + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; r++) {
      const Vec v = splat(a[static_cast<size_t>(r) * lda + c]);
      acc[r][0] += v * b0;
      acc[r][1] += v * b1;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) {
    store(out + static_cast<size_t>(r) * ldo, acc[r][0]);
    store(out + static_cast<size_t>(r) * ldo + kLanes, acc[r][1]);
  }
}

// y = Aᵀ m A for `count` tiles, m[p][t][padded_k].
static void output_tiles(const ConvShape& g, const Tiling& tiling, const float* m, int padded_k,
                         int first, int count, float* y, bool accumulate) {
  const size_t plane = static_cast<size_t>(kChunk) * padded_k;
  const int oh = g.out_h(), ow = g.out_w();
  for (int t = 0; t < count; t++) {
    const Place at = place(tiling, first + t);
    const bool below = at.y + 1 < oh, right = at.x + 1 < ow;
    float* to = y + ((static_cast<size_t>(at.image) * oh + at.y) * ow + at.x) * g.k;
    const float* from = m + static_cast<size_t>(t) * padded_k;
    for (int k = 0; k < g.k; k += kLanes) {
      Vec top[4], bottom[4];
      for (int j = 0; j < 4; j++) {
        const Vec m0 = load(from + j * plane + k), m1 = load(from + (4 + j) * plane + k),
                  m2 = load(from + (8 + j) * plane + k), m3 = load(from + (12 + j) * plane + k);
        top[j] = m0 + m1 + m2;
        bottom[j] = m1 - m2 - m3;
      }
      add_to(to + k, top[0] + top[1] + top[2], accumulate);
      if (right) add_to(to + g.k + k, top[1] - top[2] - top[3], accumulate);
      float* next = to + static_cast<size_t>(ow) * g.k;
      if (below) add_to(next + k, bottom[0] + bottom[1] + bottom[2], accumulate);
      if (below && right) add_to(next + g.k + k, bottom[1] - bottom[2] - bottom[3], accumulate);
    }
  }
}

void forward(const ConvShape& g, const float* x, const float* w, float* y, bool accumulate) {
  const Tiling tiling(g);
  const int padded_k = (g.k + kPanel - 1) / kPanel * kPanel;
  thread_local Scratch weights, border;
  float* u = weights.get(static_cast<size_t>(kPlanes) * g.c * padded_k);
  float* zeros = border.get(g.c);
  memset(zeros, 0, g.c * sizeof(float));
  weight_planes(g, w, padded_k, u);
  const int chunks = (tiling.total + kChunk - 1) / kChunk;
#pragma omp parallel
  {
    thread_local Scratch inputs, sums;
    float* v = inputs.get(static_cast<size_t>(kPlanes) * kChunk * g.c);
    float* m = sums.get(static_cast<size_t>(kPlanes) * kChunk * padded_k);
    // The last chunk may leave rows that no tile fills: they are multiplied, and not stored.
    memset(v, 0, sizeof(float) * kPlanes * kChunk * g.c);
#pragma omp for schedule(static)
    for (int chunk = 0; chunk < chunks; chunk++) {
      const int first = chunk * kChunk;
      const int count = tiling.total - first < kChunk ? tiling.total - first : kChunk;
      input_planes(g, tiling, x, zeros, first, count, v);
      for (int p = 0; p < kPlanes; p++) {
        const float* vp = v + static_cast<size_t>(p) * kChunk * g.c;
        float* mp = m + static_cast<size_t>(p) * kChunk * padded_k;
        for (int k = 0; k < padded_k; k += kPanel) {
          const float* up = u + (static_cast<size_t>(p) * padded_k + k) * g.c;
          for (int t = 0; t < count; t += kRows) {
            product(g.c, vp + static_cast<size_t>(t) * g.c, g.c, up,
                    mp + static_cast<size_t>(t) * padded_k + k, padded_k);
          }
        }
      }
      output_tiles(g, tiling, m, padded_k, first, count, y, accumulate);
    }
  }
}

// planes[p][t][columns] = (A dy Aᵀ)_p of output channels k0 … k0+columns.
static void gradient_planes(const ConvShape& g, const Tiling& tiling, const float* dy,
                            const float* zeros, int k0, int columns, int first, int count,
                            float* planes) {
  const size_t plane = static_cast<size_t>(kChunk) * columns;
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

// out[kGradRows][kPanel] += aᵀ[depth][kGradRows] · b[depth][kPanel]
INLINE void outer_products(int depth, const float* a, int lda, const float* b, int ldb, float* out,
                           int ldo) {
  Vec acc[kGradRows][2];
#pragma GCC unroll 16
  for (int r = 0; r < kGradRows; r++) {
    acc[r][0] = load(out + static_cast<size_t>(r) * ldo);
    acc[r][1] = load(out + static_cast<size_t>(r) * ldo + kLanes);
  }
  for (int t = 0; t < depth; t++) {
    const Vec b0 = load(b + static_cast<size_t>(t) * ldb),
              b1 = load(b + static_cast<size_t>(t) * ldb + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kGradRows; r++) {
      const Vec v = splat(a[static_cast<size_t>(t) * lda + r]);
      acc[r][0] += v * b0;
      acc[r][1] += v * b1;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kGradRows; r++) {
    store(out + static_cast<size_t>(r) * ldo, acc[r][0]);
    store(out + static_cast<size_t>(r) * ldo + kLanes, acc[r][1]);
  }
}

// dw[k][·][·][c] (+)= Gᵀ u G for output channels k0 … k0+columns, u[p][c][columns].
static void weight_taps(const ConvShape& g, const float* u, int k0, int columns, float* dw,
                        bool accumulate) {
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
            float* to = dw + (static_cast<size_t>(k0 + k + l) * 9 + 3 * r + s) * g.c + c;
            *to = accumulate ? *to + taps[s][l] : taps[s][l];
          }
        }
      }
    }
  }
}

// The weight gradient of output channels k0 … k0+columns, columns a multiple of kPanel.
static void gradient_columns(const ConvShape& g, const Tiling& tiling, const float* x,
                             const float* dy, const float* zeros, int k0, int columns, float* dw,
                             bool accumulate) {
  thread_local Scratch inputs, gradients, sums;
  float* v = inputs.get(static_cast<size_t>(kPlanes) * kChunk * g.c);
  float* d = gradients.get(static_cast<size_t>(kPlanes) * kChunk * columns);
  float* u = sums.get(static_cast<size_t>(kPlanes) * g.c * columns);
  memset(u, 0, sizeof(float) * kPlanes * g.c * columns);
  for (int first = 0; first < tiling.total; first += kChunk) {
    const int count = tiling.total - first < kChunk ? tiling.total - first : kChunk;
    input_planes(g, tiling, x, zeros, first, count, v);
    gradient_planes(g, tiling, dy, zeros, k0, columns, first, count, d);
    for (int p = 0; p < kPlanes; p++) {
      const float* vp = v + static_cast<size_t>(p) * kChunk * g.c;
      const float* dp = d + static_cast<size_t>(p) * kChunk * columns;
      float* up = u + static_cast<size_t>(p) * g.c * columns;
      for (int k = 0; k < columns; k += kPanel) {
        for (int c = 0; c < g.c; c += kGradRows) {
          outer_products(count, vp + c, g.c, dp + k, columns,
                         up + static_cast<size_t>(c) * columns + k, columns);
        }
      }
    }
  }
  weight_taps(g, u, k0, columns, dw, accumulate);
}

void backward_weight(const ConvShape& g, const float* x, const float* dy, float* dw,
                     bool accumulate) {
  const Tiling tiling(g);
  const int widest = g.c > g.k ? g.c : g.k;
  thread_local Scratch border;
  float* zeros = border.get(widest);
  memset(zeros, 0, sizeof(float) * widest);
  const int panels = g.k / kPanel;  // each output channel's sum is one thread's alone
#pragma omp parallel
  {
    const int threads = omp_get_num_threads(), me = omp_get_thread_num();
    const int last = panels * (me + 1) / threads * kPanel;
    for (int k = panels * me / threads * kPanel; k < last; k += kGradColumns) {
      const int columns = last - k < kGradColumns ? last - k : kGradColumns;
      gradient_columns(g, tiling, x, dy, zeros, k, columns, dw, accumulate);
    }
  }
}

}  // namespace GOCP_NAMESPACE
