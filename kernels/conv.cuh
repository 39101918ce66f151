// Convolutions as products of matrices that are never stored (implicit GEMM), in dual numbers.
//
// Activations x [n,h,w,G,c], y [n,oh,ow,G,k], weights w [G,k,r,s,c], for each of G groups;
// out [M,N] = sum over k of A B:
//
//   pass      out   M                    N        sum over    A              B
//   Forward   y     pixels y             k        (r,s,c)     patches of x   w
//   Data      dx    pixels x of a class  c        (r,s,k)     windows of dy  w
//   Weight    dw    k                    (r,s,c)  pixels y    dy             patches of x
//
// Data: the taps that reach an input pixel depend on its residues modulo the stride, so each pair
// of residues is a product of its own, over its own taps: nothing is multiplied by zero.
//
// Dual numbers: `dual` makes A B and A' B + A B' from tiles of A, A', B, B' that are copied once.
// Where nothing is shared the plain kernel does it: A B and A' B (or A B') are two planes of one
// grid, and A' B + A B' alone (primals known) is one sum that is twice as long.
//
// Operands are copied 16 bytes at a time: 4 channels of float32, or 8 of bf16, innermost. Where
// channels or addresses are no multiples of that, and in kBF16 always, conv_pack makes a copy first
// (c, k are then rounded up, with zeros; c_real, k_real are what they were). The weights' gradient
// has rows of c too, from which conv_sum takes c_real.
//
// Addresses. That of an element is offset(row) + offset(k), and it exists unless flags(row) &
// flags(k): pixels flag the taps that would leave the image, taps flag themselves. A thread keeps
// the rows' part in registers. The other part is tabulated in shared memory some tiles ahead, so
// that a copy in the main loop costs a test and an addition. Rows outside a matrix repeat its last
// one; their products are not stored. k outside are zeros.
//
// Rounding. kTF32: the tensor cores cut operands to 11 bits, x becomes x (1 - d), 0 <= d < 2^-10,
// on the average over mantissas (1 / m distributed) 0.361 2^-10. Results are multiplied by kRestore
// = 1 + 2 · 0.361 2^-10, which leaves each product within 1.3 2^-10 and random errors of 2^-11.7 in
// the root mean square: what rounding would leave, without its instructions. kF32: x = big + small,
// cut in the same way; small · small and what is cut off small are lost, less than 3 2^-20 a
// product, 2^-21 on the average. kBF16: rounded to nearest by conv_pack.
//
// Block: 4 warps over a tile of the output; grid: tiles (N fastest), classes of residues, groups,
// planes, parts of the sum, in this order. A part is written at its own place and conv_sum adds
// them in order: no atomics, and the bits depend on the shape and the launch's numbers alone.
// Pipeline: kStages tiles of 128 bytes of k, by cp.async; one barrier a tile.
// Limits: r, s <= 15; fewer than 2^31 elements an operand.
//
// Bytes: gocp/kernel/convgpu.go (Conv.GPUTraffic). FLOPs: 2 M N K a product, of which a dual pass
// has 2 or 3; three times that on the tensor cores in kF32. Source: Chetlur et al. 2014 (cuDNN);
// layouts of tiles in shared memory: mma.cuh.
#pragma once
#include "mma.cuh"

namespace gemm {

using mma::Precision;

constexpr int kThreads = 128;
constexpr int kMaxTaps = 15;
constexpr int kStages = 2;
constexpr uint32_t kOutside = 1u << 31, kAny = 1u << 30;
constexpr float kRestore = 1.0007045f;

// What a launch is of: c and k are those of a group's operands, c_real and k_real those of results.
struct Shape {
  int n, h, w, c, k, r, s, stride, pad, oh, ow, groups, c_real, k_real;

