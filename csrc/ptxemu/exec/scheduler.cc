// SIMT execution without a divergence stack: each lane keeps its own pc, and the group of lanes at
// the lowest pc runs until it diverges, blocks or reaches another lane's pc, where the groups
// merge. Compilers lay code out so that reconvergence points come last, so lowest-first finds them.
// Now and then the highest group runs instead, so that a spinning group cannot starve the lanes it
// waits for.
#include "exec/scheduler.h"

#include <algorithm>
#include <cstring>

#include "exec/memory.h"
#include "exec/report.h"
#include "exec/special_registers.h"

namespace ptxemu {
namespace {

constexpr u64 kQuantum = 1 << 16;             // instructions before another warp gets a turn
constexpr u64 kCooperativeQuantum = 1 << 12;  // before another block does
constexpr u64 kStarvationPeriod = 1 << 14;    // regroupings between turns of the highest pc
constexpr u32 kNoPc = ~0u;
constexpr size_t kMaxCallDepth = 1000;

class WarpRunner {
 public:
  explicit WarpRunner(Warp& warp)
      : warp_(warp), module_(*warp.block->launch->module), code_(module_.code.data()) {}

  // Returns whether any instruction ran.
  bool Run(u64 quantum) {
    if (module_.reads_clock) UpdateClocks(warp_);
    while (warp_.live && executed_ <= quantum) {
      u32 runnable = warp_.live & ~warp_.at_barrier & ~warp_.at_warp_sync;
      if (!runnable) break;
      SelectGroup(runnable);
      RunGroup(quantum);
    }
    return executed_ > 0;
  }

 private:
  enum class Step { kContinue, kRegroup };

  void SelectGroup(u32 runnable) {
    u32 lowest = kNoPc, highest = 0;
    ForLanes(runnable, [&](int lane) {
      lowest = std::min(lowest, warp_.pc[lane]);
      highest = std::max(highest, warp_.pc[lane]);
    });
    pc_ = ++warp_.regroups % kStarvationPeriod == 0 ? highest : lowest;
    group_ = 0;
    merge_pc_ = kNoPc;
    ForLanes(warp_.live & ~warp_.at_barrier, [&](int lane) {
      if (warp_.pc[lane] == pc_) {
        group_ |= 1u << lane;
      } else if (warp_.pc[lane] > pc_) {
        merge_pc_ = std::min(merge_pc_, warp_.pc[lane]);
      }
    });
    warp_.at_warp_sync &= ~group_;
    has_others_ = (warp_.live & ~group_) != 0;
  }

  // Runs the group from pc_ on. Steps that send lanes to different places store their pcs
  // themselves.
  void RunGroup(u64 quantum) {
    for (;;) {
      const Instruction& in = code_[pc_];
      u32 active = group_;
      if (in.guard >= 0) {
        u32 guard = *reinterpret_cast<u32*>(warp_.registers + in.guard);
        active &= in.guard_negated ? ~guard : guard;
      }
      executed_++;
      warp_.warp_instructions++;
      warp_.thread_instructions += CountLanes(active);
      if (in.flow == Flow::kStraight) {
        if (active) in.execute(warp_, in, active);
        pc_++;
      } else if (in.flow == Flow::kBranch && (active == group_ || !active)) {
        pc_ = active ? in.target : pc_ + 1;
        if (executed_ > quantum || has_others_) break;
      } else if (StepControl(in, active) == Step::kRegroup) {
        return;
      }
      if (pc_ >= merge_pc_ || (executed_ > quantum && !has_others_)) break;
    }
    ForLanes(group_, [&](int lane) { warp_.pc[lane] = pc_; });
  }

  Step StepControl(const Instruction& in, u32 active) {
    switch (in.flow) {
      case Flow::kWarpSync:
        return StepWarpSync(in, active);
      case Flow::kBranch:
        SetPcs(active, [&](int) { return in.target; });
        return Step::kRegroup;
      case Flow::kIndexedBranch:
        SetPcs(active, [&](int lane) {
          u64 index = ReadLane(warp_, in.operands[0], lane);
          if (index >= in.branch_targets.size())
            Fault(warp_, in, lane, kLaunchFailure, "brx index");
          return in.branch_targets[index];
        });
        return Step::kRegroup;
      case Flow::kCall:
        SetPcs(active, [&](int lane) { return EnterFunction(in, lane); });
        return Step::kRegroup;
      case Flow::kReturn:
        SetPcs(active, [&](int lane) { return LeaveFunction(lane); });
        return Step::kRegroup;
      case Flow::kExit:
        Exit(active);
        return Step::kRegroup;
      case Flow::kBarrier:
        SetPcs(0, [](int) { return 0; });
        if (active) ArriveAtBarrier(warp_, in, active);
        return Step::kRegroup;
      case Flow::kStraight:
        break;
    }
    return Step::kContinue;
  }

