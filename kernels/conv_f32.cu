// Convolutions with float32 inputs, as three TF32 products, for GPUs: conv.cuh. On the host the
// same launchers reach oneDNN (csrc/onednn), so this file is empty there.
#include "block.cuh"
#ifdef __CUDACC__
#include "conv.cuh"

CONV_PRECISION(f32, kF32)
#endif
