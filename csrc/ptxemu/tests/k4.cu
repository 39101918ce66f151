// (4) tensor cores: tf32 m16n8k8 and bf16 m16n8k16 with cp.async + ldmatrix
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
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
__device__ __forceinline__ void cp16(void* s, const void* g) {
  uint32_t a = (uint32_t)__cvta_generic_to_shared(s);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(a), "l"(g));
}
#define CP_COMMIT asm volatile("cp.async.commit_group;\n" ::)
#define CP_WAIT(n) asm volatile("cp.async.wait_group %0;\n" ::"n"(n))
// 64x64 block tile, 4 warps (2x2), BK=16, A row-major MxK, B row-major KxN, double buffered
extern "C" __global__ void __launch_bounds__(128)
    mm_tf32(const float* A, const float* B, float* C, int M, int N, int K) {
  __shared__ __align__(16) float As[2][64][20];
  __shared__ __align__(16) float Bs[2][16][72];
  int t = threadIdx.x, w = t >> 5, l = t & 31, g = l >> 2, q = l & 3, wm = (w & 1) * 32,
      wn = (w >> 1) * 32, m0 = blockIdx.y * 64, n0 = blockIdx.x * 64;
  float acc[2][4][4] = {};
  auto load = [&](int st, int k0) {
    for (int i = t; i < 256; i += 128) {
      int r = i >> 2, c = (i & 3) * 4;
      cp16(&As[st][r][c], A + (size_t)(m0 + r) * K + k0 + c);
    }
    for (int i = t; i < 256; i += 128) {
      int r = i >> 4, c = (i & 15) * 4;
      cp16(&Bs[st][r][c], B + (size_t)(k0 + r) * N + n0 + c);
    }
    CP_COMMIT;
  };
  load(0, 0);
  int nk = K / 16;
  for (int kt = 0; kt < nk; kt++) {
    if (kt + 1 < nk) {
      load((kt + 1) & 1, (kt + 1) * 16);
      CP_WAIT(1);
    } else
      CP_WAIT(0);
    __syncthreads();
    int st = kt & 1;
    for (int kk = 0; kk < 16; kk += 8) {
      uint32_t a[2][4], b[4][2];
      for (int i = 0; i < 2; i++) {
        int r = wm + i * 16 + g;
        float f[4] = {As[st][r][kk + q], As[st][r + 8][kk + q], As[st][r][kk + q + 4],
                      As[st][r + 8][kk + q + 4]};
        for (int j = 0; j < 4; j++) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(a[i][j]) : "f"(f[j]));
      }
      for (int j = 0; j < 4; j++) {
        int c = wn + j * 8 + g;
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(b[j][0]) : "f"(Bs[st][kk + q][c]));
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(b[j][1]) : "f"(Bs[st][kk + q + 4][c]));
      }
      for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
          asm volatile(
              "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
              "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
              : "+f"(acc[i][j][0]), "+f"(acc[i][j][1]), "+f"(acc[i][j][2]), "+f"(acc[i][j][3])
              : "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3]), "r"(b[j][0]), "r"(b[j][1]));
    }
    __syncthreads();
  }
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 4; j++) {
      int r = m0 + wm + i * 16 + g, c = n0 + wn + j * 8 + q * 2;
      *(float2*)&C[(size_t)r * N + c] = make_float2(acc[i][j][0], acc[i][j][1]);
      *(float2*)&C[(size_t)(r + 8) * N + c] = make_float2(acc[i][j][2], acc[i][j][3]);
    }
}
extern "C" __global__ void __launch_bounds__(128)
    mm_bf16(const __nv_bfloat16* A, const __nv_bfloat16* B, float* C, int M, int N, int K) {
  __shared__ __align__(16) __nv_bfloat16 As[2][64][24];
  __shared__ __align__(16) __nv_bfloat16 Bs[2][16][72];
  int t = threadIdx.x, w = t >> 5, l = t & 31, g = l >> 2, q = l & 3, wm = (w & 1) * 32,
      wn = (w >> 1) * 32, m0 = blockIdx.y * 64, n0 = blockIdx.x * 64;
  float acc[2][4][4] = {};
  auto load = [&](int st, int k0) {
    {
      int r = t >> 1, c = (t & 1) * 8;
      cp16(&As[st][r][c], A + (size_t)(m0 + r) * K + k0 + c);
    }
    {
      int r = t >> 3, c = (t & 7) * 8;
      cp16(&Bs[st][r][c], B + (size_t)(k0 + r) * N + n0 + c);
    }
    CP_COMMIT;
  };
  load(0, 0);
  int nk = K / 16;
  for (int kt = 0; kt < nk; kt++) {
    if (kt + 1 < nk) {
      load((kt + 1) & 1, (kt + 1) * 16);
      CP_WAIT(1);
    } else
      CP_WAIT(0);
    __syncthreads();
    int st = kt & 1;
    uint32_t a[2][4], b[4][2];
    for (int i = 0; i < 2; i++) {
      uint32_t ad =
          (uint32_t)__cvta_generic_to_shared(&As[st][wm + i * 16 + (l & 15)][(l >> 4) * 8]);
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
                   : "=r"(a[i][0]), "=r"(a[i][1]), "=r"(a[i][2]), "=r"(a[i][3])
                   : "r"(ad));
    }
    for (int j = 0; j < 4; j++) {
      uint32_t ad = (uint32_t)__cvta_generic_to_shared(&Bs[st][l & 15][wn + j * 8]);
      asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1},[%2];"
                   : "=r"(b[j][0]), "=r"(b[j][1])
                   : "r"(ad));
    }
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 4; j++)
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
            "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
            : "+f"(acc[i][j][0]), "+f"(acc[i][j][1]), "+f"(acc[i][j][2]), "+f"(acc[i][j][3])
            : "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3]), "r"(b[j][0]), "r"(b[j][1]));
    __syncthreads();
  }
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 4; j++) {
      int r = m0 + wm + i * 16 + g, c = n0 + wn + j * 8 + q * 2;
      *(float2*)&C[(size_t)r * N + c] = make_float2(acc[i][j][0], acc[i][j][1]);
      *(float2*)&C[(size_t)(r + 8) * N + c] = make_float2(acc[i][j][2], acc[i][j][3]);
    }
}
static float rna(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  u += 0x1000;
  u &= ~0x1fffu;
  memcpy(&f, &u, 4);
  return f;
}
#include <cstring>
int main(int ac, char** av) {
  int S = ac > 1 ? atoi(av[1]) : 0;
  int M = S ? S : 128, N = S ? S : 64, K = S ? S : 96, bad = 0;
  std::vector<float> a(M * K), b(K * N), c(M * N);
  std::vector<__nv_bfloat16> ah(M * K), bh(K * N);
  for (int i = 0; i < M * K; i++) {
    a[i] = sinf(i * 0.7f);
    ah[i] = __float2bfloat16(a[i]);
  }
  for (int i = 0; i < K * N; i++) {
    b[i] = cosf(i * 0.3f);
    bh[i] = __float2bfloat16(b[i]);
  }
  float *da, *db, *dc;
  __nv_bfloat16 *dah, *dbh;
  CK(cudaMalloc(&da, M * K * 4));
  CK(cudaMalloc(&db, K * N * 4));
  CK(cudaMalloc(&dc, M * N * 4));
  CK(cudaMalloc(&dah, M * K * 2));
  CK(cudaMalloc(&dbh, K * N * 2));
  CK(cudaMemcpy(da, a.data(), M * K * 4, cudaMemcpyHostToDevice));
  CK(cudaMemcpy(db, b.data(), K * N * 4, cudaMemcpyHostToDevice));
  CK(cudaMemcpy(dah, ah.data(), M * K * 2, cudaMemcpyHostToDevice));
  CK(cudaMemcpy(dbh, bh.data(), K * N * 2, cudaMemcpyHostToDevice));
  for (int p = 0; p < 2; p++) {
    CK(cudaMemset(dc, 0, M * N * 4));
    if (p == 0)
      mm_tf32<<<dim3(N / 64, M / 64), 128>>>(da, db, dc, M, N, K);
    else
      mm_bf16<<<dim3(N / 64, M / 64), 128>>>(dah, dbh, dc, M, N, K);
    CK(cudaGetLastError());
    CK(cudaMemcpy(c.data(), dc, M * N * 4, cudaMemcpyDeviceToHost));
    double me = 0;
    for (int i = 0; i < M; i++)
      for (int j = 0; j < N; j++) {
        double r = 0;
        for (int k = 0; k < K; k++)
          r += p == 0 ? (double)rna(a[i * K + k]) * rna(b[k * N + j])
                      : (double)__bfloat162float(ah[i * K + k]) * __bfloat162float(bh[k * N + j]);
        me = Worst(me, fabs(r - c[i * N + j]));
      }
    printf("k4 %s %dx%dx%d maxabs %.3g %s\n",
           p ? "bf16 ldmatrix m16n8k16" : "tf32 cp.async m16n8k8", M, N, K, me,
           me < 1e-3 ? "OK" : (bad = 1, "FAIL"));
  }
  return bad;
}
