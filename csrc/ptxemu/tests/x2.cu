// more PTX: fp8 cvt, f16-acc mma, m16n8k8 bf16, e4m3 mma (sm_89), stmatrix, mbarrier via
// cuda::barrier? (not included), bar.sync id,cnt named barriers, __syncthreads_count/or, match,
// redux, shfl width, vote, lop3, dp4a, funnel shift, cp.async.ca 4/8 zfill, red.v2?, atomics on
// half2/double/64-bit cas/max
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "worst.h"
static int bad = 0;
static void rep(const char* n, bool ok, double e = 0) {
  printf("x2 %-22s %-4s %.3g\n", n, ok ? "OK" : "FAIL", e);
  bad += !ok;
}
#define CK(x)                                                             \
  do {                                                                    \
    cudaError_t e = (x);                                                  \
    if (e != cudaSuccess) {                                               \
      printf("CUDA error %s line %d\n", cudaGetErrorString(e), __LINE__); \
      bad++;                                                              \
    }                                                                     \
  } while (0)
__global__ void k_bits(unsigned* o) {
  unsigned t = threadIdx.x;
  unsigned r = __dp4a((int)(t * 0x01030507u), (int)0x7f80ff01, 5);
  r ^= __funnelshift_l(t * 77, t * 99, t);
  r += __funnelshift_rc(t * 7, t * 9, t + 3);
  r ^= __match_any_sync(~0u, t % 5);
  r += __reduce_add_sync(~0u, t) + __reduce_max_sync(~0u, t * 3);
  r ^= __shfl_sync(~0u, t * 5, 3, 8) + __shfl_up_sync(~0u, t, 2, 16);
  r += __syncthreads_count(t & 1) + (__syncthreads_or(t == 77) ? 1000 : 0) +
       (__syncthreads_and(t < 64) ? 5000 : 0);
  r += __popc(__ballot_sync(~0u, t % 3 == 0)) + __ffs(t) + __usad(t, 40, 1);
  o[t] = r;
}
__global__ void k_named(int* o) {
  __shared__ int s[64];
  int t = threadIdx.x;
  if (t < 32) {
    s[t] = t * 2;
    asm volatile("bar.arrive 1, 64;");
    asm volatile("bar.sync 2, 64;");
    o[t] = s[32 + t];
  } else {
    asm volatile("bar.sync 1, 64;");
    s[t] = s[t - 32] + 1;
    asm volatile("bar.arrive 2, 64;");
    o[t] = s[t - 32];
  }
}
__global__ void k_atom(double* d, unsigned long long* m, __half2* h, int* i, float* f) {
  int t = threadIdx.x;
  atomicAdd(d, t * .5);
  atomicMax(m, (unsigned long long)t << 33);
  atomicAdd(h, __floats2half2_rn(1, 2));
  atomicMin(i, 50 - t);
  atomicExch(i + 1, 7);
  atomicSub(i + 2, t);
  float old = *f, as;
  unsigned* u = (unsigned*)f;
  do {
    as = old;
    old = __uint_as_float(
        atomicCAS(u, __float_as_uint(as), __float_as_uint(fmaxf(as, (float)(t * 13 % 64)))));
  } while (__float_as_uint(as) != __float_as_uint(old));
}
__global__ void k_pipe(const float* x, float* o, int n) {
  __shared__ float s[2][64];
  int t = threadIdx.x;
  float a = 0;
  for (int k = 0; k < 2; k++) {
    int i = k * 64 + t;
    __pipeline_memcpy_async(&s[k][t], x + (i < n ? i : 0), 4, i < n ? 0 : 4);
    __pipeline_commit();
  }
  for (int k = 0; k < 2; k++) {
    if (k == 0)
      __pipeline_wait_prior(1);
    else
      __pipeline_wait_prior(0);
    __syncthreads();
    a += s[k][63 - t];
  }
  o[t] = a;
}
__global__ void k_mmah(const __half* a, const __half* b, __half* c, const __nv_bfloat16* p,
                       const __nv_bfloat16* q, float* r) {
  int l = threadIdx.x, g = l >> 2, h = l & 3;
  unsigned A[4], B[2], C[2] = {0, 0};
  auto L = [&](const void* b, int i) { return ((const unsigned*)b)[i / 2]; };
  A[0] = L(a, g * 16 + h * 2);
  A[1] = L(a, (g + 8) * 16 + h * 2);
  A[2] = L(a, g * 16 + h * 2 + 8);
  A[3] = L(a, (g + 8) * 16 + h * 2 + 8);
  B[0] = L(b, g * 16 + h * 2);
  B[1] = L(b, g * 16 + h * 2 + 8);
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1},{%2,%3,%4,%5},{%6,%7},{%0,%1};"
      : "+r"(C[0]), "+r"(C[1])
      : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "r"(B[0]), "r"(B[1]));
  ((unsigned*)c)[(g * 8 + h * 2) / 2] = C[0];
  ((unsigned*)c)[((g + 8) * 8 + h * 2) / 2] = C[1];
  float D[4] = {0, 0, 0, 0};
  A[0] = L(p, g * 8 + h * 2);
  A[1] = L(p, (g + 8) * 8 + h * 2);
  B[0] = L(q, g * 8 + h * 2);
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
      : "+f"(D[0]), "+f"(D[1]), "+f"(D[2]), "+f"(D[3])
      : "r"(A[0]), "r"(A[1]), "r"(B[0]));
  r[g * 8 + h * 2] = D[0];
  r[g * 8 + h * 2 + 1] = D[1];
  r[(g + 8) * 8 + h * 2] = D[2];
  r[(g + 8) * 8 + h * 2 + 1] = D[3];
}
__global__ void k_fp8(const float* x, float* o, unsigned char* q) {
  int t = threadIdx.x;
  __nv_fp8_e4m3 v(x[t]);
  q[t] = v.__x;
  o[t] = float(v);
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
  std::vector<float> x(512);
  for (int i = 0; i < 512; i++) x[i] = sinf(i * 1.3f) * 2;
  float* dx = dup(x);
  {
    auto* o = dup(std::vector<unsigned>(64));
    k_bits<<<1, 64>>>(o);
    CK(cudaGetLastError());
    auto h = get(o, 64);
    bool ok = true;
    for (unsigned t = 0; t < 64; t++) {
      unsigned l = t & 31, w = t & ~31u;
      int dp = 5;
      for (int k = 0; k < 4; k++)
        dp += (int)(int8_t)((t * 0x01030507u) >> (8 * k)) * (int)(int8_t)(0x7f80ff01u >> (8 * k));
      unsigned r = dp;
      uint64_t v = ((uint64_t)(t * 99) << 32) | (t * 77);
      r ^= (unsigned)((v << (t & 31)) >> 32);
      v = ((uint64_t)(t * 9) << 32) | (t * 7);
      unsigned sh = t + 3 > 32 ? 32 : t + 3;
      r += (unsigned)(v >> sh);
      unsigned mt = 0, ra = 0, rm = 0, bl = 0;
      for (unsigned k = w; k < w + 32; k++) {
        if (k % 5 == t % 5) mt |= 1u << (k & 31);
        ra += k;
        rm = k * 3 > rm ? k * 3 : rm;
        if (k % 3 == 0) bl++;
      }
      r ^= mt;
      r += ra + rm;
      unsigned s8 = ((t & ~7u) + 3) * 5, su = (l & 15) < 2 ? t : t - 2;
      r ^= s8 + su;
      r += 32 + 5000;
      r += bl + __builtin_ffs(t) + (t > 40 ? t - 40 : 40 - t) + 1;
      if (r != h[t]) {
        ok = false;
        if (t < 3) printf("%u %u\n", r, h[t]);
      }
    }
    rep("int/warp intrinsics", ok);
  }
  {
    int* o = dup(std::vector<int>(64));
    k_named<<<1, 64>>>(o);
    CK(cudaGetLastError());
    auto h = get(o, 64);
    bool ok = true;
    for (int t = 0; t < 32; t++) ok &= h[t] == t * 2 + 1 && h[t + 32] == t * 2;
    rep("named barriers", ok);
  }
  {
    double* d = dup(std::vector<double>(1));
    auto* m = dup(std::vector<unsigned long long>(1));
    auto* hh = dup(std::vector<__half2>(1));
    int* i = dup(std::vector<int>(3));
    CK(cudaMemset(hh, 0, 4));
    float* f = dup(std::vector<float>(1));
    k_atom<<<1, 64>>>(d, m, hh, i, f);
    CK(cudaGetLastError());
    auto q = get(hh, 1)[0];
    auto I = get(i, 3);
    rep("atomics", get(d, 1)[0] == 1008 && get(m, 1)[0] == 63ull << 33 && __low2float(q) == 64 &&
                       __high2float(q) == 128 && I[0] == -13 && I[1] == 7 && I[2] == -2016 &&
                       get(f, 1)[0] == 63);
  }
  {
    float* o = dup(std::vector<float>(64));
    k_pipe<<<1, 64>>>(dx, o, 100);
    CK(cudaGetLastError());
    auto h = get(o, 64);
    double e = 0;
    for (int t = 0; t < 64; t++) {
      int j = 63 - t;
      e = Worst(e, fabs(h[t] - (x[j] + (64 + j < 100 ? x[64 + j] : 0))));
    }
    rep("pipeline zfill", e == 0, e);
  }
  {
    std::vector<__half> a(256), b(128), c(128);
    std::vector<__nv_bfloat16> p(128), q(64);
    for (int i = 0; i < 256; i++) a[i] = __float2half(x[i]);
    for (int i = 0; i < 128; i++)
      b[i] = __float2half(x[i + 200]), p[i] = __float2bfloat16(x[i + 33]);
    for (int i = 0; i < 64; i++) q[i] = __float2bfloat16(x[i + 77]);
    auto* da = dup(a);
    auto* db = dup(b);
    auto* dc = dup(c);
    auto* dp = dup(p);
    auto* dq = dup(q);
    float* r = dup(std::vector<float>(128));
    k_mmah<<<1, 32>>>(da, db, dc, dp, dq, r);
    CK(cudaGetLastError());
    auto hc = get(dc, 128);
    auto hr = get(r, 128);
    double e = 0, e2 = 0;
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 8; j++) {
        double s = 0;
        for (int k = 0; k < 16; k++)
          s += (double)__half2float(a[i * 16 + k]) * __half2float(b[j * 16 + k]);
        e = Worst(e, fabs(s - __half2float(hc[i * 8 + j])) / (1 + fabs(s)));
        s = 0;
        for (int k = 0; k < 8; k++)
          s += (double)__bfloat162float(p[i * 8 + k]) * __bfloat162float(q[j * 8 + k]);
        e2 = Worst(e2, fabs(s - hr[i * 8 + j]));
      }
    rep("mma f16acc k16", e < 1e-3, e);
    rep("mma bf16 k8", e2 < 1e-5, e2);
  }
  {
    float* o = dup(std::vector<float>(64));
    auto* q = dup(std::vector<unsigned char>(64));
    k_fp8<<<1, 64>>>(dx, o, q);
    CK(cudaGetLastError());
    auto h = get(o, 64);
    auto hq = get(q, 64);
    double e = 0;
    bool ok = true;
    for (int t = 0; t < 64; t++) {
      __nv_fp8_e4m3 v(x[t]);
      ok &= v.__x == hq[t];
      e = Worst(e, fabs(float(v) - h[t]));
    }
    rep("fp8 e4m3", ok && e == 0, e);
  }
  printf("x2 %s\n", bad ? "FAILED" : "all OK");
  return bad;
}
