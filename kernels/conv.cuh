// Convolutions as products of matrices that are never stored (implicit GEMM), in dual numbers.
//
// Activations x [n,h,w,c], y [n,oh,ow,k], weights w [k,r,s,c]; out [M,N] = sum over k of A B:
//
//   pass      out        M         N      sum over    A                     B
//   Forward   y          pixels y  k      (r,s,c)     patches of x          w
//   Data      dx         pixels x  c      (r,s,k)     windows of dy         w
//   Weight    dw         k         (r,s,c) pixels y   dy                    patches of x
//
// and the tangent of out is A' B + A B'. Which planes there are is a Mode; a tile of each plane is
// brought to shared memory once and enters all its products.
//
// Gathering. In all six operands an element's address is offset(row) + offset(k), and it exists
// unless flags(row) & flags(k): pixels flag the taps that would leave the image, taps flag
// themselves. So a thread keeps one of the two parts of its addresses in registers throughout, and
// works out the other once a tile. Elements that do not exist are zeros in shared memory. kVector
// operands are copied 16 bytes at a time: 4 neighbouring channels, which must be a multiple of 4
// and aligned. The others go 4 bytes at a time, any shape, any alignment.
//
// Block: 4 warps, 2 x 2 of them over a tile of the output; grid: tiles, N fastest, times the parts
// of the sum (split). A part is written at its own place and conv_sum adds them in order: no
// atomics, and the bits depend on the shape and the number of parts alone.
// Pipeline: kStages tiles of 32 deep, by cp.async, one barrier a tile.
// Limits: r, s <= 15; fewer than 2^31 elements an operand.
//
// Bytes: M N + (A + B) of the operands, at best; a tile of A is read from L2 once for each tile of
// N. FLOPs: 2 M N K a product, of which a dual pass has 2 or 3; times 3 in mma::kF32.
// Sources: Chetlur et al. 2014 (cuDNN); the layouts are mma.cuh's.
#pragma once
#include "mma.cuh"

namespace conv {

using mma::Precision;

constexpr int kThreads = 128;

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

// One part of an address, in elements, and of the condition for it.
struct Place {
  int offset;
  uint32_t flags;
};

// Flags of the first kind belong to pixels, of the second to taps and to plain k:
// bits 0-14 and 15-29 are the taps in r and in s; 30 and 31 are raised to meet a part that is
// outside its matrix.
constexpr int kMaxTaps = 15;
constexpr uint32_t kFirst = 1u << 31, kSecond = 1u << 30;

FN uint32_t first_kind(uint32_t flags, bool inside) {
  return flags | kFirst | (inside ? 0 : kSecond);
}
FN uint32_t second_kind(uint32_t flags, bool inside) {
  return flags | kSecond | (inside ? 0 : kFirst);
}

FN Place plain_second(int i, int extent, int stride) {
  return {i * stride, second_kind(0, i < extent)};
}

// The taps t in 0 … kMaxTaps-1 for which first + t is not in 0 … size-1.
FN uint32_t taps_outside(int first, int size) {
  int lo = first < 0 ? min(-first, kMaxTaps) : 0;
  int hi = max(min(size - first, kMaxTaps), 0);
  uint32_t inside = ((1u << hi) - 1) & ~((1u << lo) - 1);
  return ~inside & ((1u << kMaxTaps) - 1);
}

// The taps t for which (at - t) / stride is no whole number in 0 … size-1.
FN uint32_t taps_missing(int at, int stride, int taps, int size) {
  uint32_t inside = 0;
  int q = at / stride;
  for (int t = at - q * stride; t < taps; t += stride, q--)
    if (q >= 0 && q < size) inside |= 1u << t;
  return ~inside & ((1u << kMaxTaps) - 1);
}

struct Shape {
  int n, h, w, c, k, r, s, stride, pad, oh, ow;
};

// Places in x and y. Pixels are numbered over rows of `wide`, images of `high`; taps over channels.
struct Geometry : Shape {
  Divider wide, high, channels, taps;

