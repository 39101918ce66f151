#include "exec/race_detector.h"

#include <algorithm>

namespace ptxemu {

// Tags of earlier epochs say nothing, so a new block needs a new epoch and no clearing.
void RaceDetector::Init(u32 shared_bytes, bool enabled) {
  enabled_ = enabled;
  if (enabled && writers_.size() < shared_bytes) {
    writers_.resize(shared_bytes, 0);
    readers_.resize(shared_bytes, 0);
  }
  NextEpoch();
}

void RaceDetector::NextEpoch() {
  if (++epoch_ >> (32 - kEpochShift)) {
    std::fill(writers_.begin(), writers_.end(), 0);
    std::fill(readers_.begin(), readers_.end(), 0);
    epoch_ = 1;
  }
}

bool RaceDetector::Access(int warp_id, u32 offset, u32 bytes, bool is_write, const u8* stored,
                          const u8* current) {
  if (!enabled_) return false;
  const u32 mine = epoch_ << kEpochShift | u32(warp_id + 1);
  switch (bytes) {
    case 4:
      return AccessBytes<4>(mine, offset, bytes, is_write, stored, current);
    case 8:
      return AccessBytes<8>(mine, offset, bytes, is_write, stored, current);
    case 16:
      return AccessBytes<16>(mine, offset, bytes, is_write, stored, current);
    default:
      return AccessBytes<0>(mine, offset, bytes, is_write, stored, current);
  }
}

// kBytes is the number of bytes where it is known, else 0.
template <u32 kBytes>
bool RaceDetector::AccessBytes(u32 mine, u32 offset, u32 bytes, bool is_write, const u8* stored,
                               const u8* current) {
  const u32 count = kBytes ? kBytes : bytes, now = mine >> kEpochShift << kEpochShift;
  u32* writer = &writers_[offset];
  u32* reader = &readers_[offset];
  auto by_other = [&](u32 tag) { return u32(tag >= now) & u32(tag != mine); };
  u32 suspect = 0;
  for (u32 i = 0; i < count; i++) suspect |= by_other(writer[i]);
  if (is_write)
    for (u32 i = 0; i < count; i++) suspect |= by_other(reader[i]);
  if (suspect && IsRace(mine, offset, bytes, is_write, stored, current)) return true;
  if (is_write) {
    for (u32 i = 0; i < count; i++) writer[i] = mine;
  } else {
    for (u32 i = 0; i < count; i++) reader[i] = by_other(reader[i]) ? now | kSeveral : mine;
  }
  return false;
}

bool RaceDetector::IsRace(u32 mine, u32 offset, u32 bytes, bool is_write, const u8* stored,
                          const u8* current) {
  const u32 now = mine >> kEpochShift << kEpochShift;
  for (u32 i = 0; i < bytes; i++) {
    const u32 writer = writers_[offset + i], reader = readers_[offset + i];
    const bool other_wrote = writer >= now && writer != mine;
    const bool other_read = reader >= now && reader != mine;
    const bool same_value = stored && current[i] == stored[i];
    if (!(is_write ? other_read || (other_wrote && !same_value) : other_wrote)) continue;
    const u32 other = (other_wrote ? writer : reader) - now;
    description_ = "shared-memory race (" + std::string(is_write ? "write" : "read after write") +
                   ", warps " + std::to_string(mine - now - 1) + " vs " +
                   (other == kSeveral ? "several" : std::to_string(other - 1)) + ", offset " +
                   std::to_string(offset + i) + ")";
    return true;
  }
  return false;
}

}  // namespace ptxemu
