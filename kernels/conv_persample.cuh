// Gradients of each sample's loss to a convolution's weights, as products of matrices on tensor
// cores. With x [n,h,w,c], dy [n,oh,ow,k], T = oh ow, J = r s c, P_i [T,J] the patches of sample i
// and D_i = dy_i [T,k] (persample.cu):
//
//   direct   G_i = D_i' P_i [k,J], a sum over T       store   out_i = G_i
//                                                     square  |G_i|^2
//                                                     inner   <v, G_i>
//   ghost    |G_i|^2 = sum_ts (D_i D_i')_ts (P_i P_i')_ts, sums over k and J; both are symmetric:
//            tiles on and above the diagonal, those above it counted twice
//
// A block makes one tile of one sample and keeps it in registers: nothing but store's output and a
// number for each tile goes to memory. Where a sample has more than one tile, tile q of sample i
// writes its number to out[i tiles + q], and persample_sum adds them in order; a tile alone adds to
// out[i]. Grid: tiles (columns fastest) times samples. Block: 4 warps, 2 x 2 of them over the tile.
// Pipeline: kStages tiles of 32 deep, by cp.async, one barrier a tile.
//
// Gathering. Patches are never stored. An element's address is offset(row) + offset(k), and it
// exists unless flags(row) & flags(k): positions flag the taps that would leave the image, taps
// flag themselves. Elements that do not exist are zeros in shared memory. A thread keeps the rows'
// part in registers and works out the other once a tile. kVector operands are copied 16 bytes at a
// time: 4 neighbouring channels, which must be a multiple of 4 and aligned. The others go 4 bytes
// at a time, any shape, any alignment. Limits: r, s <= 15; fewer than 2^31 elements an operand.
//
// Multiply-adds of a sample: T k J direct, T^2 (k + J) / 2 ghost, in whole tiles; three times that
// in mma::kF32. Bytes: 4 (x + dy) read at best, v (k J) once more for inner, 4 k J a sample written
// by store. Sources: Goodfellow 2015; Bu et al. 2022; layouts of tiles in shared memory: mma.cuh.
#pragma once
#include "mma.cuh"

namespace persample {

using mma::Precision;

constexpr int kThreads = 128;
constexpr int kMaxTaps = 15;

// Division by a number that is known late: n / d for 0 <= n < 2^31 (Granlund & Montgomery 1994).
struct Divider {
  uint32_t multiplier;
  int shift, d;

  FN explicit Divider(int by) : d(by) {
    int log = by > 1 ? 32 - __clz(by - 1) : 0;
    shift = 31 + log;
    multiplier = static_cast<uint32_t>(((uint64_t{1} << shift) + by - 1) / by);
  }
  FN int operator()(int n, int* rest) const {
    int q = static_cast<int>((static_cast<uint64_t>(n) * multiplier) >> shift);
    *rest = n - q * d;
    return q;
  }
};

// One part of an address, in elements, and of the condition for it. Bits 0-14 and 15-29 of the
// flags are taps in r and in s. A position always raises kPosition and a channel kChannel, and each
// the other's where it is outside its matrix.
struct Place {
  int offset;
  uint32_t flags;
};
constexpr uint32_t kPosition = 1u << 31, kChannel = 1u << 30;

// The taps t in 0 … kMaxTaps-1 for which first + t is not in 0 … size-1.
FN uint32_t taps_outside(int first, int size) {
  int lo = first < 0 ? min(-first, kMaxTaps) : 0;
  int hi = max(min(size - first, kMaxTaps), 0);
  uint32_t inside = ((1u << hi) - 1) & ~((1u << lo) - 1);
  return ~inside & ((1u << kMaxTaps) - 1);
}

struct Shape {
  int h, w, c, k, r, s, stride, pad, oh, ow;
  FN int positions() const { return oh * ow; }
  FN int columns() const { return r * s * c; }
};

// Places in dy_i and among the patches of x_i, by position and by channel or column.
struct Geometry : Shape {
  Divider wide, channels, taps;
  FN explicit Geometry(const Shape& g) : Shape(g), wide(g.ow), channels(g.c), taps(g.s) {}

