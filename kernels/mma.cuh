// Tensor cores: asynchronous copies into shared memory, fragments out of it, and products of
// fragments in three precisions. GPU only.
//
// Operands of Reader and Operand are float32 in memory and in shared memory whatever the precision;
// they are rounded on the way from a fragment to its product (Loader and Fragments, below, take
// them as they are):
//
//   kTF32   11 significant bits (round to nearest but for 0.2 of a unit, see near()); m16n8k8
//   kBF16   8 significant bits, round to nearest even; m16n8k16
//   kF32    x = big + small, both TF32; small·big + big·small + big·big; m16n8k8 ("3xTF32",
//           Ootomo & Yokota 2022; CUTLASS, OpMultiplyAddFastF32)
//
// Error of kF32. |small| <= 0.7 2^-10 |x| is exact before it is cut to 11 bits, which costs at most
// 2^-10 of it; the product small·small is dropped. So a product is off by less than
// (2 · 0.7 + 0.5) 2^-20 |a b| < 2^-19 |a b|, and by 2^-22 |a b| in the root mean square. Sums are
// float32. Inf times a number is NaN, where float32 has Inf.
//
// Fragments. A warp handles groups of 32 rows (of A, or of B transposed) by 8 of k. Lane 4 g + t
// holds, of rows 4 g + o, o = 0 … 3, the values at k = t and k = t + 4: f[o][0] and f[o][1]. Two
// neighbouring o are the two halves of an m16 tile, one o is an n8 tile. Any assignment of rows to
// tiles is a permutation of the result; this one gives a lane 8 neighbouring columns of it, and
// makes 16-byte reads of operands that are stored with k outermost.
//
// Tiles in shared memory hold kDepth of k. Sixteen-byte chunks are permuted so that neither copies
// nor fragments meet a bank twice:
//
//   k innermost   [rows][kDepth], chunk j of a row at j ^ (row / 4 mod 8)     (read by ldmatrix)
//   k outermost   [kDepth][rows], chunk j of a row of k at j ^ (2 (k mod 4))  (read 16 bytes a
//   lane)
#pragma once
#include "block.cuh"

namespace mma {

enum Precision { kF32 = 0, kBF16 = 1, kTF32 = 2 };

constexpr int kDepth = 32;  // of k in a tile
constexpr int kGroup = 32;  // rows in a group
constexpr int kOctets = kGroup / 8;

template <Precision P>
constexpr int kSteps = P == kBF16 ? 2 : 1;  // of 8, in one product
template <Precision P>
constexpr int kParts = P == kF32 ? 2 : 1;  // that a value is split into

FN uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Copies kBytes (16 past the first-level cache, or 4 through it) from global to shared memory, or
// zeros where `there` is false; `from` is not read then.
template <int kBytes>
FN void copy(uint32_t to, const void* from, bool there) {
  int bytes = there ? kBytes : 0;
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

// Closes this thread's batch of copies; wait<n> returns when all but the last n batches are there.
FN void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
FN void wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Where element (row, k) of a tile of `rows` lies, in bytes.
template <bool kInnermost>
FN uint32_t place(int row, int k, int rows) {
  if constexpr (kInnermost)
    return (row * kDepth + (((k >> 2) ^ (row >> 2 & 7)) << 2) + (k & 3)) * 4;
  else
    return (k * rows + (((row >> 2) ^ (2 * (k & 3))) << 2) + (row & 3)) * 4;
}

// A group of 32 rows by 8 of k.
struct Group {
  uint32_t f[kOctets][2];
};

// What a lane knows about reading groups from a tile of kRows rows, the first of them `row0`.
template <bool kInnermost, int kRows>
struct Reader {
  uint32_t at;  // of the lane, in bytes
  int chunk;    // k innermost: this lane's row mod 8, and in bit 3 which half of k it points to

  FN explicit Reader(int row0) {
    int lane = block::rank() & 31;
    if constexpr (kInnermost) {
      // ldmatrix: lanes 8 i … 8 i + 7 point to the rows of matrix i = 2 (octet) + (half of k).
      at = (row0 + 4 * (lane & 7) + (lane >> 4)) * kDepth * 4;
      chunk = (lane & 7) | (lane & 8);
    } else {
      int g = lane >> 2, t = lane & 3;
      at = (t * kRows + row0 + 4 * (g ^ (2 * t))) * 4;
      chunk = 0;
    }
  }

  // Group q of this warp's rows at k = 8 step … 8 step + 7.
  FN Group operator()(uint32_t tile, int q, int step) const {
    Group r;
    if constexpr (kInnermost) {
      uint32_t p =
          tile + at + q * (kGroup * kDepth * 4) + (((2 * step + (chunk >> 3)) ^ (chunk & 7)) << 4);
      for (int o = 0; o < kOctets; o += 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r.f[o][0]), "=r"(r.f[o][1]), "=r"(r.f[o + 1][0]), "=r"(r.f[o + 1][1])
                     : "r"(p + o * (kDepth * 4))
                     : "memory");
    } else {
      for (int half = 0; half < 2; half++)
        asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r.f[0][half]), "=r"(r.f[1][half]), "=r"(r.f[2][half]),
                       "=r"(r.f[3][half])
                     : "r"(tile + at + (8 * step + 4 * half) * (kRows * 4) + q * (kGroup * 4))
                     : "memory");
    }
    return r;
  }
};

