// Non-bulk cp.async (PTX ISA 9.7.9.25). The copy is deferred to the wait_group or wait_all that
// makes it visible, and its destination holds 0xFF until then, so that a missing or too weak wait
// shows up as NaN.
#include <algorithm>
#include <cstring>

#include "exec/memory.h"
#include "exec/report.h"
#include "exec/warp.h"
#include "isa/decode.h"

namespace ptxemu {
namespace {

const u8* CheckedSource(Warp& warp, const Instruction& in, int lane, const PendingCopy& copy) {
  return CheckGlobal(warp, in, lane, copy.source, copy.source_size, Access::kRead);
}

// The oldest `count` copies of a lane.
void Complete(Warp& warp, const Instruction& in, int lane, u32 count) {
  AsyncCopies& pending = warp.copies[lane];
  for (u32 i = 0; i < count; i++) {
    const PendingCopy& copy = pending.copies[i];
    u8 data[16] = {};
    if (copy.source_size) memcpy(data, CheckedSource(warp, in, lane, copy), copy.source_size);
    memcpy(&warp.block->shared[copy.destination], data, copy.size);
  }
  pending.copies.erase(pending.copies.begin(), pending.copies.begin() + count);
}

// cp.async dst, src, size [, src-size | ignore-src predicate]
void RunCopy(Warp& warp, const Instruction& in, u32 mask) {
  const int size = in.operands[2].imm;
  const Operand* limit = in.operands.size() > 3 ? &in.operands[3] : nullptr;
  ForLanes(mask, [&](int lane) {
    u64 destination = EffectiveAddress(warp, in.operands[0], lane);
    PendingCopy copy;
    copy.source = EffectiveAddress(warp, in.operands[1], lane);
    copy.destination = u32(destination);
    copy.size = copy.source_size = size;
    if (limit && limit->kind == Operand::Kind::kRegister)
      copy.source_size = std::min<u32>(size, u32(ReadLane(warp, *limit, lane)));
    if (limit && limit->kind == Operand::Kind::kPredicate && ReadLane(warp, *limit, lane))
      copy.source_size = 0;

    ResolveAddress(warp, in, lane, destination, size, StateSpace::kShared, Access::kWrite);
    if (copy.source & (size - 1))
      Fault(warp, in, lane, kMisalignedAddress, "misaligned cp.async source");
    if (copy.source_size) CheckedSource(warp, in, lane, copy);
    CountGlobal(warp, copy.source, copy.source_size, Access::kRead);
    memset(&warp.block->shared[copy.destination], 0xFF, size);
    warp.copies[lane].copies.push_back(copy);
  });
}

void RunCommitGroup(Warp& warp, const Instruction&, u32 mask) {
  ForLanes(mask, [&](int lane) {
    AsyncCopies& pending = warp.copies[lane];
    pending.groups.push_back(u32(pending.copies.size()));
  });
}

void RunWaitGroup(Warp& warp, const Instruction& in, u32 mask) {
  const size_t may_remain = in.operands[0].imm;
  ForLanes(mask, [&](int lane) {
    std::vector<u32>& groups = warp.copies[lane].groups;
    if (groups.size() <= may_remain) return;
    const size_t finished = groups.size() - may_remain;
    const u32 count = groups[finished - 1];
    Complete(warp, in, lane, count);
    groups.erase(groups.begin(), groups.begin() + finished);
    for (u32& end : groups) end -= count;
  });
}

void RunWaitAll(Warp& warp, const Instruction& in, u32 mask) {
  ForLanes(mask, [&](int lane) {
    Complete(warp, in, lane, u32(warp.copies[lane].copies.size()));
    warp.copies[lane].Clear();
  });
}

DecodeResult DecodeCp(Instruction& in) {
  if (in.parts.size() < 2 || in.parts[1] != "async") return "cp";
  if (in.Has("bulk")) return "cp.async.bulk";
  if (in.Has("mbarrier")) return "cp.async.mbarrier";
  if (in.Has("commit_group")) return Use(in, RunCommitGroup);
  if (in.Has("wait_group")) return Use(in, RunWaitGroup);
  if (in.Has("wait_all")) return Use(in, RunWaitAll);
  const bool has_cache_policy = in.Has("L2::cache_hint");
  if (has_cache_policy) in.operands.pop_back();
  if (in.operands.size() > 4) in.operands.resize(4);
  const s64 size = in.operands[2].imm;
  if (size != 4 && size != 8 && size != 16) return "cp.async size";
  if (in.Has("cg") && size != 16) return "cp.async.cg needs 16 bytes";
  return Use(in, RunCopy);
}

}  // namespace

void AddAsyncCopy(DecoderTable& table) { table.insert({{"cp", DecodeCp}}); }

}  // namespace ptxemu
