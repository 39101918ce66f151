// act.cu's maps with max pooling over any windows: k × k inputs, `stride` apart, over `pad` lines
// around the image which no window takes from. Windows may overlap; k is at most 15.
//
//   y[n,oh,ow,c] = pool(act(scale_c z + shift_c + r))       act_window_forward
//   dz[n,h,w,c] = scale_c scatter(dy) + p_c z + q_c         act_window_backward
//   dr[n,h,w,c] = scatter(dy)
//   dscale_c = sum dy z, dshift_c = sum dy                  act_window_reduce, act_combine
//
// idx is act.cu's: row k + column in the window, counted from its corner even where that lies
// outside. The activation is two bounds: values at or beyond them become them and are cut off
// (255); a NaN bounds nothing. scatter gathers: an input adds the dy of the windows that took it in
// their order, so no two blocks write to one place. Bytes: as act.cu's, k² / stride² times that of
// the side with the windows, mostly from caches. FLOPs: 4 n oh ow k² c forward, 2 n h w (k /
// stride)² c backward.
#include "dual.cuh"

namespace window {

enum Index { kNone, kWrite, kRead };
constexpr int kOff = 255;
using block::kStrip;

struct Shape {
  int n, h, w, c, k, stride, pad, oh, ow;
  FN Shape(int n, int h, int w, int c, int k, int stride, int pad)
      : n(n),
        h(h),
        w(w),
        c(c),
        k(k),
        stride(stride),
        pad(pad),
        oh((h + 2 * pad - k) / stride + 1),
        ow((w + 2 * pad - k) / stride + 1) {}
};

// Along one dimension: lo … hi-1.
struct Part {
  int lo, hi;
};
// The places of the window at `corner` that lie inside an image of `size`.
FN Part inside(int corner, int k, int size) {
  return {corner < 0 ? -corner : 0, corner + k > size ? size - corner : k};
}
// The windows of `count` that hold the place `at`, counted from the first window's corner.
FN Part holding(int at, int k, int stride, int count) {
  int last = at / stride + 1;
  return {at < k ? 0 : (at - k) / stride + 1, last < count ? last : count};
}

template <bool Read, bool Residual, class T>
FN void forward_range(const Shape& g, float lower, float upper, bool write, in<T> z, in<T> r,
                      in<T> scale, in<T> shift, out<T> y, uint8_t* idx) {
  int c = g.c;
  block::Range outputs = block::range(static_cast<int64_t>(g.n) * g.oh * g.ow);
  block::rows_in_strips(outputs.lo, outputs.hi, c, [=](int64_t o) {
    int64_t line = o / g.ow, image = line / g.oh;
    int top = static_cast<int>(line - image * g.oh) * g.stride - g.pad;
    int left = static_cast<int>(o - line * g.ow) * g.stride - g.pad;
    Part rows = inside(top, g.k, g.h), columns = inside(left, g.k, g.w);
    int64_t corner = ((image * g.h + top) * g.w + left) * c;
    return [=](int i, auto length) {
      const int len = length;
      uint8_t* ix = idx + (o * c + i);
      T best[kStrip], s[kStrip], b[kStrip];
      int at[kStrip];
      STRIP(l, len) {
        s[l] = scale ? scale[i + l] : T(1);
        b[l] = shift ? shift[i + l] : T(0);
        best[l] = T(0);
      }
      if constexpr (Read) STRIP(l, len) at[l] = ix[l];
      int first = rows.lo * g.k + columns.lo;
      for (int a = rows.lo; a < rows.hi; a++)
        for (int q = columns.lo; q < columns.hi; q++) {
          int64_t from = corner + (static_cast<int64_t>(a) * g.w + q) * c + i;
          in<T> zx = z + from;
          int tap = a * g.k + q;
          STRIP(l, len) {
            T v = zx[l] * s[l] + b[l];
            if constexpr (Residual) v = v + r[from + l];
            float x = primal(v);
            bool take = Read ? at[l] == tap : (tap == first) | (x > primal(best[l])) | (x != x);
            best[l] = math::select(take, v, best[l]);
            if constexpr (!Read) at[l] = take ? tap : at[l];
          }
        }
      out<T> to = y + (o * c + i);
      if constexpr (Read) {
        STRIP(l, len) to.set(l, best[l]);
      } else {
        STRIP(l, len) {
          bool low = primal(best[l]) <= lower, high = primal(best[l]) >= upper;
          to.set(l, math::select(low, T(lower), math::select(high, T(upper), best[l])));
          at[l] = low | high ? kOff : at[l];
        }
        if (write) STRIP(l, len) ix[l] = static_cast<uint8_t>(at[l]);
      }
    };
  });
}

template <class T>
FN void forward(const Shape& g, float lower, float upper, int index, in<T> z, in<T> scale,
                in<T> shift, in<T> r, out<T> y, uint8_t* idx) {
  block::specialise(index == kRead, [&](auto read) {
    block::specialise(static_cast<bool>(r), [&](auto residual) {
      forward_range<read.value, residual.value>(g, lower, upper, index == kWrite, z, r, scale,
                                                shift, y, idx);
    });
  });
}

template <bool Affine, bool Residual, class T>
FN void backward_range(const Shape& g, in<T> dy, in<T> z, in<T> scale, in<T> p, in<T> q,
                       const uint8_t* idx, out<T> dz, out<T> dr) {
  int c = g.c;
  block::Range inputs = block::range(static_cast<int64_t>(g.n) * g.h * g.w);
  block::rows_in_strips(inputs.lo, inputs.hi, c, [=](int64_t pixel) {
    int64_t line = pixel / g.w, image = line / g.h;
    int y = static_cast<int>(line - image * g.h) + g.pad;
    int x = static_cast<int>(pixel - line * g.w) + g.pad;
    Part rows = holding(y, g.k, g.stride, g.oh), columns = holding(x, g.k, g.stride, g.ow);
    return [=](int i, auto length) {
      const int len = length;
      T sum[kStrip];
      int at[kStrip];
      STRIP(l, len) sum[l] = T(0);
      for (int oy = rows.lo; oy < rows.hi; oy++)
        for (int ox = columns.lo; ox < columns.hi; ox++) {
          int64_t from = ((image * g.oh + oy) * g.ow + ox) * c + i;
          int tap = (y - oy * g.stride) * g.k + (x - ox * g.stride);
          in<T> d = dy + from;
          STRIP(l, len) at[l] = idx[from + l];
          STRIP(l, len) sum[l] = sum[l] + math::keep(at[l] == tap, d[l]);
        }
      int64_t to = pixel * c + i;
      out<T> here = dz + to;
      STRIP(l, len) {
        T v = scale ? sum[l] * scale[i + l] : sum[l];
        if constexpr (Affine) v = v + (p[i + l] * z[to + l] + q[i + l]);
        here.set(l, v);
      }
      if constexpr (Residual) {
        out<T> other = dr + to;
        STRIP(l, len) other.set(l, sum[l]);
      }
    };
  });
}

template <class T>
FN void backward(const Shape& g, in<T> dy, in<T> z, in<T> scale, in<T> p, in<T> q,
                 const uint8_t* idx, out<T> dz, out<T> dr) {
  block::specialise(static_cast<bool>(p), [&](auto affine) {
    block::specialise(static_cast<bool>(dr), [&](auto residual) {
      backward_range<affine.value, residual.value>(g, dy, z, scale, p, q, idx, dz, dr);
    });
  });
}

// tap / k for tap < k², k <= 15, without a division.
FN int row_of(int tap, int k) { return (tap * (4096 / k + 1)) >> 12; }

// Partial sums of this block's range of outputs: part[block][k][c], the dscale planes first.
template <bool Scale, class T>
FN void reduce(const Shape& g, in<T> dy, in<T> z, const uint8_t* idx, float* part) {
  constexpr int K = Scale ? 2 * kPlanes<T> : kPlanes<T>;
  int c = g.c;
  float* mine = part + static_cast<int64_t>(block::id()) * K * c;
  block::Range outputs = block::range(static_cast<int64_t>(g.n) * g.oh * g.ow);
  auto row = [=](int64_t o) {
    int64_t line = o / g.ow, image = line / g.oh;
    int top = static_cast<int>(line - image * g.oh) * g.stride - g.pad;
    int left = static_cast<int>(o - line * g.ow) * g.stride - g.pad;
    int64_t corner = ((image * g.h + top) * g.w + left) * c;
    Part rows = inside(top, g.k, g.h), columns = inside(left, g.k, g.w);
    int first = rows.lo * g.k + columns.lo;
    in<T> d = dy + o * c;
    const uint8_t* ix = idx + o * c;
    return [=](int64_t i, float(&v)[K]) {
      int at = ix[i];
      bool on = at != kOff;
      T di = math::keep(on, d[i]);
      if constexpr (Scale) {
        int tap = on ? at : first, a = row_of(tap, g.k);
        put(v, di * z[corner + (static_cast<int64_t>(a) * g.w + tap - a * g.k) * c + i]);
      }
      put(v + (Scale ? kPlanes<T> : 0), di);
    };
  };
  block::columns<K>(outputs.lo, outputs.hi, c, row, [=](int64_t i, const float(&v)[K]) {
    for (int k = 0; k < K; k++) mine[static_cast<int64_t>(k) * c + i] = v[k];
  });
}
}  // namespace window