  FN Geometry(const Shape& g, int wide, int high, int channels)
      : Shape(g), wide(wide), high(high), channels(channels), taps(g.s) {}

  FN int pixels_out() const { return n * oh * ow; }
  FN int pixels_in() const { return n * h * w; }
  FN int filter() const { return r * s * c; }

  // The patch of x under output pixel i.
  FN Place patch(int i) const {
    int ox, oy, image = high(wide(i, &ox), &oy);
    int y = oy * stride - pad, x = ox * stride - pad;
    return {((image * h + y) * w + x) * c,
            first_kind(taps_outside(y, h) | taps_outside(x, w) << kMaxTaps, i < pixels_out())};
  }
  // Element j = (r,s,c) of a patch.
  FN Place in_patch(int j) const {
    int ch, tx, ty = taps(channels(j, &ch), &tx);
    return {(ty * w + tx) * c + ch, second_kind(1u << ty | 1u << (kMaxTaps + tx), j < filter())};
  }

  // The window of dy over input pixel i: output pixel q - t / stride for every tap t that leaves
  // the rest that (i + pad) / stride = q leaves.
  FN Place window(int i) const {
    int ix, iy, image = high(wide(i, &ix), &iy);
    int y = iy + pad, x = ix + pad;
    return {((image * oh + y / stride) * ow + x / stride) * k,
            first_kind(taps_missing(y, stride, r, oh) | taps_missing(x, stride, s, ow) << kMaxTaps,
                       i < pixels_in())};
  }
  // Element j = (r,s,k) of a window, and of the weights.
  FN Place in_window(int j) const {
    int ch, tx, ty = taps(channels(j, &ch), &tx);
    return {ch - (ty / stride * ow + tx / stride) * k,
            second_kind(1u << ty | 1u << (kMaxTaps + tx), j < r * s * k)};
  }
  FN Place in_weights(int j) const {
    int ch, tap = channels(j, &ch);
    return {ch * filter() + tap * c, second_kind(0, j < r * s * k)};
  }
};

// The rows of an operand that a thread copies: kCount of them, `step` apart. In general each has a
// place of its own in registers.
template <class Side, int kCount>
struct PlacedRows {
  Place places[kCount];

  FN PlacedRows(const Geometry& g, int row0, int step) {
#pragma unroll
    for (int i = 0; i < kCount; i++) places[i] = Side::row(g, row0 + i * step);
  }
  struct At {
    const PlacedRows& rows;
    Place k;
    FN bool there(int i) const { return (rows.places[i].flags & k.flags) == 0; }
    FN int offset(int i) const { return rows.places[i].offset + k.offset; }
  };
  FN At at(Place k) const { return {*this, k}; }
};

// Rows of a plain matrix lie at even distances, and take three registers together.
template <class Side, int kCount>
struct PlainRows {
  int offset, step;
  uint32_t inside;  // bit i: row i is inside the matrix

