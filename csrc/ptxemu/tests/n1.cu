// negative tests: each mode seeds one bug; the emulator must not report success
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
__global__ void nosync(float* o) {
  __shared__ float s[128];
  int t = threadIdx.x;
  s[t] = t; /*missing sync*/
  o[t] = s[127 - t];
}
__global__ void oob(float* o, int n) { o[threadIdx.x + n] = 1; }
__global__ void misal(float* o) {
  float4* p = (float4*)(o + 1);
  *p = make_float4(1, 2, 3, 4);
}
__global__ void nowait(const float* g, float* o) {
  __shared__ __align__(16) float s[128];
  uint32_t a = __cvta_generic_to_shared(&s[threadIdx.x * 4]);
  asm volatile("cp.async.cg.shared.global [%0],[%1],16;\ncp.async.commit_group;" ::"r"(a),
               "l"(g + threadIdx.x * 4));
  __syncthreads();
  o[threadIdx.x] = s[threadIdx.x];
}
__global__ void divbar(float* o) {
  if (threadIdx.x < 16)
    __syncthreads();
  else {
    o[threadIdx.x] = 1;
    if (threadIdx.x == 40)
      for (;;) __syncthreads();
  }
}
__global__ void divshfl(float* o) {
  float v = threadIdx.x;
  if (threadIdx.x < 16) v = __shfl_xor_sync(~0u, v, 1);
  o[threadIdx.x] = v;
  if (threadIdx.x >= 16) __syncwarp();
}
__global__ void sharedoob(float* o) {
  extern __shared__ float s[];
  s[threadIdx.x] = 1;
  __syncthreads();
  o[threadIdx.x] = s[threadIdx.x];
}
__global__ void uninit(float* o) {
  __shared__ float s[64];
  if (threadIdx.x > 31) s[threadIdx.x] = 1;
  __syncthreads();
  o[threadIdx.x] = s[threadIdx.x];
}
__global__ void __launch_bounds__(64) lb(float* o) { o[threadIdx.x] = 1; }
__global__ void war(float* o) {
  __shared__ float s[64];
  int t = threadIdx.x;
  float acc = 0;
  for (int k = 0; k < 4; k++) {
    s[t] = t + k;
    __syncthreads();
    acc += s[63 - t]; /*missing 2nd sync*/
  }
  o[t] = acc;
}
int main(int c, char** v) {
  int k = atoi(v[1]);
  float *o, *g;
  cudaMalloc(&o, 128 * 4);
  cudaMalloc(&g, 512 * 4);
  cudaMemset(g, 0, 512 * 4);
  cudaMemset(o, 0, 512);
  switch (k) {
    case 0:
      nosync<<<1, 128>>>(o);
      break;
    case 1:
      oob<<<1, 128>>>(o, 1);
      break;
    case 2:
      misal<<<1, 1>>>(o);
      break;
    case 3:
      nowait<<<1, 32>>>(g, o);
      break;
    case 4:
      divbar<<<1, 64>>>(o);
      break;
    case 5:
      divshfl<<<1, 32>>>(o);
      break;
    case 6:
      sharedoob<<<1, 64, 63 * 4>>>(o);
      break;
    case 7:
      uninit<<<1, 64>>>(o);
      break;
    case 8:
      lb<<<1, 128>>>(o);
      break;
    case 9:
      war<<<1, 64>>>(o);
      break;
  }
  cudaError_t e = cudaGetLastError();
  if (!e) e = cudaDeviceSynchronize();
  float h[128];
  cudaError_t e2 = cudaMemcpy(h, o, 512, cudaMemcpyDeviceToHost);
  bool nan = false;
  for (int i = 0; i < 128 && !e2; i++) nan |= std::isnan(h[i]);
  printf("case %d err=%d nan=%d -> %s\n", k, (int)e, nan, (e || nan) ? "CAUGHT" : "missed");
}
