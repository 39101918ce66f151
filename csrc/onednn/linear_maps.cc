#include "linear_maps.h"

#include "../depthwise/depthwise.h"
#include "../host/scratch.h"
#include "../winograd/winograd.h"

#include <omp.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

namespace gocp {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Type = memory::data_type;

dnnl::engine& cpu() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

dnnl::stream& queue() {
  thread_local dnnl::stream s(cpu());
  return s;
}

Type input_type(Precision p) { return p == Precision::kBF16 ? Type::bf16 : Type::f32; }

dnnl::primitive_attr adding(bool accumulate) {
  dnnl::primitive_attr attr;
  if (accumulate) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attr.set_post_ops(ops);
  }
  return attr;
}

memory view(const memory::desc& d, const void* p) { return memory(d, cpu(), const_cast<void*>(p)); }

// What a launch's products have converted of their activations and gradients, for they share
// operands: one entry for each operand and form, in scratch that outlives the launch.
struct Converted {
  struct Entry {
    const void* plain;
    memory::desc form;
    Scratch scratch;
  };
  bool on = false;
  size_t used = 0;
  std::vector<std::unique_ptr<Entry>> entries;

  // The form of p, and whether it has been made already.
  std::pair<memory, bool> find(const void* p, const memory::desc& form) {
    for (size_t i = 0; i < used; ++i) {
      Entry& e = *entries[i];
      if (e.plain == p && e.form == form) return {view(form, e.scratch.get(form.get_size())), true};
    }
    if (used == entries.size()) entries.push_back(std::make_unique<Entry>());
    Entry& e = *entries[used];
    void* to = e.scratch.get(form.get_size());
    e.plain = p;
    e.form = form;
    ++used;
    return {view(form, to), false};
  }
};

Converted& converted() {
  thread_local Converted c;
  return c;
}

// One cached primitive: source × weights → destination, with the reorders around it.
// The operands' plain forms are float32; a thread's scratch holds the forms the primitive wants.
struct Plan {
  dnnl::primitive op;
  struct Operand {
    int arg = 0;
    memory::desc plain, wanted;
    dnnl::reorder into;  // plain → wanted; empty when they are the same
    bool converts = false;
    bool shared = false;  // other products of the launch read it too
  } a, b, out;
  dnnl::reorder out_of;  // wanted → plain for the result (weight gradients)
  bool out_converts = false;

  void input(Operand& o, int arg, const memory::desc& plain, const memory::desc& wanted,
             bool shared) {
    o.arg = arg;
    o.shared = shared;
    o.plain = plain;
    o.wanted = wanted;
    o.converts = plain != wanted;
    if (o.converts) o.into = dnnl::reorder({cpu(), plain, cpu(), wanted});
  }

  void output(int arg, const memory::desc& plain, const memory::desc& wanted, bool accumulate) {
    out.arg = arg;
    out.plain = plain;
    out.wanted = wanted;
    out_converts = plain != wanted || accumulate;
    if (out_converts) {
      out_of = dnnl::reorder({cpu(), wanted, cpu(), plain, adding(accumulate)});
    }
  }

  static memory prepare(Operand& o, const void* p, Scratch& scratch) {
    memory src = view(o.plain, p);
    if (!o.converts) return src;
    if (o.shared && converted().on) {
      auto [dst, made] = converted().find(p, o.wanted);
      if (!made) o.into.execute(queue(), src, dst);
      return dst;
    }
    memory dst = view(o.wanted, scratch.get(o.wanted.get_size()));
    o.into.execute(queue(), src, dst);
    return dst;
  }

  void run(const void* pa, const void* pb, float* pout) {
    thread_local Scratch scratch_a, scratch_b, scratch_out;
    memory ma = prepare(a, pa, scratch_a), mb = prepare(b, pb, scratch_b);
    memory result = view(out.plain, pout);
    memory direct = result;
    if (out_converts) direct = view(out.wanted, scratch_out.get(out.wanted.get_size()));
    op.execute(queue(), {{a.arg, ma}, {b.arg, mb}, {out.arg, direct}});
    if (out_converts) out_of.execute(queue(), direct, result);
    queue().wait();
  }
};