  FN uint32_t at_position(int t) const { return kPosition | (t < positions() ? 0 : kChannel); }
  FN Place output(int t) const { return {t * k, at_position(t)}; }
  FN Place channel(int j) const { return {j, kChannel | (j < k ? 0 : kPosition)}; }
  FN Place patch(int t) const {
    int ox, oy = wide(t, &ox), y = oy * stride - pad, x = ox * stride - pad;
    return {(y * w + x) * c, at_position(t) | taps_outside(y, h) | taps_outside(x, w) << kMaxTaps};
  }
  FN Place column(int j) const {
    int ch, tx, ty = taps(channels(j, &ch), &tx);
    uint32_t flags = kChannel | (j < columns() ? 1u << ty | 1u << (kMaxTaps + tx) : kPosition);
    return {(ty * w + tx) * c + ch, flags};
  }
};

// An operand: which of its indices is innermost in memory, and the places of a row and of a k.
struct DirectA {
  static constexpr bool kInnermost = false;
  FN static Place row(const Geometry& g, int i) { return g.channel(i); }
  FN static Place k(const Geometry& g, int t) { return g.output(t); }
};
struct DirectB {
  static constexpr bool kInnermost = false;
  FN static Place row(const Geometry& g, int j) { return g.column(j); }
  FN static Place k(const Geometry& g, int t) { return g.patch(t); }
};
struct Outputs {
  static constexpr bool kInnermost = true;
  FN static Place row(const Geometry& g, int t) { return g.output(t); }
  FN static Place k(const Geometry& g, int j) { return g.channel(j); }
};
struct Patches {
  static constexpr bool kInnermost = true;
  FN static Place row(const Geometry& g, int t) { return g.patch(t); }
  FN static Place k(const Geometry& g, int j) { return g.column(j); }
};

// A warp's part of the output, kM by kN, and the depth of the pipeline. Sums and fragments must fit
// 255 registers, two blocks' stages the shared memory of a multiprocessor.
template <int kM_, int kN_, int kStages_, bool kVector_>
struct Tile {
  static constexpr int kM = kM_, kN = kN_, kStages = kStages_;
  static constexpr bool kVector = kVector_;
};
using Small = Tile<32, 32, 3, true>;
using Any = Tile<32, 32, 3, false>;
template <Precision P>
using Wide = Tile<64, P == mma::kTF32 ? 64 : 32, 3, true>;

// What a thread copies of kRows rows of an operand.
template <class Side, bool kVector, int kRows>
struct Gather {
  static constexpr bool kInnermost = Side::kInnermost;
  static constexpr int kBytes = kRows * mma::kDepth * 4;  // of a tile
  static constexpr int kWidth = kVector ? 4 : 1;
  static constexpr int kAcross = kVector ? 8 : 32;  // threads along the innermost index
  static constexpr int kDown = kThreads / kAcross;  // and along the other
  static constexpr int kRowStep = kInnermost ? kDown : 32, kRowCount = kRows / kRowStep;
  static constexpr int kDepthStep = kInnermost ? 32 : kDown;
  static constexpr int kDepthCount = mma::kDepth / kDepthStep;

  // Places of many rows would not fit the registers: they are worked out each time.
  static constexpr bool kKept = kRowCount <= 8;
  int first;
  Place places[kKept ? kRowCount : 1];

  FN static int across() { return block::rank() % kAcross * kWidth; }
  FN static int down() { return block::rank() / kAcross; }
  FN static int row(int i) { return (kInnermost ? down() : across()) + i * kRowStep; }
  FN static int depth(int j) { return (kInnermost ? across() : down()) + j * kDepthStep; }

  FN Gather(const Geometry& g, int row0) : first(row0) {
    if constexpr (kKept) {
#pragma unroll
      for (int i = 0; i < kRowCount; i++) places[i] = Side::row(g, row0 + row(i));
    }
  }

  // Starts the copies of the tile at k0.
  FN void operator()(const Geometry& g, const float* from, int k0, uint32_t tile) const {
#pragma unroll
    for (int j = 0; j < kDepthCount; j++) {
      Place k = Side::k(g, k0 + depth(j));
#pragma unroll(kKept ? kRowCount : 2)
      for (int i = 0; i < kRowCount; i++) {
        Place p;
        if constexpr (kKept)
          p = places[i];
        else
          p = Side::row(g, first + row(i));
        int64_t offset = p.offset + k.offset;
        mma::copy<4 * kWidth>(tile + mma::place<kInnermost>(row(i), depth(j), kRows), from + offset,
                              (p.flags & k.flags) == 0);
      }
    }
  }
};

// A block's tile of A B', each warp T::kM by T::kN of it.
template <class SideA, class SideB, Precision P, class T>
struct Product {
  static constexpr int kM = 2 * T::kM, kN = 2 * T::kN;
  static constexpr int kGroupsM = T::kM / mma::kGroup, kGroupsN = T::kN / mma::kGroup;
  using GatherA = Gather<SideA, T::kVector, kM>;
  using GatherB = Gather<SideB, T::kVector, kN>;
  using ReadA = mma::Reader<SideA::kInnermost, kM>;
  using ReadB = mma::Reader<SideB::kInnermost, kN>;
  static constexpr int kStage = GatherA::kBytes + GatherB::kBytes;
  using Sums = mma::Accumulator[kGroupsM][kGroupsN];

