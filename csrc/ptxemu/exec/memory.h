// Address spaces: the registry of device allocations, and the one place where addresses are
// checked.
#pragma once
#include <cstddef>

#include "exec/warp.h"

namespace ptxemu {

// Device pointers are host pointers; this records which ranges a kernel may touch.
class DeviceMemory {
 public:
  static void Register(const void* base, size_t bytes);
  static bool Unregister(const void* base);  // false if base is not the start of an allocation
  static bool Find(u64 address, u64* begin, u64* end);
  static bool Contains(u64 address, size_t bytes);
};

// Generic addresses (PTX ISA 5.1, 6.4.1.1): shared and local memory appear in two windows that no
// host allocation can overlap; everything else is global.
constexpr u64 kSharedWindow = 0x4000000000000000ull;
constexpr u64 kLocalWindow = 0x5000000000000000ull;
constexpr u64 kWindowMask = 0xF000000000000000ull;

enum class Access { kRead, kWrite };

// Host address of `bytes` bytes at `address` in `space` for one lane. Faults on misalignment and on
// accesses outside of an allocation. Shared accesses are shown to the race detector unless
// `detect_races` is false; `stored` is the value being written, if known.
u8* ResolveAddress(Warp& warp, const Instruction& in, int lane, u64 address, u32 bytes,
                   StateSpace space, Access access, bool detect_races = true,
                   const u8* stored = nullptr);

// The same for global memory, without counting it as traffic.
u8* CheckGlobal(Warp& warp, const Instruction& in, int lane, u64 address, u32 bytes, Access access);

// Counts an access to global memory, if the launch is counted.
inline void CountGlobal(Warp& warp, u64 address, u32 bytes, Access access) {
  LaunchTraffic* traffic = warp.block->launch->traffic;
  if (!traffic || !bytes) return;
  (access == Access::kWrite ? traffic->written : traffic->read).Add(address, bytes);
}

// base register + displacement; 32-bit bases (shared addresses) wrap at 32 bits.
inline u64 EffectiveAddress(Warp& warp, const Operand& address, int lane) {
  if (address.parts.empty()) return address.imm;
  const u64 sum = ReadLane(warp, address.parts[0], lane) + address.imm;
  return address.parts[0].size == 4 ? u32(sum) : sum;
}

// Resolves the address operand of ld/st/atom, parameters included.
u8* ResolveOperand(Warp& warp, const Instruction& in, const Operand& address, int lane, u32 bytes,
                   Access access, bool detect_races = true, const u8* stored = nullptr);

// The same, with the usual accesses in line: a register's address in global or shared memory.
inline u8* ResolveUsual(Warp& warp, const Instruction& in, const Operand& address, int lane,
                        u32 bytes, Access access, const u8* stored = nullptr) {
  if (address.parts.size() == 1 && address.space != StateSpace::kParam) {
    const u64 at = EffectiveAddress(warp, address, lane);
    Block& block = *warp.block;
    if (in.space == StateSpace::kGlobal && !(at & (bytes - 1)) &&
        block.known[in.line % kKnownRanges].Holds(at, bytes)) {
      CountGlobal(warp, at, bytes, access);
      return reinterpret_cast<u8*>(at);
    }
    if (in.space == StateSpace::kShared && !(at & (bytes - 1)) &&
        at + bytes <= block.shared_bytes) {
      u8* memory = block.shared.data() + at;
      if (!block.races.Access(warp.id, u32(at), bytes, access == Access::kWrite, stored, memory))
        return memory;
    }
  }
  return ResolveOperand(warp, in, address, lane, bytes, access, true, stored);  // finds the fault
}

}  // namespace ptxemu
