// What follows a convolution or a linear layer, in one pass: per-channel affine map, a residual r,
// ReLU or ReLU6, max pooling over 2 × 2 windows (pool = 2) or none (pool = 1); and its adjoint.
// Other windows are act_window.cu's. Activations are NHWC.
//
//   y[n,h/p,w/p,c] = pool(act(scale_c z + shift_c + r))     act_forward
//   dz[n,h,w,c] = scale_c scatter(dy) + p_c z + q_c         act_backward
//   dr[n,h,w,c] = scatter(dy)
//   dscale_c = sum dy z, dshift_c = sum dy                  act_reduce, act_combine
//
// idx [n,h/p,w/p,c], one byte an output: the position in its window (0 … p²-1) of the FIRST
// largest value, 255 where the activation cuts it off; scatter and the sums look at idx and not at
// values. As in PyTorch: NaN wins a window (the last NaN) and passes through activations, an odd
// last row or column is dropped, derivatives at the bounds 0 and 6 are 0. p_c and q_c carry batch
// norm's correction in training. r, dr and ReLU6 go without pooling here.
//
// Blocks take ranges of pixels or of lines of windows; lanes run over channels. For small c and
// no pooling several pixels are treated as one row whose per-channel vectors repeat.
// Bytes, pool 2, an input element: forward 4 + (4+1)/4, backward 4 (+ 4 with p) + (4+1)/4, a plane;
// r and dr 4 each.
// FLOPs: a few an element; memory is the limit.
#include "dual.cuh"

