// setp, set, selp, slct (PTX ISA 9.7.6 and 9.7.7).
#include "isa/decode.h"
#include "isa/float_formats.h"
#include "isa/lane_loops.h"

namespace ptxemu {
namespace {

enum class Compare { kEq, kNe, kLt, kLe, kGt, kGe, kEqu, kNeu, kLtu, kLeu, kGtu, kGeu, kNum, kNan };
enum class Combine { kNone, kAnd, kOr, kXor };

// Instruction::flags
constexpr u32 kFlushOperands = 1;

template <class T>
bool Holds(Compare op, T a, T b) {
  bool unordered = a != a || b != b;
  switch (op) {
    case Compare::kEq:
      return a == b;
    case Compare::kNe:
      return !unordered && a != b;
    case Compare::kLt:
      return a < b;
    case Compare::kLe:
      return a <= b;
    case Compare::kGt:
      return a > b;
    case Compare::kGe:
      return a >= b;
    case Compare::kEqu:
      return unordered || a == b;
    case Compare::kNeu:
      return unordered || a != b;
    case Compare::kLtu:
      return unordered || a < b;
    case Compare::kLeu:
      return unordered || a <= b;
    case Compare::kGtu:
      return unordered || a > b;
    case Compare::kGeu:
      return unordered || a >= b;
    case Compare::kNum:
      return !unordered;
    case Compare::kNan:
      return unordered;
  }
  return false;
}

// All 32 lanes at once; a constant operation lets the compiler vectorize the loop.
template <Compare kOp, class T>
u32 CompareLanes(const T* a, const T* b) {
  u32 result = 0;
  for (int lane = 0; lane < kWarpSize; lane++) result |= u32(Holds(kOp, a[lane], b[lane])) << lane;
  return result;
}

template <class T>
u32 CompareLanes(Compare op, const T* a, const T* b) {
  switch (op) {
    case Compare::kEq:
      return CompareLanes<Compare::kEq>(a, b);
    case Compare::kNe:
      return CompareLanes<Compare::kNe>(a, b);
    case Compare::kLt:
      return CompareLanes<Compare::kLt>(a, b);
    case Compare::kLe:
      return CompareLanes<Compare::kLe>(a, b);
    case Compare::kGt:
      return CompareLanes<Compare::kGt>(a, b);
    case Compare::kGe:
      return CompareLanes<Compare::kGe>(a, b);
    default:
      break;
  }
  u32 result = 0;
  for (int lane = 0; lane < kWarpSize; lane++) result |= u32(Holds(op, a[lane], b[lane])) << lane;
  return result;
}

// Results of the low and (packed types only) the high halves.
struct Comparison {
  u32 low = 0, high = 0;
};

Comparison CompareHalves(Warp& warp, Compare op, PtxType type, const Operand& a, const Operand& b) {
  Comparison result;
  const bool brain = IsBrainFloat(type);
  auto holds = [&](u64 x, u64 y) {
    return u32(Holds(op, Float16FamilyToFloat(brain, u16(x)), Float16FamilyToFloat(brain, u16(y))));
  };
  for (int lane = 0; lane < kWarpSize; lane++) {
    u64 x = ReadLane(warp, a, lane), y = ReadLane(warp, b, lane);
    result.low |= holds(x, y) << lane;
    if (IsPackedHalf(type)) result.high |= holds(x >> 16, y >> 16) << lane;
  }
  return result;
}

Comparison CompareOperands(Warp& warp, const Instruction& in, PtxType type, const Operand& a,
                           const Operand& b) {
  const Compare op = Compare(in.variant);
  auto compare = [&](auto zero) {
    using T = decltype(zero);
    return Comparison{CompareLanes(op, LaneValues<T>(warp, a), LaneValues<T>(warp, b)), 0};
  };
  switch (type) {
    case PtxType::kU16:
    case PtxType::kB16:
      return compare(u16());
    case PtxType::kS16:
      return compare(s16());
    case PtxType::kU32:
    case PtxType::kB32:
      return compare(u32());
    case PtxType::kS32:
      return compare(s32());
    case PtxType::kU64:
    case PtxType::kB64:
      return compare(u64());
    case PtxType::kS64:
      return compare(s64());
    case PtxType::kF64:
      return compare(double());
    case PtxType::kF32:
      break;
    default:
      return CompareHalves(warp, op, type, a, b);
  }
  if (!(in.flags & kFlushOperands)) return compare(float());
  float x[kWarpSize], y[kWarpSize];
  for (int lane = 0; lane < kWarpSize; lane++) {
    x[lane] = FlushSubnormal(LaneValues<float>(warp, a)[lane]);
    y[lane] = FlushSubnormal(LaneValues<float>(warp, b)[lane]);
  }
  return {CompareLanes(op, x, y), 0};
}

Combine CombineOf(const Instruction& in) { return Combine(in.flags >> 4); }

u32 CombineWith(Combine op, u32 value, u32 predicate) {
  switch (op) {
    case Combine::kAnd:
      return value & predicate;
    case Combine::kOr:
      return value | predicate;
    case Combine::kXor:
      return value ^ predicate;
    case Combine::kNone:
      break;
  }
  return value;
}

void RunSetp(Warp& warp, const Instruction& in, u32 mask) {
  const size_t first_source = in.dual_destination ? 2 : 1;
  Comparison result =
      CompareOperands(warp, in, in.type, in.operands[first_source], in.operands[first_source + 1]);
  u32 first = result.low;
  u32 second = IsPackedHalf(in.type) ? result.high : ~result.low;
  if (in.operands.size() > first_source + 2) {
    u32 predicate = ReadPredicate(warp, in.operands[first_source + 2]);
    first = CombineWith(CombineOf(in), first, predicate);
    second = CombineWith(CombineOf(in), second, predicate);
  }
  WritePredicate(warp, in.operands[0], first, mask);
  if (in.dual_destination) WritePredicate(warp, in.operands[1], second, mask);
}

// set: true is 1.0 for a floating-point destination, all ones for an integer one.
u64 SetValue(const Instruction& in, bool low, bool high) {
  switch (in.type) {
    case PtxType::kF32:
      return low ? 0x3F800000 : 0;
    case PtxType::kF16:
      return low ? 0x3C00 : 0;
    case PtxType::kBF16:
      return low ? 0x3F80 : 0;
    case PtxType::kF16x2:
      return (low ? 0x3C00u : 0) | (high ? 0x3C000000u : 0);
    case PtxType::kBF16x2:
      return (low ? 0x3F80u : 0) | (high ? 0x3F800000u : 0);
    default:
      break;
  }
  if (IsPackedHalf(in.last_type)) return (low ? 0xFFFFu : 0) | (high ? 0xFFFF0000u : 0);
  return low ? ~0ull : 0;
}

void RunSet(Warp& warp, const Instruction& in, u32 mask) {
  Comparison result = CompareOperands(warp, in, in.last_type, in.operands[1], in.operands[2]);
  if (in.operands.size() > 3) {
    u32 predicate = ReadPredicate(warp, in.operands[3]);
    result.low = CombineWith(CombineOf(in), result.low, predicate);
    result.high = CombineWith(CombineOf(in), result.high, predicate);
  }
  ForLanes(mask, [&](int lane) {
    WriteLane(warp, in.operands[0], lane,
              SetValue(in, (result.low >> lane) & 1, (result.high >> lane) & 1));
  });
}

template <class T>
void Select(Warp& warp, const Instruction& in, u32 mask, u32 predicate) {
  T* d = LaneValues<T>(warp, in.operands[0]);
  const T* a = LaneValues<T>(warp, in.operands[1]);
  const T* b = LaneValues<T>(warp, in.operands[2]);
  ForIndependentLanes(mask,
                      [&](int lane) { d[lane] = (predicate >> lane) & 1 ? a[lane] : b[lane]; });
}

void RunSelp(Warp& warp, const Instruction& in, u32 mask) {
  u32 predicate = ReadPredicate(warp, in.operands[3]);
  switch (in.operands[0].size) {
    case 4:
      return Select<u32>(warp, in, mask, predicate);
    case 8:
      return Select<u64>(warp, in, mask, predicate);
    default:
      ForLanes(mask, [&](int lane) {
        WriteLane(warp, in.operands[0], lane,
                  ReadLane(warp, in.operands[(predicate >> lane) & 1 ? 1 : 2], lane));
      });
  }
}

u64 SelectBySign(const LaneContext& ctx) {
  bool non_negative =
      ctx.in.last_type == PtxType::kF32 ? FloatFromBits(ctx.Arg(3)) >= 0 : s32(ctx.Arg(3)) >= 0;
  return ctx.Arg(non_negative ? 1 : 2);
}

DecodeResult DecodeCompare(Instruction& in) {
  static const std::unordered_map<std::string, Compare> kOps = {
      {"eq", Compare::kEq},   {"ne", Compare::kNe},   {"lt", Compare::kLt},
      {"le", Compare::kLe},   {"gt", Compare::kGt},   {"ge", Compare::kGe},
      {"lo", Compare::kLt},   {"ls", Compare::kLe},   {"hi", Compare::kGt},
      {"hs", Compare::kGe},   {"equ", Compare::kEqu}, {"neu", Compare::kNeu},
      {"ltu", Compare::kLtu}, {"leu", Compare::kLeu}, {"gtu", Compare::kGtu},
      {"geu", Compare::kGeu}, {"num", Compare::kNum}, {"nan", Compare::kNan}};
  auto op = kOps.find(in.parts[1]);
  if (op == kOps.end()) return "comparison operator";
  in.variant = int(op->second);
  in.flags = (in.Has("ftz") ? kFlushOperands : 0) | u32(FindSuffix(in, {"and", "or", "xor"}) + 1)
                                                        << 4;
  return Use(in, in.parts[0] == "setp" ? RunSetp : RunSet);
}

DecodeResult DecodeSelp(Instruction& in) {
  if (in.operands[3].kind != Operand::Kind::kPredicate) return "selp without a predicate register";
  return Use(in, RunSelp);
}

DecodeResult DecodeSlct(Instruction& in) { return Use(in, PerLane<SelectBySign>); }

}  // namespace

void AddComparison(DecoderTable& table) {
  table.insert({{"setp", DecodeCompare},
                {"set", DecodeCompare},
                {"selp", DecodeSelp},
                {"slct", DecodeSlct}});
}

}  // namespace ptxemu
