// What the tiles of a sample's per-sample product wrote (conv_persample.cuh) put together, for
// GPUs, in a fixed order:
//
//   sum     out_i += sum over q of parts[i tiles + q]; of samples that `again` marks, if it is
//   there settle  parts are pairs, sum and root of the bound (persample.cuh): out_i += the sum, or
//           again_i = 1 where it cancels
//
// Bytes: 4 n (tiles + 2), twice as many for pairs. A block takes a range of samples.
#include "block.cuh"
#ifdef __CUDACC__
#include "persample.cuh"

extern "C" __global__ void persample_sum(const float* parts, int64_t n, int tiles, const int* again,
                                         float* out) {
  block::Range range = block::range(n);
  for (int64_t i = range.lo; i < range.hi; i++) {
    if (again && again[i] == 0) continue;
    double sum = block::sum(tiles, [&](int64_t q) { return double{parts[i * tiles + q]}; });
    if (block::rank() == 0) out[i] += static_cast<float>(sum);
  }
}

extern "C" __global__ void persample_settle(const float* parts, int64_t n, int tiles, int positions,
                                            float* out, int* again) {
  block::Range range = block::range(n);
  for (int64_t i = range.lo; i < range.hi; i++) {
    const float* mine = parts + 2 * i * tiles;
    persample::Total total = {
        block::sum(tiles, [&](int64_t q) { return double{mine[2 * q]}; }),
        block::sum(tiles, [&](int64_t q) { return double{mine[2 * q + 1]}; }),
    };
    if (block::rank() != 0) continue;
    bool cancels = persample::cancels(total, positions);
    again[i] = cancels;
    if (!cancels) out[i] += static_cast<float>(total.sum);
  }
}
#endif