  FN int filter() const { return r * s * c; }
  FN int x_step() const { return groups * c; }  // from pixel to pixel
  FN int y_step() const { return groups * k; }
};

// One part of an address, in elements, and of the condition for it. Bits 0-14 and 15-29 of the
// flags are taps in r and in s; kOutside meets a k that is outside, kAny every k.
struct Place {
  int offset;
  uint32_t flags;
};

// The taps outside lo … hi-1.
FN uint32_t taps_but(int lo, int hi) {
  lo = min(max(lo, 0), kMaxTaps), hi = min(max(hi, 0), kMaxTaps);
  return ~(((1u << hi) - 1) & ~((1u << lo) - 1)) & ((1u << kMaxTaps) - 1);
}
FN uint32_t both(uint32_t taps_r, uint32_t taps_s) { return taps_r | taps_s << kMaxTaps; }

// The patch of x under output pixel i, and element j = (r,s,c) of a patch.
FN Place patch(const Shape& g, int i) {
  int ox = i % g.ow, rest = i / g.ow, oy = rest % g.oh, image = rest / g.oh;
  int y = oy * g.stride - g.pad, x = ox * g.stride - g.pad;
  return {((image * g.h + y) * g.w + x) * g.x_step(),
          both(taps_but(-y, g.h - y), taps_but(-x, g.w - x))};
}
FN Place in_patch(const Shape& g, int j) {
  int tap = j / g.c, ty = tap / g.s, tx = tap - ty * g.s;
  return {(ty * g.w + tx) * g.x_step() + j - tap * g.c, both(1u << ty, 1u << tx)};
}

// A pass: which operand has k innermost in memory, and which has rows with flags; extents; places
// of rows (of M and N) and of k; what a table's entry holds; where a row of the output begins.
// `tile`, an index among the tiles of all classes, becomes one among those of the class.

struct Forward {
  static constexpr bool kInnermostA = true, kInnermostB = true, kFlagsA = true;
  static constexpr int kTableBytes = 1024;
  using Entry = Place;  // of a chunk of k

  Shape g;
  template <int kM, int kN>
  FN static Forward of(const Shape& g, int&) {
    return {g};
  }
  FN int m() const { return g.n * g.oh * g.ow; }
  FN int n() const { return g.k_real; }
  FN int depth() const { return g.filter(); }
  FN Place row_flags(int i) const { return patch(g, min(i, m() - 1)); }
  FN int row(int i) const { return min(i, g.k - 1) * g.filter(); }
  FN int rows() const { return g.k; }
  FN Entry entry(int j) const { return in_patch(g, j); }
  static constexpr bool kLinear = true;
  FN int step() const { return 1; }  // from k to k of the plain operand
  FN int group_a(int i) const { return i * g.c; }
  FN int group_b(int i) const { return i * g.k * g.filter(); }
  FN int group_out(int i) const { return i * g.k_real; }
  FN int out_row(int i) const { return i * g.groups * g.k_real; }
  FN bool vectors() const { return g.k_real % 4 == 0; }
};

struct Data {
  static constexpr bool kInnermostA = true, kInnermostB = false, kFlagsA = true;
  static constexpr int kTableBytes = 1024;
  struct alignas(16) Entry {  // of a chunk of k
    int offset;
    uint32_t flags;
    int plain, unused;  // the weights' part of the address
  };

  // Input pixels y0 + stride u, u < high, whose taps are t0 + stride j, j < taps; the first of them
  // reaches output row q + u. The same in x.
  struct Line {
    int t0, y0, high, taps, q;
    FN Line(int residue, int stride, int pad, int size, int filter) : t0(residue) {
      y0 = (residue + stride - pad % stride) % stride;
      high = y0 < size ? (size - y0 - 1) / stride + 1 : 0;
      taps = residue < filter ? (filter - residue - 1) / stride + 1 : 0;
      q = (y0 + pad - residue) / stride;
    }
  };
  Shape g;
  Line y, x;

  template <int kM, int kN>
  FN static Data of(const Shape& g, int& tile) {
    int across = (g.c_real + kN - 1) / kN;
#pragma unroll 1
    for (int i = 0;; i++) {
      int ry = i / g.stride, rx = i - ry * g.stride;
      Data d = {g, Line(ry, g.stride, g.pad, g.h, g.r), Line(rx, g.stride, g.pad, g.w, g.s)};
      int tiles = (d.m() + kM - 1) / kM * across;
      if (tile < tiles) return d;
      tile -= tiles;
    }
  }
  FN int m() const { return g.n * y.high * x.high; }
  FN int n() const { return g.c_real; }
  FN int depth() const { return y.taps * x.taps * g.k; }
  FN Place row_flags(int i) const {
    i = min(i, m() - 1);
    int v = i % x.high, rest = i / x.high, u = rest % y.high, image = rest / y.high;
    int oy = y.q + u, ox = x.q + v;
    return {((image * g.oh + oy) * g.ow + ox) * g.y_step(),
            both(taps_but(oy - g.oh + 1, oy + 1), taps_but(ox - g.ow + 1, ox + 1))};
  }
  FN int row(int i) const { return i; }
  FN int rows() const { return g.c; }
  FN Entry entry(int j) const {
    int tap = j / g.k, channel = j - tap * g.k, ty = tap / x.taps, tx = tap - ty * x.taps;
    return {channel - (ty * g.ow + tx) * g.y_step(), both(1u << ty, 1u << tx),
            channel * g.filter() + ((y.t0 + g.stride * ty) * g.s + x.t0 + g.stride * tx) * g.c, 0};
  }
  static constexpr bool kLinear = false;
  FN int step() const { return g.filter(); }  // within a chunk of k
  FN int group_a(int i) const { return i * g.k; }
  FN int group_b(int i) const { return i * g.k * g.filter(); }
  FN int group_out(int i) const { return i * g.c_real; }
  FN int out_row(int i) const {
    int v = i % x.high, rest = i / x.high, u = rest % y.high, image = rest / y.high;
    return ((image * g.h + y.y0 + g.stride * u) * g.w + x.y0 + g.stride * v) * g.groups * g.c_real;
  }
  FN bool vectors() const { return g.c_real % 4 == 0; }
};

struct Weight {
  static constexpr bool kInnermostA = false, kInnermostB = false, kFlagsA = false;
  static constexpr int kTableBytes = 2048;
  using Entry = Place;  // of a k