  FN static int warp_row() { return block::rank() / 32 % 2 * T::kM; }
  FN static int warp_column() { return block::rank() / 64 * T::kN; }

  FN static void multiply(uint32_t stage, const ReadA& read_a, const ReadB& read_b, Sums& sums) {
    constexpr int kSteps = mma::kSteps<P>;
#pragma unroll
    for (int step = 0; step < mma::kDepth / 8; step += kSteps) {
      mma::Operand<P> b[kGroupsN];
#pragma unroll
      for (int j = 0; j < kGroupsN; j++)
        b[j] = mma::Operand<P>(
            [&](int half) { return read_b(stage + GatherA::kBytes, j, step + half); });
#pragma unroll
      for (int i = 0; i < kGroupsM; i++) {
        mma::Operand<P> a([&](int half) { return read_a(stage, i, step + half); });
#pragma unroll
        for (int j = 0; j < kGroupsN; j++) mma::multiply<P>(sums[i][j], a, b[j]);
      }
    }
  }

  // The stages of `shared` are free when it begins and may still be read when it ends.
  FN static void run(const Geometry& g, const float* a, const float* b, int row0, int column0,
                     int depth, uint32_t shared, Sums& sums) {
    const GatherA gather_a(g, row0);
    const GatherB gather_b(g, column0);
    int tiles = (depth + mma::kDepth - 1) / mma::kDepth;
    auto fetch = [&](int at, int stage) {
      if (at < tiles) {
        gather_a(g, a, at * mma::kDepth, shared + stage * kStage);
        gather_b(g, b, at * mma::kDepth, shared + stage * kStage + GatherA::kBytes);
      }
      mma::commit();
    };
    const ReadA read_a(warp_row());
    const ReadB read_b(warp_column());
#pragma unroll
    for (int s = 0; s < T::kStages - 1; s++) fetch(s, s);
    int stage = 0, ahead = T::kStages - 1;
#pragma unroll 1
    for (int at = 0; at < tiles; at++) {
      mma::wait<T::kStages - 2>();
      block::sync();  // this stage is there for all threads, and all are done with the one `ahead`
      fetch(at + T::kStages - 1, ahead);
      multiply(shared + stage * kStage, read_a, read_b, sums);
      stage = stage + 1 == T::kStages ? 0 : stage + 1;
      ahead = ahead + 1 == T::kStages ? 0 : ahead + 1;
    }
  }

  // Calls f(row, column, values) for each four neighbouring columns of this lane's sums.
  template <class F>
  FN static void each(const Sums& sums, int row0, int column0, F f) {
    int lane = block::rank() & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int i = 0; i < kGroupsM; i++)
#pragma unroll
      for (int e = 0; e < 4; e++)
#pragma unroll
        for (int j = 0; j < kGroupsN; j++)
#pragma unroll
          for (int four = 0; four < 2; four++) {
            int at = e % 2 * 2 + four;
            const auto& c = sums[i][j].c[e / 2];
            const float values[4] = {c[0][at], c[1][at], c[2][at], c[3][at]};
            f(row0 + i * mma::kGroup + 4 * g + e, column0 + j * mma::kGroup + 8 * t + 4 * four,
              values);
          }
  }
};

struct Arguments {
  const float *x, *dy, *v;
  float* out;
  int64_t stride;  // of store: from a sample's gradient to the next one's
  int tiles;       // of a sample
  const float *xi, *di;
  int sample, tile;

  // This block's sample and tile.
  FN void place(const Shape& g) {
    sample = block::id() / tiles;
    tile = block::id() - sample * tiles;
    xi = x + static_cast<int64_t>(sample) * g.h * g.w * g.c;
    di = dy + static_cast<int64_t>(sample) * g.oh * g.ow * g.k;
  }

  // Adds the threads' parts of the tile's number, and hands it on.
  FN void total(float part) const {
    double sum =
        block::all_reduce(static_cast<double>(part), [](double a, double b) { return a + b; });
    if (block::rank() != 0) return;
    if (tiles == 1)
      out[sample] += static_cast<float>(sum);
    else
      out[static_cast<int64_t>(sample) * tiles + tile] = static_cast<float>(sum);
  }
};

enum Epilogue { kStore, kSquare, kInner };

template <Epilogue kEpilogue, Precision P, class T>
struct Direct {
  using Of = Product<DirectA, DirectB, P, T>;