// While one of these lives, this thread's conversions are kept.
class ConvertOnce {
 public:
  ConvertOnce() {
    converted().on = true;
    converted().used = 0;
  }
  ~ConvertOnce() { converted().on = false; }
  ConvertOnce(const ConvertOnce&) = delete;
  ConvertOnce& operator=(const ConvertOnce&) = delete;
};

enum class Op { kForward, kBackwardData, kBackwardWeight, kMatmul };
using Key = std::tuple<Op, std::vector<int>, int, bool, int>;

// The thread's plan for a key, made by `make` at first use.
template <class Make>
Plan& plan(Op op, std::vector<int> dims, Precision p, bool accumulate, Make make) {
  thread_local std::map<Key, std::unique_ptr<Plan>> plans;
  Key key(op, std::move(dims), static_cast<int>(p), accumulate, omp_get_max_threads());
  auto& slot = plans[key];
  if (!slot) {
    auto fresh = std::make_unique<Plan>();
    make(*fresh);
    slot = std::move(fresh);
  }
  return *slot;
}

std::vector<int> dims_of(const ConvShape& g) {
  return {g.n, g.h, g.w, g.c, g.k, g.r, g.s, g.stride, g.pad, g.groups};
}

struct ConvDescs {
  memory::dims x, w, y, strides, left, right;
  Tag plain;  // of the weights
  explicit ConvDescs(const ConvShape& g)
      : x{g.n, g.c, g.h, g.w},
        w{g.k, g.c, g.r, g.s},
        y{g.n, g.k, g.out_h(), g.out_w()},
        strides{g.stride, g.stride},
        left{g.pad, g.pad},
        right{(g.out_h() - 1) * g.stride + g.r - g.h - g.pad,
              (g.out_w() - 1) * g.stride + g.s - g.w - g.pad},
        plain(Tag::ohwi) {
    if (g.groups == 1) return;
    w = {g.groups, g.k / g.groups, g.c / g.groups, g.r, g.s};
    plain = Tag::gohwi;
  }
};

constexpr auto kDirect = dnnl::algorithm::convolution_direct;

dnnl::convolution_forward::primitive_desc forward_desc(const ConvDescs& d, Type in, Type out,
                                                       const dnnl::primitive_attr& attr) {
  const memory::desc x(d.x, in, Tag::nhwc), w(d.w, in, Tag::any), y(d.y, out, Tag::nhwc);
  const auto kind = dnnl::prop_kind::forward_training;
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), kind, kDirect, x, w, y, d.strides, d.left, d.right, attr};
#else
  return {{kind, kDirect, x, w, y, d.strides, d.left, d.right}, attr, cpu()};
#endif
}

// oneDNN 2.6's weights' gradient of strided 1×1 convolutions for AVX2 writes past the end of memory
// of its own where the channels are not whole vectors. Weights in their plain form avoid it.
Tag weight_form(const ConvDescs& d) {
  const bool overruns = d.strides[0] > 1 && d.w.end()[-1] == 1 && d.w.end()[-3] % 8 != 0;
  return overruns ? d.plain : Tag::any;
}

dnnl::convolution_backward_weights::primitive_desc weight_desc(const ConvDescs& d, Type in) {
  const memory::desc x(d.x, in, Tag::nhwc), w(d.w, Type::f32, weight_form(d)),
      y(d.y, in, Tag::nhwc);
  const auto hint = forward_desc(d, in, in, {});
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), kDirect, x, w, y, d.strides, d.left, d.right, hint};
#else
  return {{kDirect, x, w, y, d.strides, d.left, d.right}, cpu(), hint};
#endif
}

// out[m,n] (+)= A[m,k]·B[k,n], each operand in either storage order.
void matmul(int m, int n, int k, Precision p, const float* a, bool a_transposed, const float* b,
            bool b_transposed, float* out, bool accumulate) {
  Plan& pl = plan(Op::kMatmul, {m, n, k, a_transposed, b_transposed}, p, accumulate, [&](Plan& q) {
    const Type in = input_type(p);
    const Tag ta = a_transposed ? Tag::ba : Tag::ab, tb = b_transposed ? Tag::ba : Tag::ab;
    const memory::desc a_in({m, k}, in, ta), b_in({k, n}, in, tb), c({m, n}, Type::f32, Tag::ab);
#if DNNL_VERSION_MAJOR >= 3
    dnnl::matmul::primitive_desc pd(cpu(), a_in, b_in, c, adding(accumulate));
#else
    dnnl::matmul::primitive_desc pd({a_in, b_in, c}, adding(accumulate), cpu());
#endif
    q.op = dnnl::matmul(pd);
    q.input(q.a, DNNL_ARG_SRC, {{m, k}, Type::f32, ta}, a_in, false);
    q.input(q.b, DNNL_ARG_WEIGHTS, {{k, n}, Type::f32, tb}, b_in, false);
    q.output(DNNL_ARG_DST, c, c, false);
  });
  pl.run(a, b, out);
}