KERNEL act_window_forward_f32(int n, int h, int w, int c, int k, int stride, int pad, float lower,
                              float upper, int index, const float* z, const float* scale,
                              const float* shift, const float* r, float* y, uint8_t* idx) {
  window::forward<float>({n, h, w, c, k, stride, pad}, lower, upper, index, {z}, {scale}, {shift},
                         {r}, {y}, idx);
}

KERNEL act_window_forward_dual(int n, int h, int w, int c, int k, int stride, int pad, float lower,
                               float upper, int index, const float* z, const float* zt,
                               const float* scale, const float* scalet, const float* shift,
                               const float* shiftt, const float* r, const float* rt, float* y,
                               float* yt, uint8_t* idx) {
  window::forward<dual>({n, h, w, c, k, stride, pad}, lower, upper, index, {z, zt}, {scale, scalet},
                        {shift, shiftt}, {r, rt}, {y, yt}, idx);
}

KERNEL act_window_backward_f32(int n, int h, int w, int c, int k, int stride, int pad,
                               const float* dy, const float* z, const float* scale, const float* p,
                               const float* q, const uint8_t* idx, float* dz, float* dr) {
  window::backward<float>({n, h, w, c, k, stride, pad}, {dy}, {z}, {scale}, {p}, {q}, idx, {dz},
                          {dr});
}