  FN static void run(const Arguments& v, const Shape& shape, uint32_t shared) {
    const Geometry g(shape);
    int m = g.k, n = g.columns(), across = (n + Of::kN - 1) / Of::kN;
    int row0 = v.tile / across * Of::kM, column0 = v.tile % across * Of::kN;
    typename Of::Sums sums = {};
    Of::run(g, v.di, v.xi, row0, column0, g.positions(), shared, sums);
    row0 += Of::warp_row(), column0 += Of::warp_column();
    float part = 0;
    if constexpr (kEpilogue == kStore) {
      float* to = v.out + v.sample * v.stride;
      bool aligned = n % 4 == 0 && reinterpret_cast<uintptr_t>(to) % 16 == 0;
      Of::each(sums, row0, column0, [&](int row, int column, const float(&c)[4]) {
        if (row >= m || column >= n) return;
        float* at = to + static_cast<int64_t>(row) * n + column;
        if (aligned) {
          *reinterpret_cast<float4*>(at) = make_float4(c[0], c[1], c[2], c[3]);
        } else {
#pragma unroll
          for (int o = 0; o < 4; o++)
            if (column + o < n) at[o] = c[o];
        }
      });
    } else {
      Of::each(sums, row0, column0, [&](int row, int column, const float(&c)[4]) {
        const float* at = v.v + static_cast<int64_t>(row) * n + column;
#pragma unroll
        for (int o = 0; o < 4; o++) {
          if (row < m && column + o < n)
            part = block::fused(c[o], kEpilogue == kSquare ? c[o] : at[o], part);
        }
      });
      v.total(part);
    }
  }
};

// Both products of a tile have the same shape, so a lane's sums of one meet those of the other.
template <Precision P, class T>
struct Ghost {
  using OfOutputs = Product<Outputs, Outputs, P, T>;
  using OfPatches = Product<Patches, Patches, P, T>;

  FN static void run(const Arguments& v, const Shape& shape, uint32_t shared) {
    const Geometry g(shape);
    int across = (g.positions() + OfOutputs::kN - 1) / OfOutputs::kN, down = 0, left = v.tile;
    for (; left >= across - down; down++) left -= across - down;
    int row0 = down * OfOutputs::kM, column0 = (down + left) * OfOutputs::kN;
    typename OfOutputs::Sums outputs = {};
    OfOutputs::run(g, v.di, v.di, row0, column0, g.k, shared, outputs);
    block::sync();
    typename OfPatches::Sums patches = {};
    OfPatches::run(g, v.xi, v.xi, row0, column0, g.columns(), shared, patches);
    float part = 0;
#pragma unroll
    for (int i = 0; i < OfOutputs::kGroupsM; i++)
#pragma unroll
      for (int j = 0; j < OfOutputs::kGroupsN; j++)
#pragma unroll
        for (int a = 0; a < 2; a++)
#pragma unroll
          for (int o = 0; o < mma::kOctets; o++)
#pragma unroll
            for (int e = 0; e < 4; e++)
              part = block::fused(outputs[i][j].c[a][o][e], patches[i][j].c[a][o][e], part);
    v.total(left == 0 ? part : 2 * part);
  }
};

template <class Form>
FN void launch(Arguments v, const Shape& g) {
  extern __shared__ __align__(128) unsigned char tiles[];
  v.place(g);
  Form::run(v, g, mma::shared_address(tiles));
}

}  // namespace persample

// The kernels of one precision, persample_<what>_<precision>_<tile>; a block's tile is
//
//   wide   128 x 128 in tf32, else 128 x 64; the ghost form, which keeps two, has none
//   small  64 x 64
//   any    64 x 64, channels and addresses that are no multiples of 16 bytes
//
// gocp/kernel/persamplegpu.go picks form and tile.
#define PERSAMPLE(name, ...)                                                                       \
  extern "C" __global__ void __launch_bounds__(persample::kThreads, 2)                             \
      name(const float* x, const float* dy, const float* v, float* out, int64_t stride, int tiles, \
           int h, int w, int c, int k, int r, int s, int step, int pad, int oh, int ow) {          \
    persample::launch<__VA_ARGS__>({x, dy, v, out, stride, tiles, nullptr, nullptr, 0, 0},         \
                                   {h, w, c, k, r, s, step, pad, oh, ow});                         \
  }
#define PERSAMPLE_DIRECT(name, p, epilogue)                                            \
  PERSAMPLE(name##_small, persample::Direct<persample::epilogue, p, persample::Small>) \
  PERSAMPLE(name##_any, persample::Direct<persample::epilogue, p, persample::Any>)     \
  PERSAMPLE(name##_wide, persample::Direct<persample::epilogue, p, persample::Wide<p>>)
#define PERSAMPLE_PRECISION(name, p)                                               \
  PERSAMPLE_DIRECT(persample_store_##name, p, kStore)                              \
  PERSAMPLE_DIRECT(persample_square_##name, p, kSquare)                            \
  PERSAMPLE_DIRECT(persample_inner_##name, p, kInner)                              \
  PERSAMPLE(persample_ghost_##name##_small, persample::Ghost<p, persample::Small>) \
  PERSAMPLE(persample_ghost_##name##_any, persample::Ghost<p, persample::Any>)