  // Active lanes go where `target` says, the rest of the group to the next instruction.
  template <class F>
  void SetPcs(u32 active, F target) {
    ForLanes(group_,
             [&](int lane) { warp_.pc[lane] = ((active >> lane) & 1) ? target(lane) : pc_ + 1; });
  }

  // shfl, vote, mma...: all live lanes of the membermask must arrive before it executes.
  Step StepWarpSync(const Instruction& in, u32 active) {
    if (active) {
      u32 members = kFullMask;
      if (in.membermask_operand >= 0)
        members = ReadLane(warp_, in.operands[in.membermask_operand], FirstLane(active));
      if (in.membermask_operand == kMembermaskAligned) members = warp_.initial_lanes;
      u32 required = members & warp_.live;
      if ((active & required) != required) {
        warp_.at_warp_sync |= active;
        SetPcs(active, [&](int) { return pc_; });
        return Step::kRegroup;
      }
      in.execute(warp_, in, active);
    }
    pc_++;
    return Step::kContinue;
  }

  int EnterFunction(const Instruction& call, int lane) {
    const Function& callee = module_.functions.at(call.symbol);
    u8* local = warp_.LocalOf(lane);
    for (size_t i = 0; i < call.call_args.size() && i < callee.params.size(); i++) {
      const Operand& argument = call.call_args[i];
      const Variable& param = callee.params[i];
      if (argument.space == StateSpace::kParam) {
        memmove(local + param.offset, local + argument.imm, param.size);
      } else {
        u64 value = ReadLane(warp_, argument, lane);
        memcpy(local + param.offset, &value, std::min<u32>(param.size, 8));
      }
    }
    warp_.return_stack[lane].push_back(pc_ + 1);
    if (warp_.return_stack[lane].size() > kMaxCallDepth)
      Fault(warp_, call, lane, kLaunchFailure, "call stack overflow");
    return call.target;
  }

  int LeaveFunction(int lane) {
    int return_pc = warp_.return_stack[lane].back();
    warp_.return_stack[lane].pop_back();
    const Instruction& call = code_[return_pc - 1];
    const Function& callee = module_.functions.at(call.symbol);
    u8* local = warp_.LocalOf(lane);
    for (size_t i = 0; i < call.call_results.size() && i < callee.results.size(); i++)
      memmove(local + call.call_results[i].imm, local + callee.results[i].offset,
              callee.results[i].size);
    return return_pc;
  }

  void Exit(u32 active) {
    ForLanes(active, [&](int lane) { warp_.copies[lane].Clear(); });
    warp_.live &= ~active;
    warp_.block->live_threads -= CountLanes(active);
    warp_.at_warp_sync = 0;  // the lanes waited for may be the ones that left
    ForLanes(group_ & ~active, [&](int lane) { warp_.pc[lane] = pc_ + 1; });
    RecheckBarriers(*warp_.block);
  }

