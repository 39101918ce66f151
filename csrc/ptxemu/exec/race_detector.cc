#include "exec/race_detector.h"

namespace ptxemu {

void RaceDetector::Init(u32 shared_bytes, bool enabled) {
  epoch_ = 1;
  bytes_.assign(enabled ? shared_bytes : 0, LastAccess());
}

std::string RaceDetector::Access(int warp_id, u32 offset, u32 bytes, bool is_write,
                                 const u8* stored, const u8* current) {
  if (bytes_.empty()) return "";
  const u16 me = warp_id + 1;
  for (u32 i = 0; i < bytes; i++) {
    LastAccess& last = bytes_[offset + i];
    bool other_wrote = last.writer && last.writer != me && last.write_epoch == epoch_;
    bool other_read = last.reader && last.reader != me && last.read_epoch == epoch_;
    bool same_value = stored && current[i] == stored[i];
    bool race = is_write ? other_read || (other_wrote && !same_value) : other_wrote;
    if (race) {
      const u16 other = other_wrote ? last.writer : last.reader;
      return "shared-memory race (" + std::string(is_write ? "write" : "read after write") +
             ", warps " + std::to_string(warp_id) + " vs " +
             (other == kSeveral ? "several" : std::to_string(other - 1)) + ", offset " +
             std::to_string(offset + i) + ")";
    }
    if (is_write) {
      last.writer = me;
      last.write_epoch = epoch_;
    } else {
      last.reader = other_read ? kSeveral : me;
      last.read_epoch = epoch_;
    }
  }
  return "";
}

}  // namespace ptxemu
