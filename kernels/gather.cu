// Images by index, shifted and flipped: the differentiable augmentation of training and crafting,
// its adjoint, and its draws. Images are [.,h,w,c].
//
//   x[i][y][u][c] = v_{index_i}[y + dy_i][(flip_i ? w-1-u : u) + dx_i][c]
//   v = src / 255 (uint8)                                             gather_u8
//   v = src (+ delta)                                                 gather_f32
//   dsrc[i][y][u][c] = sum of dx at the places that read (y, u)       augment_adjoint
//
// Outside the image v is 0 or, with reflect, its mirror image about the outermost pixels: v[-k] is
// v[k], v[n-1+k] is v[n-1-k]; then |dx| < w and |dy| < h. aug [n,3] int32 = (dx, dy, flip), absent
// = none; index [n] int32, absent = 0 … n-1. This is torchvision's RandomCrop(h, padding,
// padding_mode="constant" or "reflect") followed by RandomHorizontalFlip. Each pixel of x reads one
// pixel; a source pixel is read by at most one, with reflect by at most three times three (its own
// place and its mirror images), so the adjoint gathers too.
//
// A block takes a range of image lines, lanes over a line's numbers. With zero fill a line that is
// not flipped is a run of contiguous numbers. Bytes a number: 1 + 4 for u8, 8 for f32 (12 with
// delta). FLOPs: 1.
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

// Place v of a line of n places that goes on as its mirror image. The clamp is for shifts that are
// too large: they show something, but nothing that is not there.
FN int mirrored(int v, int n) { return clamp(v < 0 ? -v : v >= n ? 2 * (n - 1) - v : v, 0, n - 1); }

// copy_line with reflection, from the source line that begins at number `start`.
template <class Value>
FN void reflect_line(int64_t start, int w, int c, int dx, bool flip, float* to, Value value) {
  block::rows(0, w, c, [=](int64_t u) {
    int at = static_cast<int>(flip ? w - 1 - u : u) + dx;
    int64_t from = start + static_cast<int64_t>(mirrored(at, w)) * c;
    float* pixel = to + u * c;
    return [=](int64_t k) { pixel[k] = value(from + k); };
  });
}

template <class Value>
FN void images(int n, int h, int w, int c, const int* index, const int* aug, int reflect, float* x,
               Value value) {
  block::Range lines = block::range(static_cast<int64_t>(n) * h);
  for (int64_t line = lines.lo; line < lines.hi; line++) {
    int64_t i = line / h;
    int y = static_cast<int>(line % h);
    int dx = aug ? aug[3 * i] : 0, dy = aug ? aug[3 * i + 1] : 0;
    bool flip = aug && aug[3 * i + 2] != 0;
    int64_t image = index ? index[i] : i;
    float* to = x + line * w * c;
    if (aug && reflect)
      reflect_line((image * h + mirrored(y + dy, h)) * w * c, w, c, dx, flip, to, value);
    else
      copy_line(line_of(image, y, h, w, c, dx, dy, flip), w, c, to, value);
  }
}

// Whether place *at of an output line reads place v of n by way k: directly, or mirrored at either
// end. A place at the end is its own mirror image, which counts once.
FN bool reads(int v, int n, int shift, int k, int* at) {
  int seen = k == 0 ? v : k == 1 ? -v : 2 * (n - 1) - v;
  *at = seen - shift;
  return *at >= 0 && *at < n && (k == 0 || seen != v);
}

// Line y of the adjoint with reflection: dx is the image's.
FN void reflect_adjoint(int y, int h, int w, int c, int sx, int sy, bool flip, const float* dx,
                        float* to) {
  block::rows(0, w, c, [=](int64_t v) {
    float* pixel = to + v * c;
    return [=](int64_t k) {
      float sum = 0;
      for (int a = 0; a < 3; a++) {
        int row;
        if (!reads(y, h, sy, a, &row)) continue;
        for (int b = 0; b < 3; b++) {
          int u;
          if (!reads(static_cast<int>(v), w, sx, b, &u)) continue;
          int64_t at = static_cast<int64_t>(row) * w + (flip ? w - 1 - u : u);
          sum += dx[at * c + k];
        }
      }
      pixel[k] = sum;
    };
  });
}

// What a uint64 draw takes from a Philox word: 0 … m-1, its bias below m 2^-32.
FN int below(uint32_t word, int m) {
  return static_cast<int>((static_cast<uint64_t>(word) * static_cast<uint64_t>(m)) >> 32);
}
}  // namespace gather

KERNEL gather_u8(int n, int h, int w, int c, const uint8_t* src, const int* index, const int* aug,
                 int reflect, float* x) {
  gather::images(n, h, w, c, index, aug, reflect, x,
                 [=](int64_t k) { return static_cast<float>(src[k]) / 255.0f; });
}

KERNEL gather_f32(int n, int h, int w, int c, const float* src, const float* delta,
                  const int* index, const int* aug, int reflect, float* x) {
  if (delta)
    gather::images(n, h, w, c, index, aug, reflect, x,
                   [=](int64_t k) { return src[k] + delta[k]; });
  else
    gather::images(n, h, w, c, index, aug, reflect, x, [=](int64_t k) { return src[k]; });
}

KERNEL augment_adjoint(int n, int h, int w, int c, const int* aug, int reflect, const float* dx,
                       float* dsrc) {
  block::Range lines = block::range(static_cast<int64_t>(n) * h);
  for (int64_t line = lines.lo; line < lines.hi; line++) {
    int64_t i = line / h;
    int y = static_cast<int>(line % h);
    int sx = aug ? aug[3 * i] : 0, sy = aug ? aug[3 * i + 1] : 0;
    bool flip = aug && aug[3 * i + 2] != 0;
    float* to = dsrc + line * w * c;
    if (aug && reflect) {
      gather::reflect_adjoint(y, h, w, c, sx, sy, flip, dx + i * h * w * c, to);
      continue;
    }
    // The inverse map: column v was read at u = v - sx, or at u = w-1-v + sx when flipped.
    gather::Line l = gather::line_of(i, y, h, w, c, flip ? sx : -sx, -sy, flip);
    gather::copy_line(l, w, c, to, [=](int64_t k) { return dx[k]; });
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
