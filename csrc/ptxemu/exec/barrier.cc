#include "exec/barrier.h"

#include "exec/warp.h"

namespace ptxemu {
namespace {

void ReleaseIfComplete(Block& block, Barrier& barrier) {
  if (!barrier.arrived) return;
  if (barrier.arrived < (barrier.expected ? barrier.expected : block.live_threads)) return;
  for (Barrier::Waiter& waiter : barrier.waiters) {
    const Instruction& in = *waiter.instruction;
    BarrierKind kind = BarrierKind(in.variant);
    if (IsReduction(kind)) {
      u32 result = kind == BarrierKind::kReducePopc  ? barrier.count
                   : kind == BarrierKind::kReduceAnd ? u32(barrier.all)
                                                     : u32(barrier.any);
      ForLanes(waiter.lanes,
               [&](int lane) { WriteLane(*waiter.warp, in.operands[0], lane, result); });
    }
    waiter.warp->at_barrier &= ~waiter.lanes;
  }
  if (barrier.arrived >= block.live_threads) block.races.NextEpoch();
  barrier = Barrier();
}

}  // namespace

// Operands: [result,] barrier id [, thread count] [, predicate].
void ArriveAtBarrier(Warp& warp, const Instruction& in, u32 lanes) {
  Block& block = *warp.block;
  const BarrierKind kind = BarrierKind(in.variant);
  const int lane = FirstLane(lanes);
  const size_t id_operand = IsReduction(kind) ? 1 : 0;
  const size_t count_operand = id_operand + 1;
  int id = in.operands.size() > id_operand
               ? ReadLane(warp, in.operands[id_operand], lane) % kBarrierCount
               : 0;
  Barrier& barrier = block.barriers[id];

  u32 thread_count = 0;
  if (in.operands.size() > count_operand &&
      in.operands[count_operand].kind == Operand::Kind::kRegister)
    thread_count = ReadLane(warp, in.operands[count_operand], lane);
  if (thread_count) barrier.expected = thread_count;
  // Counts are in whole warps, so a partly filled last warp stands for 32 threads.
  barrier.arrived += thread_count && lanes == warp.initial_lanes ? kWarpSize : CountLanes(lanes);

  if (IsReduction(kind)) {
    u32 predicate = ReadPredicate(warp, in.operands.back()) & lanes;
    barrier.count += CountLanes(predicate);
    barrier.all &= predicate == lanes;
    barrier.any |= predicate != 0;
  }
  if (kind != BarrierKind::kArrive) {
    warp.at_barrier |= lanes;
    barrier.waiters.push_back({&warp, &in, lanes});
  }
  ReleaseIfComplete(block, barrier);
}

void RecheckBarriers(Block& block) {
  for (Barrier& barrier : block.barriers) ReleaseIfComplete(block, barrier);
}

}  // namespace ptxemu