namespace act {

enum Index { kNone, kWrite, kRead };
enum Bounds { kUnbounded, kAtZero, kAtZeroAndSix };
template <Index I>
constexpr block::Access kAccess = I == kRead    ? block::Access::kRead
                                  : I == kWrite ? block::Access::kWrite
                                                : block::Access::kNone;
constexpr int kStage = 512;  // channels staged by a block
constexpr int kOff = 255;

// A per-channel vector, staged in the block: entries i of v repeat with period c.
template <class T>
struct Staged;
template <>
struct Staged<float> {
  const float* a;
  FN float operator[](int64_t i) const { return a[i]; }
};
template <>
struct Staged<dual> {
  const float *a, *b;
  FN dual operator[](int64_t i) const { return {a[i], b[i]}; }
};

FN void stage(const float* v, float absent, int c0, int period, int width, float* to) {
  if (v)
    LANES(i, period) to[i] = v[c0 + i];
  else
    LANES(i, period) to[i] = absent;
  for (int done = period; done < width; done *= 2) {
    int more = width - done < done ? width - done : done;
    block::sync();
    LANES(i, more) to[done + i] = to[i];
  }
}
FN Staged<float> stage(in<float> v, float absent, int c0, int period, int width, float* a, float*) {
  stage(v.p, absent, c0, period, width, a);
  return {a};
}
FN Staged<dual> stage(in<dual> v, float absent, int c0, int period, int width, float* a, float* b) {
  stage(v.p, absent, c0, period, width, a);
  stage(v.t, 0, c0, period, width, b);
  return {a, b};
}

// How a block walks [pixels, c]: `span` elements of one or several pixels at a time.
struct Walk {
  int period, pixels, span;
  FN Walk(int c, int c0, bool several) {
    period = c - c0 < kStage ? c - c0 : kStage;
    pixels = several && c <= kStage ? kStage / c : 1;
    span = pixels * period;
  }
};

// A value as a type, for generic lambdas.
template <auto V>
struct Of {
  static constexpr auto value = V;
};

// The value that a window passes on, and where it was.
template <class T>
struct Picked {
  T value;
  int at;
};

template <class T>
FN Picked<T> pick(Picked<T> best, T v, int at) {
  float x = primal(v);
  bool take = (x > primal(best.value)) | (x != x);
  return {math::select(take, v, best.value), take ? at : best.at};
}

// One output: f(j) is the affine map's value at position j of the window, at the byte of idx.
template <bool Pool, Bounds B, Index I, class T, class F>
FN T output(F f, int& at, T) {
  if constexpr (I == kRead) {
    T v = f(0);
    if constexpr (Pool) {
      v = math::select(at == 1, f(1), v);
      v = math::select(at == 2, f(2), v);
      v = math::select(at == 3, f(3), v);
    }
    return B == kUnbounded ? v : math::select(at == kOff, T(0), v);
  } else {
    Picked<T> best = {f(0), 0};
    if constexpr (Pool) {
      best = pick(best, f(1), 1);
      best = pick(best, f(2), 2);
      best = pick(best, f(3), 3);
    }
    bool off = B != kUnbounded && primal(best.value) <= 0;
    bool top = B == kAtZeroAndSix && primal(best.value) >= 6;
    at = off | top ? kOff : best.at;
    return math::select(off, T(0),
                        B == kAtZeroAndSix ? math::select(top, T(6), best.value) : best.value);
  }
}

template <bool Pool, Bounds B, Index I, bool Residual, class T, class In, class Out>
FN void forward_range(int n, int h, int w, int c, In z, In r, in<T> scale, in<T> shift, Out y,
                      uint8_t* idx, float* store) {
  for (int c0 = 0; c0 < c; c0 += kStage) {
    Walk walk(c, c0, !Pool);
    block::sync();
    Staged<T> s = stage(scale, 1, c0, walk.period, walk.span, store, store + kStage);
    Staged<T> b =
        stage(shift, 0, c0, walk.period, walk.span, store + 2 * kStage, store + 3 * kStage);
    block::sync();
    if constexpr (Pool) {
      int oh = h / 2, ow = w / 2;
      block::Range lines = block::range(static_cast<int64_t>(n) * oh);
      for (int64_t line = lines.lo; line < lines.hi; line++) {
        int64_t from = ((line / oh) * h + (line % oh) * 2) * w * c + c0;
        int64_t to = line * ow * c + c0;
        int64_t below = static_cast<int64_t>(w) * c;
        auto window = [=](int64_t x) {
          In z0 = z + (from + x * 2 * c), z1 = z0 + c, z2 = z0 + below, z3 = z2 + c;
          Out yx = y + (to + x * c);
          return [=](int64_t i, int& at) {
            auto f = [&](int j) {
              const In& zj = j == 0 ? z0 : j == 1 ? z1 : j == 2 ? z2 : z3;
              return zj[i] * s[i] + b[i];
            };
            yx.set(i, output<Pool, B, I>(f, at, T(0)));
          };
        };
        block::rows_of_bytes<kAccess<I>>(0, ow, walk.span, [=](int64_t x) {
          return block::Bytes{I == kNone ? nullptr : idx + (to + x * c), window(x)};
        });
      }
    } else {
      block::Range pixels = block::range(static_cast<int64_t>(n) * h * w);
      for (int64_t p = pixels.lo; p < pixels.hi; p += walk.pixels) {
        int64_t left = pixels.hi - p;
        int len = left < walk.pixels ? static_cast<int>(left) * walk.period : walk.span;
        In zp = z + (p * c + c0), rp = r;
        if constexpr (Residual) rp = r + (p * c + c0);
        Out yp = y + (p * c + c0);
        uint8_t* ip = I == kNone ? idx : idx + (p * c + c0);
        LANES(i, len) {
          auto f = [&](int) {
            T v = zp[i] * s[i] + b[i];
            if constexpr (Residual) v = v + rp[i];
            return v;
          };
          int at = I == kRead ? ip[i] : 0;
          yp.set(i, output<Pool, B, I>(f, at, T(0)));
          if constexpr (I == kWrite) ip[i] = static_cast<uint8_t>(at);
        }
      }
    }
  }
}

template <class T>
FN void forward(int n, int h, int w, int c, int pool, int bounds, int index, in<T> z, in<T> scale,
                in<T> shift, in<T> r, out<T> y, uint8_t* idx) {
  BLOCK_SHARED(float, store, 4 * kStage);
  auto run = [&](auto pooled, auto bound, auto residual) {
    constexpr bool P = decltype(pooled)::value, R = decltype(residual)::value;
    constexpr Bounds B = decltype(bound)::value;
    auto range = [&](auto to, auto from, auto added) {
      auto at = [&](auto i) {
        forward_range<P, B, i.value, R>(n, h, w, c, from, added, scale, shift, to, idx, store);
      };
      if (index == kNone || (!P && B == kUnbounded))
        at(Of<kNone>{});
      else if constexpr (P || B != kUnbounded) {
        if (index == kWrite)
          at(Of<kWrite>{});
        else if constexpr (B != kAtZeroAndSix)
          at(Of<kRead>{});
      }
    };
    if constexpr (R)
      with_planes(range, y, z, r);
    else
      with_planes([&](auto to, auto from) { range(to, from, from); }, y, z);
  };
  using block::Constant;
  if (pool == 2) {
    block::specialise(bounds == kAtZero, [&](auto zero) {
      constexpr Bounds B = decltype(zero)::value ? kAtZero : kUnbounded;
      run(Constant<true>{}, Of<B>{}, Constant<false>{});
    });
    return;
  }
  block::specialise(static_cast<bool>(r), [&](auto residual) {
    if (bounds == kUnbounded)
      run(Constant<false>{}, Of<kUnbounded>{}, residual);
    else if (bounds == kAtZero || index == kRead)  // which bound it was makes no difference
      run(Constant<false>{}, Of<kAtZero>{}, residual);
    else
      run(Constant<false>{}, Of<kAtZeroAndSix>{}, residual);
  });
}
}  // namespace act

