// Gradients of each sample with float32 inputs, as three TF32 products, for GPUs:
// conv_persample.cuh. On the host the same launchers reach persample.cu, so this file is empty
// there.
#include "block.cuh"
#ifdef __CUDACC__
#include "conv_persample.cuh"

PERSAMPLE_PRECISION(f32, mma::kF32)
#endif
