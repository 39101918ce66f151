// Gradients of each sample's loss to a convolution's weights, and what can be had without them.
//
// x [N,H,W,C], dy [N,OH,OW,K] (gradient of the summed loss, so sample i's rows are its own),
// weights [K,R,S,C]; T = OH OW positions, J = R S C. With P_i [T,J] the patches of sample i and
// D_i = dy_i [T,K]:
//
//   G_i = D_i' P_i                                          [K,J], the sample's gradient
//   store   out_i = G_i        square  out_i += |G_i|^2        inner  out_i += <v, G_i>
//   ghost   |G_i|^2 = sum_{t,s} <D_t, D_s> <P_t, P_s>,   <P_t, P_s> = sum_o <x_{t+o}, x_{s+o}>
//           where that does not cancel (persample.cuh); else square
//
// The direct form costs T J K multiply-adds. The ghost form costs T^2 (C + K + R S) / 2: products
// of pixels, not of patches, for a patch's product is a sum of R S pixel products on a diagonal. It
// needs stride 1 and a padding that keeps H and W. The launcher takes the cheaper one.
// Sources: Goodfellow 2015 (linear layers); Bu et al. 2022 (convolutions).
//
// On a GPU store, square, inner and ghost are products on tensor cores (conv_persample.cuh); what
// is under #ifndef here is the host's. A block takes a range of samples, one after another, in
// scratch of its own. Products are made of tiles kA x kB from two packed panels, kA accumulator
// vectors deep: the loop is arithmetic alone. Scratch is packed so that tiles need no edges: panels
// are filled up with zeros.
#include "math.cuh"
#include "persample.cuh"

