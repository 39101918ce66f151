// Run-time state of a launch: its configuration, thread blocks and warps, and access to their
// registers.
#pragma once
#include <memory>
#include <vector>

#include "core/ir.h"
#include "exec/barrier.h"
#include "exec/race_detector.h"
#include "exec/traffic.h"

namespace ptxemu {

struct LaunchConfig {
  const Module* module = nullptr;
  const Function* function = nullptr;
  u32 grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
  u32 dynamic_shared = 0;
  std::vector<u8> params;
  bool detect_races = true;
  LaunchTraffic* traffic = nullptr;  // absent: not counted

  u64 Blocks() const { return u64(grid[0]) * grid[1] * grid[2]; }
  u32 ThreadsPerBlock() const { return block[0] * block[1] * block[2]; }
  u32 DynamicSharedBase() const { return (function->static_shared + 127) / 128 * 128; }
  u32 SharedBytes() const {
    return dynamic_shared ? DynamicSharedBase() + dynamic_shared : function->static_shared;
  }
};

// A device allocation that an instruction has touched, kept to save look-ups. Allocations do not
// change during a launch.
struct AddressRange {
  u64 begin = 1, end = 0;
  bool Holds(u64 address, u32 bytes) const { return address >= begin && address + bytes <= end; }
};
constexpr int kKnownRanges = 32;  // of a block, by the instruction's PTX line

// One cp.async that has been issued but whose data has not been made visible yet.
struct PendingCopy {
  u64 source;
  u32 destination;  // shared memory offset
  u8 size;          // bytes written; those past source_size are zero
  u8 source_size;
};

struct AsyncCopies {                // of one thread
  std::vector<PendingCopy> copies;  // oldest first
  std::vector<u32> groups;          // where each committed group ends in it
  void Clear() {
    copies.clear();
    groups.clear();
  }
};

struct Block;

// 32 threads in lockstep. Each lane has its own pc; the scheduler runs groups of lanes at equal
// pcs.
struct Warp {
  Block* block = nullptr;
  int id = 0;
  u8* registers = nullptr;
  const u8* constants = nullptr;
  u8* local = nullptr;    // local memory of lane 0; lane i follows at i * module.local_bytes
  u32 initial_lanes = 0;  // lanes that exist
  u32 live = 0;           // lanes that have not exited
  u32 at_barrier = 0;     // lanes waiting at bar.sync
  u32 at_warp_sync = 0;   // lanes waiting for the others of their membermask
  u32 pc[kWarpSize] = {};
  u32 carry = 0;  // CC.CF of each lane (PTX ISA 9.7.2 "Extended-Precision")
  std::vector<int> return_stack[kWarpSize];
  AsyncCopies copies[kWarpSize];
  u64 regroups = 0;
  u64 warp_instructions = 0, thread_instructions = 0;

  u8* LocalOf(int lane) const;
};

struct Block {
  const LaunchConfig* launch = nullptr;
  u32 index[3] = {};
  u64 grid_workspace = 0;  // cooperative launches: barrier words shared by the grid
  std::vector<Warp> warps;
  AddressRange known[kKnownRanges];
  std::vector<u8> shared;
  u32 shared_bytes = 0;
  u32 live_threads = 0;
  Barrier barriers[kBarrierCount];
  RaceDetector races;
  std::vector<u8> register_storage, local_storage;

  // PTX ISA 5.1: fresh registers, shared and local memory are undefined; ours hold 0xFF (NaN as
  // float).
  void Init(const LaunchConfig& config, const u32 (&block_index)[3], u64 workspace);
};

inline u8* Warp::LocalOf(int lane) const {
  return local + size_t(lane) * block->launch->module->local_bytes;
}

// ---- register access

// The 32 lane values of a register or immediate operand.
template <class T>
inline T* LaneValues(Warp& warp, const Operand& operand) {
  const u8* base = operand.is_constant ? warp.constants : warp.registers;
  return reinterpret_cast<T*>(const_cast<u8*>(base) + operand.offset);
}

// A predicate register is one 32-bit word, one bit per lane.
inline u32& PredicateBits(Warp& warp, const Operand& operand) {
  return *reinterpret_cast<u32*>(warp.registers + operand.offset);
}

inline u64 ReadLane(Warp& warp, const Operand& operand, int lane) {
  if (operand.kind == Operand::Kind::kPredicate)
    return ((PredicateBits(warp, operand) >> lane) & 1) ^ u32(operand.negated);
  switch (operand.size) {
    case 1:
      return LaneValues<u8>(warp, operand)[lane];
    case 2:
      return LaneValues<u16>(warp, operand)[lane];
    case 4:
      return LaneValues<u32>(warp, operand)[lane];
    default:
      return LaneValues<u64>(warp, operand)[lane];
  }
}

inline void WriteLane(Warp& warp, const Operand& operand, int lane, u64 value) {
  if (operand.kind == Operand::Kind::kSink) return;
  if (operand.kind == Operand::Kind::kPredicate) {
    u32& bits = PredicateBits(warp, operand);
    bits = (bits & ~(1u << lane)) | (u32(value & 1) << lane);
    return;
  }
  switch (operand.size) {
    case 2:
      LaneValues<u16>(warp, operand)[lane] = u16(value);
      break;
    case 4:
      LaneValues<u32>(warp, operand)[lane] = u32(value);
      break;
    default:
      LaneValues<u64>(warp, operand)[lane] = value;
  }
}

// A whole predicate operand as a lane mask (a non-predicate operand counts as uniform).
inline u32 ReadPredicate(Warp& warp, const Operand& operand) {
  if (operand.kind != Operand::Kind::kPredicate) return ReadLane(warp, operand, 0) ? kFullMask : 0;
  u32 bits = PredicateBits(warp, operand);
  return operand.negated ? ~bits : bits;
}

inline void WritePredicate(Warp& warp, const Operand& operand, u32 value, u32 mask) {
  if (operand.kind == Operand::Kind::kSink) return;
  u32& bits = PredicateBits(warp, operand);
  bits = (bits & ~mask) | (value & mask);
}

// Operands such as {%r1,%r2} or a single register, seen as a list.
inline int VectorSize(const Operand& o) {
  return o.kind == Operand::Kind::kVector ? int(o.parts.size()) : 1;
}
inline const Operand& VectorElement(const Operand& o, int i) {
  return o.kind == Operand::Kind::kVector ? o.parts[i] : o;
}

inline int FirstLane(u32 mask) { return __builtin_ctz(mask); }
inline int CountLanes(u32 mask) { return __builtin_popcount(mask); }

// Calls f(lane) for every lane of the mask, lowest first.
template <class F>
inline void ForLanes(u32 mask, F f) {
  for (; mask; mask &= mask - 1) f(__builtin_ctz(mask));
}

// The same for independent lanes: a full warp becomes a loop the compiler can vectorize.
template <class F>
inline __attribute__((always_inline)) void ForIndependentLanes(u32 mask, F f) {
  if (mask != kFullMask) return ForLanes(mask, f);
#pragma GCC ivdep
  for (int lane = 0; lane < kWarpSize; lane++) f(lane);
}

}  // namespace ptxemu