  Shape g;
  template <int kM, int kN>
  FN static Weight of(const Shape& g, int&) {
    return {g};
  }
  FN int m() const { return g.k_real; }
  FN int n() const { return g.filter(); }
  FN int depth() const { return g.n * g.oh * g.ow; }
  FN Place row_flags(int i) const { return in_patch(g, i < g.filter() ? i : 0); }
  FN int row(int i) const { return i; }
  FN int rows() const { return g.k; }
  FN Entry entry(int j) const { return patch(g, j); }
  static constexpr bool kLinear = true;
  FN int step() const { return g.y_step(); }
  FN int group_a(int i) const { return i * g.k; }
  FN int group_b(int i) const { return i * g.c; }
  FN int group_out(int i) const { return i * g.k_real * g.filter(); }
  FN int out_row(int i) const { return i * g.filter(); }
  FN bool vectors() const { return true; }
};

// A warp's part of the output, kM by kN, and how many warps there are along both.
template <int kM_, int kN_, int kWarpsM_, int kWarpsN_>
struct Tile {
  static constexpr int kM = kM_, kN = kN_, kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
};

// What a thread copies of a tile of kRows rows: rows row(i) at k(j), each 16 bytes. Eight threads
// share a row's 128 bytes, or 128 bytes of a k.
template <bool kInnermost, int kBytes, int kRows>
struct Copy {
  static constexpr int kChunk = 16 / kBytes;  // elements
  static constexpr int kRowCount = kInnermost ? kRows / 16 : kRows / (8 * kChunk);
  static constexpr int kDepthCount = kInnermost ? 1 : kChunk / 2;

  FN static int across() { return block::rank() % 8; }
  FN static int down() { return block::rank() / 8; }
  FN static int row(int i) { return kInnermost ? down() + 16 * i : (across() + 8 * i) * kChunk; }
  FN static int k(int j) { return kInnermost ? across() * kChunk : down() + 16 * j; }

  // Where they go, in bytes (mma.cuh: chunks are permuted); `base` is base() in the tile.
  FN static uint32_t base() {
    int a = across(), d = down();
    if constexpr (kInnermost) return d * 128 + ((a ^ (d >> 2)) << 4);
    return d * kRows * kBytes + ((a ^ (kBytes == 2 ? d & 7 : 2 * (d & 3))) << 4);
  }
  FN static uint32_t to(uint32_t base, int i, int j) {
    if constexpr (kInnermost) return (base ^ (i % 2 << 6)) + i * (16 * 128);
    return base + i * 128 + j * (16 * kRows * kBytes);
  }
};

template <bool, class Yes, class>
struct Either {
  using Type = Yes;
};
template <class Yes, class No>
struct Either<false, Yes, No> {
  using Type = No;
};

// The operands and results of a launch. In the plain kernel the second ones are those of a second
// plane or of the second half of a sum, in the dual kernel the tangents.
struct Arguments {
  const unsigned char *a, *a2, *b, *b2;
  float *out, *out2;
};
struct Grid {
  int blocks;    // tiles of a group
  int planes;    // 1 or 2
  int segments;  // of the sum: 1 or 2
  int parts;     // that sums are split into
  int64_t part_step;
};

template <class Pass, Precision P, bool kDual, class T>
struct Kernel {
  static constexpr int kBytes = P == mma::kBF16 ? 2 : 4, kChunk = 16 / kBytes, kDepth = 8 * kChunk;
  static constexpr int kM = T::kM * T::kWarpsM, kN = T::kN * T::kWarpsN;  // the block's tile
  static constexpr int kGroupsM = T::kM / mma::kGroup, kGroupsN = T::kN / mma::kGroup;
  static constexpr int kPlanes = kDual ? 2 : 1;
  static_assert(T::kWarpsM * T::kWarpsN * 32 == kThreads, "four warps");