KERNEL act_window_backward_dual(int n, int h, int w, int c, int k, int stride, int pad,
                                const float* dy, const float* dyt, const float* z, const float* zt,
                                const float* scale, const float* scalet, const float* p,
                                const float* pt, const float* q, const float* qt,
                                const uint8_t* idx, float* dz, float* dzt, float* dr, float* drt) {
  window::backward<dual>({n, h, w, c, k, stride, pad}, {dy, dyt}, {z, zt}, {scale, scalet}, {p, pt},
                         {q, qt}, idx, {dz, dzt}, {dr, drt});
}

// z is absent where dscale is not wanted.
KERNEL act_window_reduce_f32(int n, int h, int w, int c, int k, int stride, int pad,
                             const float* dy, const float* z, const uint8_t* idx, float* part) {
  block::specialise(z != nullptr, [&](auto scale) {
    window::reduce<scale.value, float>({n, h, w, c, k, stride, pad}, {dy}, {z}, idx, part);
  });
}

KERNEL act_window_reduce_dual(int n, int h, int w, int c, int k, int stride, int pad,
                              const float* dy, const float* dyt, const float* z, const float* zt,
                              const uint8_t* idx, float* part) {
  window::reduce<true, dual>({n, h, w, c, k, stride, pad}, {dy, dyt}, {z, zt}, idx, part);
}
