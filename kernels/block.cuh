// The block model: what a kernel may know about the machine. Everything that differs between a GPU
// and the host is in this file, behind the only #ifdef of the kernels.
//
// A launch has count() blocks. On a GPU a block is size() threads, a multiple of 32 and at most
// kMaxThreads; on the host a block is ONE thread, so rank() is 0, size() is 1, sync() is nothing,
// and the lane loops vectorise.
//
//   LANES(i, n) { … }     i = 0 … n-1, shared among the threads of this block
//   block::range(n)       this block's contiguous part [lo, hi) of 0 … n-1
//   block::each(n, f)     f(i) for i in range(n), shared among the threads
//   block::rows(…)        f(row)(channel), channels fastest; rows_of_bytes with a byte each;
//                         rows_in_strips for bodies with loops of their own
//   block::sum, max, argmax, columns   reductions inside a block, in a fixed order
//
// Rules. A block owns its outputs; what must be summed across blocks goes through a second launch
// (no atomics). Iterations of a lane loop are independent of one another: the host compiler is told
// so. All threads of a block call the reductions and sync() together.
//
// Bits. Host reductions use kLanes accumulators whatever the vector width, and the host is compiled
// with -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math, so that the bits are the same
// under plain x86-64, v3 and v4, for any number of workers. (block::fused is the one exception, for
// kernels that are limited by arithmetic: it needs the instruction.)
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace block {
constexpr int kLanes = 16;        // accumulators of a host reduction
constexpr int kColumns = 128;     // channels that columns() sums at a time on the host
constexpr int kMaxThreads = 512;  // of a GPU block
constexpr int kMaxColumns = 4;    // sums a channel in columns()
}  // namespace block

#ifdef __CUDACC__

#define KERNEL extern "C" __global__ void
#define FN __device__ __forceinline__
#define BLOCK_SHARED(type, name, n) __shared__ type name[n]
#define LANES(i, n) for (auto i = block::first(n); i < (n); i += block::size())
#define STRIP(l, n) for (int l = 0; l < (n); l++)

namespace block {
constexpr bool kHost = false;
FN int rank() { return threadIdx.x; }
FN int size() { return blockDim.x; }
FN int id() { return blockIdx.x; }
FN int count() { return gridDim.x; }
FN void sync() { __syncthreads(); }
FN float to_float(uint32_t bits) { return __uint_as_float(bits); }
FN uint32_t to_bits(float x) { return __float_as_uint(x); }
FN float root(float x) { return __fsqrt_rn(x); }
FN double root(double x) { return __dsqrt_rn(x); }
FN float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// Shared memory of columns(): a plain function, so that its instances in a kernel share it.
FN float* column_store() {
  __shared__ float store[kMaxColumns * kMaxThreads];
  return store;
}

// Sends a value made of 4-byte words `delta` lanes down its warp.
template <class V>
FN V shuffle_down(const V& v, int delta) {
  static_assert(sizeof(V) % 4 == 0, "a reduced value is made of 4-byte words");
  V r = v;
  for (size_t k = 0; k < sizeof(V) / 4; k++) {
    uint32_t w;
    memcpy(&w, reinterpret_cast<const char*>(&v) + 4 * k, 4);
    w = __shfl_down_sync(0xffffffffu, w, delta);
    memcpy(reinterpret_cast<char*>(&r) + 4 * k, &w, 4);
  }
  return r;
}

// Combines one value of each thread in a fixed tree; every thread gets the result.
template <class V, class Op>
FN V all_reduce(V v, Op op) {
  __shared__ alignas(16) unsigned char store[33 * sizeof(V)];
  V* part = reinterpret_cast<V*>(store);
  for (int d = 16; d > 0; d >>= 1) {
    V other = shuffle_down(v, d);
    if ((rank() & 31) + d < 32) v = op(v, other);
  }
  if ((rank() & 31) == 0) part[rank() >> 5] = v;
  sync();
  if (rank() == 0) {
    V r = part[0];
    for (int k = 1; k < (size() >> 5); k++) r = op(r, part[k]);
    part[32] = r;
  }
  sync();
  V r = part[32];
  sync();
  return r;
}
}  // namespace block

#else

// flatten: lambdas are inlined too, however many kernels share the translation unit.
#define KERNEL static __attribute__((flatten)) void
#define FN inline __attribute__((always_inline))
#define BLOCK_SHARED(type, name, n) alignas(64) type name[n]
#define LANES(i, n) _Pragma("GCC ivdep") for (auto i = block::first(n); i < (n); i++)
#define STRIP(l, n) _Pragma("GCC ivdep") for (int l = 0; l < (n); l++)

