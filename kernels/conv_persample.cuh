// Gradients of each sample's loss to a convolution's weights, as products of matrices on tensor
// cores. With x [n,h,w,c], dy [n,oh,ow,k], T = oh ow, J = r s c, P_i [T,J] the patches of sample i
// and D_i = dy_i [T,k] (persample.cu):
//
//   direct   G_i = D_i' P_i [k,J], a sum over T       store   out_i = G_i
//                                                     square  |G_i|^2
//                                                     inner   <v, G_i>
//   ghost    |G_i|^2 = sum_ts (D_i D_i')_ts (P_i P_i')_ts, sums over k and J; both are symmetric:
//            tiles on and above the diagonal, those above it counted twice; where the sum cancels
//            (persample.cuh) square is made of that sample after all
//
// The direct form is the weights' gradient of conv.cuh, of one sample, with an epilogue of its own.
// A block makes one tile of one sample and keeps it in registers: nothing but store's output and a
// number for each tile goes to memory. Where a sample has more than one tile, tile q of sample i
// writes its number to out[i tiles + q], and persample_sum adds them in order; a tile alone adds to
// out[i]. A tile of the ghost form always writes two numbers, its sum and its part of the bound's
// root, and persample_settle adds them up or marks the sample in `again`, for which square then
// runs. Grid: tiles (columns fastest) times samples. Block: 4 warps.
//
// Operands are read as conv.cuh reads them: channels and addresses are multiples of 16 bytes, in
// kBF16 of bf16, copies are made first where they are not (c, k are then rounded up, with zeros;
// c_real, k_real are what they were). Rounding and limits are the same too.
//
// Multiply-adds of a sample: T k J direct, T^2 (k + J) / 2 ghost, in whole tiles; three times that
// in kF32. Bytes: 4 (x + dy) read at best, v (k J) once more for inner, 4 k J a sample written by
// store. Sources: Goodfellow 2015; Bu et al. 2022.
#pragma once
#include "conv.cuh"
#include "math.cuh"
#include "persample.cuh"

namespace persample {

using gemm::Place;
using gemm::Shape;
using mma::Precision;

// The weights' gradient of one sample: blocks of samples where conv.cuh has groups.
struct Sample : gemm::Weight {
  template <int kM, int kN>
  FN static Sample of(const Shape& g, int&) {
    Sample one = {{g}};
    one.g.n = one.g.groups = 1;
    return one;
  }
  FN int group_a(int i) const { return i * depth() * g.k; }
  FN int group_b(int i) const { return i * g.h * g.w * g.c; }
};

struct Arguments {
  const unsigned char *x, *dy;
  const float* v;
  float* out;
  const int* again;  // of square: the samples that are marked, where it is there
  int64_t stride;    // of store: from a sample's gradient to the next one's
  int tiles;         // of a sample