  using CopyA = Copy<Pass::kInnermostA, kBytes, kM>;
  using CopyB = Copy<Pass::kInnermostB, kBytes, kN>;
  // The rows of the products are those of A; or those of B (kTurned), where B is the one with k
  // outermost, which takes fewer loads as rows.
  static constexpr bool kTurned = kBytes == 4 && Pass::kInnermostA && !Pass::kInnermostB;
  using ReadA = mma::Loader<P, kTurned ? mma::kB : mma::kA, Pass::kInnermostA, kM>;
  using ReadB = mma::Loader<P, kTurned ? mma::kA : mma::kB, Pass::kInnermostB, kN>;
  using Flagged = typename Either<Pass::kFlagsA, CopyA, CopyB>::Type;
  using Plain = typename Either<Pass::kFlagsA, CopyB, CopyA>::Type;
  static constexpr int kPlaneA = kM * 128, kPlaneB = kN * 128;
  static constexpr int kStage = kPlanes * (kPlaneA + kPlaneB);
  using Sums = mma::Accumulator[kPlanes][kGroupsM][kGroupsN];
  // The main loop takes two tiles a turn, so that places in either stage are known ahead: not where
  // products are three, whose share of it is high as it is, nor where registers do not suffice.
  static constexpr bool kPairs = P != mma::kF32 && !(kDual && Pass::kFlagsA && !Pass::kInnermostB);

  // The table: two halves, of which one is written while the other may still be read.
  using Entry = typename Pass::Entry;
  static constexpr bool kChunks = Pass::kInnermostA;  // an entry is of a chunk of k, not of one k
  static constexpr int kPerTile = kChunks ? 8 : kDepth;
  static constexpr int kHalf = Pass::kTableBytes / 2 / static_cast<int>(sizeof(Entry));
  static constexpr int kAhead = kHalf / kPerTile;  // tiles in a half
  static_assert(kAhead >= 1 && kStages == 2, "the first tiles come from the first half");

  // Rows that a thread copies: offsets, and flags of the operand that has them. Rows of the other
  // one lie 128 bytes apart where k is outermost: then there is one offset, and flags that are met
  // by any entry where a row is outside.
  static constexpr bool kEven = !(Pass::kFlagsA ? Pass::kInnermostB : Pass::kInnermostA);
  struct Rows {
    int plain[kEven ? 1 : Plain::kRowCount];
    uint32_t outside[kEven ? Plain::kRowCount : 1];
    Place flagged[Flagged::kRowCount];
  };

