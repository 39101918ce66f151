// What a launch does to global memory, where PTXEMU_COUNTS asks for it.
#pragma once
#include <array>
#include <unordered_map>

#include "core/types.h"

namespace ptxemu {

// Bytes that threads asked for, and the sectors of 32 bytes among them, each counted once: what
// would pass between memory and a cache that never forgets.
class Traffic {
 public:
  static constexpr u64 kSector = 32;

  void Add(u64 address, u64 bytes);
  u64 bytes() const { return bytes_; }
  u64 sectors() const { return sectors_; }

 private:
  static constexpr u64 kPageSectors = 4096;
  using Page = std::array<u64, kPageSectors / 64>;

  u64 bytes_ = 0, sectors_ = 0;
  std::unordered_map<u64, Page> pages_;
  u64 last_ = ~u64{0};
  Page* page_ = nullptr;
};

struct LaunchTraffic {
  Traffic read, written;  // atomics are written
};

}  // namespace ptxemu