  FN PlainRows(const Geometry& g, int row0, int step)
      : offset(row0 * Side::stride(g)), step(step * Side::stride(g)), inside(0) {
    for (int i = 0; i < kCount; i++) inside |= (row0 + i * step < Side::rows(g)) << i;
  }
  struct At {
    int offset0, step;
    uint32_t inside;
    FN bool there(int i) const { return inside >> i & 1; }
    FN int offset(int i) const { return offset0 + i * step; }
  };
  FN At at(Place k) const { return {offset + k.offset, step, k.flags & kFirst ? 0 : inside}; }
};

// A pass: the extents of its matrices, and its operands. An operand says which of its indices is
// innermost in memory, and gives the places of a row (of M or of N) and of a k; plain ones the
// number of rows and the elements from one to the next instead of their places.
struct Forward {
  FN static Geometry geometry(const Shape& g) { return {g, g.ow, g.oh, g.c}; }
  FN static int m(const Geometry& g) { return g.pixels_out(); }
  FN static int n(const Geometry& g) { return g.k; }
  FN static int depth(const Geometry& g) { return g.filter(); }
  struct A {
    static constexpr bool kInnermost = true;
    template <int kCount>
    using Rows = PlacedRows<A, kCount>;
    FN static Place row(const Geometry& g, int i) { return g.patch(i); }
    FN static Place k(const Geometry& g, int j) { return g.in_patch(j); }
  };
  struct B {
    static constexpr bool kInnermost = true;
    template <int kCount>
    using Rows = PlainRows<B, kCount>;
    FN static int rows(const Geometry& g) { return g.k; }
    FN static int stride(const Geometry& g) { return g.filter(); }
    FN static Place k(const Geometry& g, int j) { return plain_second(j, g.filter(), 1); }
  };
};

struct Data {
  FN static Geometry geometry(const Shape& g) { return {g, g.w, g.h, g.k}; }
  FN static int m(const Geometry& g) { return g.pixels_in(); }
  FN static int n(const Geometry& g) { return g.c; }
  FN static int depth(const Geometry& g) { return g.r * g.s * g.k; }
  struct A {
    static constexpr bool kInnermost = true;
    template <int kCount>
    using Rows = PlacedRows<A, kCount>;
    FN static Place row(const Geometry& g, int i) { return g.window(i); }
    FN static Place k(const Geometry& g, int j) { return g.in_window(j); }
  };
  struct B {
    static constexpr bool kInnermost = false;
    template <int kCount>
    using Rows = PlainRows<B, kCount>;
    FN static int rows(const Geometry& g) { return g.c; }
    FN static int stride(const Geometry&) { return 1; }
    FN static Place k(const Geometry& g, int j) { return g.in_weights(j); }
  };
};

struct Weight {
  FN static Geometry geometry(const Shape& g) { return {g, g.ow, g.oh, g.c}; }
  FN static int m(const Geometry& g) { return g.k; }
  FN static int n(const Geometry& g) { return g.filter(); }
  FN static int depth(const Geometry& g) { return g.pixels_out(); }
  struct A {
    static constexpr bool kInnermost = false;
    template <int kCount>
    using Rows = PlainRows<A, kCount>;
    FN static int rows(const Geometry& g) { return g.k; }
    FN static int stride(const Geometry&) { return 1; }
    FN static Place k(const Geometry& g, int j) { return plain_second(j, g.pixels_out(), g.k); }
  };
  struct B {
    static constexpr bool kInnermost = false;
    template <int kCount>
    using Rows = PlacedRows<B, kCount>;
    FN static Place row(const Geometry& g, int i) { return g.in_patch(i); }
    FN static Place k(const Geometry& g, int j) { return g.patch(j); }
  };
};

// Which planes there are of A and of B, and which sums are made: out = A B and its tangent. One
// product of a tangent plane alone is kOne with the planes passed as primals.
enum Mode {
  kOne,      // A B
  kDualA,    // A B, A' B
  kDualB,    // A B, A B'
  kDual,     // A B, A' B + A B'
  kTangent,  // A' B + A B'
};

template <Mode kMode>
struct Planes {
  static constexpr bool kTangentA = kMode != kOne && kMode != kDualB;
  static constexpr bool kTangentB = kMode != kOne && kMode != kDualA;
  static constexpr bool kPrimalOut = kMode != kTangent;
  static constexpr bool kTangentOut = kMode != kOne;
  static constexpr int kA = 1 + kTangentA, kB = 1 + kTangentB;
  static constexpr int kOut = kPrimalOut + kTangentOut;
};

// A warp's part of the output, kM by kN, and the depth of the pipeline. A block has 2 x 2 of them.
template <int kM_, int kN_, int kStages_, bool kVector_>
struct Tile {
  static constexpr int kM = kM_, kN = kN_, kStages = kStages_;
  static constexpr bool kVector = kVector_;
};

// Sums and fragments must fit 255 registers, and the stages 99 KiB: one sum of 64 x 64 a warp, or
// two of 64 x 32. In mma::kF32, whose fragments are twice as large, only one product is wide.
template <Precision P, Mode kMode>
using Wide = Tile<64, P != mma::kF32 && kMode == kOne ? 64 : 32, kMode == kOne ? 3 : 2, true>;
template <Precision, Mode>
using Small = Tile<32, 32, 3, true>;
template <Precision, Mode>
using Any = Tile<32, 32, 3, false>;

// What a thread copies of kRows rows of an operand.
template <class Side, bool kVector, int kRows>
struct Gather {
  static constexpr bool kInnermost = Side::kInnermost;
  static constexpr int kBytes = kRows * mma::kDepth * 4;  // a plane of a tile
  static constexpr int kWidth = kVector ? 4 : 1;
  static constexpr int kAcross = kVector ? 8 : 32;  // threads along the innermost index
  static constexpr int kDown = kThreads / kAcross;  // and along the other
  static constexpr int kRowStep = kInnermost ? kDown : 32, kRowCount = kRows / kRowStep;
  static constexpr int kDepthStep = kInnermost ? 32 : kDown;
  static constexpr int kDepthCount = mma::kDepth / kDepthStep;

