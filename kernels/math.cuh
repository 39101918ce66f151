// Scalar mathematics in float32, the same source and so the same roundings on every back end.
//
// exp and log are our own polynomials, not libm's or libmvec's: they vectorise as plain arithmetic
// with no call, need no declaration outside a kernel's namespace, and give the same bits under
// every instruction set (libmvec is up to 4 ulp off, and differently for AVX2 and AVX-512). Largest
// errors against float64 over all floats: exp 0.98 ulp, log 0.79 ulp (gocp/kernel/cases tests it).
#pragma once
#include "block.cuh"

namespace math {

FN float infinity() { return block::to_float(0x7f800000u); }
FN float not_a_number() { return block::to_float(0x7fc00000u); }

template <class T>
FN T select(bool c, T a, T b) {
  return c ? a : b;
}

// x where c, else +0, by masking bits: NaN and inf do not get through, and there is no branch.
FN float keep(bool c, float x) {
  return block::to_float(block::to_bits(x) & (0u - static_cast<uint32_t>(c)));
}
// The one of x and y that is not masked to +0.
FN float either(float x, float y) { return block::to_float(block::to_bits(x) | block::to_bits(y)); }

FN float abs(float x) { return block::to_float(block::to_bits(x) & 0x7fffffffu); }
FN float max(float a, float b) { return a < b ? b : a; }
FN float min(float a, float b) { return b < a ? b : a; }
FN float sqrt(float x) { return block::root(x); }
FN float rsqrt(float x) { return 1.0f / block::root(x); }
FN float sign(float x) { return static_cast<float>((x > 0) - (x < 0)); }

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2; ln 2 in two parts so that r is exact.
// The powers of two are applied in two factors, so that results may be subnormal.
FN float exp(float x) {
  const float round =
      12582912.0f;  // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
  float clamped = x < -104.0f ? -104.0f : (x > 89.0f ? 89.0f : x);
  float shifted = clamped * 1.44269504f + round;
  float n = shifted - round;
  float r = (clamped - n * 0.693145751953125f) - n * 1.42860677e-6f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r * r + r) + 1.0f;
  uint32_t k = block::to_bits(shifted) - block::to_bits(round);
  uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(k) >> 1);
  float y = p * block::to_float((half + 127u) << 23) * block::to_float((k - half + 127u) << 23);
  return x != x ? x : y;
}

// log(x) = k ln 2 + log(m), sqrt(1/2) <= m < sqrt(2), by Cephes' polynomial in m - 1.
FN float log(float x) {
  bool small = x < 1.17549435e-38f;
  float scaled = small ? x * 8388608.0f : x;
  uint32_t bits = block::to_bits(scaled);
  uint32_t up = (bits - 0x3f3504f3u) & 0xff800000u;  // exponent relative to m's interval
  float k = static_cast<float>(static_cast<int32_t>(up) >> 23) - (small ? 23.0f : 0.0f);
  float m = block::to_float(bits - up) - 1.0f;
  float z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  float y = (p * m * z + k * -2.12194440e-4f) - 0.5f * z;
  y = (m + y) + k * 0.693359375f;
  y = x == infinity() ? x : y;
  y = x == 0 ? -infinity() : y;
  return x < 0 || x != x ? not_a_number() : y;
}

// x^p for x >= 0.
FN float pow(float x, float p) {
  float y = exp(p * log(x));
  return p == 0 ? 1.0f : y;
}

}  // namespace math
