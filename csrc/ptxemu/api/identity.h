// What the emulated devices are called, for the driver and for NVML: PTXEMU_NAME, PTXEMU_DEVICES,
// PTXEMU_MIG.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <string>

#include "core/types.h"

namespace ptxemu {

constexpr int kMaxDevices = 16;

// Slices that MIG has split the card into; 0: it is whole.
inline int Slices() { return std::clamp(EnvInt("PTXEMU_MIG", 0), 0, 7); }
// A process sees one slice, of whatever cards there are.
inline int DeviceCount() {
  return Slices() > 0 ? 1 : std::clamp(EnvInt("PTXEMU_DEVICES", 1), 1, kMaxDevices);
}

inline std::string CardName() {
  const char* name = getenv("PTXEMU_NAME");
  return name && *name ? name : "ptxemu virtual GPU";
}
inline std::string SliceName() { return CardName() + " MIG 1g.10gb"; }

// A UUID is one byte sixteen times.
inline int CardByte(int device) { return 1 + device; }
inline int SliceByte(int slice) { return 0xa1 + slice; }
inline std::string UuidText(int byte) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += {digits[byte >> 4], digits[byte & 15]};
  }
  return text;
}

}  // namespace ptxemu