namespace act {

// dz over one window or one pixel: j is the position, at the chosen one.
template <bool Affine, class T, class In, class Out>
FN void scatter(Out dz, In z, int64_t i, bool chosen, T d, T p, T q) {
  T v = math::keep(chosen, d);
  if constexpr (Affine) v = v + (p * z[i] + q);
  dz.set(i, v);
}

template <bool Pool, bool Indexed, bool Affine, class T, class In, class Out>
FN void backward_range(int n, int h, int w, int c, In dy, In z, in<T> scale, in<T> p, in<T> q,
                       const uint8_t* idx, Out dz, bool residual, Out dr, float* store) {
  for (int c0 = 0; c0 < c; c0 += kStage) {
    Walk walk(c, c0, !Pool);
    block::sync();
    float* to = store;
    Staged<T> s = stage(scale, 1, c0, walk.period, walk.span, to, to + kStage);
    to += 2 * kStage;
    Staged<T> ps = stage(p, 0, c0, walk.period, walk.span, to, to + kStage);
    to += 2 * kStage;
    Staged<T> qs = stage(q, 0, c0, walk.period, walk.span, to, to + kStage);
    block::sync();
    if constexpr (Pool) {
      int oh = h / 2, ow = w / 2, half = (h + 1) / 2;
      int64_t below = static_cast<int64_t>(w) * c;
      block::Range lines = block::range(static_cast<int64_t>(n) * half);
      for (int64_t line = lines.lo; line < lines.hi; line++) {
        int64_t image = line / half;
        int row = static_cast<int>(line % half);
        int64_t to = (image * h + row * 2) * w * c + c0;
        int64_t from = (image * oh + row) * ow * c + c0;
        bool whole = row < oh;
        auto window = [=](int64_t x) {
          Out d0 = dz + (to + x * 2 * c), d1 = d0 + c, d2 = d0 + below, d3 = d2 + c;
          In z0 = z, z1 = z, z2 = z, z3 = z;
          if constexpr (Affine)
            z0 = z + (to + x * 2 * c), z1 = z0 + c, z2 = z0 + below, z3 = z2 + c;
          In g = dy + (from + x * c);
          return [=](int64_t i, int at) {
            T d = g[i] * s[i];
            scatter<Affine>(d0, z0, i, at == 0, d, ps[i], qs[i]);
            scatter<Affine>(d1, z1, i, at == 1, d, ps[i], qs[i]);
            scatter<Affine>(d2, z2, i, at == 2, d, ps[i], qs[i]);
            scatter<Affine>(d3, z3, i, at == 3, d, ps[i], qs[i]);
          };
        };
        block::rows_of_bytes<block::Access::kRead>(0, whole ? ow : 0, walk.span, [=](int64_t x) {
          return block::Bytes{idx + (from + x * c), window(x)};
        });
        // What the windows leave out: an odd last column, an odd last line.
        int64_t first = whole ? 2 * ow : 0, lines_here = whole ? 2 : 1;
        for (int64_t l = 0; l < lines_here; l++) {
          block::rows(first, w, walk.span, [=](int64_t x) {
            int64_t at = to + l * below + x * c;
            return [=](int64_t i) {
              In zi = Affine ? z + at : z;
              scatter<Affine>(dz + at, zi, i, false, T(0), ps[i], qs[i]);
            };
          });
        }
      }
    } else {
      block::Range pixels = block::range(static_cast<int64_t>(n) * h * w);
      for (int64_t px = pixels.lo; px < pixels.hi; px += walk.pixels) {
        int64_t left = pixels.hi - px, at = px * c + c0;
        int len = left < walk.pixels ? static_cast<int>(left) * walk.period : walk.span;
        In g = dy + at, zp = Affine ? z + at : z;
        Out d = dz + at;
        const uint8_t* ix = Indexed ? idx + at : idx;
        LANES(i, len) {
          bool on = Indexed ? ix[i] != kOff : true;
          scatter<Affine>(d, zp, i, on, g[i] * s[i], ps[i], qs[i]);
        }
        if (residual) {  // a loop of its own, whose dy is near, spares the other registers
          Out e = dr + at;
          LANES(i, len) e.set(i, math::keep(Indexed ? ix[i] != kOff : true, g[i]));
        }
      }
    }
  }
}

template <class T>
FN void backward(int n, int h, int w, int c, int pool, in<T> dy, in<T> z, in<T> scale, in<T> p,
                 in<T> q, const uint8_t* idx, out<T> dz, out<T> dr) {
  BLOCK_SHARED(float, store, 6 * kStage);
  block::specialise(static_cast<bool>(p), [&](auto affine) {
    constexpr bool A = decltype(affine)::value;
    auto range = [&](auto to, auto from, auto value) {
      bool residual = static_cast<bool>(dr);
      auto other = like(to, dr);
      if (pool == 2)
        backward_range<true, true, A>(n, h, w, c, from, value, scale, p, q, idx, to, residual,
                                      other, store);
      else if (idx)
        backward_range<false, true, A>(n, h, w, c, from, value, scale, p, q, idx, to, residual,
                                       other, store);
      else
        backward_range<false, false, A>(n, h, w, c, from, value, scale, p, q, idx, to, residual,
                                        other, store);
    };
    bool alike = !dr || same_planes(dz, dr);
    if constexpr (A) {
      alike ? with_planes(range, dz, dy, z) : range(dz, dy, z);
    } else {  // nothing reads z
      auto linear = [&](auto to, auto from) { range(to, from, from); };
      alike ? with_planes(linear, dz, dy) : linear(dz, dy);
    }
  });
}

// Partial sums of this block's range of outputs: part[block][k][c], the dscale planes first.
template <bool Pool, bool Indexed, bool Scale, class T>
FN void reduce_range(int n, int h, int w, int c, in<T> dy, in<T> z, const uint8_t* idx,
                     float* part) {
  constexpr int K = Scale ? 2 * kPlanes<T> : kPlanes<T>;
  int oh = Pool ? h / 2 : h, ow = Pool ? w / 2 : w;
  int64_t below = static_cast<int64_t>(w) * c;
  block::Range r = block::range(static_cast<int64_t>(n) * oh * ow);
  float* mine = part + static_cast<int64_t>(block::id()) * K * c;
  auto row = [=](int64_t o) {
    int64_t from = o * c;
    if constexpr (Pool) {
      uint32_t x = static_cast<uint32_t>(o) % ow, line = static_cast<uint32_t>(o) / ow;
      from = ((static_cast<int64_t>(line / oh) * h + line % oh * 2) * w + x * 2) * c;
    }
    in<T> g = dy + o * c;
    in<T> z0 = z, z1 = z, z2 = z, z3 = z;
    if constexpr (Scale) z0 = z + from;
    if constexpr (Scale && Pool) z1 = z0 + c, z2 = z0 + below, z3 = z2 + c;
    const uint8_t* ix = Indexed ? idx + o * c : idx;
    return [=](int64_t i, float(&v)[K]) {
      int at = Indexed ? ix[i] : 0;
      T d = math::keep(at != kOff, g[i]);
      if constexpr (Scale) {
        T zi = math::keep(at == 0, z0[i]);
        if constexpr (Pool) {
          zi = math::either(zi, math::keep(at == 1, z1[i]));
          zi = math::either(zi, math::keep(at == 2, z2[i]));
          zi = math::either(zi, math::keep(at == 3, z3[i]));
        }
        put(v, d * zi);
      }
      put(v + (Scale ? kPlanes<T> : 0), d);
    };
  };
  block::columns<K>(r.lo, r.hi, c, row, [=](int64_t i, const float(&v)[K]) {
    for (int k = 0; k < K; k++) mine[static_cast<int64_t>(k) * c + i] = v[k];
  });
}

template <class T>
FN void reduce(int n, int h, int w, int c, int pool, in<T> dy, in<T> z, const uint8_t* idx,
               float* part) {
  block::specialise(static_cast<bool>(z), [&](auto scale) {
    constexpr bool S = decltype(scale)::value;
    if (pool == 2)
      reduce_range<true, true, S>(n, h, w, c, dy, z, idx, part);
    else if (idx)
      reduce_range<false, true, S>(n, h, w, c, dy, z, idx, part);
    else
      reduce_range<false, false, S>(n, h, w, c, dy, z, idx, part);
  });
}
}  // namespace act

