// (3) tiled matmul in shared memory
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
#define T 16
extern "C" __global__ void matmul_tiled(const float* A, const float* B, float* C, int M, int N,
                                        int K) {
  __shared__ float As[T][T], Bs[T][T + 1];
  int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * T + ty, col = blockIdx.x * T + tx;
  float acc = 0;
  for (int k0 = 0; k0 < K; k0 += T) {
    As[ty][tx] = (row < M && k0 + tx < K) ? A[row * K + k0 + tx] : 0.f;
    Bs[ty][tx] = (k0 + ty < K && col < N) ? B[(k0 + ty) * N + col] : 0.f;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < T; k++) acc += As[ty][k] * Bs[k][tx];
    __syncthreads();
  }
  if (row < M && col < N) C[row * N + col] = acc;
}
int main(int ac, char** av) {
  int S = ac > 1 ? atoi(av[1]) : 0;
  int M = S ? S : 61, N = S ? S : 67, K = S ? S : 50;
  std::vector<float> a(M * K), b(K * N), c(M * N);
  for (int i = 0; i < M * K; i++) a[i] = sinf(i * 0.7f);
  for (int i = 0; i < K * N; i++) b[i] = cosf(i * 0.3f);
  float *da, *db, *dc;
  CK(cudaMalloc(&da, M * K * 4));
  CK(cudaMalloc(&db, K * N * 4));
  CK(cudaMalloc(&dc, M * N * 4));
  CK(cudaMemcpy(da, a.data(), M * K * 4, cudaMemcpyHostToDevice));
  CK(cudaMemcpy(db, b.data(), K * N * 4, cudaMemcpyHostToDevice));
  matmul_tiled<<<dim3((N + T - 1) / T, (M + T - 1) / T), dim3(T, T)>>>(da, db, dc, M, N, K);
  CK(cudaGetLastError());
  CK(cudaMemcpy(c.data(), dc, M * N * 4, cudaMemcpyDeviceToHost));
  double me = 0;
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++) {
      double r = 0;
      for (int k = 0; k < K; k++) r += (double)a[i * K + k] * b[k * N + j];
      me = Worst(me, fabs(r - c[i * N + j]));
    }
  printf("k3 matmul %dx%dx%d maxabs %.3g %s\n", M, N, K, me, me < 1e-4 ? "OK" : "FAIL");
  return me < 1e-4 ? 0 : 1;
}
