// (1) grid-stride elementwise
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "worst.h"
#define CK(x)                                                                        \
  do {                                                                               \
    cudaError_t e = (x);                                                             \
    if (e != cudaSuccess) {                                                          \
      printf("CUDA error %s at %s:%d\n", cudaGetErrorString(e), __FILE__, __LINE__); \
      exit(2);                                                                       \
    }                                                                                \
  } while (0)
extern "C" __global__ void saxpy_gelu(const float* __restrict__ x, const float* __restrict__ y,
                                      float* __restrict__ o, float a, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    float v = a * x[i] + y[i];
    o[i] = 0.5f * v * (1.f + tanhf(0.7978845608f * (v + 0.044715f * v * v * v))) + __expf(-v * v) +
           expf(-fabsf(v)) + logf(1.f + v * v) + rsqrtf(1.f + v * v) + v / (1.f + fabsf(v)) +
           sqrtf(fabsf(v));
  }
}
int main() {
  int n = 5000;
  std::vector<float> x(n), y(n), o(n);
  for (int i = 0; i < n; i++) {
    x[i] = sinf(i * 0.37f) * 3;
    y[i] = cosf(i * 0.11f) * 2;
  }
  float *dx, *dy, *dout;
  CK(cudaMalloc(&dx, n * 4));
  CK(cudaMalloc(&dy, n * 4));
  CK(cudaMalloc(&dout, n * 4));
  CK(cudaMemcpy(dx, x.data(), n * 4, cudaMemcpyHostToDevice));
  CK(cudaMemcpy(dy, y.data(), n * 4, cudaMemcpyHostToDevice));
  saxpy_gelu<<<7, 128>>>(dx, dy, dout, 1.5f, n);
  CK(cudaGetLastError());
  CK(cudaDeviceSynchronize());
  CK(cudaMemcpy(o.data(), dout, n * 4, cudaMemcpyDeviceToHost));
  double me = 0;
  for (int i = 0; i < n; i++) {
    double v = 1.5 * x[i] + y[i];
    double r = 0.5 * v * (1 + tanh(0.7978845608 * (v + 0.044715 * v * v * v))) + exp(-v * v) +
               exp(-fabs(v)) + log(1 + v * v) + 1 / sqrt(1 + v * v) + v / (1 + fabs(v)) +
               sqrt(fabs(v));
    me = Worst(me, fabs(r - o[i]) / (1 + fabs(r)));
  }
  printf("k1 elementwise maxrel %.3g %s\n", me, me < 1e-5 ? "OK" : "FAIL");
  return me < 1e-5 ? 0 : 1;
}
