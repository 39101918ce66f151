// Convolutions with inputs of 11 bits (TF32), for GPUs: conv.cuh. On the host the
// same launchers reach oneDNN (csrc/onednn), so this file is empty there.
#include "block.cuh"
#ifdef __CUDACC__
#include "conv.cuh"

CONV_PRECISION(tf32, kTF32)
CONV_DATA(tf32, kTF32)
#endif