KERNEL act_forward_f32(int n, int h, int w, int c, int pool, int bounds, int index, const float* z,
                       const float* scale, const float* shift, const float* r, float* y,
                       uint8_t* idx) {
  act::forward<float>(n, h, w, c, pool, bounds, index, {z}, {scale}, {shift}, {r}, {y}, idx);
}

KERNEL act_forward_dual(int n, int h, int w, int c, int pool, int bounds, int index, const float* z,
                        const float* zt, const float* scale, const float* scalet,
                        const float* shift, const float* shiftt, const float* r, const float* rt,
                        float* y, float* yt, uint8_t* idx) {
  act::forward<dual>(n, h, w, c, pool, bounds, index, {z, zt}, {scale, scalet}, {shift, shiftt},
                     {r, rt}, {y, yt}, idx);
}

KERNEL act_backward_f32(int n, int h, int w, int c, int pool, const float* dy, const float* z,
                        const float* scale, const float* p, const float* q, const uint8_t* idx,
                        float* dz, float* dr) {
  act::backward<float>(n, h, w, c, pool, {dy}, {z}, {scale}, {p}, {q}, idx, {dz}, {dr});
}

KERNEL act_backward_dual(int n, int h, int w, int c, int pool, const float* dy, const float* dyt,
                         const float* z, const float* zt, const float* scale, const float* scalet,
                         const float* p, const float* pt, const float* q, const float* qt,
                         const uint8_t* idx, float* dz, float* dzt, float* dr, float* drt) {
  act::backward<dual>(n, h, w, c, pool, {dy, dyt}, {z, zt}, {scale, scalet}, {p, pt}, {q, qt}, idx,
                      {dz, dzt}, {dr, drt});
}

