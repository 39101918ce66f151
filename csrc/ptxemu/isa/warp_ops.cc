// Instructions by which the lanes of a warp exchange data or wait for each other: shfl (PTX
// ISA 9.7.9.6), vote, match, redux, activemask, elect (9.7.13.7 to 9.7.13.12), bar and barrier
// (9.7.13.1, 9.7.13.2).
#include "exec/warp.h"
#include "isa/atomic_ops.h"
#include "isa/decode.h"

namespace ptxemu {
namespace {

enum class ShuffleMode { kUp, kDown, kButterfly, kIndex };

void RunShuffle(Warp& warp, const Instruction& in, u32 mask) {
  const int first_source = in.dual_destination ? 2 : 1;
  const ShuffleMode mode = ShuffleMode(in.variant);
  u32 source[kWarpSize], result[kWarpSize], in_range = 0;
  for (int lane = 0; lane < kWarpSize; lane++)
    source[lane] = ReadLane(warp, in.operands[first_source], lane);
  ForLanes(mask, [&](int lane) {
    const int b = ReadLane(warp, in.operands[first_source + 1], lane) & 31;
    const u32 c = ReadLane(warp, in.operands[first_source + 2], lane);
    const int clamp = c & 31, segment = (c >> 8) & 31;
    const int max_lane = (lane & segment) | (clamp & ~segment & 31);
    const int min_lane = lane & segment;
    int from = lane;
    switch (mode) {
      case ShuffleMode::kUp:
        from = lane - b;
        break;
      case ShuffleMode::kDown:
        from = lane + b;
        break;
      case ShuffleMode::kButterfly:
        from = lane ^ b;
        break;
      case ShuffleMode::kIndex:
        from = min_lane | (b & ~segment & 31);
        break;
    }
    const bool valid = mode == ShuffleMode::kUp ? from >= max_lane : from <= max_lane;
    if (valid) in_range |= 1u << lane;
    if (!valid) from = lane;
    result[lane] =
        (mask >> from) & 1 ? source[from] : 0xFFFFFFFFu;  // reading an inactive lane is undefined
  });
  ForLanes(mask, [&](int lane) { WriteLane(warp, in.operands[0], lane, result[lane]); });
  if (in.dual_destination) WritePredicate(warp, in.operands[1], in_range, mask);
}

enum class VoteMode { kBallot, kAll, kAny, kUniform };

void RunVote(Warp& warp, const Instruction& in, u32 mask) {
  const u32 votes = ReadPredicate(warp, in.operands[1]) & mask;
  bool outcome = false;
  switch (VoteMode(in.variant)) {
    case VoteMode::kBallot:
      return ForLanes(mask, [&](int lane) { WriteLane(warp, in.operands[0], lane, votes); });
    case VoteMode::kAll:
      outcome = votes == mask;
      break;
    case VoteMode::kAny:
      outcome = votes != 0;
      break;
    case VoteMode::kUniform:
      outcome = votes == 0 || votes == mask;
      break;
  }
  WritePredicate(warp, in.operands[0], outcome ? kFullMask : 0, mask);
}

void RunMatch(Warp& warp, const Instruction& in, u32 mask) {
  const Operand& source = in.operands[in.dual_destination ? 2 : 1];
  const bool match_all = in.Has("all");
  u32 same[kWarpSize];
  bool all_same = true;
  ForLanes(mask, [&](int lane) {
    const u64 value = ReadLane(warp, source, lane);
    same[lane] = 0;
    ForLanes(mask, [&](int other) {
      same[lane] |= u32(ReadLane(warp, source, other) == value) << other;
    });
    all_same &= same[lane] == mask;
  });
  ForLanes(mask, [&](int lane) {
    WriteLane(warp, in.operands[0], lane, match_all ? (all_same ? mask : 0) : same[lane]);
  });
  if (in.dual_destination) WritePredicate(warp, in.operands[1], all_same ? kFullMask : 0, mask);
}

void RunReduce(Warp& warp, const Instruction& in, u32 mask) {
  u64 result = u32(ReadLane(warp, in.operands[1], FirstLane(mask)));
  ForLanes(mask & (mask - 1), [&](int lane) {
    result = u32(ApplyAtomic(AtomicOp(in.variant), in.type, result,
                             u32(ReadLane(warp, in.operands[1], lane)), 0));
  });
  ForLanes(mask, [&](int lane) { WriteLane(warp, in.operands[0], lane, result); });
}

void RunActivemask(Warp& warp, const Instruction& in, u32 mask) {
  ForLanes(mask, [&](int lane) { WriteLane(warp, in.operands[0], lane, mask); });
}

void RunElect(Warp& warp, const Instruction& in, u32 mask) {
  const int leader = FirstLane(mask);
  ForLanes(mask, [&](int lane) { WriteLane(warp, in.operands[0], lane, leader); });
  if (in.dual_destination) WritePredicate(warp, in.operands[1], 1u << leader, mask);
}

// Makes the scheduler wait for the lanes named by operand `membermask`.
DecodeResult UseWarpSync(Instruction& in, Handler handler, int variant, int membermask) {
  in.flow = Flow::kWarpSync;
  in.membermask_operand = membermask;
  return Use(in, handler, variant);
}

int LastOperand(const Instruction& in) { return int(in.operands.size()) - 1; }

DecodeResult DecodeShfl(Instruction& in) {
  if (!in.Has("sync")) return "shfl without sync";
  return UseWarpSync(in, RunShuffle, FindSuffix(in, {"up", "down", "bfly", "idx"}),
                     LastOperand(in));
}

DecodeResult DecodeVote(Instruction& in) {
  if (!in.Has("sync")) return "vote without sync";
  return UseWarpSync(in, RunVote, FindSuffix(in, {"ballot", "all", "any", "uni"}), 2);
}

DecodeResult DecodeMatch(Instruction& in) { return UseWarpSync(in, RunMatch, 0, LastOperand(in)); }

DecodeResult DecodeRedux(Instruction& in) {
  if (in.type == PtxType::kF32) return "redux.f32";
  int op = AtomicOpOf(in);
  return op < 0 ? "redux operation" : UseWarpSync(in, RunReduce, op, 2);
}

DecodeResult DecodeElect(Instruction& in) { return UseWarpSync(in, RunElect, 0, LastOperand(in)); }
DecodeResult DecodeActivemask(Instruction& in) { return Use(in, RunActivemask); }

DecodeResult DecodeBarrier(Instruction& in) {
  if (in.Has("cluster")) return Use(in, ExecuteNothing);  // clusters have one block
  if (in.Has("warp")) return UseWarpSync(in, ExecuteNothing, 0, 0);
  in.flow = Flow::kBarrier;
  BarrierKind kind = BarrierKind::kSync;
  if (in.Has("arrive")) kind = BarrierKind::kArrive;
  if (in.Has("red"))
    kind = in.Has("popc")  ? BarrierKind::kReducePopc
           : in.Has("and") ? BarrierKind::kReduceAnd
                           : BarrierKind::kReduceOr;
  return Use(in, ExecuteNothing, int(kind));
}

}  // namespace

void AddWarpOps(DecoderTable& table) {
  table.insert({{"shfl", DecodeShfl},
                {"vote", DecodeVote},
                {"match", DecodeMatch},
                {"redux", DecodeRedux},
                {"elect", DecodeElect},
                {"activemask", DecodeActivemask},
                {"bar", DecodeBarrier},
                {"barrier", DecodeBarrier}});
}

}  // namespace ptxemu
