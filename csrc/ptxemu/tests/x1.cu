// extended coverage: fp16/bf16 math, wmma, int8/f16/f64 mma, printf, double, local arrays, switch,
// noinline calls, const/device globals, pow/sin slow paths, cooperative groups, float4, 64-bit ints
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <mma.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "worst.h"
namespace cg = cooperative_groups;
using namespace nvcuda;
#define CK(x)                                                                \
  do {                                                                       \
    cudaError_t e = (x);                                                     \
    if (e != cudaSuccess) {                                                  \
      printf("CUDA error %s at line %d\n", cudaGetErrorString(e), __LINE__); \
      bad++;                                                                 \
    }                                                                        \
  } while (0)
static int bad = 0;
static void rep(const char* n, bool ok, double e = 0) {
  printf("x1 %-22s %-4s %.3g\n", n, ok ? "OK" : "FAIL", e);
  fflush(stdout);
  bad += !ok;
}
__constant__ float cw[8];
__device__ int dcount;
__device__ float dtab[4] = {1, 2, 3, 4};
__device__ __noinline__ float callee(float a, int n) {
  float s = 0;
  for (int i = 0; i < n; i++) s += a / (i + 1);
  return s;
}
__global__ void k_misc(float* o, double* d, const float* x, unsigned long long* q) {
  int t = threadIdx.x;
  float v = x[t];
  float loc[16];
  for (int i = 0; i < 16; i++) loc[i] = v * i;
  int j = ((int)fabsf(v * 100)) & 15;
  o[t] = loc[j] + cw[t & 7] + dtab[t & 3] + callee(v, t & 7);
  switch (t % 9) {
    case 0:
      o[t] += 1;
      break;
    case 1:
      o[t] *= 2;
      break;
    case 2:
      o[t] -= 3;
      break;
    case 3:
      o[t] = -o[t];
      break;
    case 4:
      o[t] += 10;
      break;
    case 5:
      o[t] *= .5f;
      break;
    case 6:
      o[t] += 7;
      break;
    case 7:
      o[t] -= 9;
      break;
    default:
      o[t] += 100;
  }
  d[t] = sin((double)v * 1e3) + pow(fabs((double)v) + 1.0, 2.5) + exp(-(double)v) +
         log(1.0 + fabs((double)v));
  atomicAdd(&dcount, t);
  q[t] = (unsigned long long)(t + 1) * 0x123456789abcdefull / (t + 3) +
         __umul64hi(0xfedcba9876543210ull * (t + 1), 0x1234567u + t) + __clzll(t + 1) + __brev(t) +
         __byte_perm(t, 0xabcd, 0x5410);
}
__global__ void k_trig(float* o, const float* x) {
  int t = threadIdx.x;
  float v = x[t];
  o[t * 4] = sinf(v * 1e6f);
  o[t * 4 + 1] = cosf(v);
  o[t * 4 + 2] = powf(fabsf(v) + .1f, 1.7f);
  o[t * 4 + 3] = erff(v) + tanf(v) + atan2f(v, 2.f) + cbrtf(v) + fmodf(v * 10, 3.f) +
                 log1pf(fabsf(v)) + expm1f(v);
}
__global__ void k_half(const __half* a, const __half* b, __half* o, const __nv_bfloat16* c,
                       __nv_bfloat16* p) {
  int t = threadIdx.x;
  __half2 x = ((const __half2*)a)[t], y = ((const __half2*)b)[t];
  ((__half2*)o)[t] = __hfma2(x, y, __hadd2(x, h2exp(__hneg2(y))));
  __nv_bfloat162 z = ((const __nv_bfloat162*)c)[t];
  ((__nv_bfloat162*)p)[t] = __hmul2(__hmax2(z, __hneg2(z)), __hadd2(z, z));
}
__global__ void k_wmma(const __half* a, const __half* b, float* c) {
  wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> fb;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
  wmma::fill_fragment(fc, 1.f);
  wmma::load_matrix_sync(fa, a, 16);
  wmma::load_matrix_sync(fb, b, 16);
  wmma::mma_sync(fc, fa, fb, fc);
  for (int i = 0; i < fc.num_elements; i++) fc.x[i] *= 2;
  wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
}
__global__ void k_i8(const int8_t* a, const int8_t* b, int* c) {
  int l = threadIdx.x, g = l >> 2, q = l & 3;
  int A[4], B[2], C[4] = {0};
  auto A4 = [&](int r, int k) { return *(const int*)(a + r * 32 + k); };
  A[0] = A4(g, q * 4);
  A[1] = A4(g + 8, q * 4);
  A[2] = A4(g, q * 4 + 16);
  A[3] = A4(g + 8, q * 4 + 16);
  B[0] = *(const int*)(b + g * 32 + q * 4);
  B[1] = *(const int*)(b + g * 32 + q * 4 + 16);
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+r"(C[0]), "+r"(C[1]), "+r"(C[2]), "+r"(C[3])
      : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]));
  c[g * 8 + q * 2] = C[0];
  c[g * 8 + q * 2 + 1] = C[1];
  c[(g + 8) * 8 + q * 2] = C[2];
  c[(g + 8) * 8 + q * 2 + 1] = C[3];
}
__global__ void k_f64(const double* a, const double* b, double* c) {
  int l = threadIdx.x, g = l >> 2, q = l & 3;
  double d0 = 0, d1 = 0;
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1},{%2},{%3},{%0,%1};"
               : "+d"(d0), "+d"(d1)
               : "d"(a[g * 4 + q]), "d"(b[q * 8 + g]));
  c[g * 8 + q * 2] = d0;
  c[g * 8 + q * 2 + 1] = d1;
}
__global__ void k_cg(const float* x, float* o) {
  auto b = cg::this_thread_block();
  auto w = cg::tiled_partition<32>(b);
  auto t8 = cg::tiled_partition<8>(b);
  float v = x[threadIdx.x];
  float s = cg::reduce(w, v, cg::plus<float>());
  float m = cg::reduce(t8, v, cg::greater<float>());
  o[threadIdx.x] = s + m;
  b.sync();
  if (threadIdx.x == 3) printf("x1 printf t=%d v=%.3f %s\n", threadIdx.x, v, "hi");
}
__global__ void k_grid(int* p, int n) {
  auto g = cg::this_grid();
  for (int k = 0; k < n; k++) {
    if (threadIdx.x == 0)
      p[blockIdx.x + (k + 1) * gridDim.x] = p[(blockIdx.x + 1) % gridDim.x + k * gridDim.x] + 1;
    g.sync();
  }
}
__global__ void k_last(const float* x, float* part, float* o, unsigned* cnt) {
  __shared__ float s[64];
  __shared__ bool last;
  int t = threadIdx.x;
  s[t] = x[blockIdx.x * 64 + t];
  __syncthreads();
  for (int k = 32; k; k >>= 1) {
    if (t < k) s[t] += s[t + k];
    __syncthreads();
  }
  if (t == 0) {
    part[blockIdx.x] = s[0];
    __threadfence();
    last = atomicInc(cnt, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && t == 0) {
    float r = 0;
    for (int i = 0; i < gridDim.x; i++) r += ((volatile float*)part)[i];
    *o = r;
  }
}
__global__ void k_lock(int* lock, int* v) {
  for (int done = 0; !done;) {
    if (atomicCAS(lock, 0, 1) == 0) {
      *(volatile int*)v = *(volatile int*)v + 1;
      __threadfence();
      atomicExch(lock, 0);
      done = 1;
    }
  }
}
template <class T>
T* dup(const std::vector<T>& v) {
  T* p;
  CK(cudaMalloc(&p, v.size() * sizeof(T)));
  CK(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
  return p;
}
template <class T>
std::vector<T> get(T* p, int n) {
  std::vector<T> v(n);
  CK(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
  return v;
}
int main() {
  int T = 64;
  std::vector<float> x(512);
  for (int i = 0; i < 512; i++) x[i] = sinf(i * 1.3f) * 2;
  float* dx = dup(x);
  float hc[8];
  for (int i = 0; i < 8; i++) hc[i] = i * .5f;
  CK(cudaMemcpyToSymbol(cw, hc, 32));
  int zero = 5;
  CK(cudaMemcpyToSymbol(dcount, &zero, 4));
  {
    float* o = dup(std::vector<float>(T));
    double* d = dup(std::vector<double>(T));
    auto* q = dup(std::vector<unsigned long long>(T));
    k_misc<<<1, T>>>(o, d, dx, q);
    CK(cudaGetLastError());
    auto ho = get(o, T);
    auto hd = get(d, T);
    auto hq = get(q, T);
    double e = 0, e2 = 0;
    bool okq = true;
    float tab[4] = {1, 2, 3, 4};
    for (int t = 0; t < T; t++) {
      float v = x[t];
      int j = ((int)fabsf(v * 100)) & 15;
      float c = 0;
      for (int i = 0; i < (t & 7); i++) c += v / (i + 1);
      float r = v * j + hc[t & 7] + tab[t & 3] + c;
      switch (t % 9) {
        case 0:
          r += 1;
          break;
        case 1:
          r *= 2;
          break;
        case 2:
          r -= 3;
          break;
        case 3:
          r = -r;
          break;
        case 4:
          r += 10;
          break;
        case 5:
          r *= .5f;
          break;
        case 6:
          r += 7;
          break;
        case 7:
          r -= 9;
          break;
        default:
          r += 100;
      }
      e = Worst(e, fabs(r - ho[t]) / (1 + fabs(r)));
      double dr = sin((double)v * 1e3) + pow(fabs((double)v) + 1.0, 2.5) + exp(-(double)v) +
                  log(1.0 + fabs((double)v));
      e2 = Worst(e2, fabs(dr - hd[t]));
      unsigned rv = 0;
      for (int k = 0; k < 32; k++) rv |= ((t >> k) & 1u) << (31 - k);
      unsigned long long qq =
          (unsigned long long)(t + 1) * 0x123456789abcdefull / (t + 3) +
          (unsigned long long)(((unsigned __int128)(0xfedcba9876543210ull * (t + 1)) *
                                (0x1234567u + t)) >>
                               64) +
          __builtin_clzll(t + 1) + rv + (unsigned)((t & 0xffff) | 0xabcd0000u);
      if (qq != hq[t]) okq = false;
    }
    int dc;
    CK(cudaMemcpyFromSymbol(&dc, dcount, 4));
    rep("misc/local/call/switch", e < 1e-6, e);
    rep("double math", e2 < 1e-12, e2);
    rep("int64/bits", okq);
    rep("device global atomic", dc == 5 + T * (T - 1) / 2);
  }
  {
    float* o = dup(std::vector<float>(T * 4));
    k_trig<<<1, T>>>(o, dx);
    CK(cudaGetLastError());
    auto h = get(o, T * 4);
    double e = 0;
    for (int t = 0; t < T; t++) {
      float v = x[t];
      double r[4] = {sin((double)(v * 1e6f)), cos((double)v),
                     pow((double)(fabsf(v) + .1f), (double)1.7f),
                     erf((double)v) + tan((double)v) + atan2((double)v, 2.) + cbrt((double)v) +
                         fmod((double)(v * 10), 3.) + log1p(fabs((double)v)) + expm1((double)v)};
      for (int k = 0; k < 4; k++) e = Worst(e, fabs(r[k] - h[t * 4 + k]) / (1 + fabs(r[k])));
    }
    rep("sinf/powf/erff/...", e < 3e-6, e);
  }
  {
    std::vector<__half> a(128), b(128);
    std::vector<__nv_bfloat16> c(128);
    for (int i = 0; i < 128; i++) {
      a[i] = __float2half(x[i]);
      b[i] = __float2half(x[i + 100]);
      c[i] = __float2bfloat16(x[i + 50]);
    }
    auto* da = dup(a);
    auto* db = dup(b);
    auto* o = dup(a);
    auto* dc = dup(c);
    auto* p = dup(c);
    k_half<<<1, 64>>>(da, db, o, dc, p);
    CK(cudaGetLastError());
    auto h = get(o, 128);
    auto hp = get(p, 128);
    double e = 0;
    for (int i = 0; i < 128; i++) {
      double X = __half2float(a[i]), Y = __half2float(b[i]);
      double r = X * Y + X + exp(-Y);
      e = Worst(e, fabs(r - __half2float(h[i])) / (1 + fabs(r)));
      double z = __bfloat162float(c[i]);
      double r2 = fabs(z) * 2 * z;
      e = Worst(e, fabs(r2 - __bfloat162float(hp[i])) / (1 + fabs(r2)) / 8);
    }
    rep("half2/bf162", e < 2e-3, e);
    float* cc = dup(std::vector<float>(256));
    std::vector<__half> A(256), B(256);
    for (int i = 0; i < 256; i++) {
      A[i] = __float2half(x[i]);
      B[i] = __float2half(x[511 - i]);
    }
    auto* dA = dup(A);
    auto* dB = dup(B);
    k_wmma<<<1, 32>>>(dA, dB, cc);
    CK(cudaGetLastError());
    auto hc2 = get(cc, 256);
    e = 0;
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 16; j++) {
        double s = 1;
        for (int k = 0; k < 16; k++)
          s += (double)__half2float(A[i * 16 + k]) * __half2float(B[j * 16 + k]);
        e = Worst(e, fabs(2 * s - hc2[i * 16 + j]));
      }
    rep("wmma f16", e < 1e-4, e);
  }
  {
    std::vector<int8_t> a(16 * 32), b(8 * 32);
    for (int i = 0; i < 512; i++) a[i] = (i * 37) % 251 - 125;
    for (int i = 0; i < 256; i++) b[i] = (i * 53) % 249 - 120;
    auto* da = dup(a);
    auto* db = dup(b);
    int* c = dup(std::vector<int>(128));
    k_i8<<<1, 32>>>(da, db, c);
    CK(cudaGetLastError());
    auto h = get(c, 128);
    bool ok = true;
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 8; j++) {
        int s = 0;
        for (int k = 0; k < 32; k++) s += a[i * 32 + k] * b[j * 32 + k];
        ok &= s == h[i * 8 + j];
      }
    rep("mma s8 m16n8k32", ok);
    std::vector<double> A(32), B(32);
    for (int i = 0; i < 32; i++) A[i] = x[i], B[i] = x[i + 40];
    auto* dA = dup(A);
    auto* dB = dup(B);
    double* C = dup(std::vector<double>(64));
    k_f64<<<1, 32>>>(dA, dB, C);
    CK(cudaGetLastError());
    auto H = get(C, 64);
    double e = 0;
    for (int i = 0; i < 8; i++)
      for (int j = 0; j < 8; j++) {
        double s = 0;
        for (int k = 0; k < 4; k++) s += A[i * 4 + k] * B[k * 8 + j];
        e = Worst(e, fabs(s - H[i * 8 + j]));
      }
    rep("mma f64 m8n8k4", e < 1e-12, e);
  }
  {
    float* o = dup(std::vector<float>(64));
    k_cg<<<1, 64>>>(dx, o);
    CK(cudaGetLastError());
    auto h = get(o, 64);
    double e = 0;
    for (int t = 0; t < 64; t++) {
      double s = 0;
      for (int i = 0; i < 32; i++) s += x[(t & ~31) + i];
      double m = -1e9;
      for (int i = 0; i < 8; i++) m = fmax(m, x[(t & ~7) + i]);
      e = Worst(e, fabs(s + m - h[t]));
    }
    rep("cooperative_groups", e < 1e-5, e);
  }
  {
    int n = 3;
    int* p = dup(std::vector<int>(4 * (n + 1)));
    void* args[] = {&p, &n};
    CK(cudaLaunchCooperativeKernel((void*)k_grid, dim3(4), dim3(32), args, 0, 0));
    auto h = get(p, 16);
    rep("grid sync", h[12] == 3 && h[15] == 3);
  }
  {
    float *part = dup(std::vector<float>(8)), *o = dup(std::vector<float>(1));
    unsigned* c = dup(std::vector<unsigned>(1));
    k_last<<<8, 64>>>(dx, part, o, c);
    CK(cudaGetLastError());
    double r = 0;
    for (int i = 0; i < 512; i++) r += x[i];
    rep("last-block reduce", fabs(get(o, 1)[0] - r) < 1e-4);
    int* lk = dup(std::vector<int>(2));
    k_lock<<<2, 64>>>(lk, lk + 1);
    CK(cudaGetLastError());
    rep("spin lock in warp", get(lk, 2)[1] == 128);
  }
  printf("x1 %s\n", bad ? "FAILED" : "all OK");
  return bad;
}
