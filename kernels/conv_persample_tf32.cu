// Gradients of each sample with inputs of 11 bits (TF32), for GPUs: conv_persample.cuh. On the
// host the same launchers reach persample.cu, so this file is empty there.
#include "block.cuh"
#ifdef __CUDACC__
#include "conv_persample.cuh"

PERSAMPLE_PRECISION(tf32, mma::kTF32)
#endif
