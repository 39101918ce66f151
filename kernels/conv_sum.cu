// Adds the parts of a split sum (conv.cuh), for GPUs: parts of `step` floats, rows of c in
// each, of which c_real go to out [n]; out = part_0 + part_1 + …, in this order, or with `add`
// out + part_0 + part_1 + …. Bytes: 4 n (count + 1). FLOPs: n (count - 1).
#include "block.cuh"
#ifdef __CUDACC__
extern "C" __global__ void conv_sum(const float* parts, int count, int64_t step, int c, int c_real,
                                    int add, int64_t n, float* out) {
  block::each(n, [&](int64_t i) {
    int64_t from = c == c_real ? i : i / c_real * c + i % c_real;
    float sum = add ? out[i] + parts[from] : parts[from];
    for (int p = 1; p < count; p++) sum += parts[p * step + from];
    out[i] = sum;
  });
}
#endif
