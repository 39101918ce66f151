// Detects shared-memory races between warps: two accesses to a byte, at least one a write, from
// different warps with no block-wide barrier in between (PTX ISA 8 "Memory Consistency Model").
// Equal-value writes are benign.
#pragma once
#include <string>
#include <vector>

#include "core/types.h"

namespace ptxemu {

class RaceDetector {
 public:
  void Init(u32 shared_bytes, bool enabled);
  void NextEpoch() { epoch_++; }  // all threads of the block met at a barrier
  // Notes an access; returns a description of the race it takes part in, or an empty string.
  // `stored` and `current` are the bytes being written and those in memory (stored may be null).
  std::string Access(int warp_id, u32 offset, u32 bytes, bool is_write, const u8* stored,
                     const u8* current);

 private:
  static constexpr u16 kNobody = 0, kSeveral = 0xFFFF;
  struct LastAccess {
    u16 writer = kNobody, reader = kNobody;  // warp id + 1
    u32 write_epoch = 0, read_epoch = 0;
  };
  std::vector<LastAccess> bytes_;
  u32 epoch_ = 1;
};

}  // namespace ptxemu
