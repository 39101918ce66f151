#include "exec/traffic.h"

namespace ptxemu {

void Traffic::Add(u64 address, u64 bytes) {
  bytes_ += bytes;
  for (u64 sector = address / kSector; sector <= (address + bytes - 1) / kSector; sector++) {
    if (sector / kPageSectors != last_) {
      last_ = sector / kPageSectors;
      page_ = &pages_[last_];
    }
    u64& word = (*page_)[sector % kPageSectors / 64];
    const u64 bit = u64{1} << (sector % 64);
    sectors_ += !(word & bit);
    word |= bit;
  }
}

}  // namespace ptxemu
