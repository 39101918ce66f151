// Handlers that apply a per-lane operation to every lane of the mask.
#pragma once
#include "exec/warp.h"

namespace ptxemu {

// Op::Apply(a...) -> d, all of type T.
template <class T, class Op>
struct Unary {
  static void Run(Warp& warp, const Instruction& in, u32 mask) {
    T* d = LaneValues<T>(warp, in.operands[0]);
    const T* a = LaneValues<T>(warp, in.operands[1]);
    ForIndependentLanes(mask, [&](int lane) { d[lane] = Op::Apply(a[lane]); });
  }
};

template <class T, class Op>
struct Binary {
  static void Run(Warp& warp, const Instruction& in, u32 mask) {
    T* d = LaneValues<T>(warp, in.operands[0]);
    const T* a = LaneValues<T>(warp, in.operands[1]);
    const T* b = LaneValues<T>(warp, in.operands[2]);
    ForIndependentLanes(mask, [&](int lane) { d[lane] = Op::Apply(a[lane], b[lane]); });
  }
};

template <class T, class Op>
struct Ternary {
  static void Run(Warp& warp, const Instruction& in, u32 mask) {
    T* d = LaneValues<T>(warp, in.operands[0]);
    const T* a = LaneValues<T>(warp, in.operands[1]);
    const T* b = LaneValues<T>(warp, in.operands[2]);
    const T* c = LaneValues<T>(warp, in.operands[3]);
    ForIndependentLanes(mask, [&](int lane) { d[lane] = Op::Apply(a[lane], b[lane], c[lane]); });
  }
};

// The shift amount is 32 bits wide whatever the type.
template <class T, class Op>
struct Shift {
  static void Run(Warp& warp, const Instruction& in, u32 mask) {
    T* d = LaneValues<T>(warp, in.operands[0]);
    const T* a = LaneValues<T>(warp, in.operands[1]);
    const u32* b = LaneValues<u32>(warp, in.operands[2]);
    ForIndependentLanes(mask, [&](int lane) { d[lane] = Op::Apply(a[lane], b[lane]); });
  }
};

// For rarely used instructions: F computes one lane's result from the operands' raw bits.
struct LaneContext {
  Warp& warp;
  const Instruction& in;
  int lane;
  u64 Arg(int index) const { return ReadLane(warp, in.operands[index], lane); }
};

template <u64 (*F)(const LaneContext&)>
void PerLane(Warp& warp, const Instruction& in, u32 mask) {
  ForLanes(mask, [&](int lane) { WriteLane(warp, in.operands[0], lane, F({warp, in, lane})); });
}

// ---- Choosing the instantiation for the instruction's type; nullptr if the type is of another
// kind.

template <template <class, class> class Loop, class Op>
Handler SelectInteger(PtxType type) {
  switch (type) {
    case PtxType::kU16:
    case PtxType::kB16:
      return Loop<u16, Op>::Run;
    case PtxType::kS16:
      return Loop<s16, Op>::Run;
    case PtxType::kU32:
    case PtxType::kB32:
      return Loop<u32, Op>::Run;
    case PtxType::kS32:
      return Loop<s32, Op>::Run;
    case PtxType::kU64:
    case PtxType::kB64:
      return Loop<u64, Op>::Run;
    case PtxType::kS64:
      return Loop<s64, Op>::Run;
    default:
      return nullptr;
  }
}

// The first handler that exists.
template <class... Rest>
Handler FirstOf(Handler first, Rest... rest) {
  if constexpr (sizeof...(rest) == 0) {
    return first;
  } else {
    return first ? first : FirstOf(rest...);
  }
}

}  // namespace ptxemu