#ifndef __CUDACC__
namespace persample {

constexpr int kA = 8;        // rows of a tile: broadcast
constexpr int kB = 32;       // columns of a tile: vectors
constexpr int kPanel = 32;   // positions or columns of a packed panel
constexpr int kChunk = 256;  // positions whose panel stays in the first-level cache

struct Tile {
  float v[kA][kB];
};

// v[i][j] = sum_l a[l lda + i] b[l kPanel + j], plus start's if there is one.
FN void multiply(int len, const float* __restrict__ a, int lda, const float* __restrict__ b,
                 const Tile* start, Tile& out) {
  float acc[kA][kB];
  for (int i = 0; i < kA; i++)
    for (int j = 0; j < kB; j++) acc[i][j] = start ? start->v[i][j] : 0.0f;
  for (int l = 0; l < len; l++) {
    const float* al = a + static_cast<int64_t>(l) * lda;
    const float* bl = b + static_cast<int64_t>(l) * kPanel;
    for (int i = 0; i < kA; i++)
      for (int j = 0; j < kB; j++) acc[i][j] = block::fused(al[i], bl[j], acc[i][j]);
  }
  for (int i = 0; i < kA; i++)
    for (int j = 0; j < kB; j++) out.v[i][j] = acc[i][j];
}

// f(a, b) for the first rows and columns of a tile.
template <class F>
FN void inside(int64_t rows, int64_t columns, F f) {
  int high = rows < kA ? static_cast<int>(rows) : kA;
  int wide = columns < kB ? static_cast<int>(columns) : kB;
  for (int a = 0; a < high; a++)
    for (int b = 0; b < wide; b++) f(a, b);
}

FN int64_t panels(int64_t n) { return (n + kPanel - 1) / kPanel; }

struct Shape {
  int h, w, c, k, r, s, stride, pad;
  FN int oh() const { return (h + 2 * pad - r) / stride + 1; }
  FN int ow() const { return (w + 2 * pad - s) / stride + 1; }
  FN int positions() const { return oh() * ow(); }
  FN int columns() const { return r * s * c; }
};

// x with its zero border, [H + 2 pad, W + 2 pad, C].
FN void pack_image(const Shape& g, const float* x, float* to) {
  int height = g.h + 2 * g.pad, wide = (g.w + 2 * g.pad) * g.c;
  int lo = g.pad * g.c, hi = lo + g.w * g.c;
  block::rows(0, height, wide, [&](int64_t y) {
    bool inside = y >= g.pad && y < g.pad + g.h;
    const float* row = x + (y - g.pad) * g.w * g.c - lo;
    return [=](int e) { to[y * wide + e] = inside && e >= lo && e < hi ? row[e] : 0.0f; };
  });
}

// The patch columns j … j+kPanel-1. For a fixed row of the filter the columns (s, c) are
// consecutive in the padded image, so a panel is a few runs: run q starts at column at[q], from[q]
// floats after the patch's corner.
struct Runs {
  int count, filled;
  int at[kPanel];
  int64_t from[kPanel];
};

FN Runs find_runs(const Shape& g, int64_t j) {
  int64_t run = static_cast<int64_t>(g.s) * g.c, columns = g.columns();
  int64_t line = static_cast<int64_t>(g.w + 2 * g.pad) * g.c;
  Runs runs;
  runs.count = runs.filled = 0;
  while (runs.filled < kPanel && j < columns) {
    int64_t r = j / run, q = j - r * run;
    int len = run - q < kPanel - runs.filled ? static_cast<int>(run - q) : kPanel - runs.filled;
    runs.at[runs.count] = runs.filled;
    runs.from[runs.count++] = r * line + q;
    runs.filled += len;
    j += len;
  }
  return runs;
}

// The panel [len,kPanel] of those columns at positions from t0 on. Every run is copied as a whole
// panel's row, which the next run overwrites where it begins: vector copies of constant length.
FN void pack_patches(const Shape& g, const float* image, const Runs& runs, int t0, int len,
                     float* to) {
  int ow = g.ow(), wide = g.w + 2 * g.pad;
  LANES(t, len) {
    int oy = (t0 + t) / ow, ox = t0 + t - oy * ow;
    const float* corner = image + (static_cast<int64_t>(oy) * wide + ox) * g.stride * g.c;
    float row[2 * kPanel];
    for (int q = 0; q < runs.count; q++)
      for (int l = 0; l < kPanel; l++) row[runs.at[q] + l] = corner[runs.from[q] + l];
    for (int l = 0; l < kPanel; l++) row[runs.filled + l] = 0;
    float* dst = to + static_cast<int64_t>(t) * kPanel;
    for (int l = 0; l < kPanel; l++) dst[l] = row[l];
  }
}

// Floats from one tile of packed rows to the next: not a multiple of the cache's stride between
// lines of one set, whatever T.
FN int64_t tile_stride(int positions) { return static_cast<int64_t>(positions) * kA + 16; }

// dy [T,K] as tiles [K/kA][T][kA], tile_stride apart.
FN void pack_rows(int positions, int k, const float* dy, float* to) {
  int tiles = (k + kA - 1) / kA;
  LANES(t, positions) {
    const float* row = dy + static_cast<int64_t>(t) * k;
    for (int b = 0; b < tiles; b++) {
      float* dst = to + b * tile_stride(positions) + t * kA;
      if ((b + 1) * kA <= k)
        for (int l = 0; l < kA; l++) dst[l] = row[b * kA + l];
      else
        for (int l = 0; l < kA; l++) dst[l] = b * kA + l < k ? row[b * kA + l] : 0.0f;
    }
  }
}

// Calls use(k0, j0, tile) for every tile of the G of one sample. work, in floats: (T + 4) (K
// rounded up to 8) for dy, kChunk kPanel for a panel, K (rounded up to 8) kPanel for unfinished
// tiles, then the padded image and kPanel more, which runs may read and never use.
template <class Use>
FN void direct(const Shape& g, const float* x, const float* dy, float* work, Use use) {
  int positions = g.positions(), tiles = (g.k + kA - 1) / kA, parts = kPanel / kB;
  int64_t columns = g.columns();
  float* rows = work;
  float* panel = rows + tile_stride(positions) * tiles;
  Tile* unfinished = reinterpret_cast<Tile*>(panel + kChunk * kPanel);
  float* image = panel + kChunk * kPanel + static_cast<int64_t>(tiles) * kA * kPanel;
  pack_rows(positions, g.k, dy, rows);
  pack_image(g, x, image);
  block::sync();
  for (int64_t p = 0; p < panels(columns); p++) {
    Runs runs = find_runs(g, p * kPanel);
    for (int t0 = 0; t0 < positions; t0 += kChunk) {
      int len = positions - t0 < kChunk ? positions - t0 : kChunk;
      pack_patches(g, image, runs, t0, len, panel);
      block::sync();
      LANES(b, tiles * parts) {
        Tile tile;
        int part = b % parts, kt = b / parts;
        multiply(len, rows + kt * tile_stride(positions) + t0 * kA, kA, panel + part * kB,
                 t0 ? unfinished + b : nullptr, tile);
        if (t0 + len < positions)
          unfinished[b] = tile;
        else
          use(kt * kA, p * kPanel + part * kB, tile);
      }
      block::sync();
    }
  }
}

// Calls each(i, x_i, dy_i) for this block's samples.
template <class Each>
FN void samples(int64_t n, const Shape& g, const float* x, const float* dy, Each each) {
  int64_t pixels = static_cast<int64_t>(g.h) * g.w * g.c;
  int64_t outputs = static_cast<int64_t>(g.positions()) * g.k;
  block::Range range = block::range(n);
  for (int64_t i = range.lo; i < range.hi; i++) each(i, x + i * pixels, dy + i * outputs);
}

// |G|^2 of one sample by its gradient; work as direct's.
FN float square(const Shape& g, const float* x, const float* dy, float* work) {
  float part[kB];
  for (float& v : part) v = 0;
  direct(g, x, dy, work, [&](int, int64_t, const Tile& tile) {
    for (int a = 0; a < kA; a++)
      for (int b = 0; b < kB; b++) part[b] += tile.v[a][b] * tile.v[a][b];
  });
  float total = 0;
  for (float v : part) total += v;
  return block::all_reduce(total, [](float a, float b) { return a + b; });
}

// v [T,channels] as panels [T/kPanel][channels][kPanel].
FN void pack_columns(int positions, int channels, const float* v, float* to) {
  constexpr int kBlock = 16;
  int64_t blocks = panels(positions) * (kPanel / kBlock);
  LANES(b, blocks) {
    int64_t t0 = b * kBlock;
    float* dst = to + (t0 / kPanel) * channels * kPanel + t0 % kPanel;
    const float* src = v + t0 * channels;
    int len = positions - t0 < kBlock ? static_cast<int>(positions - t0) : kBlock;
    for (int c = 0; c < channels; c++)
      for (int l = 0; l < kBlock; l++)
        dst[static_cast<int64_t>(c) * kPanel + l] =
            l < len ? src[static_cast<int64_t>(l) * channels + c] : 0.0f;
  }
}

// mask[s][t], t below `padded`: all ones where pixel t moved by s - pad stays in its row.
FN void column_masks(const Shape& g, int64_t padded, float* mask) {
  for (int s = 0; s < g.s; s++) LANES(t, padded) {
      int to = static_cast<int>(t % g.w) + s - g.pad;
      mask[s * padded + t] = block::to_float(to >= 0 && to < g.w ? 0xffffffffu : 0u);
    }
}

// |G|^2 of one sample without G. work, in floats, with Tp = T rounded up to kPanel: Tp (C + K) for
// the packed operands and 2 Tp^2 for the products of pixels and of patches.
FN Total ghost(const Shape& g, const float* x, const float* dy, const float* mask, float* work) {
  int positions = g.h * g.w;
  int64_t padded = panels(positions) * kPanel;
  float* xp = work;
  float* dp = xp + padded * g.c;
  float* pixels = dp + padded * g.k;
  float* patches = pixels + padded * padded;
  int row_tiles = (positions + kA - 1) / kA, column_tiles = static_cast<int>(padded / kB);
  pack_columns(positions, g.c, x, xp);
  pack_columns(positions, g.k, dy, dp);
  block::sync();
  // The products of pixels, upper half.
  LANES(q, row_tiles * column_tiles) {
    int b = q / row_tiles * kB, a = q % row_tiles * kA;
    if (b + kB > a) {
      Tile tile;
      multiply(g.c, xp + (a / kPanel) * static_cast<int64_t>(g.c) * kPanel + a % kPanel, kPanel,
               xp + (b / kPanel) * static_cast<int64_t>(g.c) * kPanel + b % kPanel, nullptr, tile);
      for (int r = 0; r < kA; r++)
        for (int c = 0; c < kB; c++) pixels[(a + r) * padded + b + c] = tile.v[r][c];
    }
  }
  block::sync();
  // The products of patches: row t right of its diagonal, half of it on the diagonal.
  LANES(t, row_tiles * kA) {
    float* to = patches + t * padded;
    for (int64_t s = t / kPanel * kPanel; s < padded; s++) to[s] = 0;
    if (t < positions) {
      int ty = t / g.w, tx = t - ty * g.w;
      for (int r = 0; r < g.r; r++)
        for (int s = 0; s < g.s; s++) {
          int oy = r - g.pad, ox = s - g.pad;
          if (ty + oy < 0 || ty + oy >= g.h || tx + ox < 0 || tx + ox >= g.w) continue;
          int64_t end = positions - (oy > 0 ? static_cast<int64_t>(oy) * g.w : 0);
          int64_t shift = static_cast<int64_t>(oy) * g.w + ox;
          const float* from = pixels + (t + shift) * padded + shift;
          const float* keep = mask + s * padded;
          for (int64_t j = t; j < end; j++)
            to[j] += block::to_float(block::to_bits(from[j]) & block::to_bits(keep[j]));
        }
      to[t] *= 0.5f;
    }
  }
  block::sync();
  // Against the products of dy, tile by tile. Sums of tiles are double: where they cancel, all that
  // is lost are roundings of single products.
  Total total = {0, 0};
  for (int q = block::rank(); q < row_tiles * column_tiles; q += block::size()) {
    int b = q / row_tiles * kB, a = q % row_tiles * kA;
    if (b + kB <= a) continue;
    Tile tile;
    multiply(g.k, dp + (a / kPanel) * static_cast<int64_t>(g.k) * kPanel + a % kPanel, kPanel,
             dp + (b / kPanel) * static_cast<int64_t>(g.k) * kPanel + b % kPanel, nullptr, tile);
    float part[kB];
    for (int c = 0; c < kB; c++) part[c] = 0;
    for (int r = 0; r < kA; r++)
      for (int c = 0; c < kB; c++) part[c] += tile.v[r][c] * patches[(a + r) * padded + b + c];
    double sum = 0;
    for (int c = 0; c < kB; c++) sum += static_cast<double>(part[c]);
    total.sum += 2 * sum;
    if (b > a) continue;  // the diagonal goes through the tile, of whose columns a is one
    for (int r = 0; r < kA; r++) {
      float square = tile.v[r][a + r - b] * (2 * patches[(a + r) * padded + a + r]);
      total.root += static_cast<double>(math::sqrt(square));
    }
  }
  return block::all_reduce(total, add);
}

}  // namespace persample

