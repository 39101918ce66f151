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
  // A new block begins.
  void Init(u32 shared_bytes, bool enabled);
  void NextEpoch();  // all threads of the block met at a barrier
  // Notes an access; returns whether it takes part in a race. `stored` and `current` are the bytes
  // being written and those in memory (stored may be null).
  bool Access(int warp_id, u32 offset, u32 bytes, bool is_write, const u8* stored,
              const u8* current);
  // The race of the last Access, in words.
  const std::string& Description() const { return description_; }

 private:
  // Who touched a byte last, and when: epoch << kEpochShift | warp id + 1. Tags of the epoch are
  // its largest numbers.
  static constexpr u32 kEpochShift = 8, kSeveral = (1u << kEpochShift) - 1;
  template <u32 kBytes>
  bool AccessBytes(u32 mine, u32 offset, u32 bytes, bool is_write, const u8* stored,
                   const u8* current);
  bool IsRace(u32 mine, u32 offset, u32 bytes, bool is_write, const u8* stored, const u8* current);

  std::vector<u32> writers_, readers_;
  u32 epoch_ = 1;
  bool enabled_ = false;
  std::string description_;
};

}  // namespace ptxemu
