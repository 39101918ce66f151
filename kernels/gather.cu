// Images by index, shifted with zero fill and flipped: the differentiable augmentation of training
// and crafting, its adjoint, and its draws. Images are [.,h,w,c].
//
//   x[i][y][u][c] = v_{index_i}[y + dy_i][(flip_i ? w-1-u : u) + dx_i][c], 0 outside the image
//   v = src / 255 (uint8)                                             gather_u8
//   v = src (+ delta)                                                 gather_f32
//   dsrc[i][y][u][c] = dx at the place that read (y, u), 0 if none    augment_adjoint
//
// aug [n,3] int32 = (dx, dy, flip), absent = none; index [n] int32, absent = 0 … n-1. This is
// PyTorch's RandomCrop(h, padding) followed by RandomHorizontalFlip. Each pixel of x reads one
// pixel, and each source pixel is read at most once, so the adjoint gathers too.
//
// A block takes a range of image lines, lanes over a line's numbers. A line that is not flipped is
// a run of contiguous numbers.
// Bytes a number: 1 + 4 for u8, 8 for f32 (12 with delta). FLOPs: 1.
#include "philox.cuh"

namespace gather {

// The numbers j in [lo, hi) of an output line lie inside the source, at from + j, or, flipped, in
// the pixel from + pixel(j) of the source line.
struct Line {
  int lo, hi;
  int64_t from;
  bool flip;
};

FN int clamp(int v, int lo, int hi) {
  int low = v < lo ? lo : v;
  return low > hi ? hi : low;
}

// Line y of the source as seen at line y - dy, for a shift by dx: u reads the column u + dx, or
// w-1-u + dx when flipped.
FN Line line_of(int64_t image, int y, int h, int w, int c, int dx, int dy, bool flip) {
  int64_t row = static_cast<int64_t>(y) + dy;
  if (row < 0 || row >= h) return {0, 0, 0, flip};
  int first = clamp(-dx, 0, w), last = clamp(w - dx, first, w);
  int64_t from = (image * h + row) * w * c;
  if (flip)
    return {(w - last) * c, (w - first) * c, from + static_cast<int64_t>(w - 1 + dx) * c, true};
  return {first * c, last * c, from + static_cast<int64_t>(dx) * c, false};
}

// Writes an output line, value(k) being the source's number k.
template <class Value>
FN void copy_line(Line l, int w, int c, float* to, Value value) {
  int len = w * c;
  if (l.hi <= l.lo) {
    LANES(j, len) to[j] = 0;
    return;
  }
  LANES(j, l.lo) to[j] = 0;
  int tail = len - l.hi;
  LANES(j, tail) to[l.hi + j] = 0;
  int inside = l.hi - l.lo;
  if (!l.flip) {
    LANES(j, inside) to[l.lo + j] = value(l.from + l.lo + j);
  } else {
    // Pixel u takes pixel w-1-u + dx: its channels keep their order.
    block::rows(l.lo / c, l.hi / c, c, [=](int64_t u) {
      int64_t from = l.from - u * c;
      float* pixel = to + u * c;
      return [=](int64_t k) { pixel[k] = value(from + k); };
    });
  }
}

template <class Value>
FN void images(int n, int h, int w, int c, const int* index, const int* aug, float* x,
               Value value) {
  block::Range lines = block::range(static_cast<int64_t>(n) * h);
  for (int64_t line = lines.lo; line < lines.hi; line++) {
    int64_t i = line / h;
    int y = static_cast<int>(line % h);
    int dx = aug ? aug[3 * i] : 0, dy = aug ? aug[3 * i + 1] : 0;
    bool flip = aug && aug[3 * i + 2] != 0;
    Line l = line_of(index ? index[i] : i, y, h, w, c, dx, dy, flip);
    copy_line(l, w, c, x + line * w * c, value);
  }
}

// What a uint64 draw takes from a Philox word: 0 … m-1, its bias below m 2^-32.
FN int below(uint32_t word, int m) {
  return static_cast<int>((static_cast<uint64_t>(word) * static_cast<uint64_t>(m)) >> 32);
}
}  // namespace gather

KERNEL gather_u8(int n, int h, int w, int c, const uint8_t* src, const int* index, const int* aug,
                 float* x) {
  gather::images(n, h, w, c, index, aug, x,
                 [=](int64_t k) { return static_cast<float>(src[k]) / 255.0f; });
}

KERNEL gather_f32(int n, int h, int w, int c, const float* src, const float* delta,
                  const int* index, const int* aug, float* x) {
  if (delta)
    gather::images(n, h, w, c, index, aug, x, [=](int64_t k) { return src[k] + delta[k]; });
  else
    gather::images(n, h, w, c, index, aug, x, [=](int64_t k) { return src[k]; });
}

KERNEL augment_adjoint(int n, int h, int w, int c, const int* aug, const float* dx, float* dsrc) {
  block::Range lines = block::range(static_cast<int64_t>(n) * h);
  for (int64_t line = lines.lo; line < lines.hi; line++) {
    int64_t i = line / h;
    int y = static_cast<int>(line % h);
    int sx = aug ? aug[3 * i] : 0, sy = aug ? aug[3 * i + 1] : 0;
    bool flip = aug && aug[3 * i + 2] != 0;
    // The inverse map: column v was read at u = v - sx, or at u = w-1-v + sx when flipped.
    gather::Line l = gather::line_of(i, y, h, w, c, flip ? sx : -sx, -sy, flip);
    gather::copy_line(l, w, c, dsrc + line * w * c, [=](int64_t k) { return dx[k]; });
  }
}

// aug_i = (dx, dy, flip) of step *step: words 0, 1, 2 of Philox block (step 2^32 + i) of the stream
// "augm"; dx and dy uniform in -max_shift … max_shift.
KERNEL augment_draw(int n, int64_t seed, const uint64_t* step, int max_shift, int flip, int* aug) {
  block::each(n, [=](int64_t i) {
    philox::Words r = philox::words(static_cast<uint64_t>(seed), 0x6175676dull,
                                    (*step << 32) | static_cast<uint64_t>(i));
    int span = 2 * max_shift + 1;
    aug[3 * i] = gather::below(r.w[0], span) - max_shift;
    aug[3 * i + 1] = gather::below(r.w[1], span) - max_shift;
    aug[3 * i + 2] = flip ? static_cast<int>(r.w[2] >> 31) : 0;
  });
}

KERNEL gather_i32(int64_t n, const int* src, const int* index, int* dst) {
  block::each(n, [=](int64_t i) { dst[i] = src[index[i]]; });
}