  // Adds the threads' parts of a tile's number, and hands it on.
  FN void total(int sample, int tile, float part) const {
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
  using Of = gemm::Kernel<Sample, P, false, T>;

  FN static void run(const Arguments& v, const Shape& g, unsigned char* memory) {
    if (kEpilogue == kSquare && v.again && v.again[block::id() / v.tiles] == 0) return;
    const gemm::Grid grid = {v.tiles, 1, 1, 1, 0};
    typename Of::Sums sums;
    Of::sum({v.dy, nullptr, v.x, nullptr, nullptr, nullptr}, g, grid, memory, sums);
    const auto work = Of::Work::of(g, grid);
    int row0 = work.row0 + Of::warp_row(), column0 = work.column0 + Of::warp_column();
    int length = g.r * g.s * g.c_real, padding = g.c - g.c_real;
    float* to = v.out + (kEpilogue == kStore ? work.group * v.stride : 0);
    bool vectors = padding == 0 && g.c % 4 == 0 && reinterpret_cast<uintptr_t>(to) % 16 == 0;
    float part = 0;
    Of::each(
        sums[0], [&](int row) { return row0 + row < g.k_real ? (row0 + row) * length : -1; },
        [&](int start, int column, const float(&c)[Of::kRun]) {
          // Places in [r,s,c_real], of which this tap has those before end.
          column += column0;
          if (column >= g.filter()) return;
          int end = length;
          if (padding != 0) {
            int tap = column / g.c;
            column -= tap * padding;
            end = (tap + 1) * g.c_real;
          }
          if constexpr (kEpilogue == kStore) {
            Of::put(to + start, column, end, c, vectors);
          } else {
#pragma unroll
            for (int o = 0; o < Of::kRun; o++)
              if (column + o < end)
                part =
                    block::fused(c[o], kEpilogue == kSquare ? c[o] : v.v[start + column + o], part);
          }
        });
    if constexpr (kEpilogue != kStore)
      v.total(work.group, block::id() - work.group * v.tiles, part);
  }
};

// The rows of a product of positions and their elements; a row outside, kAny, and an element
// outside, kOutside, do not exist.
struct Outputs {
  FN static int depth(const Shape& g) { return g.k; }
  FN static Place row(const Shape& g, int t) { return {t * g.k, 0}; }
  FN static Place element(const Shape&, int j) { return {j, 0}; }
};
struct Patches {
  FN static int depth(const Shape& g) { return g.filter(); }
  FN static Place row(const Shape& g, int t) { return gemm::patch(g, t); }
  FN static Place element(const Shape& g, int j) { return gemm::in_patch(g, j); }
};

// A tile of rows times rows: 4 warps, 2 x 2 of them, a group by a group each.
template <class Rows, Precision P>
struct Square {
  static constexpr int kBytes = P == mma::kBF16 ? 2 : 4, kChunk = 16 / kBytes, kDepth = 8 * kChunk;
  static constexpr int kRows = 2 * mma::kGroup, kTile = kRows * 128;
  static constexpr int kStages = 3, kStage = 2 * kTile;
  using Copy = gemm::Copy<true, kBytes, kRows>;

  // The stages of `shared` are free when it begins and may still be read when it ends.
  FN static void run(const Shape& g, const unsigned char* from, int row0, int column0,
                     uint32_t shared, mma::Accumulator& sum) {
    // On the diagonal the second operand is the first.
    int sides = row0 == column0 ? 1 : 2, second = (sides - 1) * kTile;
    int depth = Rows::depth(g), tiles = (depth + kDepth - 1) / kDepth;
    Place rows[2][Copy::kRowCount];
#pragma unroll
    for (int side = 0; side < 2; side++)
#pragma unroll
      for (int i = 0; i < Copy::kRowCount; i++) {
        int t = (side == 0 ? row0 : column0) + Copy::row(i), last = g.oh * g.ow - 1;
        rows[side][i] = Rows::row(g, min(t, last));
        rows[side][i].flags |= gemm::kOutside | (t > last ? gemm::kAny : 0);
      }
    uint32_t base = shared + Copy::base();
    auto fetch = [&](int at, int stage) {
      if (at < tiles) {
        int j = at * kDepth + Copy::k(0);
        Place element = Rows::element(g, min(j, depth - kChunk));
        element.flags |= gemm::kAny | (j < depth ? 0 : gemm::kOutside);
#pragma unroll
        for (int side = 0; side < 2; side++) {
          if (side == sides) break;
#pragma unroll
          for (int i = 0; i < Copy::kRowCount; i++)
            mma::copy(Copy::to(base, i, 0) + stage * kStage + side * kTile,
                      from + int64_t{kBytes} * (rows[side][i].offset + element.offset),
                      (rows[side][i].flags & element.flags) == 0);
        }
      }
      mma::commit();
    };
    int warp = block::rank() / 32;
    const mma::Loader<P, mma::kA, true, kRows> read_a(shared, warp % 2 * mma::kGroup);
    const mma::Loader<P, mma::kB, true, kRows> read_b(shared, warp / 2 * mma::kGroup);
#pragma unroll
    for (int s = 0; s < kStages - 1; s++) fetch(s, s);
    int stage = 0, ahead = kStages - 1;
#pragma unroll 1
    for (int at = 0; at < tiles; at++) {
      mma::wait<kStages - 2>();
      block::sync();  // this stage is there for all threads, and all are done with the one `ahead`
      fetch(at + kStages - 1, ahead);
      int tile = stage * kStage;
#pragma unroll
      for (int step = 0; step < 4; step++)
        mma::multiply<P>(sum, read_a(tile, 0, step), read_b(tile + second, 0, step));
      stage = stage + 1 == kStages ? 0 : stage + 1;
      ahead = ahead + 1 == kStages ? 0 : ahead + 1;
    }
  }
};

// Both products of a tile have the same shape, so a lane's sums of one meet those of the other.
template <Precision P>
struct Ghost {
  FN static void run(const Arguments& v, Shape g, unsigned char* memory) {
    uint32_t shared = mma::shared_address(memory);
    int sample = block::id() / v.tiles, tile = block::id() - sample * v.tiles;
    constexpr int kRows = Square<Outputs, P>::kRows, kBytes = Square<Outputs, P>::kBytes;
    int across = (g.oh * g.ow + kRows - 1) / kRows, down = 0, right = tile;
    for (; right >= across - down; down++) right -= across - down;
    int row0 = down * kRows, column0 = (down + right) * kRows;
    g.groups = 1;
    mma::Accumulator outputs = {}, patches = {};
    const unsigned char* dy = v.dy + int64_t{kBytes} * sample * g.oh * g.ow * g.k;
    Square<Outputs, P>::run(g, dy, row0, column0, shared, outputs);
    block::sync();
    const unsigned char* x = v.x + int64_t{kBytes} * sample * g.h * g.w * g.c;
    Square<Patches, P>::run(g, x, row0, column0, shared, patches);
    // A lane's elements on the diagonal: mma.cuh, row(position, octet) with k innermost.
    int lane = block::rank() & 31, warp = block::rank() / 32;
    bool diagonal = right == 0 && warp % 2 == warp / 2;
    float part = 0, root = 0;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int j = 0; j < mma::kOctets; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          float a = outputs.c[i][j][e], b = patches.c[i][j][e];
          part = block::fused(a, b, part);
          if (j == 2 * i + e / 2 && diagonal && lane / 4 == 2 * (lane % 4) + e % 2)
            root += math::sqrt(a * b);
        }
    double scale = P == mma::kTF32 ? static_cast<double>(gemm::kRestore) : 1;
    double times = right == 0 ? 1 : 2;
    auto sum = block::all_reduce(Total{scale * scale * times * part, scale * root}, add);
    if (block::rank() != 0) return;
    float* to = v.out + 2 * (static_cast<int64_t>(sample) * v.tiles + tile);
    to[0] = static_cast<float>(sum.sum);
    to[1] = static_cast<float>(sum.root);
  }
};

template <class Form>
FN void launch(const Arguments& v, const Shape& g) {
  extern __shared__ __align__(128) unsigned char memory[];
  Form::run(v, g, memory);
}

}  // namespace persample