// Tensor cores ignore the last 13 bits of a float32. x (1 + 0.7 2^-11) cut there is x rounded to
// within 0.7 of a unit, without bias on the average mantissa, and x itself if it has 11 bits; NaN
// and Inf stay what they are. One instruction, where cvt.rna is three.
FN float near(uint32_t x) { return block::to_float(x) * 1.00034179688f; }

// A group's operands of one product: 8 of k, or 16 in bf16.
template <Precision P>
struct Operand {
  uint32_t v[kParts<P>][kOctets][2];

  Operand() = default;
  // `read(step)` gives the group at the given step of 8 within the product.
  template <class Read>
  FN explicit Operand(Read read) {
    if constexpr (P == kBF16) {
      // Which k of the 16 a slot holds does not matter, as long as A and B agree.
      Group low = read(0), high = read(1);
      for (int o = 0; o < kOctets; o++) {
        v[0][o][0] = pack(low.f[o]);
        v[0][o][1] = pack(high.f[o]);
      }
    } else {
      Group g = read(0);
      for (int o = 0; o < kOctets; o++)
        for (int half = 0; half < 2; half++) {
          uint32_t rounded = block::to_bits(near(g.f[o][half]));
          if constexpr (P == kF32) {
            v[0][o][half] = rounded & 0xffffe000u;
            v[1][o][half] =
                block::to_bits(block::to_float(g.f[o][half]) - block::to_float(v[0][o][half]));
          } else {
            v[0][o][half] = rounded;
          }
        }
    }
  }

  FN static uint32_t pack(const uint32_t (&pair)[2]) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
        : "=r"(r)
        : "f"(block::to_float(pair[1])), "f"(block::to_float(pair[0])));
    return r;
  }
};

// The products of a group of A and a group of B: c[i][j] is m16 tile i by n8 tile j. Element e of
// it is row 4 g + 2 i + e / 2 and column 4 (2 t + e % 2) + j of the 32 by 32.
struct Accumulator {
  float c[2][kOctets][4];
};

template <Precision P>
FN void multiply_tile(float (&c)[4], const uint32_t (&a0)[2], const uint32_t (&a1)[2],
                      const uint32_t (&b)[2]) {
  if constexpr (P == kBF16)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0[0]), "r"(a1[0]), "r"(a0[1]), "r"(a1[1]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0[0]), "r"(a1[0]), "r"(a0[1]), "r"(a1[1]), "r"(b[0]), "r"(b[1]));
}

// sum += A Bᵀ, the small terms first.
template <Precision P>
FN void multiply(Accumulator& sum, const Operand<P>& a, const Operand<P>& b) {
  auto part = [&](int pa, int pb) {
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < kOctets; j++)
        multiply_tile<P>(sum.c[i][j], a.v[pa][2 * i], a.v[pa][2 * i + 1], b.v[pb][j]);
  };
  if constexpr (P == kF32) {
    part(1, 0);
    part(0, 1);
  }
  part(0, 0);
}

// Fragments in the order of registers in which the tensor cores take them, so that none is moved
// between its load and its products, from tiles of 128 bytes of k: 32 float32 or 64 bf16, in four
// steps of 8 or 16. bf16 is bf16 in memory; float32 goes to the tensor cores as it is, and they cut
// it to 11 bits (kTF32, kF32's big part; kF32's small part is what is cut off).
//
// A group's 32 rows are four octets of 8 positions. Which row that is, row(position, octet), is the
// loader's choice:
//
//   k innermost    4 position + octet                             ldmatrix
//   16 bits        8 octet + position                             ldmatrix.trans
//   32 bits, A     4 position + (octet ^ (position & 2))          8 bytes a lane: two rows at a k
//   32 bits, B     4 position + (octet ^ (position >> 1 & 3))     4 bytes a lane
//
// Tiles: k innermost and float32 with k outermost are as above, 16 bits with k outermost is
// [64][rows], chunk j (8 rows) of a row of k at j ^ (k mod 8). No bank is met twice.
enum Side { kA, kB };

template <Precision P, Side kSide>
struct Fragments {
  uint32_t v[kParts<P>][2 * kOctets];

