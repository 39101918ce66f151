// Integer, floating-point and half-precision arithmetic (PTX ISA 9.7.1 to 9.7.5).
#include <limits>
#include <type_traits>

#include "isa/decode.h"
#include "isa/float_ops.h"
#include "isa/lane_loops.h"

namespace ptxemu {
namespace {

// ---- integer operations

template <class T>
struct TwiceAsWide;
template <>
struct TwiceAsWide<u16> {
  using Type = u32;
};
template <>
struct TwiceAsWide<s16> {
  using Type = s32;
};
template <>
struct TwiceAsWide<u32> {
  using Type = u64;
};
template <>
struct TwiceAsWide<s32> {
  using Type = s64;
};
template <>
struct TwiceAsWide<u64> {
  using Type = u128;
};
template <>
struct TwiceAsWide<s64> {
  using Type = s128;
};

struct IntMin {
  template <class T>
  static T Apply(T a, T b) {
    return a < b ? a : b;
  }
};
struct IntMax {
  template <class T>
  static T Apply(T a, T b) {
    return a > b ? a : b;
  }
};
struct IntAbs {
  template <class T>
  static T Apply(T a) {
    return a < 0 ? -a : a;
  }
};
struct MulAddLow {
  template <class T>
  static T Apply(T a, T b, T c) {
    return a * b + c;
  }
};
struct MulHigh {
  template <class T>
  static T Apply(T a, T b) {
    using Wide = typename TwiceAsWide<T>::Type;
    return T((Wide(a) * Wide(b)) >> (sizeof(T) * 8));
  }
};
struct MulAddHigh {
  template <class T>
  static T Apply(T a, T b, T c) {
    return MulHigh::Apply(a, b) + c;
  }
};
struct Mul24 {
  template <class T>
  static T Apply(T a, T b) {
    if (!std::is_signed<T>::value) return T((a & 0xFFFFFF) * u64(b & 0xFFFFFF));
    return T((s32(u32(a) << 8) >> 8) * s64(s32(u32(b) << 8) >> 8));
  }
};
struct SumOfAbsDifference {
  template <class T>
  static T Apply(T a, T b, T c) {
    return c + (a < b ? b - a : a - b);
  }
};
// Division by zero is unspecified; like hardware, all ones.
struct IntDiv {
  template <class T>
  static T Apply(T a, T b) {
    if (b == 0) return T(~T(0));
    if (std::is_signed<T>::value && b == T(-1))
      return T(0 - typename std::make_unsigned<T>::type(a));
    return a / b;
  }
};
struct IntRem {
  template <class T>
  static T Apply(T a, T b) {
    if (b == 0) return a;
    return std::is_signed<T>::value && b == T(-1) ? T(0) : T(a % b);
  }
};

// mul.wide / mad.wide: the result is twice as wide as the factors.
template <class T, bool kAdd>
void RunWide(Warp& warp, const Instruction& in, u32 mask) {
  using Wide = typename TwiceAsWide<T>::Type;
  Wide* d = LaneValues<Wide>(warp, in.operands[0]);
  const T* a = LaneValues<T>(warp, in.operands[1]);
  const T* b = LaneValues<T>(warp, in.operands[2]);
  if constexpr (kAdd) {
    const Wide* c = LaneValues<Wide>(warp, in.operands[3]);
    ForIndependentLanes(mask, [&](int lane) { d[lane] = Wide(a[lane]) * Wide(b[lane]) + c[lane]; });
  } else {
    ForIndependentLanes(mask, [&](int lane) { d[lane] = Wide(a[lane]) * Wide(b[lane]); });
  }
}

template <bool kAdd>
Handler SelectWide(PtxType type) {
  switch (type) {
    case PtxType::kU16:
      return RunWide<u16, kAdd>;
    case PtxType::kS16:
      return RunWide<s16, kAdd>;
    case PtxType::kU32:
      return RunWide<u32, kAdd>;
    case PtxType::kS32:
      return RunWide<s32, kAdd>;
    default:
      return nullptr;
  }
}

// add.cc, addc, sub.cc, subc, mad.cc, madc (PTX ISA 9.7.2).
constexpr u32 kCarryIn = 1, kCarryOut = 2, kHighHalf = 4;

u64 ExtendedPrecision(const LaneContext& ctx) {
  const Instruction& in = ctx.in;
  const std::string& op = in.parts[0];
  const int bits = TypeSize(in.type) * 8;
  const u128 word = bits == 64 ? u128(~0ull) : 0xFFFFFFFFull;
  const u128 a = ctx.Arg(1) & word, b = ctx.Arg(2) & word;
  const u128 carry_in = in.flags & kCarryIn ? (ctx.warp.carry >> ctx.lane) & 1 : 0;
  u128 sum;
  if (op == "add" || op == "addc") {
    sum = a + b + carry_in;
  } else if (op == "sub" || op == "subc") {
    sum = a - b - carry_in;
  } else {
    u128 product = a * b;
    if (IsSigned(in.type) && (in.flags & kHighHalf))
      product = bits == 32 ? u128(s128(s32(a)) * s32(b)) : u128(s128(s64(a)) * s64(b));
    u128 part = (in.flags & kHighHalf ? product >> bits : product) & word;
    sum = part + (ctx.Arg(3) & word) + carry_in;
  }
  if (in.flags & kCarryOut) {
    u32 carry_out = u32((sum >> bits) & 1);
    ctx.warp.carry = (ctx.warp.carry & ~(1u << ctx.lane)) | (carry_out << ctx.lane);
  }
  return u64(sum);
}

DecodeResult UseExtendedPrecision(Instruction& in) {
  const std::string& op = in.parts[0];
  bool carry_in = op == "addc" || op == "subc" || op == "madc";
  u32 flags =
      (carry_in ? kCarryIn : 0) | (in.Has("cc") ? kCarryOut : 0) | (in.Has("hi") ? kHighHalf : 0);
  return Use(in, PerLane<ExtendedPrecision>, 0, flags);
}

u64 SaturatingAddSub(const LaneContext& ctx) {
  s64 a = s32(ctx.Arg(1)), b = s32(ctx.Arg(2));
  s64 sum = ctx.in.parts[0] == "add" ? a + b : a - b;
  s64 low = std::numeric_limits<s32>::min(), high = std::numeric_limits<s32>::max();
  return u32(s32(sum < low ? low : sum > high ? high : sum));
}

// ---- floating point

// .rz/.rm/.rp on f32 and f64; nullptr for .rn, which the plain handler does.
template <template <class, class> class Loop, class Op, int kMode>
Handler SelectRoundedMode(const Instruction& in) {
  if (in.type == PtxType::kF64) return Loop<double, Rounded<kMode, Op>>::Run;
  if (in.Has("sat")) return Loop<float, Saturate<Rounded<kMode, Op>>>::Run;
  return Loop<float, Rounded<kMode, Op>>::Run;
}

template <template <class, class> class Loop, class Op>
Handler SelectRounded(const Instruction& in) {
  if (in.type != PtxType::kF32 && in.type != PtxType::kF64) return nullptr;
  if (in.Has("rz")) return SelectRoundedMode<Loop, Op, FE_TOWARDZERO>(in);
  if (in.Has("rm")) return SelectRoundedMode<Loop, Op, FE_DOWNWARD>(in);
  if (in.Has("rp")) return SelectRoundedMode<Loop, Op, FE_UPWARD>(in);
  return nullptr;
}

template <template <class, class> class Loop, class Op>
Handler SelectFloat(const Instruction& in) {
  if (in.type == PtxType::kF64) return Loop<double, Op>::Run;
  if (in.type != PtxType::kF32) return nullptr;
  bool ftz = in.Has("ftz"), sat = in.Has("sat");
  if (ftz && sat) return Loop<float, Saturate<Ftz<Op>>>::Run;
  if (ftz) return Loop<float, Ftz<Op>>::Run;
  return sat ? Handler(Loop<float, Saturate<Op>>::Run) : Handler(Loop<float, Op>::Run);
}

template <template <class, class> class Loop, class T, bool kBrain, int kLanes, class Op>
Handler SelectHalfModifier(const Instruction& in) {
  if (in.Has("relu")) return Loop<T, HalfOp<kBrain, kLanes, Relu<Op>>>::Run;
  if (in.Has("sat")) return Loop<T, HalfOp<kBrain, kLanes, Saturate<Op>>>::Run;
  return Loop<T, HalfOp<kBrain, kLanes, Op>>::Run;
}

template <template <class, class> class Loop, class Op>
Handler SelectHalf(const Instruction& in) {
  switch (in.type) {
    case PtxType::kF16:
      return SelectHalfModifier<Loop, u16, false, 1, Op>(in);
    case PtxType::kF16x2:
      return SelectHalfModifier<Loop, u32, false, 2, Op>(in);
    case PtxType::kBF16:
      return SelectHalfModifier<Loop, u16, true, 1, Op>(in);
    case PtxType::kBF16x2:
      return SelectHalfModifier<Loop, u32, true, 2, Op>(in);
    default:
      return nullptr;
  }
}

u64 HalfMinMax(const LaneContext& ctx) {
  const Instruction& in = ctx.in;
  const bool brain = IsBrainFloat(in.type), max = in.parts[0] == "max", nan = in.Has("NaN");
  u64 result = 0;
  for (int half = 0; half < (IsPackedHalf(in.type) ? 2 : 1); half++) {
    float a = Float16FamilyToFloat(brain, u16(ctx.Arg(1) >> (16 * half)));
    float b = Float16FamilyToFloat(brain, u16(ctx.Arg(2) >> (16 * half)));
    float value = max ? FloatMax::Apply(a, b) : FloatMin::Apply(a, b);
    if (nan && (a != a || b != b)) value = NAN;
    u16 bits = value != value ? kCanonicalNaN16 : FloatToFloat16Family(brain, value);
    result |= u64(bits) << (16 * half);
  }
  return result;
}

u64 HalfAbs(const LaneContext& ctx) {
  return ctx.Arg(1) & (IsPackedHalf(ctx.in.type) ? 0x7FFF7FFFu : 0x7FFFu);
}
u64 HalfNegate(const LaneContext& ctx) {
  return ctx.Arg(1) ^ (IsPackedHalf(ctx.in.type) ? 0x80008000u : 0x8000u);
}

// add/sub/mul/fma.f32x2 (sm_100).
u64 PackedFloat(const LaneContext& ctx) {
  const std::string& op = ctx.in.parts[0];
  u64 result = 0;
  for (int half = 0; half < 2; half++) {
    float a = FloatFromBits(ctx.Arg(1) >> (32 * half)),
          b = FloatFromBits(ctx.Arg(2) >> (32 * half));
    float value = op == "add"   ? a + b
                  : op == "sub" ? a - b
                  : op == "mul" ? a * b
                                : std::fma(a, b, FloatFromBits(ctx.Arg(3) >> (32 * half)));
    result |= u64(BitsOf(value)) << (32 * half);
  }
  return result;
}

enum class FloatClass { kFinite, kInfinite, kNumber, kNotANumber, kNormal, kSubnormal };

u64 TestFloat(const LaneContext& ctx) {
  const bool is_double = ctx.in.type == PtxType::kF64;
  const float narrow = FloatFromBits(ctx.Arg(1));
  const double wide = is_double ? DoubleFromBits(ctx.Arg(1)) : narrow;
  const int kind = is_double ? std::fpclassify(wide) : std::fpclassify(narrow);
  switch (FloatClass(ctx.in.variant)) {
    case FloatClass::kFinite:
      return kind != FP_INFINITE && kind != FP_NAN;
    case FloatClass::kInfinite:
      return kind == FP_INFINITE;
    case FloatClass::kNumber:
      return kind != FP_NAN;
    case FloatClass::kNotANumber:
      return kind == FP_NAN;
    case FloatClass::kNormal:
      return kind == FP_NORMAL;
    case FloatClass::kSubnormal:
      return kind == FP_SUBNORMAL;
  }
  return 0;
}

// ---- dot product

// dp4a (PTX ISA 9.7.1.23): four byte products added to c.
u64 DotProduct4(const LaneContext& ctx) {
  u32 a = ctx.Arg(1), b = ctx.Arg(2);
  auto byte = [](u32 word, int i, bool is_signed) {
    u8 value = u8(word >> (8 * i));
    return is_signed ? s32(s8(value)) : s32(value);
  };
  s32 sum = s32(ctx.Arg(3));
  for (int i = 0; i < 4; i++)
    sum += byte(a, i, ctx.in.type == PtxType::kS32) * byte(b, i, ctx.in.last_type == PtxType::kS32);
  return u32(sum);
}

// ---- decoders

template <class Op>
DecodeResult DecodeAddSub(Instruction& in) {
  if (in.type == PtxType::kF32x2) return Use(in, PerLane<PackedFloat>);
  if (in.Has("cc")) return UseExtendedPrecision(in);
  if (in.Has("sat") && in.type == PtxType::kS32) return Use(in, PerLane<SaturatingAddSub>);
  return Use(in, FirstOf(SelectInteger<Binary, Op>(in.type), SelectRounded<Binary, Op>(in),
                         SelectFloat<Binary, Op>(in), SelectHalf<Binary, Op>(in)));
}

DecodeResult DecodeMul(Instruction& in) {
  if (in.type == PtxType::kF32x2) return Use(in, PerLane<PackedFloat>);
  if (in.Has("wide")) return Use(in, SelectWide<false>(in.type));
  Handler integer =
      in.Has("hi") ? SelectInteger<Binary, MulHigh>(in.type) : SelectInteger<Binary, Mul>(in.type);
  return Use(in, FirstOf(integer, SelectRounded<Binary, Mul>(in), SelectFloat<Binary, Mul>(in),
                         SelectHalf<Binary, Mul>(in)));
}

DecodeResult DecodeMul24(Instruction& in) {
  if (in.Has("hi")) return "mul24.hi";
  return Use(in, in.type == PtxType::kS32 ? Binary<s32, Mul24>::Run : Binary<u32, Mul24>::Run);
}

DecodeResult DecodeMulAdd(Instruction& in) {
  if (in.type == PtxType::kF32x2) return Use(in, PerLane<PackedFloat>);
  if (in.parts[0] == "madc" || in.Has("cc")) return UseExtendedPrecision(in);
  if (in.Has("wide")) return Use(in, SelectWide<true>(in.type));
  Handler integer = in.Has("hi") ? SelectInteger<Ternary, MulAddHigh>(in.type)
                                 : SelectInteger<Ternary, MulAddLow>(in.type);
  return Use(in, FirstOf(integer, SelectRounded<Ternary, Fma>(in), SelectFloat<Ternary, Fma>(in),
                         SelectHalf<Ternary, MulAdd>(in)));
}

DecodeResult DecodeSad(Instruction& in) {
  return Use(in, SelectInteger<Ternary, SumOfAbsDifference>(in.type));
}

DecodeResult DecodeDiv(Instruction& in) {
  return Use(in, FirstOf(SelectInteger<Binary, IntDiv>(in.type),
                         SelectRounded<Binary, FloatDiv>(in), SelectFloat<Binary, FloatDiv>(in)));
}

DecodeResult DecodeRem(Instruction& in) { return Use(in, SelectInteger<Binary, IntRem>(in.type)); }

template <class IntOp, class FloatOp, u64 (*kHalf)(const LaneContext&)>
DecodeResult DecodeAbsNeg(Instruction& in) {
  if (IsHalfFamily(in.type)) return Use(in, PerLane<kHalf>);
  switch (in.type) {
    case PtxType::kS16:
      return Use(in, Unary<s16, IntOp>::Run);
    case PtxType::kS32:
      return Use(in, Unary<s32, IntOp>::Run);
    case PtxType::kS64:
      return Use(in, Unary<s64, IntOp>::Run);
    default:
      return Use(in, SelectFloat<Unary, FloatOp>(in));
  }
}

template <class IntOp, class FloatOp>
DecodeResult DecodeMinMax(Instruction& in) {
  if (IsHalfFamily(in.type)) return Use(in, PerLane<HalfMinMax>);
  if (in.operands.size() != 3) return "3-input min/max";
  Handler floating = in.Has("NaN") ? SelectFloat<Binary, PropagateNaN<FloatOp>>(in)
                                   : SelectFloat<Binary, FloatOp>(in);
  return Use(in, FirstOf(SelectInteger<Binary, IntOp>(in.type), floating));
}

template <class Op>
DecodeResult DecodeRoundedUnary(Instruction& in) {
  return Use(in, FirstOf(SelectRounded<Unary, Op>(in), SelectFloat<Unary, Op>(in)));
}

template <class Op>
DecodeResult DecodeApprox(Instruction& in) {
  return Use(in, FirstOf(SelectFloat<Unary, Op>(in), SelectHalf<Unary, Op>(in)));
}

DecodeResult DecodeCopySign(Instruction& in) { return Use(in, SelectFloat<Binary, CopySign>(in)); }

DecodeResult DecodeTestp(Instruction& in) {
  int kind = FindSuffix(in, {"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  return kind < 0 ? "testp" : Use(in, PerLane<TestFloat>, kind);
}

DecodeResult DecodeDp4a(Instruction& in) { return Use(in, PerLane<DotProduct4>); }

}  // namespace

void AddArithmetic(DecoderTable& table) {
  table.insert({
      {"add", DecodeAddSub<Add>},
      {"sub", DecodeAddSub<Sub>},
      {"addc", UseExtendedPrecision},
      {"subc", UseExtendedPrecision},
      {"mul", DecodeMul},
      {"mul24", DecodeMul24},
      {"mad", DecodeMulAdd},
      {"madc", DecodeMulAdd},
      {"fma", DecodeMulAdd},
      {"sad", DecodeSad},
      {"div", DecodeDiv},
      {"rem", DecodeRem},
      {"abs", DecodeAbsNeg<IntAbs, FloatAbs, HalfAbs>},
      {"neg", DecodeAbsNeg<Negate, Negate, HalfNegate>},
      {"min", DecodeMinMax<IntMin, FloatMin>},
      {"max", DecodeMinMax<IntMax, FloatMax>},
      {"sqrt", DecodeRoundedUnary<Sqrt>},
      {"rcp", DecodeRoundedUnary<Rcp>},
      {"rsqrt", DecodeApprox<Rsqrt>},
      {"ex2", DecodeApprox<Ex2>},
      {"lg2", DecodeApprox<Lg2>},
      {"sin", DecodeApprox<Sin>},
      {"cos", DecodeApprox<Cos>},
      {"tanh", DecodeApprox<Tanh>},
      {"copysign", DecodeCopySign},
      {"testp", DecodeTestp},
      {"dp4a", DecodeDp4a},
  });
}

}  // namespace ptxemu