// work_stride: floats of scratch a block.
KERNEL persample_square(int64_t n, int h, int w, int c, int k, int r, int s, int stride, int pad,
                        const float* x, const float* dy, float* out, float* work,
                        int64_t work_stride) {
  persample::Shape g{h, w, c, k, r, s, stride, pad};
  float* mine = work + block::id() * work_stride;
  persample::samples(n, g, x, dy, [&](int64_t i, const float* xi, const float* di) {
    float total = persample::square(g, xi, di, mine);
    if (block::rank() == 0) out[i] += total;
  });
}

// out_i starts out_stride floats after out_(i-1).
KERNEL persample_store(int64_t n, int h, int w, int c, int k, int r, int s, int stride, int pad,
                       const float* x, const float* dy, float* out, int64_t out_stride, float* work,
                       int64_t work_stride) {
  persample::Shape g{h, w, c, k, r, s, stride, pad};
  float* mine = work + block::id() * work_stride;
  int64_t columns = g.columns();
  persample::samples(n, g, x, dy, [&](int64_t i, const float* xi, const float* di) {
    float* mine_out = out + i * out_stride;
    persample::direct(g, xi, di, mine, [&](int k0, int64_t j0, const persample::Tile& tile) {
      persample::inside(g.k - k0, columns - j0, [&](int a, int b) {
        mine_out[(k0 + a) * columns + j0 + b] = tile.v[a][b];
      });
    });
  });
}