  using Rows = typename Side::template Rows<kRowCount>;
  Rows rows;

  FN static int across() { return block::rank() % kAcross * kWidth; }
  FN static int down() { return block::rank() / kAcross; }
  FN static int row(int i) { return (kInnermost ? down() : across()) + i * kRowStep; }
  FN static int depth(int j) { return (kInnermost ? across() : down()) + j * kDepthStep; }

  FN Gather(const Geometry& g, int row0) : rows(g, row0 + row(0), kRowStep) {}

  // Starts the copies of the tile at k0.
  template <int kPlanes>
  FN void operator()(const Geometry& g, const float* const (&planes)[kPlanes], int k0,
                     uint32_t tile) const {
#pragma unroll
    for (int j = 0; j < kDepthCount; j++) {
      typename Rows::At at = rows.at(Side::k(g, k0 + depth(j)));
#pragma unroll
      for (int i = 0; i < kRowCount; i++) {
        bool there = at.there(i);
        int64_t offset = at.offset(i);
        uint32_t to = tile + mma::place<kInnermost>(row(i), depth(j), kRows);
#pragma unroll
        for (int p = 0; p < kPlanes; p++)
          mma::copy<4 * kWidth>(to + p * kBytes, planes[p] + offset, there);
      }
    }
  }
};

// The operands and results of a launch; t are the tangents, absent where the mode has none.
struct Arguments {
  const float *a, *at, *b, *bt;
  float *out, *out_t;
};

template <class Pass, Precision P, Mode kMode, class T>
struct Kernel {
  using In = Planes<kMode>;
  static constexpr int kM = 2 * T::kM, kN = 2 * T::kN;  // the block's tile
  static constexpr int kGroupsM = T::kM / mma::kGroup, kGroupsN = T::kN / mma::kGroup;
  using GatherA = Gather<typename Pass::A, T::kVector, kM>;
  using GatherB = Gather<typename Pass::B, T::kVector, kN>;
  using ReadA = mma::Reader<Pass::A::kInnermost, kM>;
  using ReadB = mma::Reader<Pass::B::kInnermost, kN>;
  static constexpr int kStageA = In::kA * GatherA::kBytes, kStageB = In::kB * GatherB::kBytes;
  static constexpr int kStage = kStageA + kStageB;
  using Sums = mma::Accumulator[In::kOut][kGroupsM][kGroupsN];

