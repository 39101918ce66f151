// Philox4x32-10: word i of stream `stream` of seed `seed` is word i mod 4 of block i / 4, exactly
// as in package gocp/rng, and so are the numbers made from the words, to the last bit.
//
// Source: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, SC 2011.
#pragma once
#include "math.cuh"

namespace philox {

struct Words {
  uint32_t w[4];
};

// The block function: ten rounds on a counter under a key.
FN Words rounds(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
    uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c0 = n0;
    c1 = static_cast<uint32_t>(p1);
    c2 = n2;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

FN Words words(uint64_t seed, uint64_t stream, uint64_t i) {
  return rounds(static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32),
                static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32),
                static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// [0, 1) on a grid of 2^-24.
FN float uniform(uint32_t w) {
  return static_cast<float>(static_cast<int32_t>(w >> 8)) * 5.9604644775390625e-8f;
}

// One step of Horner's rule. The product of two floats is exact in double, so a compiler that fuses
// it into the sum and one that does not give the same bits; gocp/rng does the same.
FN float step(float acc, float t, double c) {
  return static_cast<float>(static_cast<double>(acc) * static_cast<double>(t) + c);
}

// -ln((a+1) 2^-32) = (32 - e) ln 2 - ln m, a+1 = m 2^e, m in [sqrt(1/2), sqrt(2)];
// ln m = 2 atanh s, s = (m-1)/(m+1).
FN float minus_log(uint32_t a) {
  uint32_t bits = block::to_bits(static_cast<float>(static_cast<double>(a) + 1.0));
  int32_t e = static_cast<int32_t>(bits >> 23) - 127;
  float m = block::to_float((bits & 0x7fffffu) | 0x3f800000u);
  bool high = m > 1.41421354f;
  m = high ? m * 0.5f : m;
  e = high ? e + 1 : e;
  float s = (m - 1.0f) / (m + 1.0f);
  float t = s * s;
  float p = step(static_cast<float>(2.0 / 9), t, 2.0 / 7);
  p = step(p, t, 2.0 / 5);
  p = step(p, t, 2.0 / 3);
  p = step(p, t, 2.0);
  // ln 2 as a float: its product with a small integer is exact too.
  double whole = static_cast<double>(32 - e) * static_cast<double>(0.693147182f);
  float y = step(p, -s, whole);
  return y > 0 ? y : 0.0f;
}

// cos(2 pi b 2^-32): q is the nearest quarter turn, x in [-1/2, 1/2] the rest in quarters.
FN float cos_turn(uint32_t b) {
  uint32_t q = ((b + (1u << 29)) >> 30) & 3u;
  float x = static_cast<float>(static_cast<int32_t>(b - (q << 30))) * 9.31322574615478515625e-10f;
  float y = x * x;
  float c = step(-2.5202042e-05f, y, 9.192602748e-04);
  c = step(c, y, -2.0863480763e-02);
  c = step(c, y, 2.53669507901e-01);
  c = step(c, y, -1.23370055013617);
  c = step(c, y, 1.0);
  float s = step(1.60441185e-04f, y, -4.6817541353e-03);
  s = step(s, y, 7.9692626246e-02);
  s = step(s, y, -6.45964097506246e-01);
  s = x * step(s, y, 1.5707963267949);
  float f = (q & 1u) ? s : c;
  return (q == 1u || q == 2u) ? -f : f;
}

// Box and Muller: a standard normal number from two words, |z| < 6.67.
FN float normal(uint32_t a, uint32_t b) { return block::root(2.0f * minus_log(a)) * cos_turn(b); }

}  // namespace philox