KERNEL persample_inner(int64_t n, int h, int w, int c, int k, int r, int s, int stride, int pad,
                       const float* x, const float* dy, const float* v, float* out, float* work,
                       int64_t work_stride) {
  persample::Shape g{h, w, c, k, r, s, stride, pad};
  float* mine = work + block::id() * work_stride;
  int64_t columns = g.columns();
  persample::samples(n, g, x, dy, [&](int64_t i, const float* xi, const float* di) {
    double total = 0;
    persample::direct(g, xi, di, mine, [&](int k0, int64_t j0, const persample::Tile& tile) {
      float part[persample::kB];
      for (float& p : part) p = 0;
      persample::inside(g.k - k0, columns - j0, [&](int a, int b) {
        part[b] += tile.v[a][b] * v[(k0 + a) * columns + j0 + b];
      });
      float sum = 0;
      for (float p : part) sum += p;
      total += sum;
    });
    total = block::all_reduce(total, [](double a, double b) { return a + b; });
    if (block::rank() == 0) out[i] += static_cast<float>(total);
  });
}

// Scratch of a block: s Tp for the masks, then ghost's or, where that cancels, direct's.
KERNEL persample_ghost(int64_t n, int h, int w, int c, int k, int r, int s, int pad, const float* x,
                       const float* dy, float* out, float* work, int64_t work_stride) {
  persample::Shape g{h, w, c, k, r, s, 1, pad};
  int64_t padded = persample::panels(g.positions()) * persample::kPanel;
  float* mask = work + block::id() * work_stride;
  float* mine = mask + s * padded;
  persample::column_masks(g, padded, mask);
  persample::samples(n, g, x, dy, [&](int64_t i, const float* xi, const float* di) {
    persample::Total total = persample::ghost(g, xi, di, mask, mine);
    if (persample::cancels(total, g.positions()))
      total.sum = static_cast<double>(persample::square(g, xi, di, mine));
    if (block::rank() == 0) out[i] += static_cast<float>(total.sum);
    block::sync();
  });
}
#endif