namespace block {
constexpr bool kHost = true;
FN constexpr int rank() { return 0; }
FN constexpr int size() { return 1; }
// host_block belongs to the host engine (csrc/host/host.h), which sets it before each block.
FN int id() { return host_block.id; }
FN int count() { return host_block.count; }
FN void sync() {}
FN float to_float(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
FN uint32_t to_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}
FN float root(float x) { return __builtin_sqrtf(x); }
FN double root(double x) { return __builtin_sqrt(x); }
FN float fused(float a, float b, float c) {
#ifdef __FMA__
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
FN float* column_store() { return nullptr; }
template <class V, class Op>
FN V all_reduce(V v, Op) {
  return v;
}
}  // namespace block

#endif

namespace block {

template <class I>
FN I first(I) {
  return static_cast<I>(rank());
}

struct Range {
  int64_t lo, hi;
};

FN Range range(int64_t n) {
  int64_t step = n / count(), rest = n % count(), b = id();
  int64_t lo = b * step + (b < rest ? b : rest);
  return {lo, lo + step + (b < rest ? 1 : 0)};
}

template <class F>
FN void each(int64_t n, F f) {
  Range r = range(n);
  int64_t len = r.hi - r.lo;
  LANES(i, len) f(r.lo + i);
}

// f(i) for i in 0 … n-1, a lane loop in strips of kLanes on the host. The compiler vectorises a
// strip of known length by that length even where narrow types would ask for longer vectors than a
// few channels fill.
template <class F>
FN void strips(int64_t n, F f) {
  if constexpr (kHost) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      LANES(l, int64_t{kLanes}) f(i + l);
    }
    int64_t rest = n - i;
    LANES(l, rest) f(i + l);
  } else {
    LANES(i, n) f(i);
  }
}

// f(row) returns a function of the channel. On the host f(row) is evaluated once a row, so that
// addresses and divisions stay out of the channel loop.
template <class F>
FN void rows(int64_t lo, int64_t hi, int channels, F f) {
  if constexpr (kHost) {
    for (int64_t r = lo; r < hi; r++) {
      strips(channels, f(r));
    }
  } else {
    int64_t n = (hi - lo) * channels;
    LANES(i, n) f(lo + i / channels)(i % channels);
  }
}

// rows() for bodies that loop over something else and keep values of several channels meanwhile:
// f(row) returns a function of (i, length), which does channels i … i+length-1, at most kStrip, in
// loops STRIP(l, length). On a GPU a strip is one channel, on the host most have a constant length.
constexpr int kStrip = kHost ? kLanes : 1;
template <int N>
struct Length {
  FN constexpr operator int() const { return N; }
};

template <class F>
FN void rows_in_strips(int64_t lo, int64_t hi, int channels, F f) {
  if constexpr (kHost) {
    for (int64_t r = lo; r < hi; r++) {
      auto row = f(r);
      int i = 0;
      for (; i + kStrip <= channels; i += kStrip) row(i, Length<kStrip>{});
      if (i < channels) row(i, channels - i);
    }
  } else {
    int64_t n = (hi - lo) * channels;
    LANES(i, n) f(lo + i / channels)(static_cast<int>(i % channels), Length<1>{});
  }
}

// A row's bytes and what is done with each: g(channel, byte), the byte widened to an int.
template <class P, class G>
struct Bytes {
  P at;
  G g;
};
template <class P, class G>
Bytes(P, G) -> Bytes<P, G>;
enum class Access { kNone, kRead, kWrite };
// rows() where f(row) returns Bytes, which are read before g or written after it. On the host they
// are widened and narrowed in loops of their own: next to floats in one loop they would make the
// compiler take vectors of 16 bytes for both.
template <Access A, class F>
FN void rows_of_bytes(int64_t lo, int64_t hi, int channels, F f) {
  constexpr bool kReads = A == Access::kRead, kWrites = A == Access::kWrite;
  auto strip = [](const auto& row, int64_t i, auto length) {
    const int len = length;
    int wide[kLanes];
    if constexpr (kReads) LANES(l, len) wide[l] = row.at[i + l];
    LANES(l, len) row.g(i + l, wide[l]);
    if constexpr (kWrites) LANES(l, len) row.at[i + l] = static_cast<uint8_t>(wide[l]);
  };
  if constexpr (kHost) {
    for (int64_t r = lo; r < hi; r++) {
      auto row = f(r);
      int64_t i = 0;
      for (; i + kLanes <= channels; i += kLanes) strip(row, i, Length<kLanes>{});
      if (i < channels) strip(row, i, static_cast<int>(channels - i));
    }
  } else {
    int64_t n = (hi - lo) * channels;
    LANES(i, n) {
      auto row = f(lo + i / channels);
      int64_t c = i % channels;
      int wide = 0;
      if constexpr (kReads) wide = row.at[c];
      row.g(c, wide);
      if constexpr (kWrites) row.at[c] = static_cast<uint8_t>(wide);
    }
  }
}