// Partial sums: part[block][k][c], k = dscale (with z), dshift, each with its tangent in dual.
KERNEL act_reduce_f32(int n, int h, int w, int c, int pool, const float* dy, const float* z,
                      const uint8_t* idx, float* part) {
  act::reduce<float>(n, h, w, c, pool, {dy}, {z}, idx, part);
}

KERNEL act_reduce_dual(int n, int h, int w, int c, int pool, const float* dy, const float* dyt,
                       const float* z, const float* zt, const uint8_t* idx, float* part) {
  act::reduce<dual>(n, h, w, c, pool, {dy, dyt}, {z, zt}, idx, part);
}

// Adds the partial sums of `parts` blocks, in order: plane k of part goes to out_k unless null.
KERNEL act_combine(int parts, int planes, int c, const float* part, float* out0, float* out1,
                   float* out2, float* out3) {
  block::Range r = block::range(c);
  for (int k = 0; k < planes; k++) {
    float* to = k == 0 ? out0 : k == 1 ? out1 : k == 2 ? out2 : out3;
    if (!to) continue;
    const float* from = part + static_cast<int64_t>(k) * c + r.lo;
    int64_t step = static_cast<int64_t>(planes) * c;
    block::columns<1>(
        0, parts, static_cast<int>(r.hi - r.lo),
        [=](int64_t b) {
          const float* row = from + b * step;
          return [=](int64_t i, float(&v)[1]) { v[0] = row[i]; };
        },
        [=](int64_t i, const float(&v)[1]) { to[r.lo + i] = v[0]; });
  }
}
