// Logic, shift and bit-field instructions (PTX ISA 9.7.1.13 to 9.7.1.22, 9.7.8, 9.7.9.7 prmt).
#include <algorithm>

#include "isa/decode.h"
#include "isa/lane_loops.h"

namespace ptxemu {
namespace {

struct And {
  template <class T>
  static T Apply(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <class T>
  static T Apply(T a, T b) {
    return a | b;
  }
};
struct Xor {
  template <class T>
  static T Apply(T a, T b) {
    return a ^ b;
  }
};
struct Not {
  template <class T>
  static T Apply(T a) {
    return ~a;
  }
};
// Shift amounts past the width are clamped, not wrapped.
struct ShiftLeft {
  template <class T>
  static T Apply(T a, u32 amount) {
    return amount >= sizeof(T) * 8 ? T(0) : T(a << amount);
  }
};
struct ShiftRight {
  template <class T>
  static T Apply(T a, u32 amount) {
    constexpr u32 kWidth = sizeof(T) * 8;
    if (amount < kWidth) return T(a >> amount);
    return a < T(0) ? T(~T(0)) : T(0);
  }
};

template <class Op>
void RunPredicate(Warp& warp, const Instruction& in, u32 mask) {
  u32 a = ReadPredicate(warp, in.operands[1]);
  u32 b = in.operands.size() > 2 ? ReadPredicate(warp, in.operands[2]) : 0;
  WritePredicate(warp, in.operands[0], Op::Apply(a, b), mask);
}

void RunPredicateNot(Warp& warp, const Instruction& in, u32 mask) {
  WritePredicate(warp, in.operands[0], ~ReadPredicate(warp, in.operands[1]), mask);
}

int BitWidth(const LaneContext& ctx) { return TypeSize(ctx.in.type) * 8; }

// Source value cut to the width of the type.
u64 Source(const LaneContext& ctx) { return BitWidth(ctx) == 32 ? u32(ctx.Arg(1)) : ctx.Arg(1); }

u64 PopulationCount(const LaneContext& ctx) { return __builtin_popcountll(Source(ctx)); }

u64 CountLeadingZeros(const LaneContext& ctx) {
  u64 value = Source(ctx);
  return value ? __builtin_clzll(value) - (64 - BitWidth(ctx)) : BitWidth(ctx);
}

u64 ReverseBits(const LaneContext& ctx) {
  u64 value = Source(ctx), result = 0;
  for (int i = 0, n = BitWidth(ctx); i < n; i++) result |= ((value >> i) & 1) << (n - 1 - i);
  return result;
}

u64 FindLeadingBit(const LaneContext& ctx) {
  u64 value = Source(ctx);
  if (IsSigned(ctx.in.type)) {
    s64 wide = BitWidth(ctx) == 32 ? s64(s32(value)) : s64(value);
    value = wide < 0 ? ~wide : wide;
  }
  if (!value) return 0xFFFFFFFFu;
  int position = 63 - __builtin_clzll(value);
  return ctx.in.Has("shiftamt") ? BitWidth(ctx) - 1 - position : position;
}

u64 ExtractBitField(const LaneContext& ctx) {
  const int width = BitWidth(ctx);
  const int position = ctx.Arg(2) & 255, length = ctx.Arg(3) & 255;
  const u64 value = Source(ctx);
  bool sign = IsSigned(ctx.in.type) && length &&
              ((value >> std::min(position + length - 1, width - 1)) & 1);
  u64 result = 0;
  for (int i = 0; i < width; i++) {
    bool inside = i < length && position + i < width;
    u64 bit = inside ? (value >> (position + i)) & 1 : u64(sign);
    result |= bit << i;
  }
  return result;
}

u64 InsertBitField(const LaneContext& ctx) {
  const int width = BitWidth(ctx);
  const int position = ctx.Arg(3) & 255, length = ctx.Arg(4) & 255;
  const u64 field = ctx.Arg(1);
  u64 result = ctx.Arg(2);
  for (int i = 0; i < length && position + i < width; i++) {
    u64 bit = 1ull << (position + i);
    result = (field >> i) & 1 ? result | bit : result & ~bit;
  }
  return result;
}

// lop3: any function of three bits, given by its truth table.
u64 LogicOp3(const LaneContext& ctx) {
  u32 a = ctx.Arg(1), b = ctx.Arg(2), c = ctx.Arg(3), table = ctx.Arg(4);
  u32 result = 0;
  for (int i = 0; i < 8; i++) {
    if (!((table >> i) & 1)) continue;
    result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  }
  return result;
}

// shf: 64-bit funnel shift of b:a, returning its low (right) or high (left) word.
u64 FunnelShift(const LaneContext& ctx) {
  const u64 value = (ctx.Arg(2) << 32) | u32(ctx.Arg(1));
  const u32 count = u32(ctx.Arg(3));
  const u32 amount = ctx.in.Has("clamp") ? std::min(count, 32u) : count & 31;
  return u32(ctx.in.Has("r") ? value >> amount : value >> (32 - amount));
}

// prmt, default mode: each selector nibble picks a byte of b:a, or replicates its sign.
u64 PermuteBytes(const LaneContext& ctx) {
  const u64 bytes = (ctx.Arg(2) << 32) | u32(ctx.Arg(1));
  const u32 selectors = u32(ctx.Arg(3));
  u64 result = 0;
  for (int i = 0; i < 4; i++) {
    u32 selector = (selectors >> (4 * i)) & 15;
    u8 byte = u8(bytes >> ((selector & 7) * 8));
    if (selector & 8) byte = byte & 0x80 ? 0xFF : 0;
    result |= u64(byte) << (8 * i);
  }
  return result;
}

// prmt with a mode: the byte chosen for each result byte, by mode and by c[1:0].
u64 PermuteBytesByMode(const LaneContext& ctx) {
  static const u8 kChoice[6][4][4] = {
      {{0, 1, 2, 3}, {1, 2, 3, 4}, {2, 3, 4, 5}, {3, 4, 5, 6}},  // f4e
      {{0, 7, 6, 5}, {1, 0, 7, 6}, {2, 1, 0, 7}, {3, 2, 1, 0}},  // b4e
      {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}, {3, 3, 3, 3}},  // rc8
      {{0, 1, 2, 3}, {1, 1, 2, 3}, {2, 2, 2, 3}, {3, 3, 3, 3}},  // ecl
      {{0, 0, 0, 0}, {0, 1, 1, 1}, {0, 1, 2, 2}, {0, 1, 2, 3}},  // ecr
      {{0, 1, 0, 1}, {2, 3, 2, 3}, {0, 1, 0, 1}, {2, 3, 2, 3}},  // rc16
  };
  const u64 bytes = (ctx.Arg(2) << 32) | u32(ctx.Arg(1));
  const u8* choice = kChoice[ctx.in.variant][ctx.Arg(3) & 3];
  u64 result = 0;
  for (int i = 0; i < 4; i++) result |= u64(u8(bytes >> (8 * choice[i]))) << (8 * i);
  return result;
}

u64 LogicalNot(const LaneContext& ctx) { return ctx.Arg(1) == 0; }

template <class Op>
DecodeResult DecodeLogic(Instruction& in) {
  if (in.type == PtxType::kPred) return Use(in, RunPredicate<Op>);
  return Use(in, SelectInteger<Binary, Op>(in.type));
}

DecodeResult DecodeNot(Instruction& in) {
  return Use(in, in.type == PtxType::kPred ? RunPredicateNot : SelectInteger<Unary, Not>(in.type));
}

template <class Op>
DecodeResult DecodeShift(Instruction& in) {
  return Use(in, SelectInteger<Shift, Op>(in.type));
}

template <u64 (*F)(const LaneContext&)>
DecodeResult DecodePerLane(Instruction& in) {
  return Use(in, PerLane<F>);
}

DecodeResult DecodePrmt(Instruction& in) {
  int mode = FindSuffix(in, {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"});
  return mode < 0 ? Use(in, PerLane<PermuteBytes>) : Use(in, PerLane<PermuteBytesByMode>, mode);
}

DecodeResult DecodeLop3(Instruction& in) {
  return in.dual_destination ? "lop3 with predicate" : Use(in, PerLane<LogicOp3>);
}

}  // namespace

void AddBitwise(DecoderTable& table) {
  table.insert({
      {"and", DecodeLogic<And>},
      {"or", DecodeLogic<Or>},
      {"xor", DecodeLogic<Xor>},
      {"not", DecodeNot},
      {"cnot", DecodePerLane<LogicalNot>},
      {"shl", DecodeShift<ShiftLeft>},
      {"shr", DecodeShift<ShiftRight>},
      {"shf", DecodePerLane<FunnelShift>},
      {"lop3", DecodeLop3},
      {"popc", DecodePerLane<PopulationCount>},
      {"clz", DecodePerLane<CountLeadingZeros>},
      {"brev", DecodePerLane<ReverseBits>},
      {"bfind", DecodePerLane<FindLeadingBit>},
      {"bfe", DecodePerLane<ExtractBitField>},
      {"bfi", DecodePerLane<InsertBitField>},
      {"prmt", DecodePrmt},
  });
}

}  // namespace ptxemu
