// Per-sample gradients of convolutions with groups, weights [k,r,s,c/groups], in float32 on every
// device: with a stride each sample's gradient, `stride` floats apart; else out_i += |G_i|^2, or
// <G_i, v> if there is a v.
//
//   G_i[j,t,q] = sum over positions of dy_ij x_iq at tap t     q of the channels of j's group
//
// Blocks take ranges of samples; every number of G is one lane's sum over the positions, which come
// from the caches. Channels of y run along lanes, and where every channel has a filter of its own
// (depthwise) those of x are the same.
// Bytes: 4 (x + dy), and out. FLOPs: 2 n oh ow k r s c / groups.
#include "math.cuh"

namespace persample {

struct Grouped {
  int h, w, c, k, r, s, stride, pad, groups;
};

// The outputs lo … hi-1 of `count` along one dimension whose tap t lies inside an image of `size`.
struct Reach {
  int lo, hi;
};
FN Reach reach(int t, int stride, int pad, int size, int count) {
  int over = size - 1 + pad - t;
  int hi = over < 0 ? 0 : over / stride + 1;
  return {t < pad ? (pad - t + stride - 1) / stride : 0, hi < count ? hi : count};
}

// The gradient of sample i: each(lane, element of [k,r,s,c/groups], value), strips of k at a time.
template <bool kDepthwise, class Each>
FN void grouped(const Grouped& g, int64_t i, const float* x, const float* dy, Each each) {
  constexpr int kStrip = block::kStrip;
  int oh = (g.h + 2 * g.pad - g.r) / g.stride + 1, ow = (g.w + 2 * g.pad - g.s) / g.stride + 1;
  int cs = g.c / g.groups, ks = g.k / g.groups, columns = g.r * g.s * cs;
  block::rows_in_strips(0, columns, g.k, [=](int64_t column) {
    int tap = static_cast<int>(column) / cs, channel = static_cast<int>(column) - tap * cs;
    int r = tap / g.s, s = tap - r * g.s;
    Reach rows = reach(r, g.stride, g.pad, g.h, oh), places = reach(s, g.stride, g.pad, g.w, ow);
    return [=](int k, auto length) {
      const int len = length;
      float sum[kStrip];
      int from[kStrip];
      STRIP(l, len) {
        sum[l] = 0;
        from[l] = kDepthwise ? k + l : (k + l) / ks * cs + channel;
      }
      for (int oy = rows.lo; oy < rows.hi; oy++)
        for (int ox = places.lo; ox < places.hi; ox++) {
          int iy = oy * g.stride - g.pad + r, ix = ox * g.stride - g.pad + s;
          const float* xp = x + ((i * g.h + iy) * g.w + ix) * g.c;
          const float* dp = dy + ((i * oh + oy) * ow + ox) * g.k + k;
          STRIP(l, len) sum[l] += dp[l] * xp[kDepthwise ? k + l : from[l]];
        }
      for (int l = 0; l < len; l++) each(l, static_cast<int64_t>(k + l) * columns + column, sum[l]);
    };
  });
}

template <bool kDepthwise>
FN void grouped(int64_t n, const Grouped& g, const float* x, const float* dy, const float* v,
                float* out, int64_t stride) {
  block::Range range = block::range(n);
  for (int64_t i = range.lo; i < range.hi; i++) {
    if (stride > 0) {
      float* to = out + i * stride;
      grouped<kDepthwise>(g, i, x, dy, [=](int, int64_t at, float value) { to[at] = value; });
      continue;
    }
    float part[block::kStrip];
    for (float& p : part) p = 0;
    grouped<kDepthwise>(g, i, x, dy, [&](int lane, int64_t at, float value) {
      part[lane] += value * (v ? v[at] : value);
    });
    float total = 0;
    for (float p : part) total += p;
    total = block::all_reduce(total, [](float a, float b) { return a + b; });
    if (block::rank() == 0) out[i] += total;
  }
}
}  // namespace persample

KERNEL persample_grouped(int64_t n, int h, int w, int c, int k, int r, int s, int stride, int pad,
                         int groups, const float* x, const float* dy, const float* v, float* out,
                         int64_t out_stride) {
  persample::Grouped g{h, w, c, k, r, s, stride, pad, groups};
  block::specialise(groups == c && groups == k, [&](auto depthwise) {
    persample::grouped<depthwise.value>(n, g, x, dy, v, out, out_stride);
  });
}