// T = 1, a linear layer: |G|^2 = |x|^2 |dy|^2.
KERNEL persample_linear(int64_t n, int64_t c, int64_t k, const float* x, const float* dy,
                        float* out) {
  block::Range range = block::range(n);
  for (int64_t i = range.lo; i < range.hi; i++) {
    const float* xi = x + i * c;
    const float* di = dy + i * k;
    float xx = block::sum(c, [&](int64_t j) { return xi[j] * xi[j]; });
    float dd = block::sum(k, [&](int64_t j) { return di[j] * di[j]; });
    if (block::rank() == 0) out[i] += xx * dd;
  }
}

namespace persample {

// The sum for one sample with the pool P and the presence of z known: loops of constant length.
template <int P, bool kZ, class Done>
FN void affine(int64_t i, int h, int w, int c, const float* dy, const float* z, const uint8_t* idx,
               Done done) {
  int oh = h / P, ow = w / P;
  int64_t pixels = static_cast<int64_t>(oh) * ow, line = static_cast<int64_t>(w) * c;
  block::columns<2>(
      i * pixels, (i + 1) * pixels, c,
      [&](int64_t row) {
        int64_t at = row - i * pixels, oy = at / ow, ox = at - oy * ow;
        const float* d = dy + row * c;
        const uint8_t* pick = idx ? idx + row * c : nullptr;
        const float* zi = kZ ? z + ((i * h + oy * P) * w + ox * P) * c : nullptr;
        return [=](int ch, float* v) {
          int q = pick ? pick[ch] : 0;
          float dc = q == 255 ? 0.0f : d[ch], chosen = 0;
          if constexpr (kZ) {
            for (int r = 0; r < P; r++)
              for (int s = 0; s < P; s++) {
                float x = zi[r * line + s * c + ch];
                chosen = q == r * P + s ? x : chosen;
              }
          }
          v[0] = dc * chosen;
          v[1] = dc;
        };
      },
      done);
}

// The same over any windows: k × k, `stride` apart, `pad` lines of padding (act_window.cu).
template <bool kZ, class Done>
FN void affine(int64_t i, int h, int w, int c, int k, int stride, int pad, const float* dy,
               const float* z, const uint8_t* idx, Done done) {
  int oh = (h + 2 * pad - k) / stride + 1, ow = (w + 2 * pad - k) / stride + 1;
  int64_t pixels = static_cast<int64_t>(oh) * ow;
  int rows = 4096 / k + 1;  // tap / k = tap rows / 4096 for k up to 15
  block::columns<2>(
      i * pixels, (i + 1) * pixels, c,
      [&](int64_t row) {
        int64_t at = row - i * pixels;
        int oy = static_cast<int>(at / ow),
            ox = static_cast<int>(at - static_cast<int64_t>(oy) * ow);
        int top = oy * stride - pad, left = ox * stride - pad;
        int first = (top < 0 ? -top : 0) * k + (left < 0 ? -left : 0);
        int64_t corner = ((i * h + top) * w + left) * c;
        const float* d = dy + row * c;
        const uint8_t* pick = idx + row * c;
        return [=](int ch, float* v) {
          bool on = pick[ch] != 255;
          float dc = on ? d[ch] : 0.0f, chosen = 0;
          if constexpr (kZ) {
            int tap = on ? pick[ch] : first, a = (tap * rows) >> 12;
            chosen = z[corner + (static_cast<int64_t>(a) * w + tap - a * k) * c + ch];
          }
          v[0] = dc * chosen;
          v[1] = dc;
        };
      },
      done);
}

}  // namespace persample

