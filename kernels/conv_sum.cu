// Adds the parts of a split sum (conv.cuh), for GPUs: out_i = part_0i + part_1i + …, in this order,
// part p starting p n floats into `parts`. Bytes: 4 n (count + 1). FLOPs: n (count - 1).
#include "block.cuh"
#ifdef __CUDACC__
extern "C" __global__ void conv_sum(const float* parts, int count, int64_t n, float* out) {
  block::each(n, [&](int64_t i) {
    float sum = parts[i];
    for (int p = 1; p < count; p++) sum += parts[p * n + i];
    out[i] = sum;
  });
}
#endif