// op(… op(op(zero, f(0)), f(1)) …, f(n-1)), regrouped in a fixed way; op is associative up to
// rounding and `zero` its neutral element.
template <class V, class F, class Op>
FN V reduce(int64_t n, V zero, F f, Op op) {
  if constexpr (kHost) {
    V acc[kLanes];
    for (int l = 0; l < kLanes; l++) acc[l] = zero;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
      for (int l = 0; l < kLanes; l++) acc[l] = op(acc[l], f(i + l));
    for (int l = 0; i + l < n; l++) acc[l] = op(acc[l], f(i + l));
    for (int d = kLanes / 2; d > 0; d /= 2)
      for (int l = 0; l < d; l++) acc[l] = op(acc[l], acc[l + d]);
    return acc[0];
  } else {
    V v = zero;
    LANES(i, n) v = op(v, f(i));
    return all_reduce(v, op);
  }
}

template <class F>
FN auto sum(int64_t n, F f) {
  using V = decltype(f(int64_t{0}));
  return reduce(n, V(0), f, [](V a, V b) { return a + b; });
}

// The largest f(i), -inf for n = 0. A NaN is passed over.
template <class F>
FN auto max(int64_t n, F f) {
  using V = decltype(f(int64_t{0}));
  return reduce(n, V(-__builtin_huge_valf()), f, [](V a, V b) { return b > a ? b : a; });
}

// The first i with the largest f(i), -1 if there is none above -inf.
struct Best {
  double value;
  int64_t index;
};

template <class F>
FN int64_t argmax(int64_t n, F f) {
  auto better = [](Best a, Best b) {
    bool take = b.value > a.value || (b.value == a.value && b.index < a.index && b.index >= 0);
    return take ? b : a;
  };
  auto at = [&](int64_t i) { return Best{static_cast<double>(f(i)), i}; };
  return reduce(n, Best{-__builtin_huge_val(), -1}, at, better).index;
}

// Sums over rows for each channel: f(row) returns a function g(channel, v) that fills float v[K];
// done(channel, v) gets the sums of rows lo … hi-1.
template <int K, class F, class Done>
FN void columns(int64_t lo, int64_t hi, int channels, F f, Done done) {
  if constexpr (kHost) {
    for (int c0 = 0; c0 < channels; c0 += kColumns) {
      int width = channels - c0 < kColumns ? channels - c0 : kColumns;
      alignas(64) float acc[K][kColumns];
      for (int k = 0; k < K; k++)
        for (int c = 0; c < kColumns; c++) acc[k][c] = 0;
      for (int64_t r = lo; r < hi; r++) {
        auto g = f(r);
        strips(width, [&](int64_t c) {
          float v[K];
          g(c0 + c, v);
          for (int k = 0; k < K; k++) acc[k][c] += v[k];
        });
      }
      for (int c = 0; c < width; c++) {
        float v[K];
        for (int k = 0; k < K; k++) v[k] = acc[k][c];
        done(c0 + c, v);
      }
    }
  } else {
    float* part = column_store();
    static_assert(K <= kMaxColumns, "column_store holds kMaxColumns sums a thread");
    for (int c0 = 0; c0 < channels; c0 += size()) {
      int width = channels - c0 < size() ? channels - c0 : size();
      int groups = size() / width, group = rank() / width, c = rank() % width;
      float acc[K] = {};
      if (group < groups) {
        for (int64_t r = lo + group; r < hi; r += groups) {
          float v[K];
          f(r)(c0 + c, v);
          for (int k = 0; k < K; k++) acc[k] += v[k];
        }
      }
      for (int k = 0; k < K; k++) part[k * size() + rank()] = acc[k];
      sync();
      if (group == 0) {
        for (int k = 0; k < K; k++) {
          float s = 0;
          for (int j = 0; j < groups; j++) s += part[k * size() + j * width + c];
          acc[k] = s;
        }
        done(c0 + c, acc);
      }
      sync();
    }
  }
}

// Calls f with b as a constant, so that one source becomes a specialised loop for each value.
template <bool B>
struct Constant {
  constexpr operator bool() const { return B; }
  static constexpr bool value = B;
};

template <class F>
FN void specialise(bool b, F f) {
  if (b)
    f(Constant<true>{});
  else
    f(Constant<false>{});
}

}  // namespace block
