// Address spaces: the registry of device allocations, and the one place where addresses are
// checked.
#pragma once
#include <cstddef>

#include "core/ir.h"

namespace ptxemu {

struct Warp;

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

// base register + displacement; 32-bit bases (shared addresses) wrap at 32 bits.
u64 EffectiveAddress(Warp& warp, const Operand& address, int lane);

// Resolves the address operand of ld/st/atom, parameters included.
u8* ResolveOperand(Warp& warp, const Instruction& in, const Operand& address, int lane, u32 bytes,
                   Access access, bool detect_races = true, const u8* stored = nullptr);

}  // namespace ptxemu
