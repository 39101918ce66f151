// Adds the numbers of a sample's tiles (conv_persample.cuh), for GPUs: out_i += sum over q of
// parts[i tiles + q], in a fixed order. Bytes: 4 n (tiles + 2). A block takes a range of samples.
#include "block.cuh"
#ifdef __CUDACC__
extern "C" __global__ void persample_sum(const float* parts, int64_t n, int tiles, float* out) {
  block::Range range = block::range(n);
  for (int64_t i = range.lo; i < range.hi; i++) {
    double sum = block::sum(tiles, [&](int64_t q) { return double{parts[i * tiles + q]}; });
    if (block::rank() == 0) out[i] += static_cast<float>(sum);
  }
}
#endif