  // Adds the products of one stage.
  FN static void multiply(uint32_t stage, const ReadA& read_a, const ReadB& read_b, Sums& sums) {
    constexpr int kSteps = mma::kSteps<P>;
#pragma unroll
    for (int step = 0; step < mma::kDepth / 8; step += kSteps) {
      mma::Operand<P> b[kGroupsN][In::kB];
#pragma unroll
      for (int j = 0; j < kGroupsN; j++)
#pragma unroll
        for (int p = 0; p < In::kB; p++)
          b[j][p] = mma::Operand<P>([&](int half) {
            return read_b(stage + kStageA + p * GatherB::kBytes, j, step + half);
          });
#pragma unroll
      for (int i = 0; i < kGroupsM; i++) {
        mma::Operand<P> a[In::kA];
#pragma unroll
        for (int p = 0; p < In::kA; p++)
          a[p] = mma::Operand<P>(
              [&](int half) { return read_a(stage + p * GatherA::kBytes, i, step + half); });
#pragma unroll
        for (int j = 0; j < kGroupsN; j++) {
          if constexpr (In::kPrimalOut) mma::multiply<P>(sums[0][i][j], a[0], b[j][0]);
          if constexpr (In::kTangentA) mma::multiply<P>(sums[In::kOut - 1][i][j], a[1], b[j][0]);
          if constexpr (In::kTangentB) mma::multiply<P>(sums[In::kOut - 1][i][j], a[0], b[j][1]);
        }
      }
    }
  }

  // Writes this warp's rows row0 … and columns column0 … of one output [m,n].
  FN static void store(const mma::Accumulator (&sums)[kGroupsM][kGroupsN], float* out, int m, int n,
                       int row0, int column0) {
    int lane = block::rank() & 31, g = lane >> 2, t = lane & 3;
    bool aligned = n % 4 == 0 && reinterpret_cast<uintptr_t>(out) % 16 == 0;
#pragma unroll
    for (int i = 0; i < kGroupsM; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) {  // the lane's four rows
        int row = row0 + i * mma::kGroup + 4 * g + e;
        if (row >= m) continue;
        float* to = out + static_cast<int64_t>(row) * n;
#pragma unroll
        for (int j = 0; j < kGroupsN; j++)
#pragma unroll
          for (int four = 0; four < 2; four++) {
            int column = column0 + j * mma::kGroup + 8 * t + 4 * four, at = e % 2 * 2 + four;
            const auto& c = sums[i][j].c[e / 2];
            if (aligned && column < n) {
              *reinterpret_cast<float4*>(to + column) =
                  make_float4(c[0][at], c[1][at], c[2][at], c[3][at]);
            } else {
#pragma unroll
              for (int o = 0; o < mma::kOctets; o++)
                if (column + o < n) to[column + o] = c[o][at];
            }
          }
      }
  }

  FN static void run(const Arguments& v, const Shape& shape, int parts, int64_t part_stride,
                     uint32_t shared) {
    const Geometry g = Pass::geometry(shape);
    int m = Pass::m(g), n = Pass::n(g), depth = Pass::depth(g);
    int across = (n + kN - 1) / kN, down = (m + kM - 1) / kM;
    int part = block::id() / (across * down), tile = block::id() - part * (across * down);
    int row0 = tile / across * kM, column0 = tile % across * kN;
    int tiles = (depth + mma::kDepth - 1) / mma::kDepth, each = (tiles + parts - 1) / parts;
    int first = part * each, last = min(first + each, tiles);

    const GatherA gather_a(g, row0);
    const GatherB gather_b(g, column0);
    const float* a[In::kA];
    const float* b[In::kB];
    a[0] = v.a, b[0] = v.b;
    if constexpr (In::kTangentA) a[1] = v.at;
    if constexpr (In::kTangentB) b[1] = v.bt;
    auto fetch = [&](int at, int stage) {
      if (at < last) {
        gather_a(g, a, at * mma::kDepth, shared + stage * kStage);
        gather_b(g, b, at * mma::kDepth, shared + stage * kStage + kStageA);
      }
      mma::commit();
    };

    int warp = block::rank() / 32, warp_row = warp % 2 * T::kM, warp_column = warp / 2 * T::kN;
    const ReadA read_a(warp_row);
    const ReadB read_b(warp_column);
    Sums sums = {};
#pragma unroll
    for (int s = 0; s < T::kStages - 1; s++) fetch(first + s, s);
    int stage = 0, ahead = T::kStages - 1;
#pragma unroll 1
    for (int at = first; at < last; at++) {
      mma::wait<T::kStages - 2>();
      block::sync();  // this stage is there for all threads, and all are done with the one `ahead`
      fetch(at + T::kStages - 1, ahead);
      multiply(shared + stage * kStage, read_a, read_b, sums);
      stage = stage + 1 == T::kStages ? 0 : stage + 1;
      ahead = ahead + 1 == T::kStages ? 0 : ahead + 1;
    }

    int64_t skip = part * part_stride;
    int row = row0 + warp_row, column = column0 + warp_column;
    if constexpr (In::kPrimalOut) store(sums[0], v.out + skip, m, n, row, column);
    if constexpr (In::kTangentOut) store(sums[In::kOut - 1], v.out_t + skip, m, n, row, column);
  }
};

template <class Pass, Precision P, Mode kMode, class T>
FN void launch(const Arguments& v, const Shape& g, int parts, int64_t part_stride) {
  extern __shared__ __align__(128) unsigned char tiles[];
  Kernel<Pass, P, kMode, T>::run(v, g, parts, part_stride, mma::shared_address(tiles));
}

}  // namespace conv

