// Convolutions in which every group has one input channel (depthwise), for GPUs, directly: channels
// x [n,h,w,c], y [n,oh,ow,k] with k = m c, weights [k,r,s]; output channel j sees input channel j /
// m.
//
//   forward   y_pj   = sum over taps of x w             a thread an output
//   data      dx_qi  = sum over j and the taps that     a thread an output; taps by residues modulo
//             reach pixel q of dy w                     the stride, none is multiplied by zero
//   weight    dw_jt  = sum over pixels of x dy          a thread an output and a part of the lines
//   of
//                                                       y; conv_sum adds the parts in order
//
// Channels are innermost, so neighbouring threads read neighbouring addresses. Sums are float32, so
// are the operands, in every precision. Bytes: 4 (x + w + y) a plane, taps come from the caches.
// FLOPs: 2 n oh ow k r s, three times that in dual numbers.
#include "dual.cuh"
#ifdef __CUDACC__
namespace depthwise {

struct Shape {
  int n, h, w, c, k, r, s, stride, pad, oh, ow;
};

template <class T>
struct Operands {
  in<T> a, b;
  out<T> to;
};
template <class T>
FN Operands<T> operands(const float* a, const float* at, const float* b, const float* bt,
                        float* out, float* out_t) {
  if constexpr (kPlanes<T> == 2)
    return {{a, at}, {b, bt}, {out, out_t}};
  else
    return {{a}, {b}, {out}};
}

template <class T>
FN void forward(const Operands<T>& v, const Shape& g, int) {
  int m = g.k / g.c;
  block::each(static_cast<int64_t>(g.n) * g.oh * g.ow * g.k, [&](int64_t i) {
    int64_t pixel = i / g.k, line = pixel / g.ow, image = line / g.oh;
    int j = static_cast<int>(i - pixel * g.k), ox = static_cast<int>(pixel - line * g.ow),
        oy = static_cast<int>(line - image * g.oh);
    T sum = 0.0f;
    for (int r = 0; r < g.r; r++) {
      int y = oy * g.stride - g.pad + r;
      if (y < 0 || y >= g.h) continue;
      for (int s = 0; s < g.s; s++) {
        int x = ox * g.stride - g.pad + s;
        if (x < 0 || x >= g.w) continue;
        sum += v.a[((image * g.h + y) * g.w + x) * g.c + j / m] * v.b[(j * g.r + r) * g.s + s];
      }
    }
    v.to.set(i, sum);
  });
}

template <class T>
FN void data(const Operands<T>& v, const Shape& g, int) {
  int m = g.k / g.c;
  block::each(static_cast<int64_t>(g.n) * g.h * g.w * g.c, [&](int64_t i) {
    int64_t pixel = i / g.c, line = pixel / g.w, image = line / g.h;
    int channel = static_cast<int>(i - pixel * g.c),
        x = static_cast<int>(pixel - line * g.w) + g.pad,
        y = static_cast<int>(line - image * g.h) + g.pad;
    T sum = 0.0f;
    for (int r = y % g.stride; r < g.r; r += g.stride) {
      int oy = (y - r) / g.stride;
      if (y < r || oy >= g.oh) continue;
      for (int s = x % g.stride; s < g.s; s += g.stride) {
        int ox = (x - s) / g.stride;
        if (x < s || ox >= g.ow) continue;
        for (int j = channel * m; j < (channel + 1) * m; j++)
          sum += v.a[((image * g.oh + oy) * g.ow + ox) * g.k + j] * v.b[(j * g.r + r) * g.s + s];
      }
    }
    v.to.set(i, sum);
  });
}

// Part p of the sum goes to elements p k r s ….
template <class T>
FN void weight(const Operands<T>& v, const Shape& g, int parts) {
  int m = g.k / g.c, taps = g.r * g.s;
  int64_t lines = static_cast<int64_t>(g.n) * g.oh, each = (lines + parts - 1) / parts;
  block::each(static_cast<int64_t>(parts) * taps * g.k, [&](int64_t i) {
    int64_t rest = i / g.k;
    int j = static_cast<int>(i - rest * g.k), part = static_cast<int>(rest / taps),
        tap = static_cast<int>(rest - static_cast<int64_t>(part) * taps);
    int r = tap / g.s, s = tap - r * g.s;
    int64_t last = (part + 1) * each < lines ? (part + 1) * each : lines;
    T sum = 0.0f;
    for (int64_t line = part * each; line < last; line++) {
      int64_t image = line / g.oh;
      int y = static_cast<int>(line - image * g.oh) * g.stride - g.pad + r;
      if (y < 0 || y >= g.h) continue;
      in<T> from = v.b + ((image * g.h + y) * g.w * g.c + j / m),
            dy = v.a + (line * g.ow * g.k + j);
      for (int ox = 0; ox < g.ow; ox++) {
        int x = ox * g.stride - g.pad + s;
        if (x >= 0 && x < g.w)
          sum += from[static_cast<int64_t>(x) * g.c] * dy[static_cast<int64_t>(ox) * g.k];
      }
    }
    v.to.set((static_cast<int64_t>(part) * g.k + j) * taps + tap, sum);
  });
}

}  // namespace depthwise

#define DEPTHWISE_PARAMS                                                                      \
  const float *a, const float *at, const float *b, const float *bt, float *out, float *out_t, \
      int n, int h, int w, int c, int k, int r, int s, int stride, int pad, int oh, int ow,   \
      int parts
#define DEPTHWISE(pass, T)                                             \
  depthwise::pass<T>(depthwise::operands<T>(a, at, b, bt, out, out_t), \
                     {n, h, w, c, k, r, s, stride, pad, oh, ow}, parts)

extern "C" __global__ void conv_depthwise_forward_f32(DEPTHWISE_PARAMS) {
  DEPTHWISE(forward, float);
}
extern "C" __global__ void conv_depthwise_forward_dual(DEPTHWISE_PARAMS) {
  DEPTHWISE(forward, dual);
}
extern "C" __global__ void conv_depthwise_data_f32(DEPTHWISE_PARAMS) { DEPTHWISE(data, float); }
extern "C" __global__ void conv_depthwise_data_dual(DEPTHWISE_PARAMS) { DEPTHWISE(data, dual); }
extern "C" __global__ void conv_depthwise_weight_f32(DEPTHWISE_PARAMS) { DEPTHWISE(weight, float); }
extern "C" __global__ void conv_depthwise_weight_dual(DEPTHWISE_PARAMS) { DEPTHWISE(weight, dual); }
#endif
