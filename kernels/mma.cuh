// Tensor cores: asynchronous copies into shared memory, fragments out of it, and products of
// fragments in three precisions. GPU only.
//
//   kTF32   m16n8k8; operands are float32, of which the tensor cores take 11 significant bits
//   kBF16   m16n8k16; operands are bf16
//   kF32    x = big + small, both TF32; small·big + big·small + big·big; m16n8k8 ("3xTF32",
//           Ootomo & Yokota 2022; CUTLASS, OpMultiplyAddFastF32)
//
// A warp multiplies groups of 32 rows (of A, or of B transposed). Any assignment of rows to the
// tensor cores' tiles is a permutation of the result; the one here is Loader::row.
//
// Tiles in shared memory hold 128 bytes of k: 32 float32, or 64 bf16, in four steps. Sixteen-byte
// chunks are permuted so that neither copies nor fragments meet a bank twice:
//
//   k innermost           [rows][128 bytes], chunk j of a row at j ^ (row / 4 mod 8)
//   k outermost, 32 bits  [32][rows], chunk j of a row of k at j ^ (2 (k mod 4))
//   k outermost, 16 bits  [64][rows], chunk j (8 rows) of a row of k at j ^ (k mod 8)
#pragma once
#include "block.cuh"

namespace mma {

enum Precision { kF32 = 0, kBF16 = 1, kTF32 = 2 };

constexpr int kGroup = 32;  // rows in a group
constexpr int kOctets = kGroup / 8;

template <Precision P>
constexpr int kParts = P == kF32 ? 2 : 1;  // that a value is split into

FN uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Copies 16 bytes from global to shared memory, past the first-level cache, or zeros where `there`
// is false; `from` is not read then.
FN void copy(uint32_t to, const void* from, bool there) {
  int bytes = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

// Closes this thread's batch of copies; wait<n> returns when all but the last n batches are there.
FN void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
FN void wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// The products of a group of A and a group of B, of m16 tile i and n8 tile j: c[i][j][e] is of
// octet 2 i + e / 2 and position lane / 4 of A, and of octet j and position 2 (lane mod 4) + e mod
// 2 of B.
struct Accumulator {
  float c[2][kOctets][4];
};

// Fragments in the order of registers in which the tensor cores take them, so that none is moved
// between its load and its products. float32 goes to the tensor cores as it is, and they cut it to
// 11 bits (kTF32, kF32's big part; kF32's small part is what is cut off).
//
// A group's 32 rows are four octets of 8 positions. Which row that is, row(position, octet), is the
// loader's choice:
//
//   k innermost    4 position + octet                             ldmatrix
//   16 bits        8 octet + position                             ldmatrix.trans
//   32 bits, A     4 position + (octet ^ (position & 2))          8 bytes a lane: two rows at a k
//   32 bits, B     4 position + (octet ^ (position >> 1 & 3))     4 bytes a lane
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

// Loads groups of tiles of kRows rows, the first of them `row0`: a multiple of 32, or of 64 where
// there are two groups. `tile`, a multiple of 128, is what their places are counted from.
template <Precision P, Side kSide, bool kInnermost, int kRows>
struct Loader {
  static constexpr int kBytes = P == kBF16 ? 2 : 4;
  static constexpr bool kMatrices = kInnermost || kBytes == 2;
  static constexpr bool kSpread = kInnermost || kBytes == 4;  // rows 4 position + …

  // Of the lane, in bytes: one to turn with steps, or one for each octet (of A, pair of octets).
  static constexpr int kPlaces = kMatrices ? 1 : kSide == kA ? 2 : 4;
  uint32_t at[kPlaces];

  FN static int row(int position, int octet) {
    return kSpread ? 4 * position + (octet ^ turn(position)) : 8 * octet + position;
  }
  FN static int turn(int position) {
    if constexpr (kMatrices) return 0;
    return kSide == kA ? position & 2 : position >> 1 & 3;
  }

  FN Loader(uint32_t tile, int row0) {
    int lane = block::rank() & 31;
    if constexpr (kMatrices) {
      // Lanes 8 i … 8 i + 7 point to the rows of the i-th 8 x 8 matrix.
      int l = lane & 7, i = lane >> 3;
      int octet = kSide == kA ? i & 1 : i >> 1, half = kSide == kA ? i >> 1 : i & 1;
      if constexpr (kInnermost)
        at[0] = tile + (row0 + 4 * l + octet) * 128 + ((half ^ l) << 4);
      else
        at[0] = tile + (8 * half + l) * kRows * 2 + ((((row0 >> 3) + octet) ^ l) << 4);
    } else {
      int g = lane >> 2, t = lane & 3;
      uint32_t first = tile + (t * kRows + row0 + 4 * (g ^ (2 * t)) + turn(g)) * 4;
#pragma unroll
      for (int i = 0; i < kPlaces; i++) {
        at[i] = first ^ (16 / kPlaces * i);
        asm volatile("" : "+r"(at[i]));  // not to be worked out again for each tile
      }
    }
  }

  // Group q of the warp's rows at a step, of the tile `beyond` bytes behind.
  FN Fragments<P, kSide> operator()(int beyond, int q, int step) const {
    Fragments<P, kSide> r;
    if constexpr (kMatrices) {
#pragma unroll
      for (int o = 0; o < kOctets; o += 2) {
        uint32_t from =
            beyond + (kInnermost ? (at[0] ^ (step << 5)) + q * (kGroup * 128) + o * 128
                                 : (at[0] ^ (q << 6 | o << 4)) + step * (16 * kRows * 2));
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
        int skip = beyond + (8 * step + 4 * half) * (kRows * 4) + q * (kGroup * 4);
        uint32_t w[4];
        if constexpr (kSide == kA) {
#pragma unroll
          for (int o = 0; o < kOctets; o += 2)
            asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];"
                         : "=r"(w[o]), "=r"(w[o + 1])
                         : "r"(at[o * kPlaces / 4] + skip)
                         : "memory");
        } else {
#pragma unroll
          for (int o = 0; o < kOctets; o++)
            asm volatile("ld.shared.u32 %0, [%1];"
                         : "=r"(w[o])
                         : "r"(at[o * kPlaces / 4] + skip)
                         : "memory");
        }
#pragma unroll
        for (int o = 0; o < kOctets; o++) r.set(r.at(o, half), w[o]);
      }
    }
    return r;
  }
};

// sum += A Bᵀ of two groups, the small terms first.
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