// The kernels of one precision, persample_<what>_<precision>_<tile>; a block's tile is
//
//   wide    128 x 128
//   low     64 x 128
//   small   64 x 64; the ghost form has no other
//
// gocp/kernel/persamplegpu.go picks form and tile and says how much shared memory they take.
#define PERSAMPLE(name, ...)                                                                     \
  extern "C" __global__ void __launch_bounds__(gemm::kThreads, 2)                                \
      name(const unsigned char* x, const unsigned char* dy, const float* v, float* out,          \
           const int* again, int64_t stride, int tiles, int samples, int h, int w, int c, int k, \
           int r, int s, int step, int pad, int oh, int ow, int c_real, int k_real) {            \
    persample::launch<__VA_ARGS__>(                                                              \
        {x, dy, v, out, again, stride, tiles},                                                   \
        {1, h, w, c, k, r, s, step, pad, oh, ow, samples, c_real, k_real});                      \
  }
#define PERSAMPLE_DIRECT(name, p, epilogue)                                                   \
  PERSAMPLE(name##_wide, persample::Direct<persample::epilogue, p, gemm::Tile<64, 64, 2, 2>>) \
  PERSAMPLE(name##_low, persample::Direct<persample::epilogue, p, gemm::Tile<64, 32, 1, 4>>)  \
  PERSAMPLE(name##_small, persample::Direct<persample::epilogue, p, gemm::Tile<32, 32, 2, 2>>)
#define PERSAMPLE_PRECISION(name, p)                    \
  PERSAMPLE_DIRECT(persample_store_##name, p, kStore)   \
  PERSAMPLE_DIRECT(persample_square_##name, p, kSquare) \
  PERSAMPLE_DIRECT(persample_inner_##name, p, kInner)   \
  PERSAMPLE(persample_ghost_##name##_small, persample::Ghost<p>)
