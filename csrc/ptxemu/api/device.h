// The virtual device behind the driver API: error state, memory, modules, launches, streams,
// capture and graphs. Work runs when it is submitted, on the calling thread; a stream only matters
// while it is being captured.
#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/ir.h"

namespace ptxemu {

using Result = int;  // a CUresult
using Work = std::function<Result()>;

// ---- properties: environment variables choose what the device pretends to be

int ComputeCapability();  // 80
int DriverVersion();      // 13000
u64 TotalMemory();        // 8 GiB
u64 MemoryInUse();
u32 SharedMemoryPerBlockOptin();
int DeviceAttribute(int attribute);  // CUdevice_attribute; 0 if not known
constexpr u32 kDefaultSharedLimit = 48 * 1024;

// ---- errors: a kernel fault sticks to the context, as on hardware

Result StickyError();
void ClearStickyError();
const std::string& LastMessage();
Result Raise(int code, const std::string& message);  // prints, remembers, returns the code
Result Raise(const EmuError& error);

// Runs f() -> Result under the API lock and turns EmuError into a result.
std::recursive_mutex& ApiMutex();
template <class F>
Result Guarded(F f) {
  std::lock_guard<std::recursive_mutex> lock(ApiMutex());
  try {
    return f();
  } catch (const EmuError& error) {
    return Raise(error);
  }
}

// ---- memory

// Fresh device memory holds 0xFF bytes; host memory (`device` false) zeros.
Result Allocate(void** out, size_t bytes, bool device);
Result Release(void* pointer);
// The whole range lies in one allocation, else reports and returns kInvalidValue.
Result CheckRange(const void* pointer, size_t bytes, const char* what);
Result CopyMemory(void* destination, const void* source, size_t bytes, bool to_device,
                  bool from_device);
Result FillMemory(void* destination, const void* pattern, size_t pattern_bytes, size_t count);

// ---- modules and kernels

struct LoadedModule;

struct Kernel {
  void* context = nullptr;
  const Module* module = nullptr;
  const Function* function = nullptr;
  u32 shared_limit = kDefaultSharedLimit;  // static + dynamic
};

struct LoadedModule {
  void* context = nullptr;
  std::unique_ptr<Module> module;
  std::map<std::string, Kernel> kernels;
  Kernel* FindKernel(const std::string& name);  // nullptr if there is none
};

struct LaunchShape {
  u32 grid[3], block[3];
  u32 dynamic_shared;
  bool cooperative;
};

// Copies the arguments and returns the launch, ready to run now or whenever a graph is replayed.
// Throws EmuError when the configuration is not possible.
Work PrepareLaunch(const Kernel& kernel, const LaunchShape& shape, void** arguments);
int OccupancyPerMultiprocessor(const Kernel& kernel, int block_threads, size_t dynamic_shared);

struct Counters {
  u64 warp_instructions = 0, thread_instructions = 0;
  double seconds = 0;
};
Counters& TheCounters();
// PTXEMU_RAN=FILE: appends what ran since the last time, a line "kernel launches warp-instructions"
// each. A context's release does it, as programs may end without running destructors.
void NoteWhatRan();

// ---- streams, events and graphs

struct Graph {
  std::vector<Work> nodes;  // in submission order, which respects every dependency
};

enum class CaptureMode { kGlobal = 0, kThreadLocal = 1, kRelaxed = 2 };

// One capture in progress. Streams that wait for one of its events join it.
struct Capture {
  Graph graph;
  CaptureMode mode;
  bool invalidated = false;
  bool ended = false;
};

struct Stream {
  void* context = nullptr;  // null: of the default stream, which is any context's
  std::shared_ptr<Capture> capture;
  bool is_capture_origin = false;
};

struct Event {
  double milliseconds = -1;  // < 0: never recorded
  std::weak_ptr<Capture> capture;
};

Stream* ResolveStream(
    void* handle);  // null, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD are one default stream
// Runs the work, or records it if the stream is being captured.
Result Submit(void* stream, Work work);
// For calls that may not happen during capture, such as synchronizing: invalidates the capture they
// disturb. A null stream stands for the whole context, which only global and thread-local captures
// object to.
Result CheckNotCapturing(Stream* stream);
Result BeginCapture(Stream* stream, CaptureMode mode);
Result EndCapture(Stream* stream, Graph** graph);
Result RunGraph(const Graph& graph);
double NowMilliseconds();

}  // namespace ptxemu
