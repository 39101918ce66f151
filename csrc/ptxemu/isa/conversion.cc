// cvt (PTX ISA 9.7.9.21).
#include <cfenv>

#include "isa/decode.h"
#include "isa/float_formats.h"
#include "isa/float_ops.h"
#include "isa/lane_loops.h"

namespace ptxemu {
namespace {

enum class Rounding { kNearest, kZero, kDown, kUp, kNearestAway };
enum class IntegerRounding { kNone, kNearest, kZero, kDown, kUp };

// Instruction::flags: Rounding | IntegerRounding << 4 | modifiers
constexpr u32 kFtz = 0x100, kSat = 0x200, kReluFlag = 0x400;
Rounding RoundingOf(const Instruction& in) { return Rounding(in.flags & 15); }
IntegerRounding IntegerRoundingOf(const Instruction& in) {
  return IntegerRounding((in.flags >> 4) & 15);
}

// Evaluates f under the rounding mode; f must keep its operands volatile.
template <class F>
auto WithRounding(Rounding rounding, F f) {
  static const int kModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD, FE_TONEAREST};
  fesetround(kModes[int(rounding)]);
  auto result = f();
  fesetround(FE_TONEAREST);
  return result;
}

double RoundToInteger(IntegerRounding rounding, double value) {
  switch (rounding) {
    case IntegerRounding::kNearest:
      return std::nearbyint(value);
    case IntegerRounding::kDown:
      return std::floor(value);
    case IntegerRounding::kUp:
      return std::ceil(value);
    case IntegerRounding::kZero:
      return std::trunc(value);
    case IntegerRounding::kNone:
      return value;
  }
  return value;
}

s128 IntegerSource(PtxType type, u64 bits) {
  switch (type) {
    case PtxType::kU8:
    case PtxType::kB8:
      return u8(bits);
    case PtxType::kS8:
      return s8(bits);
    case PtxType::kU16:
    case PtxType::kB16:
      return u16(bits);
    case PtxType::kS16:
      return s16(bits);
    case PtxType::kU32:
    case PtxType::kB32:
      return u32(bits);
    case PtxType::kS32:
      return s32(bits);
    case PtxType::kS64:
      return s64(bits);
    default:
      return bits;
  }
}

u64 IntegerResult(PtxType type, s128 value) {
  switch (type) {
    case PtxType::kU8:
    case PtxType::kB8:
      return u8(value);
    case PtxType::kS8:
      return s64(s8(value));
    case PtxType::kU16:
      return u16(value);
    case PtxType::kS16:
      return s64(s16(value));
    case PtxType::kU32:
      return u32(value);
    case PtxType::kS32:
      return s64(s32(value));
    default:
      return u64(value);
  }
}

double FloatSource(const Instruction& in, u64 bits) {
  switch (in.last_type) {
    case PtxType::kF64:
      return DoubleFromBits(bits);
    case PtxType::kF16:
      return HalfToFloat(u16(bits));
    case PtxType::kBF16:
      return Bf16ToFloat(u16(bits));
    default: {
      float value = FloatFromBits(bits);
      return in.flags & kFtz ? FlushSubnormal(value) : value;
    }
  }
}

u64 IntegerToFloat(const Instruction& in, u64 bits) {
  const s128 value = IntegerSource(in.last_type, bits);
  const bool is_signed = IsSigned(in.last_type);
  volatile s64 as_signed = s64(value);
  volatile u64 as_unsigned = u64(value);
  if (in.type == PtxType::kF32)
    return BitsOf(WithRounding(RoundingOf(in), [&] {
      volatile float result = is_signed ? float(as_signed) : float(as_unsigned);
      return float(result);
    }));
  if (in.type == PtxType::kF64)
    return BitsOf(WithRounding(RoundingOf(in), [&] {
      volatile double result = is_signed ? double(as_signed) : double(as_unsigned);
      return double(result);
    }));
  double wide = is_signed ? double(as_signed) : double(as_unsigned);
  return in.type == PtxType::kF16 ? DoubleToHalf(wide) : DoubleToBf16(wide);
}

u32 FloatToTf32(float value, Rounding rounding) {
  u32 bits = BitsOf(value);
  bool finite = (bits & 0x7F800000) != 0x7F800000;
  if (finite && rounding == Rounding::kNearestAway) bits += 0x1000;
  if (finite && rounding == Rounding::kNearest) bits += 0xFFF + ((bits >> 13) & 1);
  return bits & 0xFFFFE000;
}

u64 FloatToFloat(const Instruction& in, u64 bits) {
  double value = RoundToInteger(IntegerRoundingOf(in), FloatSource(in, bits));
  if (in.flags & kSat) value = value > 0 ? (value < 1 ? value : 1) : 0;
  if ((in.flags & kReluFlag) && value < 0) value = 0;
  const bool toward_zero = RoundingOf(in) == Rounding::kZero;
  switch (in.type) {
    case PtxType::kF64:
      return BitsOf(value);
    case PtxType::kF16:
      return toward_zero ? FloatToHalfRz(float(value)) : DoubleToHalf(value);
    case PtxType::kBF16:
      return toward_zero ? FloatToBf16Rz(float(value)) : DoubleToBf16(value);
    case PtxType::kTF32:
      return FloatToTf32(float(value), RoundingOf(in));
    default:
      break;
  }
  if (value != value && in.last_type == PtxType::kF32) return bits;  // keep the NaN's payload
  float narrow = WithRounding(RoundingOf(in), [&] {
    volatile double wide = value;
    volatile float result = float(wide);
    return float(result);
  });
  return BitsOf(in.flags & kFtz ? FlushSubnormal(narrow) : narrow);
}

// Out-of-range values clamp; NaN becomes 0, or 0x8000000000000000 for 64-bit results.
u64 FloatToInteger(const Instruction& in, u64 bits) {
  IntegerRounding rounding = IntegerRoundingOf(in);
  if (rounding == IntegerRounding::kNone) rounding = IntegerRounding::kZero;
  const double value = RoundToInteger(rounding, FloatSource(in, bits));
  const int width = TypeSize(in.type) * 8;
  const double low = IsSigned(in.type) ? -std::ldexp(1.0, width - 1) : 0;
  const double high = std::ldexp(1.0, IsSigned(in.type) ? width - 1 : width);
  s128 result;
  if (value != value) {
    result = width == 64 ? s128(1) << 63 : 0;
  } else if (value < low) {
    result = s128(low);
  } else if (value >= high) {
    result = s128(high) - 1;
  } else {
    result = s128(value);
  }
  return IntegerResult(in.type, result);
}

u64 IntegerToInteger(const Instruction& in, u64 bits) {
  s128 value = IntegerSource(in.last_type, bits);
  if (in.flags & kSat) {
    const int width = TypeSize(in.type) * 8;
    const s128 low = IsSigned(in.type) ? -(s128(1) << (width - 1)) : 0;
    const s128 high = (s128(1) << (IsSigned(in.type) ? width - 1 : width)) - 1;
    value = value < low ? low : value > high ? high : value;
  }
  return IntegerResult(in.type, value);
}

u64 Convert(const LaneContext& ctx) {
  const Instruction& in = ctx.in;
  const u64 bits = ctx.Arg(1);
  if (IsFloat(in.type))
    return IsFloat(in.last_type) ? FloatToFloat(in, bits) : IntegerToFloat(in, bits);
  return IsFloat(in.last_type) ? FloatToInteger(in, bits) : IntegerToInteger(in, bits);
}

// Two values to one packed register: cvt.rn.f16x2.f32 d, a, b puts a in the upper half.
u64 ConvertPacked(const LaneContext& ctx) {
  const Instruction& in = ctx.in;
  const bool toward_zero = RoundingOf(in) == Rounding::kZero;
  const bool to_e5m2 = in.type == PtxType::kE5M2x2;
  if (in.last_type == PtxType::kE4M3x2 || in.last_type == PtxType::kE5M2x2) {
    u64 packed = ctx.Arg(1);
    bool from_e5m2 = in.last_type == PtxType::kE5M2x2;
    return FloatToHalf(Fp8ToFloat(u8(packed), from_e5m2)) |
           u32(FloatToHalf(Fp8ToFloat(u8(packed >> 8), from_e5m2))) << 16;
  }
  float high, low;
  if (in.last_type == PtxType::kF32) {
    high = FloatFromBits(ctx.Arg(1));
    low = FloatFromBits(ctx.Arg(2));
    if (in.flags & kReluFlag) {
      if (high < 0) high = 0;
      if (low < 0) low = 0;
    }
  } else {  // f16x2
    high = HalfToFloat(u16(ctx.Arg(1) >> 16));
    low = HalfToFloat(u16(ctx.Arg(1)));
  }
  switch (in.type) {
    case PtxType::kF16x2: {
      auto convert = toward_zero ? FloatToHalfRz : FloatToHalf;
      return u32(convert(high)) << 16 | convert(low);
    }
    case PtxType::kBF16x2: {
      auto convert = toward_zero ? FloatToBf16Rz : FloatToBf16;
      return u32(convert(high)) << 16 | convert(low);
    }
    default:
      return u32(FloatToFp8(high, to_e5m2)) << 8 | FloatToFp8(low, to_e5m2);
  }
}

// The conversions that fill most address arithmetic, vectorized.
template <class To, class From>
void ConvertDirectly(Warp& warp, const Instruction& in, u32 mask) {
  To* d = LaneValues<To>(warp, in.operands[0]);
  const From* a = LaneValues<From>(warp, in.operands[1]);
  ForIndependentLanes(mask, [&](int lane) { d[lane] = To(a[lane]); });
}

Handler SelectDirect(const Instruction& in) {
  const PtxType to = in.type, from = in.last_type;
  const int to_size = in.operands[0].size, from_size = in.operands[1].size;
  const bool to_64 = to == PtxType::kU64 || to == PtxType::kS64;
  const bool from_64 = from == PtxType::kU64 || from == PtxType::kS64;
  if (in.Has("sat")) return nullptr;
  if (to == PtxType::kS64 && from == PtxType::kS32 && from_size == 4)
    return ConvertDirectly<s64, s32>;
  if (to_64 && from == PtxType::kU32 && from_size == 4) return ConvertDirectly<u64, u32>;
  if ((to == PtxType::kU32 || to == PtxType::kS32) && from_64 && to_size == 4)
    return ConvertDirectly<u32, u64>;
  if (to == PtxType::kF32 && from == PtxType::kS32 && from_size == 4 &&
      RoundingOf(in) == Rounding::kNearest)
    return ConvertDirectly<float, s32>;
  return nullptr;
}

DecodeResult DecodeCvt(Instruction& in) {
  if (in.type == PtxType::kNone) return "cvt type";
  in.flags = u32(FindSuffix(in, {"rz", "rm", "rp", "rna"}) + 1) |
             u32(FindSuffix(in, {"rni", "rzi", "rmi", "rpi"}) + 1) << 4 |
             (in.Has("ftz") ? kFtz : 0) | (in.Has("sat") ? kSat : 0) |
             (in.Has("relu") ? kReluFlag : 0);
  switch (in.type) {
    case PtxType::kF16x2:
    case PtxType::kBF16x2:
    case PtxType::kE4M3x2:
    case PtxType::kE5M2x2:
      return Use(in, PerLane<ConvertPacked>);
    default:
      return Use(in, FirstOf(SelectDirect(in), Handler(PerLane<Convert>)));
  }
}

}  // namespace

void AddConversion(DecoderTable& table) { table.insert({{"cvt", DecodeCvt}}); }

}  // namespace ptxemu
