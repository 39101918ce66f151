// mov, ld, st, cvta, isspacep (PTX ISA 9.7.9) and atom, red (9.7.13.5, 9.7.13.6).
#include <cstring>

#include "exec/memory.h"
#include "isa/atomic_ops.h"
#include "isa/decode.h"
#include "isa/float_ops.h"
#include "isa/lane_loops.h"

namespace ptxemu {
namespace {

constexpr int kMaxVector = 8;
constexpr int kMaxAccessBytes = 64;

// ---- mov

u64 LowBits(int count) { return count == 64 ? ~0ull : (1ull << count) - 1; }

void RunUnpack(Warp& warp, const Instruction& in, u32 mask) {
  const std::vector<Operand>& parts = in.operands[0].parts;
  const int bits = TypeSize(in.type) * 8 / int(parts.size());
  ForLanes(mask, [&](int lane) {
    u64 value = ReadLane(warp, in.operands[1], lane);
    for (size_t i = 0; i < parts.size(); i++)
      WriteLane(warp, parts[i], lane, (value >> (i * bits)) & LowBits(bits));
  });
}

void RunPack(Warp& warp, const Instruction& in, u32 mask) {
  const std::vector<Operand>& parts = in.operands[1].parts;
  const int bits = TypeSize(in.type) * 8 / int(parts.size());
  ForLanes(mask, [&](int lane) {
    u64 value = 0;
    for (size_t i = 0; i < parts.size(); i++)
      value |= (ReadLane(warp, parts[i], lane) & LowBits(bits)) << (i * bits);
    WriteLane(warp, in.operands[0], lane, value);
  });
}

struct Identity {
  template <class T>
  static T Apply(T a) {
    return a;
  }
};

void RunMovePredicate(Warp& warp, const Instruction& in, u32 mask) {
  WritePredicate(warp, in.operands[0], ReadPredicate(warp, in.operands[1]), mask);
}

void RunMoveAnySize(Warp& warp, const Instruction& in, u32 mask) {
  ForLanes(mask, [&](int lane) {
    WriteLane(warp, in.operands[0], lane, ReadLane(warp, in.operands[1], lane));
  });
}

u64 KernelParamAddress(const LaneContext& ctx) {
  return reinterpret_cast<u64>(ctx.warp.block->launch->params.data()) + ctx.Arg(1);
}

bool IsKernelParam(const Operand& operand) {
  return operand.space == StateSpace::kParam && operand.is_constant && operand.kernel_param;
}

DecodeResult DecodeMov(Instruction& in) {
  const Operand& d = in.operands[0];
  const Operand& a = in.operands[1];
  if (a.kind == Operand::Kind::kLabel) return "symbol";
  if (in.type == PtxType::kPred) return Use(in, RunMovePredicate);
  if (IsKernelParam(a)) return Use(in, PerLane<KernelParamAddress>);
  if (d.kind == Operand::Kind::kVector) return Use(in, RunUnpack);
  if (a.kind == Operand::Kind::kVector) return Use(in, RunPack);
  if (d.size == 4 && a.size == 4) return Use(in, Unary<u32, Identity>::Run);
  if (d.size == 8 && a.size == 8) return Use(in, Unary<u64, Identity>::Run);
  return Use(in, RunMoveAnySize);
}

// ---- ld, st

u64 SignExtend(u64 value, int bytes) {
  const int shift = 64 - 8 * bytes;
  return u64(s64(value << shift) >> shift);
}

void RunLoad(Warp& warp, const Instruction& in, u32 mask) {
  const Operand& d = in.operands[0];
  const int bytes = TypeSize(in.type);
  const bool is_signed = IsSigned(in.type);
  ForLanes(mask, [&](int lane) {
    const u8* memory =
        ResolveOperand(warp, in, in.operands[1], lane, bytes * in.vector_width, Access::kRead);
    u64 values[kMaxVector];  // read all before writing any: the base register may be a destination
    for (int i = 0; i < in.vector_width; i++) {
      u64 value = 0;
      memcpy(&value, memory + i * bytes, bytes);
      values[i] = is_signed ? SignExtend(value, bytes) : value;
    }
    for (int i = 0; i < VectorSize(d); i++) WriteLane(warp, VectorElement(d, i), lane, values[i]);
  });
}

// Words to and from 32-bit registers: most of what is accessed.
template <int kWords>
void RunLoadWords(Warp& warp, const Instruction& in, u32 mask) {
  u32* d[kWords];
  for (int i = 0; i < kWords; i++) d[i] = LaneValues<u32>(warp, VectorElement(in.operands[0], i));
  ForLanes(mask, [&](int lane) {
    u32 values[kWords];
    memcpy(values, ResolveUsual(warp, in, in.operands[1], lane, 4 * kWords, Access::kRead),
           sizeof values);
    for (int i = 0; i < kWords; i++) d[i][lane] = values[i];
  });
}

template <int kWords>
void RunStoreWords(Warp& warp, const Instruction& in, u32 mask) {
  const u32* source[kWords];
  for (int i = 0; i < kWords; i++)
    source[i] = LaneValues<u32>(warp, VectorElement(in.operands[1], i));
  ForLanes(mask, [&](int lane) {
    u32 values[kWords];
    for (int i = 0; i < kWords; i++) values[i] = source[i][lane];
    memcpy(ResolveUsual(warp, in, in.operands[0], lane, 4 * kWords, Access::kWrite,
                        reinterpret_cast<const u8*>(values)),
           values, sizeof values);
  });
}

void RunStore(Warp& warp, const Instruction& in, u32 mask) {
  const Operand& source = in.operands[1];
  const int bytes = TypeSize(in.type);
  ForLanes(mask, [&](int lane) {
    u8 stored[kMaxAccessBytes];
    for (int i = 0; i < in.vector_width; i++) {
      u64 value = ReadLane(warp, VectorElement(source, i), lane);
      memcpy(stored + i * bytes, &value, bytes);
    }
    const int total = bytes * in.vector_width;
    memcpy(ResolveOperand(warp, in, in.operands[0], lane, total, Access::kWrite, true, stored),
           stored, total);
  });
}

// The accessed type is the last suffix: ld.global.L2::128B.u32.
DecodeResult DecodeLoadStore(Instruction& in) {
  in.type = in.last_type;
  if (in.type == PtxType::kB128) return "b128";
  if (!TypeSize(in.type)) return "type";
  const bool is_store = in.parts[0] == "st";
  const Operand& values = in.operands[is_store ? 1 : 0];
  if (TypeSize(in.type) == 4 && AreWords(values) && VectorSize(values) == in.vector_width) {
    switch (in.vector_width) {
      case 1:
        return Use(in, is_store ? RunStoreWords<1> : RunLoadWords<1>);
      case 2:
        return Use(in, is_store ? RunStoreWords<2> : RunLoadWords<2>);
      case 4:
        return Use(in, is_store ? RunStoreWords<4> : RunLoadWords<4>);
      default:
        break;
    }
  }
  return Use(in, is_store ? RunStore : RunLoad);
}

// ---- addresses

u64 WindowOf(StateSpace space) {
  return space == StateSpace::kShared  ? kSharedWindow
         : space == StateSpace::kLocal ? kLocalWindow
                                       : 0;
}

u64 IsInSpace(const LaneContext& ctx) {
  const u64 window = ctx.Arg(1) & kWindowMask;
  if (ctx.in.space == StateSpace::kGlobal) return window != kSharedWindow && window != kLocalWindow;
  const u64 wanted = WindowOf(ctx.in.space);
  return wanted && window == wanted;
}

// cvta: space to generic; cvta.to: generic to space.
u64 ConvertAddress(const LaneContext& ctx) {
  const Operand& source = ctx.in.operands[1];
  const u64 address = ctx.Arg(1), window = WindowOf(ctx.in.space);
  if (source.space == StateSpace::kParam && source.is_constant) return KernelParamAddress(ctx);
  if (!window) return address;
  if (ctx.in.Has("to")) return address & ~kWindowMask;
  return (source.size == 4 ? u32(address) : address) | window;
}

DecodeResult DecodeIsspacep(Instruction& in) { return Use(in, PerLane<IsInSpace>); }
DecodeResult DecodeCvta(Instruction& in) { return Use(in, PerLane<ConvertAddress>); }

// ---- atom, red

// Blocks and warps run one at a time on one thread, so a read-modify-write needs no lock.
void RunAtomic(Warp& warp, const Instruction& in, u32 mask) {
  const bool returns_old = in.parts[0] == "atom";
  const int address_operand = returns_old ? 1 : 0;
  const Operand& source = in.operands[address_operand + 1];
  const int bytes = TypeSize(in.type);
  const AtomicOp op = AtomicOp(in.variant);
  constexpr bool kDetectRaces = false;  // atomics synchronize among themselves
  ForLanes(mask, [&](int lane) {
    u8* memory = ResolveOperand(warp, in, in.operands[address_operand], lane,
                                bytes * in.vector_width, Access::kWrite, kDetectRaces);
    for (int i = 0; i < in.vector_width; i++) {
      u64 old = 0;
      memcpy(&old, memory + i * bytes, bytes);
      const u64 width = LowBits(bytes * 8);
      u64 b = ReadLane(warp, VectorElement(source, i), lane) & width;
      u64 c = op == AtomicOp::kCas ? ReadLane(warp, in.operands[3], lane) & width : 0;
      u64 updated = ApplyAtomic(op, in.type, old, b, c);
      memcpy(memory + i * bytes, &updated, bytes);
      if (returns_old) WriteLane(warp, VectorElement(in.operands[0], i), lane, old);
    }
  });
}

DecodeResult DecodeAtomic(Instruction& in) {
  in.type = in.last_type;
  if (in.Has("async")) return "red.async";
  if (in.type == PtxType::kB128) return "b128";
  int op = AtomicOpOf(in);
  return op < 0 ? "atom operation" : Use(in, RunAtomic, op);
}

}  // namespace

u64 ApplyAtomic(AtomicOp op, PtxType type, u64 old, u64 b, u64 c) {
  const bool brain = IsBrainFloat(type);
  auto add_half = [&](int shift) {
    float sum = Float16FamilyToFloat(brain, u16(old >> shift)) +
                Float16FamilyToFloat(brain, u16(b >> shift));
    return u64(FloatToFloat16Family(brain, sum)) << shift;
  };
  auto lesser = [&] {
    switch (type) {
      case PtxType::kS32:
        return s32(old) < s32(b);
      case PtxType::kS64:
        return s64(old) < s64(b);
      default:
        return old < b;
    }
  };
  switch (op) {
    case AtomicOp::kAdd:
      if (type == PtxType::kF32) return BitsOf(FloatFromBits(old) + FloatFromBits(b));
      if (type == PtxType::kF64) return BitsOf(DoubleFromBits(old) + DoubleFromBits(b));
      if (IsHalfFamily(type)) return add_half(0) | (IsPackedHalf(type) ? add_half(16) : 0);
      return old + b;
    case AtomicOp::kMin:
      if (type == PtxType::kF32)
        return BitsOf(FloatMin::Apply(FloatFromBits(old), FloatFromBits(b)));
      return lesser() ? old : b;
    case AtomicOp::kMax:
      if (type == PtxType::kF32)
        return BitsOf(FloatMax::Apply(FloatFromBits(old), FloatFromBits(b)));
      return lesser() ? b : old;
    case AtomicOp::kAnd:
      return old & b;
    case AtomicOp::kOr:
      return old | b;
    case AtomicOp::kXor:
      return old ^ b;
    case AtomicOp::kExchange:
      return b;
    case AtomicOp::kCas:
      return old == b ? c : old;
    case AtomicOp::kInc:
      return old >= b ? 0 : old + 1;
    case AtomicOp::kDec:
      return old == 0 || old > b ? b : old - 1;
  }
  return old;
}

int AtomicOpOf(const Instruction& in) {
  return FindSuffix(in, {"add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"});
}

void AddDataMovement(DecoderTable& table) {
  table.insert({{"mov", DecodeMov},
                {"ld", DecodeLoadStore},
                {"ldu", DecodeLoadStore},
                {"st", DecodeLoadStore},
                {"isspacep", DecodeIsspacep},
                {"cvta", DecodeCvta},
                {"atom", DecodeAtomic},
                {"red", DecodeAtomic}});
}

}  // namespace ptxemu
