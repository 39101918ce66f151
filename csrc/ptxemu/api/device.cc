#include "api/device.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include <fcntl.h>
#include <unistd.h>

#include "exec/memory.h"
#include "exec/scheduler.h"

namespace ptxemu {
namespace {

constexpr size_t kAllocationAlignment = 256;

struct State {
  Result sticky = kSuccess;
  std::string message;
  u64 in_use = 0;                  // bytes of device memory
  std::map<void*, u64> on_device;  // and what they are
  u64 faulty_launches = 0;         // of the kernel of PTXEMU_FAULT
  Counters counters;
  std::map<std::string, std::pair<u64, u64>> ran;  // launches and warp instructions by kernel
  Stream default_stream;
  std::set<std::shared_ptr<Capture>> captures;  // in progress
  ~State() {
    if (EnvInt("PTXEMU_STATS", 0))
      fprintf(stderr, "ptxemu: %.3g warp-instr, %.3g thread-instr, %.3f s\n",
              double(counters.warp_instructions), double(counters.thread_instructions),
              counters.seconds);
  }
};

State& TheState() {
  static State state;
  return state;
}

// Attributes other than those that depend on the emulated architecture; numbers from
// CUdevice_attribute.
const std::map<int, int> kFixedAttributes = {
    {1, 1024},        // MAX_THREADS_PER_BLOCK
    {2, 1024},        // MAX_BLOCK_DIM_X
    {3, 1024},        // MAX_BLOCK_DIM_Y
    {4, 64},          // MAX_BLOCK_DIM_Z
    {5, 0x7FFFFFFF},  // MAX_GRID_DIM_X
    {6, 65535},       // MAX_GRID_DIM_Y
    {7, 65535},       // MAX_GRID_DIM_Z
    {8, 48 * 1024},   // MAX_SHARED_MEMORY_PER_BLOCK
    {9, 65536},       // TOTAL_CONSTANT_MEMORY
    {10, kWarpSize},  // WARP_SIZE
    {12, 65536},      // MAX_REGISTERS_PER_BLOCK
    {13, 1000000},    // CLOCK_RATE
    {31, 1},          // CONCURRENT_KERNELS
    {36, 1000000},    // MEMORY_CLOCK_RATE
    {37, 256},        // GLOBAL_MEMORY_BUS_WIDTH
    {38, 4 << 20},    // L2_CACHE_SIZE
    {39, 2048},       // MAX_THREADS_PER_MULTIPROCESSOR
    {41, 1},          // UNIFIED_ADDRESSING
    {82, 65536},      // MAX_REGISTERS_PER_MULTIPROCESSOR
    {83, 1},          // MANAGED_MEMORY
    {89, 1},          // CONCURRENT_MANAGED_ACCESS
    {95, 1},          // COOPERATIVE_LAUNCH
    {106, 16},        // MAX_BLOCKS_PER_MULTIPROCESSOR
    {111, 1024},      // RESERVED_SHARED_MEMORY_PER_BLOCK
    {115, 1},         // MEMORY_POOLS_SUPPORTED
};

bool IsSticky(int code) {
  return code == kIllegalAddress || code == kMisalignedAddress || code == kLaunchFailure ||
         code == kDeviceAssert;
}

void CheckLaunch(const Kernel& kernel, const LaunchShape& shape) {
  const Function& function = *kernel.function;
  const u32* block = shape.block;
  const u32* grid = shape.grid;
  const u64 threads = u64(block[0]) * block[1] * block[2];
  const bool block_ok =
      threads >= 1 && threads <= 1024 && block[0] <= 1024 && block[1] <= 1024 && block[2] <= 64;
  const bool grid_ok = grid[0] && grid[1] && grid[2] && grid[0] <= 0x7FFFFFFF && grid[1] <= 65535 &&
                       grid[2] <= 65535;
  if (!block_ok || !grid_ok)
    throw EmuError(kInvalidValue, "ptxemu: invalid launch configuration for " + function.name);
  if (function.max_threads[0] && threads > u64(function.MaxThreadsPerBlock()))
    throw EmuError(kInvalidValue,
                   "ptxemu: block larger than __launch_bounds__ of " + function.name);
  const int* required = function.req_threads;
  if (required[0] &&
      !std::equal(required, required + 3, block, [](int a, u32 b) { return u32(a) == b; }))
    throw EmuError(kInvalidValue, "ptxemu: block differs from .reqntid of " + function.name);
  if (u64(shape.dynamic_shared) + function.static_shared > kernel.shared_limit ||
      function.static_shared > kDefaultSharedLimit)
    throw EmuError(kInvalidValue, "ptxemu: shared memory over the limit for " + function.name);
}

// PTXEMU_FAULT=KERNEL or KERNEL:N: the N-th launch of the kernels whose names begin so faults.
void FaultIfAsked(const LaunchConfig& launch) {
  const char* asked = getenv("PTXEMU_FAULT");
  if (!asked || !*asked) return;
  std::string kernel = asked;
  u64 which = 1;
  const size_t colon = kernel.find(':');
  if (colon != std::string::npos) {
    which = strtoull(kernel.c_str() + colon + 1, nullptr, 10);
    kernel.resize(colon);
  }
  const std::string& name = launch.function->name;
  if (name.compare(0, kernel.size(), kernel) != 0 || ++TheState().faulty_launches != which) return;
  throw EmuError(kIllegalAddress, "ptxemu: the fault that PTXEMU_FAULT asks for in kernel " + name);
}

// Appends a line to the file that PTXEMU_COUNTS names: kernel, blocks, warp instructions, bytes
// read, bytes written, bytes of distinct sectors read and written.
void AppendCounts(const char* file, const LaunchConfig& launch, const LaunchStats& stats,
                  const LaunchTraffic& traffic) {
  FILE* out = fopen(file, "a");
  if (!out) throw EmuError(kFileNotFound, std::string("ptxemu: PTXEMU_COUNTS=") + file);
  auto number = [](u64 n) { return static_cast<unsigned long long>(n); };
  fprintf(out, "%s %llu %llu %llu %llu %llu %llu\n", launch.function->name.c_str(),
          number(launch.Blocks()), number(stats.warp_instructions), number(traffic.read.bytes()),
          number(traffic.written.bytes()), number(traffic.read.sectors() * Traffic::kSector),
          number(traffic.written.sectors() * Traffic::kSector));
  fclose(out);
}

Result RunPrepared(LaunchConfig& launch, bool cooperative) {
  if (StickyError()) return StickyError();
  FaultIfAsked(launch);
  const char* counts = getenv("PTXEMU_COUNTS");
  if (counts && !*counts) counts = nullptr;
  LaunchTraffic traffic;
  launch.traffic = counts ? &traffic : nullptr;
  Counters& counters = TheCounters();
  const double begin = NowMilliseconds();
  LaunchStats stats = RunLaunch(launch, cooperative);
  const double seconds = (NowMilliseconds() - begin) / 1000;
  counters.warp_instructions += stats.warp_instructions;
  counters.thread_instructions += stats.thread_instructions;
  counters.seconds += seconds;
  std::pair<u64, u64>& ran = TheState().ran[launch.function->name];
  ran.first++;
  ran.second += stats.warp_instructions;
  if (counts) AppendCounts(counts, launch, stats, traffic);
  if (EnvInt("PTXEMU_TRACE", 0))
    fprintf(stderr, "ptxemu: %s grid (%u,%u,%u) block (%u,%u,%u) %.3g warp-instr %.3f s\n",
            launch.function->name.c_str(), launch.grid[0], launch.grid[1], launch.grid[2],
            launch.block[0], launch.block[1], launch.block[2], double(stats.warp_instructions),
            seconds);
  return kSuccess;
}

}  // namespace

int ComputeCapability() { return EnvInt("PTXEMU_SM", 80); }
int DriverVersion() { return EnvInt("PTXEMU_DRIVER", 13000); }
u64 TotalMemory() { return u64(EnvInt("PTXEMU_MEMORY", 8192)) << 20; }
u64 MemoryInUse() { return TheState().in_use; }

// CUDA programming guide, "Technical Specifications per Compute Capability".
u32 SharedMemoryPerBlockOptin() {
  const int sm = ComputeCapability();
  const u32 kib = sm >= 90 && sm < 120   ? 227
                  : sm == 80 || sm == 87 ? 163
                  : sm == 75             ? 64
                  : sm == 70             ? 96
                                         : 99;
  return kib * 1024;
}

int DeviceAttribute(int attribute) {
  switch (attribute) {
    case 16:
      return EnvInt("PTXEMU_SMS", 4);  // MULTIPROCESSOR_COUNT
    case 75:
      return ComputeCapability() / 10;  // COMPUTE_CAPABILITY_MAJOR
    case 76:
      return ComputeCapability() % 10;  // COMPUTE_CAPABILITY_MINOR
    case 81:
      return int(SharedMemoryPerBlockOptin()) + 1024;  // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    case 97:
      return int(SharedMemoryPerBlockOptin());  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    default:
      break;
  }
  auto it = kFixedAttributes.find(attribute);
  return it == kFixedAttributes.end() ? 0 : it->second;
}

Result StickyError() { return TheState().sticky; }
void ClearStickyError() { TheState().sticky = kSuccess; }
const std::string& LastMessage() { return TheState().message; }

Result Raise(int code, const std::string& message) {
  fprintf(stderr, "%s\n", message.c_str());
  TheState().message = message;
  if (IsSticky(code)) TheState().sticky = code;
  return code;
}

Result Raise(const EmuError& error) { return Raise(error.code, error.what()); }

std::recursive_mutex& ApiMutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

// ---- memory

Result Allocate(void** out, size_t bytes, bool device) {
  const size_t rounded =
      (bytes + kAllocationAlignment) / kAllocationAlignment * kAllocationAlignment;
  const bool fits = !device || bytes <= TotalMemory() - std::min(TotalMemory(), MemoryInUse());
  void* memory = fits ? aligned_alloc(kAllocationAlignment, rounded) : nullptr;
  if (!memory) return kOutOfMemory;
  memset(memory, device ? 0xFF : 0, rounded);
  DeviceMemory::Register(memory, bytes);
  if (device) {
    TheState().in_use += bytes;
    TheState().on_device[memory] = bytes;
  }
  *out = memory;
  return kSuccess;
}

Result Release(void* pointer) {
  if (!pointer) return kSuccess;
  if (!DeviceMemory::Unregister(pointer)) return kInvalidValue;
  auto counted = TheState().on_device.find(pointer);
  if (counted != TheState().on_device.end()) {
    TheState().in_use -= counted->second;
    TheState().on_device.erase(counted);
  }
  free(pointer);
  return kSuccess;
}

Result CheckRange(const void* pointer, size_t bytes, const char* what) {
  if (DeviceMemory::Contains(reinterpret_cast<u64>(pointer), bytes)) return kSuccess;
  char text[160];
  snprintf(text, sizeof text, "ptxemu: %s: device range %p+%zu not allocated", what, pointer,
           bytes);
  return Raise(kInvalidValue, text);
}

Result CopyMemory(void* destination, const void* source, size_t bytes, bool to_device,
                  bool from_device) {
  if (StickyError()) return StickyError();
  if (!bytes) return kSuccess;
  if (to_device && CheckRange(destination, bytes, "copy destination")) return kInvalidValue;
  if (from_device && CheckRange(source, bytes, "copy source")) return kInvalidValue;
  memmove(destination, source, bytes);
  return kSuccess;
}

Result FillMemory(void* destination, const void* pattern, size_t pattern_bytes, size_t count) {
  if (StickyError()) return StickyError();
  if (!count) return kSuccess;
  if (CheckRange(destination, pattern_bytes * count, "memset")) return kInvalidValue;
  for (size_t i = 0; i < count; i++)
    memcpy(static_cast<u8*>(destination) + i * pattern_bytes, pattern, pattern_bytes);
  return kSuccess;
}

// ---- modules and kernels

Kernel* LoadedModule::FindKernel(const std::string& name) {
  auto function = module->functions.find(name);
  if (function == module->functions.end() || !function->second.is_entry) return nullptr;
  Kernel& kernel = kernels[name];
  kernel.context = context;
  kernel.module = module.get();
  kernel.function = &function->second;
  return &kernel;
}

Work PrepareLaunch(const Kernel& kernel, const LaunchShape& shape, void** arguments) {
  CheckLaunch(kernel, shape);
  auto launch = std::make_shared<LaunchConfig>();
  launch->module = kernel.module;
  launch->function = kernel.function;
  std::copy(shape.grid, shape.grid + 3, launch->grid);
  std::copy(shape.block, shape.block + 3, launch->block);
  launch->dynamic_shared = shape.dynamic_shared;
  launch->params.assign(kernel.function->param_bytes, 0);
  const std::vector<Variable>& params = kernel.function->params;
  for (size_t i = 0; i < params.size(); i++)
    memcpy(&launch->params[params[i].offset], arguments[i], params[i].size);
  return [launch, cooperative = shape.cooperative] {
    return Guarded([&] { return RunPrepared(*launch, cooperative); });
  };
}

int OccupancyPerMultiprocessor(const Kernel&, int block_threads, size_t dynamic_shared) {
  const int warps_rounded =
      std::max(kWarpSize, (block_threads + kWarpSize - 1) / kWarpSize * kWarpSize);
  int blocks = DeviceAttribute(39) / warps_rounded;
  if (dynamic_shared)
    blocks = std::min<int>(blocks, (SharedMemoryPerBlockOptin() + 1024) / (dynamic_shared + 1024));
  return std::min(blocks, DeviceAttribute(106));
}

Counters& TheCounters() { return TheState().counters; }

void NoteWhatRan() {
  const char* path = getenv("PTXEMU_RAN");
  std::string text;
  for (const auto& [name, ran] : TheState().ran)
    text += name + " " + std::to_string(ran.first) + " " + std::to_string(ran.second) + "\n";
  TheState().ran.clear();
  if (!path || !*path || text.empty()) return;
  const int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);  // one write: others append too
  if (file < 0 || write(file, text.data(), text.size()) != ssize_t(text.size()))
    fprintf(stderr, "ptxemu: PTXEMU_RAN=%s cannot be written\n", path);
  if (file >= 0) close(file);
}