  // The table's entries of the chunks or ks of one tile that a thread copies, from the tile's first
  // in shared memory; where both operands are copied alike, from the thread's first.
  FN static int entry_of(int k) { return kChunks ? k / kChunk : k; }
  FN static int own_entry() { return Pass::kLinear ? entry_of(Plain::k(0)) : 0; }
  template <class C>
  struct Entries {
    Entry e[C::kDepthCount];
    FN explicit Entries(uint32_t tile) {
#pragma unroll
      for (int j = 0; j < C::kDepthCount; j++)
        read(tile + (Pass::kLinear ? entry_of(16 * j) : entry_of(C::k(j))) * sizeof(Entry), e[j]);
    }
  };
  FN static void read(uint32_t from, Place& e) {
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];"
                 : "=r"(e.offset), "=r"(e.flags)
                 : "r"(from)
                 : "memory");
  }
  FN static void read(uint32_t from, Data::Entry& e) {
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(e.offset), "=r"(e.flags), "=r"(e.plain), "=r"(e.unused)
                 : "r"(from)
                 : "memory");
  }

  // Starts the copies of a tile of the operand with flags.
  FN static void copy(const Rows& rows, const Entries<Flagged>& entries,
                      const unsigned char* const* planes, uint32_t to, int plane) {
#pragma unroll
    for (int j = 0; j < Flagged::kDepthCount; j++) {
      const unsigned char* from[kPlanes];
#pragma unroll
      for (int p = 0; p < kPlanes; p++) from[p] = fixed(planes[p] + at(entries.e[j].offset));
#pragma unroll
      for (int i = 0; i < Flagged::kRowCount; i++)
#pragma unroll
        for (int p = 0; p < kPlanes; p++)
          mma::copy(Flagged::to(to, i, j) + p * plane, from[p] + at(rows.flagged[i].offset),
                    (rows.flagged[i].flags & entries.e[j].flags) == 0);
    }
  }
  // And of the other one. `planes` point to the first of rows that lie 128 bytes apart, and to the
  // tile's first k if it is linear in k, 16 k of which are `step` elements.
  FN static void copy(int step, const Rows& rows, const Entries<Plain>& entries,
                      const unsigned char* const* planes, uint32_t to, int plane) {
#pragma unroll
    for (int j = 0; j < Plain::kDepthCount; j++) {
      const unsigned char* from[kPlanes];
#pragma unroll
      for (int p = 0; p < kPlanes; p++) {
        from[p] = fixed(planes[p] + at(Pass::kLinear ? j * step : of_plain(entries.e[j])));
      }
#pragma unroll
      for (int i = 0; i < Plain::kRowCount; i++)
#pragma unroll
        for (int p = 0; p < kPlanes; p++)
          mma::copy(Plain::to(to, i, j) + p * plane,
                    from[p] + (kEven ? 128 * i : at(rows.plain[i])),
                    (entries.e[j].flags & rows.outside[kEven ? i : 0]) == 0);
    }
  }
  FN static int of_plain(const Entry& e) {
    if constexpr (Pass::kLinear)
      return 0;
    else
      return e.plain;
  }
  FN static int64_t at(int elements) { return int64_t{kBytes} * elements; }
  // Keeps the compiler from adding the terms of addresses in an order that takes twice the steps.
  FN static const unsigned char* fixed(const unsigned char* p) {
    asm volatile("" : "+l"(p));
    return p;
  }

  // Adds the products of the stage that begins `stage` bytes behind the first.
  FN static void multiply(int stage, const ReadA& read_a, const ReadB& read_b, Sums& sums) {
    using OfA = mma::Fragments<P, kTurned ? mma::kB : mma::kA>;
    using OfB = mma::Fragments<P, kTurned ? mma::kA : mma::kB>;
    auto add = [](mma::Accumulator& sum, const OfA& a, const OfB& b) {
      if constexpr (kTurned)
        mma::multiply<P>(sum, b, a);
      else
        mma::multiply<P>(sum, a, b);
    };
#pragma unroll
    for (int step = 0; step < 4; step++) {
      OfB b[kGroupsN][kPlanes];
#pragma unroll
      for (int j = 0; j < kGroupsN; j++)
#pragma unroll
        for (int p = 0; p < kPlanes; p++)
          b[j][p] = read_b(stage + kPlanes * kPlaneA + p * kPlaneB, j, step);
#pragma unroll
      for (int i = 0; i < kGroupsM; i++) {
        OfA a = read_a(stage, i, step);
#pragma unroll
        for (int j = 0; j < kGroupsN; j++) {
          add(sums[0][i][j], a, b[j][0]);
          if constexpr (kDual) add(sums[1][i][j], a, b[j][1]);
        }
        if constexpr (kDual) {
          a = read_a(stage + kPlaneA, i, step);
#pragma unroll
          for (int j = 0; j < kGroupsN; j++) add(sums[1][i][j], a, b[j][0]);
        }
      }
    }
  }

  // This thread, and where its warp's part of the block's tile begins: worked out anew where they
  // are needed, like Work.
  FN static int thread() {
    int rank = block::rank();
    asm volatile("" : "+r"(rank));
    return rank;
  }
  FN static int warp_row() { return thread() / 32 % T::kWarpsM * T::kM; }
  FN static int warp_column() { return thread() / 32 / T::kWarpsM * T::kN; }

  // Goes through this lane's results in its warp's part of the block's tile: f(at, column, values)
  // of each kRun neighbouring columns, where at(row) gives what f is told of the row, or -1 to pass
  // it.
  static constexpr int kRun = ReadB::kSpread ? 4 : 2;
  template <class At, class F>
  FN static void each(const mma::Accumulator (&sums)[kGroupsM][kGroupsN], At at, F f) {
    constexpr float kScale = P == mma::kTF32 ? kRestore : 1;
    int lane = thread() & 31, g = lane >> 2, t = lane & 3;
    // The lane's two positions along one of the indices, and its one along the other.
#pragma unroll
    for (int i = 0; i < kGroupsM; i++)
#pragma unroll
      for (int r = 0; r < (kTurned ? 8 : 4); r++) {
        int row = kTurned ? ReadA::row(2 * t + r % 2, r / 2) : ReadA::row(g, r);
        int start = at(i * mma::kGroup + row);
        if (start < 0) continue;
#pragma unroll
        for (int j = 0; j < kGroupsN; j++) {
          const auto& c = sums[i][j].c;
          if constexpr (ReadB::kSpread) {
#pragma unroll
            for (int e = 0; e < (kTurned ? 1 : 2); e++) {
              int position = kTurned ? g : 2 * t + e;
              float v[4];  // by octets
#pragma unroll
              for (int o = 0; o < 4; o++)
                v[o] = kScale *
                       (kTurned ? c[o / 2][r / 2][o % 2 * 2 + r % 2] : c[r / 2][o][r % 2 * 2 + e]);
              turn(v, ReadB::turn(position));
              f(start, j * mma::kGroup + 4 * position, v);
            }
          } else {
#pragma unroll
            for (int o = 0; o < 4; o++) {
              const float v[2] = {kScale * c[r / 2][o][r % 2 * 2],
                                  kScale * c[r / 2][o][r % 2 * 2 + 1]};
              f(start, j * mma::kGroup + 8 * o + 2 * t, v);
            }
          }
        }
      }
  }
  // Writes kRun neighbouring elements of a row, those of them before column n.
  FN static void put(float* to, int column, int n, const float (&v)[kRun], bool vectors) {
    if (vectors && column < n) {
      if constexpr (kRun == 4)
        *reinterpret_cast<float4*>(to + column) = make_float4(v[0], v[1], v[2], v[3]);
      else
        *reinterpret_cast<float2*>(to + column) = make_float2(v[0], v[1]);
    } else {
#pragma unroll
      for (int o = 0; o < kRun; o++)
        if (column + o < n) to[column + o] = v[o];
    }
  }
  // Writes this warp's part of one output. starts[row] is where a row of the block's tile begins,
  // -1 outside the matrix.
  FN static void store(const Pass& pass, const mma::Accumulator (&sums)[kGroupsM][kGroupsN],
                       float* out, const int* starts, int column0) {
    int n = pass.n();
    bool vectors = pass.vectors() && reinterpret_cast<uintptr_t>(out) % 16 == 0;
    starts += warp_row();
    each(
        sums, [&](int row) { return starts[row]; },
        [&](int start, int column, const float(&v)[kRun]) {
          put(out + start, column0 + column, n, v, vectors);
        });
  }
  // v[o] = v[o ^ by]
  FN static void turn(float (&v)[4], int by) {
    float w[4];
#pragma unroll
    for (int o = 0; o < 4; o++) w[o] = by & 1 ? v[o ^ 1] : v[o];
#pragma unroll
    for (int o = 0; o < 4; o++) v[o] = by & 2 ? w[o ^ 2] : w[o];
  }

  // What a block does, from its number. It is worked out anew where it is needed, so that it takes
  // no registers in the main loop.
  struct Work {
    int plane, part, group, tiles, first, last, row0, column0;
    Pass pass;

    FN static Work of(const Shape& shape, const Grid& grid) {
      int id = block::id();
      asm volatile("" : "+r"(id));  // not what is known already
      int unit = id / grid.blocks, tile = id - unit * grid.blocks, group = unit % shape.groups;
      unit /= shape.groups;
      int part = unit / grid.planes;
      const Pass pass = Pass::template of<kM, kN>(shape, tile);
      int across = (pass.n() + kN - 1) / kN, tiles = (pass.depth() + kDepth - 1) / kDepth;
      int all = grid.segments * tiles, each = (all + grid.parts - 1) / grid.parts;
      return {unit - part * grid.planes,
              part,
              group,
              tiles,
              part * each,
              min((part + 1) * each, all),
              tile / across * kM,
              tile % across * kN,
              pass};
    }
  };

  FN static Entry* table_in(unsigned char* memory) {
    return reinterpret_cast<Entry*>(memory + kStages * kStage);
  }

  FN static void clear(Sums& sums) {
#pragma unroll
    for (int p = 0; p < kPlanes; p++)
#pragma unroll
      for (int i = 0; i < kGroupsM; i++)
#pragma unroll
        for (int j = 0; j < kGroupsN; j++) sums[p][i][j] = {};
  }
  // The block's part of the sums. They are set to zero only where the main loop begins, so that
  // they take no registers before.
  FN static void sum(const Arguments& v, const Shape& shape, const Grid& grid,
                     unsigned char* memory, Sums& sums) {
    const Work work = Work::of(shape, grid);
    Entry* table = table_in(memory);
    if (work.first >= work.last) {
      clear(sums);
    } else {
      const Pass& pass = work.pass;
      int row0 = work.row0, column0 = work.column0;
      // Places of the rows, worked out once by all threads together.
      Rows rows;
      constexpr int kUnit = Pass::kFlagsA && Pass::kInnermostA ? 1 : kChunk;
      Place* places = reinterpret_cast<Place*>(memory);
#pragma unroll 1
      for (int i = block::rank(); i < (Pass::kFlagsA ? kM : kN) / kUnit; i += kThreads)
        places[i] = pass.row_flags((Pass::kFlagsA ? row0 : column0) + i * kUnit);
      block::sync();
#pragma unroll
      for (int i = 0; i < Flagged::kRowCount; i++) {
        rows.flagged[i] = places[Flagged::row(i) / kUnit];
        rows.flagged[i].flags |= kOutside;
      }
      // What the table's entry (of a chunk of k), or the tile's first k, leaves to be added.
      int beyond = (Pass::kLinear ? Plain::k(0) : Plain::k(0) % kChunk) * pass.step();
      int row = (Pass::kFlagsA ? column0 : row0) + Plain::row(0);
#pragma unroll
      for (int i = 0; i < Plain::kRowCount; i++)
        if (i == 0 || !kEven)
          rows.plain[i] = pass.row(row + Plain::row(i) - Plain::row(0)) + beyond;
#pragma unroll
      for (int i = 0; i < (kEven ? Plain::kRowCount : 1); i++) {
        uint32_t flags = !kEven || row + 8 * kChunk * i < pass.rows() ? kOutside : kAny;
        // Out of the compiler's sight, which would test one bit in five steps.
        asm volatile("mov.u32 %0, %1;" : "=r"(rows.outside[i]) : "r"(flags));
      }

      const unsigned char *flagged[kPlanes], *plain[kPlanes];
      int step = 16 * pass.step();
      if constexpr (kEven && Pass::kLinear) asm volatile("" : "+r"(step));  // to be kept

      // The tile to be fetched next, how many more of them the table holds, and where.
      int next = work.first, left = 0, half = 0;
      uint32_t entries = 0;
      auto refill = [&] {
        const Work work = Work::of(shape, grid);
        const Pass& pass = work.pass;
        int second = next >= work.tiles, done = second ? next - work.tiles : next;
        int k0 = done * kDepth, depth = pass.depth();
        int64_t skip_a = at(pass.group_a(work.group)), skip_b = at(pass.group_b(work.group));
        const unsigned char *a[2], *b[2];
        bool other = second || work.plane;
        a[0] = (!kDual && other ? v.a2 : v.a) + skip_a, a[1] = v.a2 + skip_a;
        b[0] = (!kDual && other ? v.b2 : v.b) + skip_b, b[1] = v.b2 + skip_b;
#pragma unroll
        for (int p = 0; p < kPlanes; p++) {
          flagged[p] = Pass::kFlagsA ? a[p] : b[p];
          plain[p] = Pass::kFlagsA ? b[p] : a[p];
          if constexpr (Pass::kLinear) plain[p] += at(k0) * pass.step();
          if constexpr (kEven) plain[p] += at(rows.plain[0]);
        }
        half ^= kHalf;
        entries = mma::shared_address(table + half + own_entry());
#pragma unroll 1
        for (int i = block::rank(); i < kHalf; i += kThreads) {
          int k = k0 + (kChunks ? i * kChunk : i);
          Entry e = {};
          e.flags = kOutside;
          if (k < depth && next + i / kPerTile < work.last) e = pass.entry(k);
          e.flags |= kAny;
          table[half + i] = e;
        }
        left = next < work.last ? min(kAhead, work.tiles - done) : kAhead;
      };
      uint32_t shared = mma::shared_address(memory);
      uint32_t to_a = shared + CopyA::base(), to_b = shared + kPlanes * kPlaneA + CopyB::base();
      auto fetch = [&](int stage) {
        const Entries<Flagged> of_flagged(entries);
        const Entries<Plain> of_plain(entries);
        copy(rows, of_flagged, flagged, (Pass::kFlagsA ? to_a : to_b) + stage,
             Pass::kFlagsA ? kPlaneA : kPlaneB);
        copy(step, rows, of_plain, plain, (Pass::kFlagsA ? to_b : to_a) + stage,
             Pass::kFlagsA ? kPlaneB : kPlaneA);
        mma::commit();
        entries += kPerTile * sizeof(Entry);
        if constexpr (Pass::kLinear) {
#pragma unroll
          for (int p = 0; p < kPlanes; p++) plain[p] += at(kDepth / 16 * step);
        }
      };

      const ReadA read_a(shared, warp_row());
      const ReadB read_b(shared, warp_column());
      int stage = 0;
      bool begun = false;
      // Rounds of tiles that the table holds; the last fetch, of a tile behind the end, is zeros.
#pragma unroll 1
      for (int to_do = work.last - work.first; to_do > 0;) {
        if (left == 0) refill();
        if (!begun) {
          block::sync();  // the table is there, and all have read their rows' places
          fetch(0);
          clear(sums);
          next++, left--;
          begun = true;
          continue;
        }
        int round = min(left, to_do);
        left -= round, to_do -= round, next += round;
        auto work_on = [&](int stage) {
          mma::wait<kStages - 2>();
          block::sync();  // this stage is there for all threads, and all are done with the other
          fetch(kStage - stage);
          multiply(stage, read_a, read_b, sums);
        };
        if constexpr (kPairs) {
#pragma unroll 1
          for (; round > 0; round--) {
            if (stage == 0) {
              work_on(0);
              stage = kStage;
              if (--round == 0) break;
            }
            work_on(kStage);
            stage = 0;
          }
        } else {
#pragma unroll 1
          for (; round > 0; round--) {
            work_on(stage);
            stage = kStage - stage;
          }
        }
      }
      mma::wait<0>();
    }
  }

  FN static void run(const Arguments& v, const Shape& shape, const Grid& grid,
                     unsigned char* memory) {
    Sums sums;
    sum(v, shape, grid, memory, sums);
    const Work out = Work::of(shape, grid);
    int* starts = reinterpret_cast<int*>(table_in(memory));
    static_assert(kM * 4 <= Pass::kTableBytes, "a start for each row");
    block::sync();
#pragma unroll 1
    for (int i = block::rank(); i < kM; i += kThreads)
      starts[i] = out.row0 + i < out.pass.m() ? out.pass.out_row(out.row0 + i) : -1;
    block::sync();
    int64_t skip = out.part * grid.part_step + out.pass.group_out(out.group);
    int column = out.column0 + warp_column();
    store(out.pass, sums[0], (!kDual && out.plane ? v.out2 : v.out) + skip, starts, column);
    if constexpr (kDual) store(out.pass, sums[1], v.out2 + skip, starts, column);
  }
};