  Warp& warp_;
  const Module& module_;
  const Instruction* code_;
  u64 executed_ = 0;
  u32 pc_ = 0;
  u32 group_ = 0;         // lanes running
  u32 merge_pc_ = kNoPc;  // lowest pc above pc_ where other lanes wait
  bool has_others_ = false;
};

// PTXEMU_ORDER: 0 ascending, 1 descending, n>1 a shuffled order; the result must not depend on it.
int WarpAt(int position, int count, int order) {
  if (order == 1) return count - 1 - position;
  return order > 1 ? (position * 7 + order) % count : position;
}

// One round over the warps. Returns whether any of them made progress.
bool RunRound(Block& block, int order, u64 quantum) {
  bool progress = false;
  int count = block.warps.size();
  for (int i = 0; i < count; i++) {
    Warp& warp = block.warps[WarpAt(i, count, order)];
    if (warp.live & ~warp.at_barrier) progress |= WarpRunner(warp).Run(quantum);
  }
  return progress;
}

void InitBlock(Block& block, const LaunchConfig& launch, u64 linear_index, u64 workspace) {
  const u32 index[3] = {u32(linear_index % launch.grid[0]),
                        u32(linear_index / launch.grid[0] % launch.grid[1]),
                        u32(linear_index / launch.grid[0] / launch.grid[1])};
  block.Init(launch, index, workspace);
}

void AddStats(const Block& block, LaunchStats* stats) {
  for (const Warp& warp : block.warps) {
    stats->warp_instructions += warp.warp_instructions;
    stats->thread_instructions += warp.thread_instructions;
  }
}

void RunBlocksInOrder(const LaunchConfig& launch, int order, LaunchStats* stats) {
  Block block;
  const u64 count = launch.Blocks();
  for (u64 i = 0; i < count; i++) {
    InitBlock(block, launch, order == 1 ? count - 1 - i : i, 0);
    while (block.live_threads)
      if (!RunRound(block, order, kQuantum)) ReportDeadlock(block);
    AddStats(block, stats);
  }
}

// Registers a range for as long as it is in scope.
struct ScopedRegistration {
  const void* base;
  ScopedRegistration(const void* p, size_t bytes) : base(p) { DeviceMemory::Register(p, bytes); }
  ~ScopedRegistration() { DeviceMemory::Unregister(base); }
};

// cooperative_groups finds the grid barrier through %envreg1:%envreg2; its first word is the
// structure's size.
void RunBlocksTogether(const LaunchConfig& launch, int order, LaunchStats* stats) {
  alignas(16) u64 workspace[8] = {sizeof workspace};
  ScopedRegistration registration(workspace, sizeof workspace);
  std::vector<std::unique_ptr<Block>> blocks;
  for (u64 i = 0; i < launch.Blocks(); i++) {
    blocks.push_back(std::make_unique<Block>());
    InitBlock(*blocks.back(), launch, i, reinterpret_cast<u64>(workspace));
  }
  constexpr int kMaxIdleRounds = 3;
  int idle_rounds = 0;
  for (bool alive = true; alive;) {
    alive = false;
    bool progress = false;
    for (auto& block : blocks) {
      if (block->live_threads) progress |= RunRound(*block, order, kCooperativeQuantum);
      alive |= block->live_threads != 0;
    }
    if (alive && !progress && ++idle_rounds > kMaxIdleRounds)
      throw EmuError(kLaunchFailure, "ptxemu: cooperative grid deadlock");
  }
  for (auto& block : blocks) AddStats(*block, stats);
}

}  // namespace

void Block::Init(const LaunchConfig& config, const u32 (&block_index)[3], u64 workspace) {
  constexpr u8 kUndefined = 0xFF;
  constexpr int kAlignment = 64, kSlack = 64;
  launch = &config;
  std::copy(block_index, block_index + 3, index);
  grid_workspace = workspace;
  live_threads = config.ThreadsPerBlock();
  shared_bytes = config.SharedBytes();
  shared.assign(shared_bytes + kSlack, kUndefined);
  races.Init(shared_bytes + kSlack, config.detect_races);
  for (Barrier& barrier : barriers) barrier = Barrier();

  const Module& module = *config.module;
  const u32 warp_count = (live_threads + kWarpSize - 1) / kWarpSize;
  const size_t register_bytes = (module.register_bytes + kAlignment - 1) / kAlignment * kAlignment;
  register_storage.assign(register_bytes * warp_count + kAlignment, kUndefined);
  local_storage.assign(size_t(warp_count) * kWarpSize * module.local_bytes + kSlack, kUndefined);
  u64 storage = reinterpret_cast<u64>(register_storage.data());
  u8* register_base = reinterpret_cast<u8*>((storage + kAlignment - 1) / kAlignment * kAlignment);

  warps.resize(warp_count);  // those of the block before are used again
  for (u32 i = 0; i < warp_count; i++) {
    Warp& warp = warps[i];
    warp.block = this;
    warp.id = i;
    warp.at_barrier = warp.at_warp_sync = warp.carry = 0;
    warp.regroups = warp.warp_instructions = warp.thread_instructions = 0;
    for (int lane = 0; lane < kWarpSize; lane++) {
      warp.return_stack[lane].clear();
      warp.copies[lane].Clear();
    }
    warp.registers = register_base + i * register_bytes;
    warp.constants = module.constant_pool.data();
    warp.local = local_storage.data() + size_t(i) * kWarpSize * module.local_bytes;
    u32 lanes = std::min<u32>(kWarpSize, live_threads - i * kWarpSize);
    warp.live = warp.initial_lanes = lanes == kWarpSize ? kFullMask : (1u << lanes) - 1;
    std::fill(warp.pc, warp.pc + kWarpSize, config.function->start);
    InitSpecialRegisters(warp);
  }
}

LaunchStats RunLaunch(LaunchConfig& launch, bool cooperative) {
  LaunchStats stats;
  const int order = EnvInt("PTXEMU_ORDER", 0);
  launch.detect_races = EnvInt("PTXEMU_RACE", 1) != 0;
  // Registered because cvta.param makes generic pointers to parameters.
  ScopedRegistration params(launch.params.data(), launch.params.size() + 1);
  if (cooperative) {
    RunBlocksTogether(launch, order, &stats);
  } else {
    RunBlocksInOrder(launch, order, &stats);
  }
  return stats;
}

}  // namespace ptxemu
