#include "exec/memory.h"

#include <map>
#include <mutex>
#include <sstream>

#include "exec/report.h"

namespace ptxemu {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<u64, u64> ranges;  // begin -> size
};

Registry& TheRegistry() {
  static Registry* registry = new Registry;  // never destroyed: modules unregister at exit
  return *registry;
}

u8* ResolveShared(Warp& warp, const Instruction& in, int lane, u64 address, u32 bytes,
                  Access access, bool detect_races, const u8* stored) {
  Block& block = *warp.block;
  u64 offset = address & 0xFFFFFFFFu;
  if (offset + bytes > block.shared_bytes)
    Fault(warp, in, lane, kIllegalAddress,
          "shared access out of bounds: offset " + std::to_string(address) + " size " +
              std::to_string(bytes) + " of " + std::to_string(block.shared_bytes));
  u8* memory = &block.shared[offset];
  if (detect_races &&
      block.races.Access(warp.id, offset, bytes, access == Access::kWrite, stored, memory))
    Fault(warp, in, lane, kLaunchFailure, block.races.Description());
  return memory;
}

}  // namespace

u8* CheckGlobal(Warp& warp, const Instruction& in, int lane, u64 address, u32 bytes,
                Access access) {
  AddressRange& known = warp.block->known[in.line % kKnownRanges];
  if (!known.Holds(address, bytes)) {
    u64 begin, end;
    if (!DeviceMemory::Find(address, &begin, &end) || address + bytes > end) {
      std::ostringstream what;
      what << "invalid global " << (access == Access::kWrite ? "write" : "read") << " of " << bytes
           << " bytes at 0x" << std::hex << address;
      Fault(warp, in, lane, kIllegalAddress, what.str());
    }
    known = {begin, end};
  }
  return reinterpret_cast<u8*>(address);
}

void DeviceMemory::Register(const void* base, size_t bytes) {
  Registry& registry = TheRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  registry.ranges[reinterpret_cast<u64>(base)] = bytes;
}

bool DeviceMemory::Unregister(const void* base) {
  Registry& registry = TheRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  return registry.ranges.erase(reinterpret_cast<u64>(base)) != 0;
}

bool DeviceMemory::Find(u64 address, u64* begin, u64* end) {
  Registry& registry = TheRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  auto it = registry.ranges.upper_bound(address);
  if (it == registry.ranges.begin()) return false;
  --it;
  if (address >= it->first + it->second) return false;
  *begin = it->first;
  *end = it->first + it->second;
  return true;
}

bool DeviceMemory::Contains(u64 address, size_t bytes) {
  u64 begin, end;
  return Find(address, &begin, &end) && address + bytes <= end;
}

u8* ResolveAddress(Warp& warp, const Instruction& in, int lane, u64 address, u32 bytes,
                   StateSpace space, Access access, bool detect_races, const u8* stored) {
  if (bytes > 1 && (address & (bytes - 1)))
    Fault(warp, in, lane, kMisalignedAddress,
          "misaligned address " + std::to_string(address) + " for " + std::to_string(bytes) +
              "-byte access");
  if (space == StateSpace::kGeneric) {
    u64 window = address & kWindowMask;
    space = window == kSharedWindow  ? StateSpace::kShared
            : window == kLocalWindow ? StateSpace::kLocal
                                     : StateSpace::kGlobal;
  }
  if (space == StateSpace::kShared)
    return ResolveShared(warp, in, lane, address & ~kWindowMask, bytes, access, detect_races,
                         stored);
  if (space == StateSpace::kLocal) {
    u64 offset = address & ~kWindowMask;
    if (offset + bytes > warp.block->launch->module->local_bytes)
      Fault(warp, in, lane, kIllegalAddress, "local access out of bounds");
    return warp.LocalOf(lane) + offset;
  }
  CountGlobal(warp, address, bytes, access);
  return CheckGlobal(warp, in, lane, address, bytes, access);
}

u8* ResolveOperand(Warp& warp, const Instruction& in, const Operand& address, int lane, u32 bytes,
                   Access access, bool detect_races, const u8* stored) {
  bool is_param = in.space == StateSpace::kParam || address.space == StateSpace::kParam;
  if (is_param && address.parts.empty()) {
    if (!address.kernel_param)  // parameter of a .func: kept in local memory
      return ResolveAddress(warp, in, lane, address.imm, bytes, StateSpace::kLocal, access);
    const std::vector<u8>& params = warp.block->launch->params;
    if (u64(address.imm) + bytes > params.size())
      Fault(warp, in, lane, kIllegalAddress, "param out of range");
    return const_cast<u8*>(params.data()) + address.imm;
  }
  StateSpace space = is_param ? StateSpace::kGeneric : in.space;
  return ResolveAddress(warp, in, lane, EffectiveAddress(warp, address, lane), bytes, space, access,
                        detect_races, stored);
}

}  // namespace ptxemu
