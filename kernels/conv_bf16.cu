// Convolutions with inputs of 8 bits (bfloat16), for GPUs: conv.cuh. On the host the
// same launchers reach oneDNN (csrc/onednn), so this file is empty there.
#include "block.cuh"
#ifdef __CUDACC__
#include "conv.cuh"

CONV_PRECISION(bf16, kBF16)
CONV_DATA(bf16, kBF16)
#endif
