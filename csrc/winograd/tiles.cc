// The arithmetic of winograd.h, compiled once for each instruction set (GOCP_ISA is v3 or v4).
// It uses no std:: templates, so the linker cannot mix the builds.
#include <omp.h>
#include <stddef.h>
#include <string.h>

#include "../host/scratch.h"
#include "windows.h"

namespace GOCP_NAMESPACE {

using gocp::ConvShape;
using gocp::Operand;
using gocp::Result;
using gocp::Scratch;

#ifdef __AVX512F__
constexpr int kLanes = 16, kSums = 24;  // accumulators, of 32 registers
constexpr int kGradSums = 16;           // fewer: these are loaded first
constexpr int kChunk = 24;  // image tiles at a time: planes of some 100 channels stay in L2
#else
constexpr int kLanes = 8, kSums = 12;  // accumulators, of 16 registers
constexpr int kGradSums = 8;
constexpr int kChunk = 12;
#endif
constexpr int kTile = 4, kEdge = kTile + 2;  // outputs and inputs along an edge of a tile
constexpr int kPlanes = kEdge * kEdge;
constexpr int kAhead = 2;  // tiles from where memory is asked for to where it is used
constexpr int kGradProducts = 128 * 128;  // input by output channels summed at a time
constexpr int kProducts = 128 * 256;      // and whose weights' planes are there at a time

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
#define INLINE static inline __attribute__((always_inline))

INLINE Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
INLINE Vec load_strided(const float* p, size_t stride) {
  float v[kLanes];
  for (int l = 0; l < kLanes; l++) v[l] = p[l * stride];
  return load(v);
}
INLINE void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
INLINE Vec splat(float x) { return x - Vec{}; }

static const float* row_of_zeros(size_t floats) {
  thread_local Scratch scratch;
  float* zeros = scratch.get_floats(floats);
  memset(zeros, 0, floats * sizeof(float));
  return zeros;
}

// Floats from a tile of a chunk to the next, and from a plane of the weights of so many output
// channels to the next: one cache line more than it holds, lest what is visited together fall into
// one set of the cache.
INLINE size_t tile_stride(int channels) { return static_cast<size_t>(kPlanes) * channels + 16; }
INLINE size_t weight_stride(const ConvShape& g, int columns) {
  return static_cast<size_t>(g.c) * columns + 16;
}

// Vectors across the tile of a product whose result has k columns, a multiple of 16.
INLINE int panel_vectors(int k) { return k % (2 * kLanes) == 0 ? 2 : 1; }

struct Tiling {
  int rows, columns;  // tiles of an image
  int total;          // tiles of the batch
  explicit Tiling(const ConvShape& g)
      : rows((g.out_h() + kTile - 1) / kTile),
        columns((g.out_w() + kTile - 1) / kTile),
        total(g.n * rows * columns) {}
};

struct Place {
  int image, y, x;  // of the tile's first output
};

INLINE Place place(const Tiling& t, int tile) {
  const int per = t.rows * t.columns, in = tile % per;
  return {tile / per, in / t.columns * kTile, in % t.columns * kTile};
}

// Asks for `width` floats of each pixel of a tile, from y, x on, that is inside an image of
// h × w × c. Tiles go through an image in steps that the processor does not foresee.
INLINE void prefetch(const float* images, int image, int h, int w, int c, int y, int x, int edge,
                     int width) {
  const int left = x < 0 ? 0 : x, right = x + edge < w ? x + edge : w;
  const int below = y + edge < h ? y + edge : h;
  for (int row = y < 0 ? 0 : y; row < below; row++) {
    const float* pixel = images + ((static_cast<size_t>(image) * h + row) * w + left) * c;
    for (int i = left; i < right; i++, pixel += c) {
      for (int j = 0; j < width; j += 16) __builtin_prefetch(pixel + j);
    }
  }
}

// Below, loops over the edge of a tile stay loops: unrolled, they would spill most of the tile.

// The polynomials are evaluated at 0, ±a, ±b and ∞; what ±p share is summed once.
constexpr float kA = 0.625f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;
constexpr float kOverZero = 1 / (kA2 * kB2);  // 1/M′ of the points
constexpr float kOverA = 1 / (2 * kA2 * (kA2 - kB2)), kOverB = 1 / (2 * kB2 * (kB2 - kA2));

// Bᵀd: an edge of the input in, an edge of planes out.
INLINE void input_transform(const Vec* d, Vec* out) {
  const Vec even_a = d[4] - kB2 * d[2], odd_a = d[3] - kB2 * d[1];
  const Vec even_b = d[4] - kA2 * d[2], odd_b = d[3] - kA2 * d[1];
  out[0] = even_b - kB2 * (d[2] - kA2 * d[0]);
  out[1] = even_a + kA * odd_a;
  out[2] = even_a - kA * odd_a;
  out[3] = even_b + kB * odd_b;
  out[4] = even_b - kB * odd_b;
  out[5] = d[5] - kB2 * d[3] - kA2 * odd_a;
}

// G·g: three taps in, an edge of planes out.
INLINE void weight_transform(const Vec* g, Vec* out) {
  const Vec even_a = kOverA * (g[0] + kA2 * g[2]), odd_a = (kOverA * kA) * g[1];
  const Vec even_b = kOverB * (g[0] + kB2 * g[2]), odd_b = (kOverB * kB) * g[1];
  out[0] = kOverZero * g[0];
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = g[2];
}

// Aᵀm: an edge of planes in, an edge of the output out.
INLINE void output_transform(const Vec* m, Vec* out) {
  const Vec even_a = m[1] + m[2], odd_a = m[1] - m[2];
  const Vec even_b = m[3] + m[4], odd_b = m[3] - m[4];
  out[0] = m[0] + even_a + even_b;
  out[1] = kA * odd_a + kB * odd_b;
  out[2] = kA2 * even_a + kB2 * even_b;
  out[3] = (kA2 * kA) * odd_a + (kB2 * kB) * odd_b + m[5];
}

// A·y, the adjoint of output_transform.
INLINE void output_adjoint(const Vec* y, Vec* out) {
  const Vec even_a = y[0] + kA2 * y[2], odd_a = kA * (y[1] + kA2 * y[3]);
  const Vec even_b = y[0] + kB2 * y[2], odd_b = kB * (y[1] + kB2 * y[3]);
  out[0] = y[0];
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = y[3];
}

// Gᵀu, the adjoint of weight_transform.
INLINE void weight_adjoint(const Vec* u, Vec* out) {
  const Vec even_a = kOverA * (u[1] + u[2]), odd_a = kOverA * (u[1] - u[2]);
  const Vec even_b = kOverB * (u[3] + u[4]), odd_b = kOverB * (u[3] - u[4]);
  out[0] = kOverZero * u[0] + even_a + even_b;
  out[1] = kA * odd_a + kB * odd_b;
  out[2] = kA2 * even_a + kB2 * even_b + u[5];
}

// The transform of each row of a tile: plane i·kEdge + j goes to to[(i·kEdge + j)·stride].
template <int Width>
INLINE void across(void (*transform)(const Vec*, Vec*), const Vec (*half)[Width], float* to,
                   size_t stride) {
#pragma GCC unroll 1
  for (int i = 0; i < kEdge; i++, to += kEdge * stride) {
    Vec out[kEdge];
    transform(half[i], out);
    for (int j = 0; j < kEdge; j++) store(to + j * stride, out[j]);
  }
}

// planes[t][p][c] = (Bᵀ d B)_p for `count` tiles from `first`; outside the image d is zero, as
// `zeros` are, a row of it.
static void input_planes(const ConvShape& g, const Tiling& tiling, const float* x,
                         const float* zeros, int first, int count, float* planes) {
  const int h = g.h, w = g.w, pad = g.pad, n = g.n;
  const size_t channels = g.c, tile = tile_stride(g.c);
  for (int t = 0; t < count; t++) {
    const Place at = place(tiling, first + t), next = place(tiling, first + t + kAhead);
    if (next.image < n) {
      prefetch(x, next.image, h, w, g.c, next.y - pad, next.x - pad, kEdge, g.c);
    }
    const float* rows[kEdge];
    for (int i = 0; i < kEdge; i++) {
      const int y = at.y + i - pad;
      rows[i] =
          y >= 0 && y < h ? x + (static_cast<size_t>(at.image) * h + y) * w * channels : zeros;
    }
    for (size_t c = 0; c < channels; c += kLanes) {
      Vec half[kEdge][kEdge];
#pragma GCC unroll 1
      for (int j = 0; j < kEdge; j++) {
        const int xx = at.x + j - pad;
        Vec d[kEdge] = {}, column[kEdge];
        if (xx >= 0 && xx < w) {
          const size_t from = xx * channels + c;
          for (int i = 0; i < kEdge; i++) d[i] = load(rows[i] + from);
        }
        input_transform(d, column);
        for (int i = 0; i < kEdge; i++) half[i][j] = column[i];
      }
      across(input_transform, half, planes + t * tile + c, channels);
    }
  }
}

// u[p][k/panel][c][k%panel] = (G g Gᵀ)_p of output channels k0 … k0+columns; lanes are output
// channels.
static void weight_planes(const ConvShape& g, const float* w, int k0, int columns, int panel,
                          float* u) {
  const size_t plane = weight_stride(g, columns), channels = g.c, filter = 9 * channels;
#pragma omp parallel for schedule(static)
  for (int k = 0; k < columns; k += kLanes) {
    float* column = u + static_cast<size_t>(k / panel) * channels * panel + k % panel;
    for (size_t c = 0; c < channels; c++, column += panel) {
      const float* taps = w + (k0 + k) * filter + c;
      Vec half[kEdge][3];
#pragma GCC unroll 1
      for (int s = 0; s < 3; s++, taps += channels) {
        const Vec down[3] = {load_strided(taps, filter), load_strided(taps + 3 * channels, filter),
                             load_strided(taps + 6 * channels, filter)};
        Vec edge[kEdge];
        weight_transform(down, edge);
        for (int i = 0; i < kEdge; i++) half[i][s] = edge[i];
      }
      across(weight_transform, half, column, plane);
    }
  }
}

// One or two products of a sum: the second's b is null where there is none.
struct Factors {
  const float *a, *b;
};

// out[rows][panel] = Σ a[rows][depth] · b[depth][panel]
template <int V>
INLINE void product(int depth, const Factors* f, size_t a_off, size_t lda, size_t b_off, float* out,
                    size_t ldo) {
  constexpr int kRows = kSums / V;
  Vec acc[kRows][V] = {};
  for (int i = 0; i < 2 && f[i].b != nullptr; i++) {
    const float *a = f[i].a + a_off, *b = f[i].b + b_off;
    for (int c = 0; c < depth; c++) {
      Vec bv[V];
      for (int j = 0; j < V; j++) bv[j] = load(b + (static_cast<size_t>(c) * V + j) * kLanes);
#pragma GCC unroll 32
      for (int r = 0; r < kRows; r++) {
        const Vec v = splat(a[r * lda + c]);
        for (int j = 0; j < V; j++) acc[r][j] += v * bv[j];
      }
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < kRows; r++) {
    for (int j = 0; j < V; j++) store(out + r * ldo + j * kLanes, acc[r][j]);
  }
}

// y = Aᵀ m A for `count` tiles and output channels k0 … k0+columns, m[t][p][columns].
static void output_tiles(const ConvShape& g, const Tiling& tiling, const float* m, int k0,
                         int columns, int first, int count, float* y) {
  const int oh = g.out_h(), ow = g.out_w(), n = g.n;
  const size_t channels = g.k, width = columns, tile = tile_stride(columns);
  for (int t = 0; t < count; t++) {
    const Place at = place(tiling, first + t), next = place(tiling, first + t + kAhead);
    if (next.image < n) prefetch(y + k0, next.image, oh, ow, g.k, next.y, next.x, kTile, columns);
    const int rows = oh - at.y < kTile ? oh - at.y : kTile;
    const int columns = ow - at.x < kTile ? ow - at.x : kTile;
    float* corner = y + ((static_cast<size_t>(at.image) * oh + at.y) * ow + at.x) * channels + k0;
    for (size_t k = 0; k < width; k += kLanes) {
      const float* from = m + t * tile + k;
      Vec half[kTile][kEdge];
#pragma GCC unroll 1
      for (int j = 0; j < kEdge; j++, from += width) {
        Vec down[kEdge], column[kTile];
        for (int i = 0; i < kEdge; i++) down[i] = load(from + kEdge * i * width);
        output_transform(down, column);
        for (int i = 0; i < kTile; i++) half[i][j] = column[i];
      }
      float* to = corner + k;
#pragma GCC unroll 1
      for (int i = 0; i < rows; i++, to += ow * channels) {
        Vec out[kTile];
        output_transform(half[i], out);
        for (int j = 0; j < kTile; j++) {
          if (j < columns) store(to + j * channels, out[j]);
        }
      }
    }
  }
}

// m = the sum of products, plane by plane.
template <int V>
static void multiply(const ConvShape& g, int columns, int count, const Factors* f, float* m) {
  constexpr int kPanel = V * kLanes;
  const size_t lda = tile_stride(g.c), ldm = tile_stride(columns),
               plane = weight_stride(g, columns);
  for (int p = 0; p < kPlanes; p++) {
    for (int k = 0; k < columns; k += kPanel) {
      for (int t = 0; t < count; t += kSums / V) {
        product<V>(g.c, f, t * lda + p * g.c, lda, p * plane + static_cast<size_t>(k) * g.c,
                   m + t * ldm + p * columns + k, ldm);
      }
    }
  }
}

// Output channels k0 … k0+columns of a forward pass, columns a multiple of a panel of V vectors.
// `suspects`: of each image whether windows of it may be equal; null: nobody asks.
template <int V>
static void forward_columns(const ConvShape& g, const Tiling& tiling, Operand x, Operand w,
                            const float* zeros, int k0, int columns, Result y, uint8_t* suspects) {
  const size_t weights = kPlanes * weight_stride(g, columns);
  const size_t inputs = kChunk * tile_stride(g.c), outputs = kChunk * tile_stride(columns);
  const bool tangent = y.tangent != nullptr;
  const bool dx = tangent && x.tangent != nullptr, dw = tangent && w.tangent != nullptr;
  const bool primal = y.primal != nullptr;
  thread_local Scratch weight_scratch;
  float* u = weight_scratch.get_floats((dw ? 2 : 1) * weights);
  if (primal || dx) weight_planes(g, w.primal, k0, columns, V * kLanes, u);
  if (dw) weight_planes(g, w.tangent, k0, columns, V * kLanes, u + weights);
  const int chunks = (tiling.total + kChunk - 1) / kChunk, tiles = tiling.rows * tiling.columns;
  int lacking = 0;  // threads without memory
#pragma omp parallel reduction(+ : lacking)
  {
    thread_local Scratch input_scratch, sums;
    float* v = input_scratch.find_floats((dx ? 2 : 1) * inputs);
    float* m = sums.find_floats(outputs);
    lacking = v == nullptr || m == nullptr;
    // The last chunk may leave rows that no tile fills: they are multiplied, and not stored.
    if (!lacking) memset(v, 0, (dx ? 2 : 1) * inputs * sizeof(float));
#pragma omp for schedule(static)
    for (int chunk = 0; chunk < chunks; chunk++) {
      if (lacking) continue;
      const int first = chunk * kChunk;
      const int count = tiling.total - first < kChunk ? tiling.total - first : kChunk;
      if (suspects != nullptr) {  // of the images whose first tile is here, which are read next
        for (int n = (first + tiles - 1) / tiles; n * tiles < first + count; n++)
          suspects[n] = may_repeat(g, x.primal + static_cast<size_t>(n) * g.h * g.w * g.c);
      }
      if (primal || dw) input_planes(g, tiling, x.primal, zeros, first, count, v);
      if (primal) {
        const Factors f[2] = {{v, u}, {}};
        multiply<V>(g, columns, count, f, m);
        output_tiles(g, tiling, m, k0, columns, first, count, y.primal);
      }
      if (!tangent) continue;
      Factors f[2] = {};
      int terms = 0;
      if (dx) {
        input_planes(g, tiling, x.tangent, zeros, first, count, v + inputs);
        f[terms++] = {v + inputs, u};
      }
      if (dw) f[terms++] = {v, u + weights};
      multiply<V>(g, columns, count, f, m);
      output_tiles(g, tiling, m, k0, columns, first, count, y.tangent);
    }
  }
  if (lacking) gocp::out_of_memory((2 * inputs + outputs) * sizeof(float));
}

// Equal parts of `panels` panels, each of at most `most`.
INLINE int part(int panels, int most) {
  const int parts = (panels + most - 1) / most;
  return (panels + parts - 1) / parts;
}

void forward(const ConvShape& g, Operand x, Operand w, Result y, bool windows) {
  const Tiling tiling(g);
  const float* zeros = row_of_zeros(static_cast<size_t>(g.w) * g.c);
  const int vectors = panel_vectors(g.k), panel = vectors * kLanes;
  const int fit = kProducts / (g.c * panel);
  const int most = part(g.k / panel, fit > 1 ? fit : 1) * panel;
  auto columns_of = vectors == 2 ? forward_columns<2> : forward_columns<1>;
  windows = windows && y.primal != nullptr;
  thread_local Scratch suspect_scratch;
  auto* suspects = static_cast<uint8_t*>(windows ? suspect_scratch.get(g.n) : nullptr);
  for (int k = 0; k < g.k; k += most) {
    const int columns = g.k - k < most ? g.k - k : most;
    columns_of(g, tiling, x, w, zeros, k, columns, y, k == 0 ? suspects : nullptr);
  }
  if (windows) settle_windows(g, suspects, x.primal, y.primal);
}

// planes[t][p][k] = (A dy Aᵀ)_p of output channels k0 … k0+columns; `zeros` as above.
static void gradient_planes(const ConvShape& g, const Tiling& tiling, const float* dy,
                            const float* zeros, int k0, int columns, int first, int count,
                            float* planes) {
  const int oh = g.out_h(), ow = g.out_w(), n = g.n;
  const size_t channels = g.k, width = columns, tile = tile_stride(columns);
  for (int t = 0; t < count; t++) {
    const Place at = place(tiling, first + t), next = place(tiling, first + t + kAhead);
    if (next.image < n) prefetch(dy + k0, next.image, oh, ow, g.k, next.y, next.x, kTile, columns);
    const float* rows[kTile];
    for (int i = 0; i < kTile; i++) {
      const size_t row = static_cast<size_t>(at.image) * oh + at.y + i;
      rows[i] = at.y + i < oh ? dy + row * ow * channels + k0 : zeros;
    }
    for (size_t k = 0; k < width; k += kLanes) {
      Vec half[kEdge][kTile];
#pragma GCC unroll 1
      for (int j = 0; j < kTile; j++) {
        Vec down[kTile] = {}, column[kEdge];
        if (at.x + j < ow) {
          const size_t from = (at.x + j) * channels + k;
          for (int i = 0; i < kTile; i++) down[i] = load(rows[i] + from);
        }
        output_adjoint(down, column);
        for (int i = 0; i < kEdge; i++) half[i][j] = column[i];
      }
      across(output_adjoint, half, planes + t * tile + k, width);
    }
  }
}

// out[rows][panel] += Σ aᵀ[depth][rows] · b[depth][panel]
template <int V>
INLINE void outer_products(int depth, const Factors* f, size_t a_off, size_t lda, size_t b_off,
                           size_t ldb, float* out, int ldo) {
  constexpr int kRows = kGradSums / V;
  Vec acc[kRows][V];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) {
    for (int j = 0; j < V; j++) acc[r][j] = load(out + static_cast<size_t>(r) * ldo + j * kLanes);
  }
  for (int i = 0; i < 2 && f[i].b != nullptr; i++) {
    const float *a = f[i].a + a_off, *b = f[i].b + b_off;
    for (int t = 0; t < depth; t++) {
      Vec bv[V];
      for (int j = 0; j < V; j++) bv[j] = load(b + t * ldb + j * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; r++) {
        const Vec v = splat(a[t * lda + r]);
        for (int j = 0; j < V; j++) acc[r][j] += v * bv[j];
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) {
    for (int j = 0; j < V; j++) store(out + static_cast<size_t>(r) * ldo + j * kLanes, acc[r][j]);
  }
}

// dw[k][·][·][c] = Gᵀ u G for output channels k0 … k0+columns, u[p][c][columns].
static void weight_taps(const ConvShape& g, const float* u, int k0, int columns, float* dw) {
  const size_t plane = static_cast<size_t>(g.c) * columns;
  for (int c = 0; c < g.c; c++) {
    for (int k = 0; k < columns; k += kLanes) {
      const float* from = u + static_cast<size_t>(c) * columns + k;
      Vec half[3][kEdge];
#pragma GCC unroll 1
      for (int j = 0; j < kEdge; j++) {
        Vec down[kEdge], column[3];
        for (int i = 0; i < kEdge; i++) down[i] = load(from + (kEdge * i + j) * plane);
        weight_adjoint(down, column);
        for (int r = 0; r < 3; r++) half[r][j] = column[r];
      }
      for (int r = 0; r < 3; r++) {
        Vec taps[3];
        weight_adjoint(half[r], taps);
        for (int s = 0; s < 3; s++) {
          for (int l = 0; l < kLanes; l++) {
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
  const size_t lda = tile_stride(g.c), ldb = tile_stride(columns);
  for (int p = 0; p < kPlanes; p++) {
    for (int k = 0; k < columns; k += V * kLanes) {
      for (int c = 0; c < g.c; c += kGradSums / V) {
        outer_products<V>(count, f, p * g.c + c, lda, p * columns + k, ldb,
                          u + (static_cast<size_t>(p) * g.c + c) * columns + k, columns);
      }
    }
  }
}

// Floats of scratch that the weight gradient of so many output channels takes.
static size_t gradient_floats(const ConvShape& g, int columns) {
  return 2 * (kChunk * (tile_stride(g.c) + tile_stride(columns)) +
              static_cast<size_t>(kPlanes) * g.c * columns);
}

// The weight gradient of output channels k0 … k0+columns, columns a multiple of a panel. Returns
// false where there is no memory.
template <int V>
static bool gradient_columns(const ConvShape& g, const Tiling& tiling, Operand x, Operand dy,
                             const float* zeros, int k0, int columns, Result dw) {
  const size_t inputs = kChunk * tile_stride(g.c);
  const size_t gradients = kChunk * tile_stride(columns);
  const size_t taps = static_cast<size_t>(kPlanes) * g.c * columns;
  const bool primal = dw.primal != nullptr, tangent = dw.tangent != nullptr;
  const bool x_dot = tangent && x.tangent != nullptr, dy_dot = tangent && dy.tangent != nullptr;
  thread_local Scratch scratch;
  float* v = scratch.find_floats(gradient_floats(g, columns));
  if (v == nullptr) return false;
  float *d = v + 2 * inputs, *u = d + 2 * gradients;
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
  return true;
}

void backward_weight(const ConvShape& g, Operand x, Operand dy, Result dw) {
  const Tiling tiling(g);
  const size_t row_x = static_cast<size_t>(g.w) * g.c, row_y = static_cast<size_t>(g.out_w()) * g.k;
  const float* zeros = row_of_zeros(row_x > row_y ? row_x : row_y);
  const int vectors = panel_vectors(g.k), panel = vectors * kLanes;
  auto gradient = vectors == 2 ? gradient_columns<2> : gradient_columns<1>;
  const int panels = g.k / panel;  // each output channel's sum is one thread's alone
  const int fit = kGradProducts / (g.c * panel), most = (fit > 1 ? fit : 1) * panel;
  bool done = true;
#pragma omp parallel reduction(&& : done)
  {
    const int threads = omp_get_num_threads(), me = omp_get_thread_num();
    const int end = panels * (me + 1) / threads * panel;
    for (int k = panels * me / threads * panel; k < end; k += most) {
      const int columns = end - k < most ? end - k : most;
      done = done && gradient(g, tiling, x, dy, zeros, k, columns, dw);
    }
  }
  if (!done) gocp::out_of_memory(gradient_floats(g, most) * sizeof(float));
}

}  // namespace GOCP_NAMESPACE
