// The loops of depthwise convolutions, built once for each instruction set, GOCP_ISA.
#include <stdint.h>
#include <string.h>

#include <type_traits>

#include "../host/scratch.h"
#include "depthwise.h"

#define GOCP_PASTE_(a, b) a##b
#define GOCP_PASTE(a, b) GOCP_PASTE_(a, b)
#define GOCP_NAMESPACE GOCP_PASTE(gocp_depthwise_, GOCP_ISA)

namespace GOCP_NAMESPACE {

using gocp::ConvShape;
using gocp::Operand;
using gocp::Result;
using gocp::Scratch;

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

// W floats, wherever they lie.
template <int W>
struct Vector {
  typedef float type __attribute__((vector_size(4 * W), aligned(4), may_alias));
};
template <>
struct Vector<1> {
  typedef float type;
};
template <int W>
using Floats = typename Vector<W>::type;

template <int W>
inline Floats<W> load(const float* p) {
  return *reinterpret_cast<const Floats<W>*>(p);
}
template <int W>
inline void store(float* p, Floats<W> v) {
  *reinterpret_cast<Floats<W>*>(p) = v;
}

// Which products of (a + κȧ)(b + κḃ) a pass sums: ab, ȧb + aḃ, or both.
enum Product { kOne, kTangent, kDual };

// Operands a and b with their tangents, and sums to go to `to` and `to_t`; with kOne any planes.
struct Planes {
  const float *a, *at, *b, *bt;
  float *to, *to_t;
};

// Calls run(product, planes) for what the result asks for; null tangents of operands are zero,
// and there is one of them where the result's is wanted.
template <class Run>
void products(Operand a, Operand b, Result out, Run run) {
  if (out.tangent != nullptr && a.tangent != nullptr && b.tangent != nullptr) {
    const Planes p{a.primal, a.tangent, b.primal, b.tangent, out.primal, out.tangent};
    if (out.primal != nullptr)
      run(std::integral_constant<Product, kDual>{}, p);
    else
      run(std::integral_constant<Product, kTangent>{}, p);
    return;
  }
  constexpr std::integral_constant<Product, kOne> one{};
  if (out.primal != nullptr)
    run(one, Planes{a.primal, nullptr, b.primal, nullptr, out.primal, nullptr});
  if (out.tangent == nullptr) return;
  if (a.tangent != nullptr)
    run(one, Planes{a.tangent, nullptr, b.primal, nullptr, out.tangent, nullptr});
  else
    run(one, Planes{a.primal, nullptr, b.tangent, nullptr, out.tangent, nullptr});
}

// M vectors of W channels: sums of products.
template <Product P, int W, int M>
struct Sums {
  Floats<W> v[M], t[M];