// The parameters of act.cu's affine map, y = pool(act(scale_c z + shift_c + r)), for each sample:
//   dscale_ic = sum dy z,  dshift_ic = sum dy,  over the outputs of sample i that idx says passed,
// z at the input that idx names. Row i starts `stride` floats after row i-1. z and dscale may be
// absent, and idx where all pass (no activation, no pooling). Bytes: (4 + 4 p^2 + 1) n h w c / p^2
// read.
KERNEL persample_affine(int64_t n, int h, int w, int c, int pool, int step, int pad,
                        const float* dy, const float* z, const uint8_t* idx, float* dscale,
                        float* dshift, int64_t stride) {
  block::Range range = block::range(n);
  block::specialise(z != nullptr, [&](auto with_z) {
    for (int64_t i = range.lo; i < range.hi; i++) {
      auto done = [&](int ch, const float* v) {
        if (dscale) dscale[i * stride + ch] = v[0];
        if (dshift) dshift[i * stride + ch] = v[1];
      };
      if (pool == 1)
        persample::affine<1, with_z.value>(i, h, w, c, dy, z, idx, done);
      else if (pool == 2 && step == 2 && pad == 0)
        persample::affine<2, with_z.value>(i, h, w, c, dy, z, idx, done);
      else
        persample::affine<with_z.value>(i, h, w, c, pool, step, pad, dy, z, idx, done);
    }
  });
}

// Batch norm's weight in evaluation mode, in place of dscale: dgamma = (dscale - mean dshift) /
// sqrt(variance + eps). Rows of both [n,c] are `stride` floats apart.
KERNEL persample_norm(int64_t n, int c, const float* mean, const float* variance, float eps,
                      const float* dshift, float* dscale, int64_t stride) {
  block::Range range = block::range(n);
  block::rows(range.lo, range.hi, c, [&](int64_t i) {
    float* d = dscale + i * stride;
    const float* b = dshift + i * stride;
    return [=](int ch) { d[ch] = (d[ch] - mean[ch] * b[ch]) * math::rsqrt(variance[ch] + eps); };
  });
}