// The kernels of one precision, conv_<pass>_<precision>_<mode>_<tile>:
//
//   pass       forward, backward_data, backward_weight
//   precision  f32, bf16, tf32                     (mma.cuh)
//   mode       one, dual_a, dual_b, dual, tangent  (Mode)
//   tile       wide   a block makes 128 x 128 of the output, or 128 x 64 (Wide)
//              small  64 x 64
//              any    64 x 64, channels and addresses that are no multiples of 16 bytes
//
// There is no any of dual_a and dual_b, which two launches of one do, and no wide of f32 but one.
// All take A, A', B, B', out, out' (mode says which are there), the geometry, the number of parts
// of the sum and the elements from one part of the output to the next. gocp/kernel/convgpu.go picks
// the tile and says how much shared memory its stages take.
#define CONV(name, pass, precision, mode, tile)                                                   \
  extern "C" __global__ void __launch_bounds__(conv::kThreads, 2)                                 \
      name(const float* a, const float* at, const float* b, const float* bt, float* out,          \
           float* out_t, int n, int h, int w, int c, int k, int r, int s, int stride, int pad,    \
           int oh, int ow, int parts, int64_t part_stride) {                                      \
    conv::launch<conv::pass, mma::precision, conv::mode, conv::tile<mma::precision, conv::mode>>( \
        {a, at, b, bt, out, out_t}, {n, h, w, c, k, r, s, stride, pad, oh, ow}, parts,            \
        part_stride);                                                                             \
  }
#define CONV_PASS(name, pass, precision)                       \
  CONV(name##_one_small, pass, precision, kOne, Small)         \
  CONV(name##_dual_a_small, pass, precision, kDualA, Small)    \
  CONV(name##_dual_b_small, pass, precision, kDualB, Small)    \
  CONV(name##_dual_small, pass, precision, kDual, Small)       \
  CONV(name##_tangent_small, pass, precision, kTangent, Small) \
  CONV(name##_one_any, pass, precision, kOne, Any)             \
  CONV(name##_dual_any, pass, precision, kDual, Any)           \
  CONV(name##_tangent_any, pass, precision, kTangent, Any)     \
  CONV(name##_one_wide, pass, precision, kOne, Wide)
#define CONV_PASS_WIDE(name, pass, precision)             \
  CONV(name##_dual_a_wide, pass, precision, kDualA, Wide) \
  CONV(name##_dual_b_wide, pass, precision, kDualB, Wide) \
  CONV(name##_dual_wide, pass, precision, kDual, Wide)    \
  CONV(name##_tangent_wide, pass, precision, kTangent, Wide)
#define CONV_PRECISION(list, name, precision)                                                    \
  list(conv_forward_##name, Forward, precision) list(conv_backward_data_##name, Data, precision) \
      list(conv_backward_weight_##name, Weight, precision)