  Sums() {
    for (int m = 0; m < M; m++) v[m] = t[m] = Floats<W>{};
  }
  void add(const Planes& p, size_t a, size_t b) {
    for (int m = 0; m < M; m++) {
      const Floats<W> x = load<W>(p.a + a + m * W), y = load<W>(p.b + b + m * W);
      if constexpr (P != kTangent) v[m] += x * y;
      if constexpr (P != kOne) {
        t[m] += load<W>(p.at + a + m * W) * y;
        t[m] += x * load<W>(p.bt + b + m * W);
      }
    }
  }
  void put(const Planes& p, size_t to) const {
    for (int m = 0; m < M; m++) {
      if constexpr (P != kTangent) store<W>(p.to + to + m * W, v[m]);
      if constexpr (P != kOne) store<W>(p.to_t + to + m * W, t[m]);
    }
  }
  void put_more(const Planes& p, size_t to) const {
    for (int m = 0; m < M; m++) {
      if constexpr (P != kTangent) store<W>(p.to + to + m * W, load<W>(p.to + to + m * W) + v[m]);
      if constexpr (P != kOne) store<W>(p.to_t + to + m * W, load<W>(p.to_t + to + m * W) + t[m]);
    }
  }
};

// Calls f(width, vectors, channel) until all channels are done: in wide blocks, then in single
// vectors, then in ever shorter ones.
template <int W>
struct Width {
  static constexpr int value = W;
};
template <class F>
inline void each_block(int channels, F f) {
  int c = 0;
  for (; c + 4 * kWidth <= channels; c += 4 * kWidth) f(Width<kWidth>{}, Width<4>{}, c);
  for (; c + kWidth <= channels; c += kWidth) f(Width<kWidth>{}, Width<1>{}, c);
  if constexpr (kWidth > 4)
    for (; c + 4 <= channels; c += 4) f(Width<4>{}, Width<1>{}, c);
  for (; c < channels; c++) f(Width<1>{}, Width<1>{}, c);
}

// The taps that reach one place of the result along one dimension: `count` of them from `tap` on,
// Taps::tap_step apart, at places from `at` on, Taps::place_step apart.
struct Run {
  int tap, count, at;
};
struct Forward {
  static constexpr int place_step = 1;
  static int tap_step(int) { return 1; }
  static Run run(int o, int filter, int stride, int pad, int size) {
    const int corner = o * stride - pad, tap = corner < 0 ? -corner : 0;
    const int end = corner + filter > size ? size - corner : filter;
    return {tap, end > tap ? end - tap : 0, corner + tap};
  }
};
// From the place i of the input back to outputs, of which there are `size`.
struct Backward {
  static constexpr int place_step = -1;
  static int tap_step(int stride) { return stride; }
  static Run run(int i, int filter, int stride, int pad, int size) {
    const int from = i + pad;
    int tap = from % stride, at = from / stride;  // tap + stride at = from
    if (at >= size) {
      tap += (at - size + 1) * stride;
      at = size - 1;
    }
    int count = tap < filter ? (filter - tap + stride - 1) / stride : 0;
    return {tap, count < at + 1 ? count : at + 1, at};
  }
};

// [k,r,s] → [r,s,k], in thread scratch.
const float* by_taps(const ConvShape& g, const float* w, Scratch& scratch) {
  if (w == nullptr) return nullptr;
  const int taps = g.r * g.s;
  float* to = scratch.get_floats(g.weights());
  for (int k = 0; k < g.k; k++)
    for (int t = 0; t < taps; t++)
      to[static_cast<size_t>(t) * g.k + k] = w[static_cast<size_t>(k) * taps + t];
  return to;
}

// to[n,h,w,c] = sums over taps of from[n,fh,fw,c] · w.
template <class Direction, Product P>
void correlate(const ConvShape& g, int h, int w, int fh, int fw, const Planes& p) {
  const int c = g.c, step = Direction::tap_step(g.stride);
#pragma omp parallel for schedule(static)
  for (int64_t line = 0; line < static_cast<int64_t>(g.n) * h; line++) {
    const int64_t image = line / h;
    const Run rows = Direction::run(static_cast<int>(line % h), g.r, g.stride, g.pad, fh);
    for (int x = 0; x < w; x++) {
      const Run columns = Direction::run(x, g.s, g.stride, g.pad, fw);
      const size_t to = static_cast<size_t>(line * w + x) * c;
      each_block(c, [&](auto width, auto vectors, int channel) {
        Sums<P, decltype(width)::value, decltype(vectors)::value> sums;
        for (int i = 0; i < rows.count; i++) {
          const int64_t from = (image * fh + rows.at + i * Direction::place_step) * fw;
          const int taps = (rows.tap + i * step) * g.s + columns.tap;
          for (int j = 0; j < columns.count; j++)
            sums.add(p, (from + columns.at + j * Direction::place_step) * c + channel,
                     static_cast<size_t>(taps + j * step) * c + channel);
        }
        sums.put(p, to + channel);
      });
    }
  }
}

template <class Direction>
void correlate(const ConvShape& g, int h, int w, int fh, int fw, Operand from, Operand weights,
               Result to) {
  thread_local Scratch scratch[2];
  const Operand turned{by_taps(g, weights.primal, scratch[0]),
                       by_taps(g, weights.tangent, scratch[1])};
  products(from, turned, to, [&](auto product, const Planes& p) {
    correlate<Direction, decltype(product)::value>(g, h, w, fh, fw, p);
  });
}

// Sums of images first … last-1 in p.to [r,s,c], which are zero before.
template <Product P>
void sum_weight(const ConvShape& g, int first, int last, const Planes& p) {
  const int c = g.c, oh = g.out_h(), ow = g.out_w();
  for (int image = first; image < last; image++)
    for (int y = 0; y < oh; y++) {
      const Run rows = Forward::run(y, g.r, g.stride, g.pad, g.h);
      const int64_t out = (static_cast<int64_t>(image) * oh + y) * ow;
      each_block(c, [&](auto width, auto vectors, int channel) {
        for (int i = 0; i < rows.count; i++) {
          const int64_t in = (static_cast<int64_t>(image) * g.h + rows.at + i) * g.w;
          for (int s = 0; s < g.s; s++) {
            // The outputs whose column s lies inside: a place x stride + s - pad of 0 … w-1.
            const int lo = s < g.pad ? (g.pad - s + g.stride - 1) / g.stride : 0;
            const int over = g.w - 1 + g.pad - s;
            const int hi = over < 0 ? 0 : over / g.stride + 1 < ow ? over / g.stride + 1 : ow;
            Sums<P, decltype(width)::value, decltype(vectors)::value> sums;
            for (int x = lo; x < hi; x++)
              sums.add(p, (in + x * g.stride + s - g.pad) * c + channel, (out + x) * c + channel);
            sums.put_more(p, static_cast<size_t>((rows.tap + i) * g.s + s) * c + channel);
          }
        }
      });
    }
}

constexpr int kParts = 16;

template <Product P>
void weight_gradient(const ConvShape& g, const Planes& p) {
  thread_local Scratch scratch;
  const size_t len = g.weights();
  const int parts = g.n < kParts ? g.n : kParts;
  constexpr int planes = P == kDual ? 2 : 1;
  float* sums = scratch.get_floats(planes * parts * len);
  memset(sums, 0, planes * parts * len * sizeof(float));
  auto plane = [&](int part, int i) {
    return sums + (static_cast<size_t>(part) * planes + i) * len;
  };
#pragma omp parallel for schedule(static)
  for (int part = 0; part < parts; part++) {
    Planes mine = p;
    mine.to = plane(part, 0);
    mine.to_t = plane(part, planes - 1);
    sum_weight<P>(g, static_cast<int>(static_cast<int64_t>(part) * g.n / parts),
                  static_cast<int>(static_cast<int64_t>(part + 1) * g.n / parts), mine);
  }
  // [r,s,k] → [k,r,s]
  const int taps = g.r * g.s;
  auto gather = [&](int i, float* to) {
    for (int k = 0; k < g.k; k++)
      for (int t = 0; t < taps; t++) {
        float sum = 0;
        for (int part = 0; part < parts; part++)
          sum += plane(part, i)[static_cast<size_t>(t) * g.k + k];
        to[static_cast<size_t>(k) * taps + t] = sum;
      }
  };
  if (P != kTangent) gather(0, p.to);
  if (P != kOne) gather(planes - 1, p.to_t);
}

void forward(const ConvShape& g, Operand x, Operand w, Result y) {
  correlate<Forward>(g, g.out_h(), g.out_w(), g.h, g.w, x, w, y);
}

void backward_data(const ConvShape& g, Operand dy, Operand w, Result dx) {
  correlate<Backward>(g, g.h, g.w, g.out_h(), g.out_w(), dy, w, dx);
}

void backward_weight(const ConvShape& g, Operand x, Operand dy, Result dw) {
  products(x, dy, dw,
           [&](auto product, const Planes& p) { weight_gradient<decltype(product)::value>(g, p); });
}

}  // namespace GOCP_NAMESPACE