// Whether oneDNN multiplies bfloat16 here (on x86-64 it wants AVX-512), found by asking for it.
bool has_bf16() {
  static const bool has = [] {
    try {
      const ConvShape any{1, 4, 4, 16, 16, 3, 3, 1, 1};
      return forward_desc(ConvDescs(any), Type::bf16, Type::f32, {}).get() != nullptr;
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return has;
}

// Rounds to the nearest bfloat16, ties to even; NaN stays NaN.
void round_to_bf16(const float* from, float* to, size_t len) {
#pragma omp parallel for simd schedule(static)
  for (size_t i = 0; i < len; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from + i, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    bits = (bits & 0x7fffffff) > 0x7f800000 ? bits : rounded;
    std::memcpy(to + i, &bits, sizeof bits);
  }
}

// An operand's planes as a product in bfloat16 sees them.
Operand rounded(Operand o, size_t len, Scratch (&planes)[2]) {
  auto plane = [&](const float* from, Scratch& scratch) -> const float* {
    if (from == nullptr) return nullptr;
    auto* to = static_cast<float*>(scratch.get(sizeof(float) * len));
    round_to_bf16(from, to, len);
    return to;
  };
  return {plane(o.primal, planes[0]), plane(o.tangent, planes[1])};
}

// Images with few channels (the network's input) leave vector lanes and tensor tiles empty:
// there float32 is as fast as bfloat16 and spares the conversions.
constexpr int kFewChannels = 4;

Precision effective(const ConvShape& g, Precision p) {
  return g.c <= kFewChannels && g.groups == 1 && !g.is_linear() ? Precision::kF32 : p;
}

// Where the processor has no products of bfloat16, operands are rounded to it and multiplied in
// float32, which holds such products exactly.
void settle_precision(Precision& p, Operand& a, size_t a_len, Operand& b, size_t b_len) {
  if (p != Precision::kBF16 || has_bf16()) return;
  thread_local Scratch planes[2][2];
  a = rounded(a, a_len, planes[0]);
  b = rounded(b, b_len, planes[1]);
  p = Precision::kF32;
}

// Weights of the convolution that computes a stride-1 data gradient: channels exchanged and
// taps turned by 180°, [c,r,s,k].
void turn_weights(const ConvShape& g, const float* w, float* turned) {
  const int taps = g.r * g.s;
  for (int o = 0; o < g.k; ++o) {
    for (int t = 0; t < taps; ++t) {
      const float* from = w + (static_cast<size_t>(o) * taps + t) * g.c;
      for (int i = 0; i < g.c; ++i) {
        turned[(static_cast<size_t>(i) * taps + taps - 1 - t) * g.k + o] = from[i];
      }
    }
  }
}

// dx = Wᵀdy as one product per image, then scattered to the taps it came from (col2im).
// For images with few channels this beats a convolution whose output has few channels.
void scatter_backward_data(const ConvShape& g, const float* dy, const float* w, float* dx,
                           bool accumulate) {
  const int oh = g.out_h(), ow = g.out_w(), cols = g.r * g.s * g.c;
  const size_t image = static_cast<size_t>(g.h) * g.w * g.c;
  const size_t bytes = sizeof(float) * oh * ow * cols;
  bool lacking = false;  // memory: nothing may be thrown out of a team of threads
#pragma omp parallel for schedule(static) reduction(|| : lacking)
  for (int b = 0; b < g.n; ++b) {
    thread_local Scratch scratch;
    auto* col = static_cast<float*>(scratch.find(bytes));
    if (col == nullptr) {
      lacking = true;
      continue;
    }
    float* out = dx + b * image;
    if (!accumulate) std::memset(out, 0, image * sizeof(float));
    dnnl_sgemm('N', 'N', oh * ow, cols, g.k, 1.0f, dy + static_cast<size_t>(b) * oh * ow * g.k, g.k,
               w, cols, 0.0f, col, cols);
    for (int y = 0; y < oh; ++y) {
      for (int x = 0; x < ow; ++x) {
        const float* taps = col + static_cast<size_t>(y * ow + x) * cols;
        const int left = x * g.stride - g.pad;
        const int s0 = left < 0 ? -left : 0, s1 = left + g.s > g.w ? g.w - left : g.s;
        for (int r = 0; r < g.r; ++r) {
          const int iy = y * g.stride - g.pad + r;
          if (iy < 0 || iy >= g.h) continue;
          float* row = out + (static_cast<size_t>(iy) * g.w + left) * g.c;
          const float* tap = taps + r * g.s * g.c;
          for (int j = s0 * g.c; j < s1 * g.c; ++j) row[j] += tap[j];
        }
      }
    }
  }
  if (lacking) out_of_memory(bytes);
}

void strided_backward_data(const ConvShape& g, Precision p, const float* dy, const float* w,
                           float* dx, bool accumulate) {
  Plan& pl = plan(Op::kBackwardData, dims_of(g), p, accumulate, [&](Plan& q) {
    const ConvDescs d(g);
    const Type in = input_type(p);
    const memory::desc x(d.x, Type::f32, Tag::nhwc), wt(d.w, in, Tag::any), y(d.y, in, Tag::nhwc);
    const auto hint = forward_desc(d, in, in, {});
#if DNNL_VERSION_MAJOR >= 3
    dnnl::convolution_backward_data::primitive_desc pd(cpu(), kDirect, x, wt, y, d.strides, d.left,
                                                       d.right, hint);
#else
    dnnl::convolution_backward_data::primitive_desc pd(
        {kDirect, x, wt, y, d.strides, d.left, d.right}, cpu(), hint);
#endif
    q.op = dnnl::convolution_backward_data(pd);
    q.input(q.a, DNNL_ARG_DIFF_DST, {d.y, Type::f32, Tag::nhwc}, y, true);
    q.input(q.b, DNNL_ARG_WEIGHTS, {d.w, Type::f32, d.plain}, pd.weights_desc(), false);
    q.output(DNNL_ARG_DIFF_SRC, x, x, accumulate);
  });
  pl.run(dy, w, dx);
}

void forward(const ConvShape& g, Precision p, const float* x, const float* w, float* y,
             bool accumulate) {
  if (g.is_linear()) return matmul(g.n, g.k, g.c, p, x, false, w, true, y, accumulate);
  Plan& pl = plan(Op::kForward, dims_of(g), p, accumulate, [&](Plan& q) {
    const ConvDescs d(g);
    const auto pd = forward_desc(d, input_type(p), Type::f32, adding(accumulate));
    q.op = dnnl::convolution_forward(pd);
    q.input(q.a, DNNL_ARG_SRC, {d.x, Type::f32, Tag::nhwc}, pd.src_desc(), true);
    q.input(q.b, DNNL_ARG_WEIGHTS, {d.w, Type::f32, d.plain}, pd.weights_desc(), false);
    const memory::desc out(d.y, Type::f32, Tag::nhwc);
    q.output(DNNL_ARG_DST, out, out, false);
  });
  pl.run(x, w, y);
}

void backward_data(const ConvShape& g, Precision p, const float* dy, const float* w, float* dx,
                   bool accumulate) {
  if (g.is_linear()) return matmul(g.n, g.c, g.k, p, dy, false, w, false, dx, accumulate);
  if (g.c <= kFewChannels && g.groups == 1) return scatter_backward_data(g, dy, w, dx, accumulate);
  strided_backward_data(g, p, dy, w, dx, accumulate);
}

void backward_weight(const ConvShape& g, Precision p, const float* x, const float* dy, float* dw,
                     bool accumulate) {
  if (g.is_linear()) return matmul(g.k, g.c, g.n, p, dy, true, x, false, dw, accumulate);
  Plan& pl = plan(Op::kBackwardWeight, dims_of(g), p, accumulate, [&](Plan& q) {
    const ConvDescs d(g);
    const auto pd = weight_desc(d, input_type(p));
    q.op = dnnl::convolution_backward_weights(pd);
    q.input(q.a, DNNL_ARG_SRC, {d.x, Type::f32, Tag::nhwc}, pd.src_desc(), true);
    q.input(q.b, DNNL_ARG_DIFF_DST, {d.y, Type::f32, Tag::nhwc}, pd.diff_dst_desc(), true);
    q.output(DNNL_ARG_DIFF_WEIGHTS, {d.w, Type::f32, d.plain}, pd.diff_weights_desc(), accumulate);
  });
  pl.run(x, dy, dw);
}

// The product rule, one product at a time.
template <class Product>
void bilinear(Product product, const ConvShape& g, Precision p, Operand a, Operand b, Result out) {
  const ConvertOnce once;
  if (out.primal != nullptr) product(g, p, a.primal, b.primal, out.primal, false);
  if (out.tangent == nullptr) return;
  if (a.tangent != nullptr) product(g, p, a.tangent, b.primal, out.tangent, false);
  if (b.tangent != nullptr) {
    product(g, p, a.primal, b.tangent, out.tangent, a.tangent != nullptr);
  }
}

// Makes the tangent zero, and no longer wanted, where both operands' are.
void settle(Operand a, Operand b, Result& out, size_t len) {
  if (out.tangent == nullptr || a.tangent != nullptr || b.tangent != nullptr) return;
  std::memset(out.tangent, 0, len * sizeof(float));
  out.tangent = nullptr;
}

bool by_winograd(const ConvShape& g, Precision p, Operand a, Operand b, Result out) {
  const bool dual = out.tangent != nullptr && a.tangent != nullptr && b.tangent != nullptr;
  return p == Precision::kF32 && g.groups == 1 && winograd_fits(g, dual);
}

// y = x ∗ w where the result's tangent is wanted only if there is one. `windows`: equal windows of
// an image give equal primals, as oneDNN's do anyway, whose sums are in one order at all positions.
void convolve(const ConvShape& g, Precision p, Operand x, Operand w, Result y, bool windows) {
  p = effective(g, p);
  settle_precision(p, x, g.input(), w, g.weights());
  if (by_winograd(g, p, x, w, y)) return winograd_forward(g, x, w, y, windows);
  bilinear(forward, g, p, x, w, y);
}

}  // namespace

void out_of_memory(size_t bytes) {
  throw std::runtime_error("no " + std::to_string(bytes >> 20) + " MiB of memory left");
}

void conv_forward(const ConvShape& g, Precision p, Operand x, Operand w, Result y) {
  settle(x, w, y, g.output());
  if (depthwise_fits(g)) return depthwise_forward(g, x, w, y);
  convolve(g, p, x, w, y, true);
}

void conv_backward_data(const ConvShape& g, Precision p, Operand dy, Operand w, Result dx) {
  settle(dy, w, dx, g.input());
  if (depthwise_fits(g)) return depthwise_backward_data(g, dy, w, dx);
  if (g.is_linear() || g.groups != 1 || g.c <= kFewChannels || g.stride != 1 || g.pad >= g.r ||
      g.pad >= g.s || g.r != g.s) {
    p = effective(g, p);
    settle_precision(p, dy, g.output(), w, g.weights());
    return bilinear(backward_data, g, p, dy, w, dx);
  }
  thread_local Scratch scratch[2];
  auto turned = [&](Scratch& to, const float* from) -> const float* {
    if (from == nullptr) return nullptr;
    auto* out = static_cast<float*>(to.get(sizeof(float) * g.k * g.r * g.s * g.c));
    turn_weights(g, from, out);
    return out;
  };
  const Operand turn{turned(scratch[0], w.primal), turned(scratch[1], w.tangent)};
  convolve({g.n, g.out_h(), g.out_w(), g.k, g.c, g.r, g.s, 1, g.r - 1 - g.pad, 1}, p, dy, turn, dx,
           false);
}

void conv_backward_weight(const ConvShape& g, Precision p, Operand x, Operand dy, Result dw) {
  settle(x, dy, dw, g.weights());
  if (depthwise_fits(g)) return depthwise_backward_weight(g, x, dy, dw);
  p = effective(g, p);
  settle_precision(p, x, g.input(), dy, g.output());
  if (by_winograd(g, p, x, dy, dw)) return winograd_backward_weight(g, x, dy, dw);
  bilinear(backward_weight, g, p, x, dy, dw);
}

}  // namespace gocp
