// The convolution kernels for GPUs: conv.cuh's main loop in every combination that a launch can
// ask for. On the host the same launchers reach oneDNN (csrc/onednn), so this file is empty there.
//
//   conv_<pass>_<precision>_<mode>_<tile>
//     pass       forward, backward_data, backward_weight
//     precision  f32, bf16, tf32                     (mma.cuh)
//     mode       one, dual_a, dual_b, dual, tangent  (conv.cuh)
//     tile       wide   a block makes 128 x 128 of the output, or 128 x 64 in dual numbers
//                small  64 x 64
//                any    64 x 64, channels and addresses that are no multiples of 16 bytes
//   conv_sum     adds the parts of a split sum
//
// All take A, A', B, B', out, out' (mode says which are there), the geometry, the number of parts
// of the sum and the elements from one part of the output to the next. Blocks of 128 threads, one
// for each tile of each part; dynamic shared memory: kStages stages of 32 deep, by
// gocp/kernel/convgpu.go, which picks the tile.
#include "block.cuh"
#ifdef __CUDACC__
#include "conv.cuh"

namespace conv {

// Accumulators and fragments must fit 255 registers: one sum of 64 x 64 a warp, or two of 64 x 32.
template <Precision P, Mode kMode>
constexpr bool kSquare = P != mma::kF32&& kMode == kOne;
template <Precision P, Mode kMode>
using Wide = Tile<64, kSquare<P, kMode> ? 64 : 32, kMode == kOne ? 3 : 2, true>;
template <Precision, Mode>
using Small = Tile<32, 32, 3, true>;
template <Precision, Mode>
using Any = Tile<32, 32, 3, false>;

template <class Pass, Precision P, Mode kMode, class T>
FN void launch(const Arguments& v, const Shape& g, int parts, int64_t part_stride) {
  extern __shared__ __align__(128) unsigned char tiles[];
  Kernel<Pass, P, kMode, T>::run(v, g, parts, part_stride, mma::shared_address(tiles));
}

}  // namespace conv

#define CONV(name, pass, precision, mode, tile)                                                   \
  extern "C" __global__ void __launch_bounds__(conv::kThreads, 2)                                 \
      name(const float* a, const float* at, const float* b, const float* bt, float* out,          \
           float* out_t, int n, int h, int w, int c, int k, int r, int s, int stride, int pad,    \
           int parts, int64_t part_stride) {                                                      \
    conv::launch<conv::pass, mma::precision, conv::mode, conv::tile<mma::precision, conv::mode>>( \
        {a, at, b, bt, out, out_t}, {n, h, w, c, k, r, s, stride, pad}, parts, part_stride);      \
  }
#define CONV_TILES(name, pass, precision, mode)    \
  CONV(name##_wide, pass, precision, mode, Wide)   \
  CONV(name##_small, pass, precision, mode, Small) \
  CONV(name##_any, pass, precision, mode, Any)
#define CONV_MODES(name, pass, precision)            \
  CONV_TILES(name##_one, pass, precision, kOne)      \
  CONV_TILES(name##_dual_a, pass, precision, kDualA) \
  CONV_TILES(name##_dual_b, pass, precision, kDualB) \
  CONV_TILES(name##_dual, pass, precision, kDual)    \
  CONV_TILES(name##_tangent, pass, precision, kTangent)
#define CONV_PASSES(name, precision)                     \
  CONV_MODES(conv_forward_##name, Forward, precision)    \
  CONV_MODES(conv_backward_data_##name, Data, precision) \
  CONV_MODES(conv_backward_weight_##name, Weight, precision)

CONV_PASSES(tf32, kTF32)
CONV_PASSES(bf16, kBF16)
CONV_PASSES(f32, kF32)

// out_i = part_0i + part_1i + …, in this order; part p starts p n floats into `parts`.
// Bytes: 4 n (count + 1).
extern "C" __global__ void conv_sum(const float* parts, int count, int64_t n, float* out) {
  block::each(n, [&](int64_t i) {
    float sum = parts[i];
    for (int p = 1; p < count; p++) sum += parts[p * n + i];
    out[i] = sum;
  });
}
#endif
