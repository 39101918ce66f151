// Average pooling to a given size, as PyTorch's AdaptiveAvgPool2d: oh = ow = 1 is the global
// average.
//
//   y[n,i,j,c] = mean of x over lines start(i) … end(i)-1 and columns likewise    avgpool_forward
//   dx[n,y,x,c] = sum of dy / (numbers in its window) over the windows that hold (y,x)
//                                                                                 avgpool_backward
//   start(i) = floor(i h / oh), end(i) = ceil((i+1) h / oh)
//
// Windows overlap where oh does not divide h, and repeat where oh > h. An input lies in windows
// floor(y oh / h) … ceil((y+1) oh / h) - 1: the same rule with the sizes exchanged, so the adjoint
// gathers too, and in order. Both maps are linear: a tangent plane is a launch of its own.
// Bytes: 4 (n h w c + n oh ow c). FLOPs: one an input of a window.
#include "math.cuh"

namespace avgpool {

using block::kStrip;

struct Part {
  int lo, hi;
};
// The part of `size` places that number i of `count` takes.
FN Part part(int i, int size, int count) {
  return {static_cast<int>(static_cast<int64_t>(i) * size / count),
          static_cast<int>((static_cast<int64_t>(i + 1) * size + count - 1) / count)};
}

// to[n,h,w,c]: sums of from[n,fh,fw,c] over each place's part, every term times weight(line,
// column).
template <class Weight>
FN void gather(int n, int h, int w, int c, int fh, int fw, const float* from, float* to,
               Weight weight) {
  block::Range places = block::range(static_cast<int64_t>(n) * h * w);
  block::rows_in_strips(places.lo, places.hi, c, [=](int64_t place) {
    int64_t line = place / w, image = line / h;
    Part rows = part(static_cast<int>(line - image * h), fh, h);
    Part columns = part(static_cast<int>(place - line * w), fw, w);
    return [=](int i, auto length) {
      const int len = length;
      float sum[kStrip];
      STRIP(l, len) sum[l] = 0;
      for (int y = rows.lo; y < rows.hi; y++)
        for (int x = columns.lo; x < columns.hi; x++) {
          const float* v = from + ((image * fh + y) * fw + x) * c + i;
          float m = weight(y, x);
          STRIP(l, len) sum[l] += m * v[l];
        }
      float* out = to + place * c + i;
      float m = weight(rows, columns);
      STRIP(l, len) out[l] = m * sum[l];
    };
  });
}

FN float inverse(Part rows, Part columns) {
  return 1.0f / static_cast<float>((rows.hi - rows.lo) * (columns.hi - columns.lo));
}

// The mean: divided once a window.
struct Mean {
  FN float operator()(int, int) const { return 1; }
  FN float operator()(Part rows, Part columns) const { return inverse(rows, columns); }
};
// Its adjoint: every window's gradient by its own size.
struct Spread {
  int h, w, oh, ow;
  FN float operator()(int y, int x) const { return inverse(part(y, h, oh), part(x, w, ow)); }
  FN float operator()(Part, Part) const { return 1; }
};
}  // namespace avgpool

KERNEL avgpool_forward(int n, int h, int w, int c, int oh, int ow, const float* x, float* y) {
  avgpool::gather(n, oh, ow, c, h, w, x, y, avgpool::Mean{});
}

KERNEL avgpool_backward(int n, int h, int w, int c, int oh, int ow, const float* dy, float* dx) {
  avgpool::gather(n, h, w, c, oh, ow, dy, dx, avgpool::Spread{h, w, oh, ow});
}