  // Where the value of an octet at a half of k lies: A's are quadruples (two octets at one half, at
  // the other), B's pairs.
  FN static constexpr int at(int octet, int half) {
    return kSide == kA ? octet / 2 * 4 + 2 * half + octet % 2 : 2 * octet + half;
  }
  FN void set(int i, uint32_t x) {
    if constexpr (P == kF32) {
      v[0][i] = x & 0xffffe000u;
      v[1][i] = block::to_bits(block::to_float(x) - block::to_float(v[0][i]));
    } else {
      v[0][i] = x;
    }
  }
};

// Loads groups of a tile of kRows rows, the first of them `row0`: a multiple of 32, or of 64 where
// there are two groups.
template <Precision P, Side kSide, bool kInnermost, int kRows>
struct Loader {
  static constexpr int kBytes = P == kBF16 ? 2 : 4;
  static constexpr bool kMatrices = kInnermost || kBytes == 2;
  static constexpr bool kSpread = kInnermost || kBytes == 4;  // rows 4 position + …

  uint32_t at;  // of the lane, in bytes

  FN static int row(int position, int octet) {
    return kSpread ? 4 * position + (octet ^ turn(position)) : 8 * octet + position;
  }
  FN static int turn(int position) {
    if constexpr (kMatrices) return 0;
    return kSide == kA ? position & 2 : position >> 1 & 3;
  }

  FN explicit Loader(int row0) {
    int lane = block::rank() & 31;
    if constexpr (kMatrices) {
      // Lanes 8 i … 8 i + 7 point to the rows of the i-th 8 x 8 matrix.
      int l = lane & 7, i = lane >> 3;
      int octet = kSide == kA ? i & 1 : i >> 1, half = kSide == kA ? i >> 1 : i & 1;
      if constexpr (kInnermost)
        at = (row0 + 4 * l + octet) * 128 + ((half ^ l) << 4);
      else
        at = (8 * half + l) * kRows * 2 + ((((row0 >> 3) + octet) ^ l) << 4);
    } else {
      int g = lane >> 2, t = lane & 3;
      at = (t * kRows + row0 + 4 * (g ^ (2 * t)) + turn(g)) * 4;
    }
  }

  // Group q of the warp's rows at a step.
  FN Fragments<P, kSide> operator()(uint32_t tile, int q, int step) const {
    Fragments<P, kSide> r;
    if constexpr (kMatrices) {
#pragma unroll
      for (int o = 0; o < kOctets; o += 2) {
        uint32_t from = kInnermost ? ((tile + at) ^ (step << 5)) + q * (kGroup * 128) + o * 128
                                   : ((tile + at) ^ (q << 6 | o << 4)) + step * (16 * kRows * 2);
        uint32_t w[4];
        if constexpr (kInnermost)
          asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                       : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                       : "r"(from)
                       : "memory");
        else
          asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                       : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                       : "r"(from)
                       : "memory");
#pragma unroll
        for (int i = 0; i < 4; i++) r.set(2 * o + i, w[i]);
      }
    } else {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        int skip = (8 * step + 4 * half) * (kRows * 4) + q * (kGroup * 4);
        uint32_t w[4];
        if constexpr (kSide == kA) {
#pragma unroll
          for (int o = 0; o < kOctets; o += 2)
            asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];"
                         : "=r"(w[o]), "=r"(w[o + 1])
                         : "r"(((tile + at) ^ (4 * o)) + skip)
                         : "memory");
        } else {
#pragma unroll
          for (int o = 0; o < kOctets; o++)
            asm volatile("ld.shared.u32 %0, [%1];"
                         : "=r"(w[o])
                         : "r"(((tile + at) ^ (4 * o)) + skip)
                         : "memory");
        }
#pragma unroll
        for (int o = 0; o < kOctets; o++) r.set(r.at(o, half), w[o]);
      }
    }
    return r;
  }
};

// sum += A Bᵀ of two groups, the small terms first. c[i][j][e] is of octet 2 i + e / 2 and position
// lane / 4 of A, and of octet j and position 2 (lane mod 4) + e mod 2 of B.
template <Precision P>
FN void multiply(Accumulator& sum, const Fragments<P, kA>& a, const Fragments<P, kB>& b) {
  auto part = [&](int pa, int pb) {
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int j = 0; j < kOctets; j++) {
        float(&c)[4] = sum.c[i][j];
        const uint32_t* x = a.v[pa] + 4 * i;
        const uint32_t* y = b.v[pb] + 2 * j;
        if constexpr (P == kBF16)
          asm volatile(
              "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
              "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
              : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
              : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
        else
          asm volatile(
              "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, "
              "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
              : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
              : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
      }
  };
  if constexpr (P == kF32) {
    part(1, 0);
    part(0, 1);
  }
  part(0, 0);
}

}  // namespace mma
