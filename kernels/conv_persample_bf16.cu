// Gradients of each sample with inputs of 8 bits (bfloat16), for GPUs: conv_persample.cuh. On the
// host the same launchers reach persample.cu, so this file is empty there.
#include "block.cuh"
#ifdef __CUDACC__
#include "conv_persample.cuh"

PERSAMPLE_PRECISION(bf16, mma::kBF16)
#endif
