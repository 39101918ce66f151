// Bit-level conversions between float and the narrow formats (PTX ISA 5.2.3 "Alternate
// Floating-Point").
#pragma once
#include <cmath>
#include <cstring>

#include "core/types.h"

namespace ptxemu {

template <class To, class From>
inline To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From), "BitCast between different sizes");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
inline float FloatFromBits(u64 bits) { return BitCast<float>(u32(bits)); }
inline double DoubleFromBits(u64 bits) { return BitCast<double>(bits); }
inline u32 BitsOf(float value) { return BitCast<u32>(value); }
inline u64 BitsOf(double value) { return BitCast<u64>(value); }

constexpr u16 kCanonicalNaN16 = 0x7FFF;

// ---- f16
inline float HalfToFloat(u16 bits) { return float(BitCast<_Float16>(bits)); }
inline u16 DoubleToHalf(double value) { return BitCast<u16>(static_cast<_Float16>(value)); }
inline u16 FloatToHalf(float value) { return BitCast<u16>(static_cast<_Float16>(value)); }
inline u16 FloatToHalfRz(float value) {
  if (std::isnan(value)) return kCanonicalNaN16;
  u16 half = FloatToHalf(value);
  float back = HalfToFloat(half);
  if (std::isinf(back) && !std::isinf(value)) return (half & 0x8000) | 0x7BFF;  // largest finite
  return std::fabs(back) > std::fabs(value) ? half - 1 : half;
}

// ---- bf16
inline float Bf16ToFloat(u16 bits) { return BitCast<float>(u32(bits) << 16); }
inline u16 FloatToBf16(float value) {
  if (std::isnan(value)) return kCanonicalNaN16;
  u32 bits = BitsOf(value);
  return u16((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
inline u16 FloatToBf16Rz(float value) {
  return std::isnan(value) ? kCanonicalNaN16 : u16(BitsOf(value) >> 16);
}
// Rounds once: when going through float landed on a tie, nudge it to the side the double was on.
inline u16 DoubleToBf16(double value) {
  float narrow = float(value);
  if (double(narrow) != value && std::isfinite(narrow)) {
    u32 bits = BitsOf(narrow);
    if ((bits & 0xFFFF) == 0x8000)
      narrow = FloatFromBits(bits + (std::fabs(value) > std::fabs(narrow) ? 1 : -1));
  }
  return FloatToBf16(narrow);
}

inline float Float16FamilyToFloat(bool brain, u16 bits) {
  return brain ? Bf16ToFloat(bits) : HalfToFloat(bits);
}
inline u16 FloatToFloat16Family(bool brain, float value) {
  return brain ? FloatToBf16(value) : FloatToHalf(value);
}

// ---- tf32: mma reads the upper 19 bits of a .b32 register
inline float Tf32FromBits(u32 bits) { return FloatFromBits(bits & 0xFFFFE000u); }

// ---- fp8: e4m3 (no infinity, NaN = 0x7F) and e5m2; conversions saturate to the largest finite
// value
float Fp8ToFloat(u8 bits, bool is_e5m2);
u8 FloatToFp8(float value, bool is_e5m2);

inline float FlushSubnormal(float value) {
  return std::fabs(value) < 1.17549435e-38f ? std::copysign(0.f, value) : value;
}
inline double FlushSubnormal(double value) { return value; }  // .ftz exists for f32 only

}  // namespace ptxemu
