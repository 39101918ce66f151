// libnvidia-ml.so.1: what NVML tells of the emulated devices, in the functions that
// gocp/telemetry/nvidia calls; signatures and structures are those of NVIDIA's nvml.h. Cards draw
// 300 W, always.
//
//	PTXEMU_THROTTLE   bits of what holds the clocks back (nvmlClocksThrottleReasons)
//	PTXEMU_USERS      process ids, apart by commas, of others that compute on every card
//	PTXEMU_MIG        so many slices, of the one card there then is
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "api/identity.h"

using namespace ptxemu;

namespace {

enum Return { kOk = 0, kInvalidArgument = 2, kUnsupported = 3, kNoSuch = 6, kTooSmall = 7 };
constexpr unsigned kWatts = 300;

struct Handle {
  int index;
  bool slice;
};
Handle cards[kMaxDevices], slices[kMaxDevices];

Return Text(const std::string& text, char* out, unsigned length) {
  if (text.size() >= length) return kTooSmall;
  memcpy(out, text.c_str(), text.size() + 1);
  return kOk;
}

// Of a slice nobody tells power, energy and load.
template <class T>
Return OfCard(const Handle* h, T value, T* out) {
  if (h->slice) return kUnsupported;
  *out = value;
  return kOk;
}

unsigned long long Milliseconds() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

std::vector<unsigned> Users() {
  std::vector<unsigned> all;
  const char* text = getenv("PTXEMU_USERS");
  while (text && *text) {
    char* end;
    all.push_back(strtoul(text, &end, 10));
    if (end == text) return {};
    text = *end ? end + 1 : end;
  }
  return all;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned gpu, memory;
};
struct ProcessInfo {
  unsigned pid;
  unsigned long long used_memory;
  unsigned gpu_instance, compute_instance;
};

Return nvmlInit_v2() { return kOk; }
Return nvmlInit() { return kOk; }
Return nvmlShutdown() { return kOk; }
const char* nvmlErrorString(Return) { return "an error of the emulator"; }
Return nvmlSystemGetDriverVersion(char* out, unsigned length) { return Text("580.0", out, length); }
Return nvmlSystemGetProcessName(unsigned pid, char* out, unsigned length) {
  return Text("process-" + std::to_string(pid), out, length);
}
Return nvmlDeviceGetCount_v2(unsigned* n) { return *n = DeviceCount(), kOk; }
Return nvmlDeviceGetHandleByIndex_v2(unsigned i, Handle** out) {
  if (i >= unsigned(DeviceCount())) return kInvalidArgument;
  cards[i] = {int(i), false};
  return *out = &cards[i], kOk;
}
Return nvmlDeviceGetUUID(Handle* h, char* out, unsigned length) {
  return Text(
      (h->slice ? "MIG-" : "GPU-") + UuidText(h->slice ? SliceByte(h->index) : CardByte(h->index)),
      out, length);
}
Return nvmlDeviceGetName(Handle* h, char* out, unsigned length) {
  return Text(h->slice ? SliceName() : CardName(), out, length);
}
Return nvmlDeviceGetMigMode(Handle* h, unsigned* now, unsigned* pending) {
  if (h->slice) return kInvalidArgument;
  *now = *pending = Slices() > 0;
  return kOk;
}
Return nvmlDeviceGetMaxMigDeviceCount(Handle*, unsigned* n) { return *n = 7, kOk; }
Return nvmlDeviceGetMigDeviceHandleByIndex(Handle*, unsigned i, Handle** out) {
  if (i >= unsigned(Slices()) || i >= kMaxDevices) return kNoSuch;
  slices[i] = {int(i), true};
  return *out = &slices[i], kOk;
}
Return nvmlDeviceGetPowerUsage(Handle* h, unsigned* mw) { return OfCard(h, kWatts * 1000, mw); }
Return nvmlDeviceGetEnforcedPowerLimit(Handle* h, unsigned* mw) { return OfCard(h, 700000u, mw); }
Return nvmlDeviceGetTotalEnergyConsumption(Handle* h, unsigned long long* mj) {
  return OfCard(h, kWatts * Milliseconds(), mj);
}
Return nvmlDeviceGetUtilizationRates(Handle* h, Utilization* u) { return OfCard(h, {75, 10}, u); }
Return nvmlDeviceGetMemoryInfo(Handle* h, Memory* m) {
  const unsigned long long total = 80ull << 30, part = h->slice ? total / 8 : total;
  return *m = {part, part / 4 * 3, part / 4}, kOk;
}
Return nvmlDeviceGetClockInfo(Handle*, int, unsigned* mhz) { return *mhz = 1000, kOk; }
Return nvmlDeviceGetTemperature(Handle*, int, unsigned* c) { return *c = 60, kOk; }
Return nvmlDeviceGetCurrentClocksThrottleReasons(Handle*, unsigned long long* bits) {
  return *bits = EnvInt("PTXEMU_THROTTLE", 0), kOk;
}
Return nvmlDeviceGetTotalEccErrors(Handle*, int, int, unsigned long long* n) { return *n = 0, kOk; }
// This process, and on a whole card the others.
Return nvmlDeviceGetComputeRunningProcesses_v3(Handle* h, unsigned* n, ProcessInfo* out) {
  std::vector<unsigned> all = {unsigned(getpid())};
  if (!h->slice)
    for (unsigned pid : Users()) all.push_back(pid);
  const unsigned room = *n;
  *n = all.size();
  if (room < all.size()) return kTooSmall;
  for (size_t i = 0; i < all.size(); i++) out[i] = {all[i], 1 << 20, ~0u, ~0u};
  return kOk;
}

}  // extern "C"