// ---- streams, events and graphs

Stream* ResolveStream(void* handle) {
  constexpr u64 kPerThreadStream = 2;
  if (reinterpret_cast<u64>(handle) <= kPerThreadStream) return &TheState().default_stream;
  Stream* stream = static_cast<Stream*>(handle);
  if (stream->capture && stream->capture->ended)
    stream->capture = nullptr;  // joined a capture that is over
  return stream;
}

Result Submit(void* handle, Work work) {
  Stream* stream = ResolveStream(handle);
  if (!stream->capture) {
    const bool was_well = !StickyError();
    const Result result = work();
    // As on hardware: the fault is the context's, and shows in a later call.
    return was_well && StickyError() && EnvInt("PTXEMU_LATE", 0) ? kSuccess : result;
  }
  if (stream->capture->invalidated) return kCaptureInvalidated;
  stream->capture->graph.nodes.push_back(std::move(work));
  return kSuccess;
}

Result CheckNotCapturing(Stream* stream) {
  bool disturbed = false;
  for (const std::shared_ptr<Capture>& capture : TheState().captures) {
    bool objects = stream ? stream->capture == capture : capture->mode != CaptureMode::kRelaxed;
    if (objects) capture->invalidated = disturbed = true;
  }
  if (!disturbed) return kSuccess;
  return Raise(kCaptureUnsupported, "ptxemu: operation not permitted while a stream is capturing");
}

Result BeginCapture(Stream* stream, CaptureMode mode) {
  if (stream == &TheState().default_stream)
    return Raise(kCaptureUnsupported, "ptxemu: the default stream cannot be captured");
  if (stream->capture) return kIllegalState;
  stream->capture = std::make_shared<Capture>();
  stream->capture->mode = mode;
  stream->is_capture_origin = true;
  TheState().captures.insert(stream->capture);
  return kSuccess;
}

Result EndCapture(Stream* stream, Graph** graph) {
  *graph = nullptr;
  if (!stream->capture) return kIllegalState;
  if (!stream->is_capture_origin) return kCaptureUnmatched;
  std::shared_ptr<Capture> capture = std::move(stream->capture);
  stream->capture = nullptr;
  stream->is_capture_origin = false;
  TheState().captures.erase(capture);
  capture->ended = true;
  if (capture->invalidated) return kCaptureInvalidated;
  *graph = new Graph(std::move(capture->graph));
  return kSuccess;
}

Result RunGraph(const Graph& graph) {
  for (const Work& node : graph.nodes) {
    Result result = node();
    if (result) return result;
  }
  return kSuccess;
}

double NowMilliseconds() {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  return Milliseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace ptxemu