template <class Pass, Precision P, bool kDual, class T>
FN void launch(const Arguments& v, const Shape& g, const Grid& grid) {
  extern __shared__ __align__(128) unsigned char memory[];
  Kernel<Pass, P, kDual, T>::run(v, g, grid, memory);
}

}  // namespace gemm

// The kernels of one precision, conv_<pass>_<precision>_<tile>; a block's tile of the output:
//
//   wide   128 x 128
//   long   256 x 64, or 64 x 256 of the weights' gradient
//   dual   128 x 64, or 64 x 128, of a result and of its tangent
//
// gocp/kernel/convgpu.go picks the tile and says how much shared memory it takes.
#define CONV(name, pass, precision, dual, ...)                                                    \
  extern "C" __global__ void __launch_bounds__(gemm::kThreads, 2)                                 \
      name(const unsigned char* a, const unsigned char* a2, const unsigned char* b,               \
           const unsigned char* b2, float* out, float* out2, int n, int h, int w, int c, int k,   \
           int r, int s, int stride, int pad, int oh, int ow, int groups, int c_real, int k_real, \
           int blocks, int planes, int segments, int parts, int64_t part_step) {                  \
    gemm::launch<gemm::pass, mma::precision, dual, gemm::Tile<__VA_ARGS__>>(                      \
        {a, a2, b, b2, out, out2},                                                                \
        {n, h, w, c, k, r, s, stride, pad, oh, ow, groups, c_real, k_real},                       \
        {blocks, planes, segments, parts, part_step});                                            \
  }
// Of float32 data gradients there is wide alone: the others would not fit the registers.
#define CONV_PRECISION(name, precision)                                            \
  CONV(conv_forward_##name##_wide, Forward, precision, false, 64, 64, 2, 2)        \
  CONV(conv_forward_##name##_long, Forward, precision, false, 64, 64, 4, 1)        \
  CONV(conv_forward_##name##_dual, Forward, precision, true, 64, 32, 2, 2)         \
  CONV(conv_backward_data_##name##_wide, Data, precision, false, 64, 64, 2, 2)     \
  CONV(conv_backward_weight_##name##_wide, Weight, precision, false, 64, 64, 2, 2) \
  CONV(conv_backward_weight_##name##_long, Weight, precision, false, 64, 64, 1, 4) \
  CONV(conv_backward_weight_##name##_dual, Weight, precision, true, 64, 32, 1, 4)
#define CONV_DATA(name, precision)                                             \
  CONV(conv_backward_data_##name##_long, Data, precision, false, 64, 64, 4, 1) \
  CONV(conv_backward_data_##name##_dual, Data, precision, true, 64, 32, 2, 2)
