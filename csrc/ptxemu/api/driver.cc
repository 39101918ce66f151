// libcuda.so.1: the part of the CUDA driver API that ptxemu implements, by the exported (versioned)
// names of cuda.h. Everything else cuda.h declares is a stub returning CUDA_ERROR_NOT_SUPPORTED:
// see driver_stubs.txt.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "api/device.h"
#include "api/identity.h"
#include "exec/memory.h"
#include "loader/fatbin.h"

using namespace ptxemu;

namespace {

using DevicePtr = u64;

int the_contexts[kMaxDevices];  // the address of the i-th is the handle of device i's only context
thread_local std::vector<void*> contexts;  // of this thread; the last one is current

void* CurrentContext() { return contexts.empty() ? nullptr : contexts.back(); }
int DeviceOf(const void* context) {
  return static_cast<int>(static_cast<const int*>(context) - the_contexts);
}
bool IsDevice(int device) { return device >= 0 && device < DeviceCount(); }
bool IsContext(const void* context) {
  for (int i = 0; i < DeviceCount(); i++)
    if (context == &the_contexts[i]) return true;
  return false;
}
Result GetContext(void** context, int device) {
  if (!IsDevice(device)) return kInvalidDevice;
  return *context = &the_contexts[device], kSuccess;
}

// Guarded, for calls that need a current context.
template <class F>
Result InContext(F f) {
  return CurrentContext() ? Guarded(f) : kInvalidContext;
}

template <class T = void>
T* Ptr(DevicePtr address) {
  return reinterpret_cast<T*>(address);
}

Result Copy(void* stream, void* destination, const void* source, size_t bytes, bool to_device,
            bool from_device) {
  return InContext([&] {
    return Submit(stream,
                  [=] { return CopyMemory(destination, source, bytes, to_device, from_device); });
  });
}

// Synchronous calls are not allowed while some stream captures in a strict mode.
Result CopyNow(void* destination, const void* source, size_t bytes, bool to_device,
               bool from_device) {
  Result busy = InContext([] { return CheckNotCapturing(nullptr); });
  return busy ? busy : Copy(nullptr, destination, source, bytes, to_device, from_device);
}

template <class T>
Result Fill(void* stream, DevicePtr destination, T value, size_t count) {
  return InContext([&] {
    return Submit(stream,
                  [=] { return FillMemory(Ptr(destination), &value, sizeof value, count); });
  });
}

Result AllocateNow(void** out, size_t bytes, bool device) {
  if (!out || !bytes) return kInvalidValue;
  return InContext([&]() -> Result {
    if (Result busy = CheckNotCapturing(nullptr)) return busy;
    return StickyError() ? StickyError() : Allocate(out, bytes, device);
  });
}

Result Synchronize(Stream* stream) {
  return InContext([&] {
    Result busy = CheckNotCapturing(stream);
    return busy ? busy : StickyError();
  });
}

Result Launch(Kernel* kernel, const LaunchShape& shape, void* stream, void** arguments,
              void** extra) {
  // CU_LAUNCH_PARAM_BUFFER_POINTER; the list ends with a null key.
  constexpr u64 kBufferPointer = 1;
  return InContext([&]() -> Result {
    if (!kernel) return kInvalidHandle;
    // A kernel and a stream belong to the context in which they were made.
    const void* const of_stream = ResolveStream(stream)->context;
    if (kernel->context != CurrentContext() || (of_stream && of_stream != CurrentContext()))
      return kInvalidContext;
    if (StickyError()) return StickyError();
    std::vector<void*> pointers;
    for (int i = 0; !arguments && extra && extra[i]; i += 2) {
      if (reinterpret_cast<u64>(extra[i]) != kBufferPointer) continue;
      u8* buffer = static_cast<u8*>(extra[i + 1]);
      for (const Variable& param : kernel->function->params)
        pointers.push_back(buffer + param.offset);
    }
    return Submit(stream, PrepareLaunch(*kernel, shape, arguments ? arguments : pointers.data()));
  });
}

// The latest PTX that the driver's release reads, as 10·major + minor ("PTX ISA", release notes).
int LatestPtx() {
  const int major = DriverVersion() / 1000, minor = DriverVersion() % 1000 / 10;
  return 10 * (major - 4) + (major == 12 && minor > 5 ? minor - 1 : minor);
}

// Handle of this library, whatever name it was loaded by and even if loaded with RTLD_LOCAL.
void* OwnLibrary() {
  static void* handle = [] {
    Dl_info info;
    if (!dladdr(the_contexts, &info)) return static_cast<void*>(nullptr);
    return dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  }();
  return handle;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

// ---- initialization, device, context

Result cuInit(unsigned) { return kSuccess; }
Result cuDriverGetVersion(int* version) { return *version = DriverVersion(), kSuccess; }
Result cuDeviceGetCount(int* count) { return *count = DeviceCount(), kSuccess; }
Result cuDeviceGet(int* device, int ordinal) {
  return *device = ordinal, IsDevice(ordinal) ? kSuccess : kInvalidDevice;
}
Result cuDeviceGetName(char* name, int size, int) {
  return snprintf(name, size, "%s", (Slices() > 0 ? SliceName() : CardName()).c_str()), kSuccess;
}
Result cuDeviceGetAttribute(int* value, int attribute, int) {
  return *value = DeviceAttribute(attribute), kSuccess;
}
Result cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = TotalMemory(), kSuccess; }
Result cuDeviceComputeCapability(int* major, int* minor, int) {
  *major = ComputeCapability() / 10;
  *minor = ComputeCapability() % 10;
  return kSuccess;
}
// Of a slice the first names the card.
Result cuDeviceGetUuid(void* uuid, int device) {
  return memset(uuid, CardByte(device), 16), kSuccess;
}
Result cuDeviceGetUuid_v2(void* uuid, int device) {
  return memset(uuid, Slices() > 0 ? SliceByte(0) : CardByte(device), 16), kSuccess;
}
Result cuDeviceGetPCIBusId(char* id, int size, int device) {
  return snprintf(id, size, "0000:%02x:00.0", device), kSuccess;
}
Result cuDeviceCanAccessPeer(int* can, int, int) { return *can = 0, kSuccess; }
Result cuDeviceGetDefaultMemPool(void** pool, int device) { return GetContext(pool, device); }
Result cuDeviceGetMemPool(void** pool, int device) { return GetContext(pool, device); }

Result cuDevicePrimaryCtxRetain(void** context, int device) { return GetContext(context, device); }
Result cuDevicePrimaryCtxRelease_v2(int) {
  return Guarded([] { return NoteWhatRan(), kSuccess; });
}
Result cuDevicePrimaryCtxReset_v2(int) { return ClearStickyError(), kSuccess; }
Result cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return kSuccess; }
Result cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  return *flags = 0, *active = 1, kSuccess;
}
Result cuCtxCreate_v2(void** context, unsigned, int device) {
  const Result found = GetContext(context, device);
  if (!found) contexts.push_back(*context);
  return found;
}
Result cuCtxCreate_v3(void** context, void*, int, unsigned, int device) {
  return cuCtxCreate_v2(context, 0, device);
}
Result cuCtxCreate_v4(void** context, void*, unsigned, int device) {
  return cuCtxCreate_v2(context, 0, device);
}
Result cuCtxDestroy_v2(void* context) {
  if (!IsContext(context)) return kInvalidContext;
  if (CurrentContext() == context) contexts.pop_back();
  return kSuccess;
}
// Null takes the current context off the stack.
Result cuCtxSetCurrent(void* context) {
  if (context && !IsContext(context)) return kInvalidContext;
  if (!contexts.empty()) contexts.pop_back();
  if (context) contexts.push_back(context);
  return kSuccess;
}
Result cuCtxGetCurrent(void** context) { return *context = CurrentContext(), kSuccess; }
Result cuCtxPushCurrent_v2(void* context) {
  if (!IsContext(context)) return kInvalidContext;
  return contexts.push_back(context), kSuccess;
}
Result cuCtxPopCurrent_v2(void** context) {
  if (contexts.empty()) return kInvalidContext;
  if (context) *context = contexts.back();
  return contexts.pop_back(), kSuccess;
}
Result cuCtxGetDevice(int* device) {
  return InContext([&] { return *device = DeviceOf(CurrentContext()), kSuccess; });
}
Result cuCtxGetFlags(unsigned* flags) { return *flags = 0, kSuccess; }
Result cuCtxGetApiVersion(void*, unsigned* version) { return *version = DriverVersion(), kSuccess; }
Result cuCtxSetLimit(int, size_t) { return kSuccess; }
Result cuCtxGetLimit(size_t* value, int) { return *value = 0, kSuccess; }
Result cuCtxSetCacheConfig(int) { return kSuccess; }
Result cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return *least = *greatest = 0, kSuccess;
}
Result cuCtxSynchronize() { return Synchronize(nullptr); }

// ---- memory

Result cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  if (!CurrentContext()) return kInvalidContext;
  *total = TotalMemory();
  *free_bytes = *total - std::min<u64>(*total, MemoryInUse());
  return kSuccess;
}
Result cuMemAlloc_v2(DevicePtr* out, size_t bytes) {
  return AllocateNow(reinterpret_cast<void**>(out), bytes, true);
}
Result cuMemAllocPitch_v2(DevicePtr* out, size_t* pitch, size_t width, size_t height, unsigned) {
  *pitch = (width + 511) / 512 * 512;
  return cuMemAlloc_v2(out, *pitch * height);
}
Result cuMemFree_v2(DevicePtr pointer) {
  return InContext([&] {
    Result busy = CheckNotCapturing(nullptr);
    return busy ? busy : Release(Ptr(pointer));
  });
}
Result cuMemAllocManaged(DevicePtr* out, size_t bytes, unsigned) {
  return AllocateNow(reinterpret_cast<void**>(out), bytes, false);
}
Result cuMemAllocHost_v2(void** out, size_t bytes) { return AllocateNow(out, bytes, false); }
Result cuMemHostAlloc(void** out, size_t bytes, unsigned) { return AllocateNow(out, bytes, false); }
Result cuMemFreeHost(void* pointer) { return cuMemFree_v2(reinterpret_cast<DevicePtr>(pointer)); }
Result cuMemHostGetDevicePointer_v2(DevicePtr* out, void* host, unsigned) {
  return *out = reinterpret_cast<DevicePtr>(host), kSuccess;
}
Result cuMemHostRegister_v2(void* host, size_t bytes, unsigned) {
  return DeviceMemory::Register(host, bytes), kSuccess;
}
Result cuMemHostUnregister(void* host) {
  return DeviceMemory::Unregister(host) ? kSuccess : kInvalidValue;
}
// Stream-ordered allocation; allocation nodes of graphs are not supported.
Result cuMemAllocAsync(DevicePtr* out, size_t bytes, void* stream) {
  Result busy = InContext([&] { return CheckNotCapturing(ResolveStream(stream)); });
  if (busy) return busy;
  if (!bytes) return kInvalidValue;
  return InContext([&] { return Allocate(reinterpret_cast<void**>(out), bytes, true); });
}
Result cuMemAllocFromPoolAsync(DevicePtr* out, size_t bytes, void*, void* stream) {
  return cuMemAllocAsync(out, bytes, stream);
}
Result cuMemFreeAsync(DevicePtr pointer, void* stream) {
  Result busy = InContext([&] { return CheckNotCapturing(ResolveStream(stream)); });
  return busy ? busy : InContext([&] { return Release(Ptr(pointer)); });
}
Result cuMemPoolSetAttribute(void*, int, void*) { return kSuccess; }
Result cuMemPoolTrimTo(void*, size_t) { return kSuccess; }
Result cuMemGetAddressRange_v2(DevicePtr* base, size_t* bytes, DevicePtr pointer) {
  u64 begin, end;
  if (!DeviceMemory::Find(pointer, &begin, &end)) return kNotFound;
  if (base) *base = begin;
  if (bytes) *bytes = end - begin;
  return kSuccess;
}
// CU_POINTER_ATTRIBUTE_*: what a pointer is; only the common ones.
Result cuPointerGetAttribute(void* data, int attribute, DevicePtr pointer) {
  constexpr int kContextAttribute = 1, kMemoryType = 2, kDevicePointer = 3, kHostPointer = 4,
                kIsManaged = 8, kOrdinal = 9;
  constexpr unsigned kMemoryTypeDevice = 2;
  if (!DeviceMemory::Contains(pointer, 1)) return kInvalidValue;
  switch (attribute) {
    case kContextAttribute:
      return *static_cast<void**>(data) = CurrentContext(), kSuccess;
    case kMemoryType:
      return *static_cast<unsigned*>(data) = kMemoryTypeDevice, kSuccess;
    case kDevicePointer:
    case kHostPointer:
      return *static_cast<DevicePtr*>(data) = pointer, kSuccess;
    case kIsManaged:
      return *static_cast<unsigned*>(data) = 0, kSuccess;
    case kOrdinal:
      return *static_cast<int*>(data) = DeviceOf(CurrentContext()), kSuccess;
    default:
      return kNotSupported;
  }
}

Result cuMemcpy(DevicePtr destination, DevicePtr source, size_t bytes) {
  return CopyNow(Ptr(destination), Ptr(source), bytes, false, false);
}
Result cuMemcpyAsync(DevicePtr destination, DevicePtr source, size_t bytes, void* stream) {
  return Copy(stream, Ptr(destination), Ptr(source), bytes, false, false);
}
Result cuMemcpyHtoD_v2(DevicePtr destination, const void* source, size_t bytes) {
  return CopyNow(Ptr(destination), source, bytes, true, false);
}
Result cuMemcpyDtoH_v2(void* destination, DevicePtr source, size_t bytes) {
  return CopyNow(destination, Ptr(source), bytes, false, true);
}
Result cuMemcpyDtoD_v2(DevicePtr destination, DevicePtr source, size_t bytes) {
  return CopyNow(Ptr(destination), Ptr(source), bytes, true, true);
}
Result cuMemcpyHtoDAsync_v2(DevicePtr destination, const void* source, size_t bytes, void* stream) {
  return Copy(stream, Ptr(destination), source, bytes, true, false);
}
Result cuMemcpyDtoHAsync_v2(void* destination, DevicePtr source, size_t bytes, void* stream) {
  return Copy(stream, destination, Ptr(source), bytes, false, true);
}
Result cuMemcpyDtoDAsync_v2(DevicePtr destination, DevicePtr source, size_t bytes, void* stream) {
  return Copy(stream, Ptr(destination), Ptr(source), bytes, true, true);
}
Result cuMemsetD8Async(DevicePtr to, u8 value, size_t count, void* stream) {
  return Fill(stream, to, value, count);
}
Result cuMemsetD16Async(DevicePtr to, u16 value, size_t count, void* stream) {
  return Fill(stream, to, value, count);
}
Result cuMemsetD32Async(DevicePtr to, u32 value, size_t count, void* stream) {
  return Fill(stream, to, value, count);
}
Result cuMemsetD8_v2(DevicePtr to, u8 value, size_t count) {
  return Fill(nullptr, to, value, count);
}
Result cuMemsetD16_v2(DevicePtr to, u16 value, size_t count) {
  return Fill(nullptr, to, value, count);
}
Result cuMemsetD32_v2(DevicePtr to, u32 value, size_t count) {
  return Fill(nullptr, to, value, count);
}

// ---- modules and functions

Result cuModuleLoadData(LoadedModule** out, const void* image) {
  return InContext([&] {
    auto loaded = std::make_unique<LoadedModule>();
    loaded->module = ParseModule(PtxFromImage(image));
    loaded->context = CurrentContext();
    if (loaded->module->ptx_version > LatestPtx())
      throw EmuError(kUnsupportedPtxVersion,
                     "ptxemu: PTX " + std::to_string(loaded->module->ptx_version / 10) + "." +
                         std::to_string(loaded->module->ptx_version % 10) +
                         " is later than what the driver of PTXEMU_DRIVER=" +
                         std::to_string(DriverVersion()) + " reads");
    if (loaded->module->target_sm > ComputeCapability())
      throw EmuError(kNoBinaryForGpu,
                     "ptxemu: PTX target " + loaded->module->target +
                         " above PTXEMU_SM=" + std::to_string(ComputeCapability()));
    *out = loaded.release();
    return kSuccess;
  });
}
Result cuModuleLoadDataEx(LoadedModule** out, const void* image, unsigned, void*, void*) {
  return cuModuleLoadData(out, image);
}
Result cuModuleLoadFatBinary(LoadedModule** out, const void* image) {
  return cuModuleLoadData(out, image);
}
Result cuModuleLoad(LoadedModule** out, const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return kFileNotFound;
  std::string image((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  image.resize(image.size() + 64);  // readable past the end, and terminated
  return cuModuleLoadData(out, image.data());
}
Result cuModuleUnload(LoadedModule* module) {
  return InContext([&]() -> Result {
    if (!module) return kInvalidHandle;
    return delete module, kSuccess;
  });
}
Result cuModuleGetFunction(Kernel** out, LoadedModule* module, const char* name) {
  return InContext([&]() -> Result {
    if (!module) return kInvalidHandle;
    if (module->context != CurrentContext()) return kInvalidContext;
    return *out = module->FindKernel(name), *out ? kSuccess : kNotFound;
  });
}
Result cuModuleGetGlobal_v2(DevicePtr* address, size_t* bytes, LoadedModule* module,
                            const char* name) {
  return InContext([&]() -> Result {
    if (!module) return kInvalidHandle;
    auto it = module->module->variables.find(name);
    if (it == module->module->variables.end()) return kNotFound;
    if (address) *address = it->second.address;
    if (bytes) *bytes = it->second.size;
    return kSuccess;
  });
}

Result cuFuncSetAttribute(Kernel* kernel, int attribute, int value) {
  constexpr int kMaxDynamicShared = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
  if (!kernel) return kInvalidHandle;
  if (attribute != kMaxDynamicShared) return kSuccess;
  const u32 limit = value + kernel->function->static_shared;
  if (value < 0 || limit > SharedMemoryPerBlockOptin()) return kInvalidValue;
  kernel->shared_limit = std::max(limit, kDefaultSharedLimit);
  return kSuccess;
}
Result cuFuncGetAttribute(int* value, int attribute, Kernel* kernel) {
  if (!kernel) return kInvalidHandle;
  const Function& function = *kernel->function;
  switch (attribute) {  // CU_FUNC_ATTRIBUTE_*
    case 0:
      *value = function.max_threads[0] ? function.MaxThreadsPerBlock() : 1024;
      break;
    case 1:
      *value = function.static_shared;
      break;
    case 2:
      *value = 0;
      break;  // CONST_SIZE_BYTES
    case 3:
      *value = kernel->module->local_bytes;
      break;  // LOCAL_SIZE_BYTES
    case 4:
      *value = 32;
      break;  // NUM_REGS; the emulator does not allocate any
    case 5:
      *value = kernel->module->target_sm;
      break;  // PTX_VERSION
    case 6:
      *value = ComputeCapability();
      break;  // BINARY_VERSION
    case 8:
      *value = kernel->shared_limit - function.static_shared;
      break;
    default:
      *value = 0;
  }
  return kSuccess;
}
Result cuFuncSetCacheConfig(Kernel*, int) { return kSuccess; }
Result cuFuncSetSharedMemConfig(Kernel*, int) { return kSuccess; }
Result cuFuncGetModule(const Module** out, Kernel* kernel) {
  return *out = kernel->module, kSuccess;
}
Result cuFuncGetName(const char** name, Kernel* kernel) {
  return *name = kernel->function->name.c_str(), kSuccess;
}
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel* kernel, int threads,
                                                   size_t shared) {
  return *blocks = OccupancyPerMultiprocessor(*kernel, threads, shared), kSuccess;
}
Result cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, Kernel* kernel,
                                                            int threads, size_t shared, unsigned) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, shared);
}

// ---- launch

Result cuLaunchKernel(Kernel* kernel, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u32 shared,
                      void* stream, void** arguments, void** extra) {
  return Launch(kernel, {{gx, gy, gz}, {bx, by, bz}, shared, false}, stream, arguments, extra);
}
Result cuLaunchCooperativeKernel(Kernel* kernel, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz,
                                 u32 shared, void* stream, void** arguments) {
  return Launch(kernel, {{gx, gy, gz}, {bx, by, bz}, shared, true}, stream, arguments, nullptr);
}
// The leading members of CUlaunchConfig; launch attributes other than COOPERATIVE are ignored.
struct LaunchExConfig {
  u32 grid[3], block[3], shared;
  void* stream;
  struct {
    int id;
    char pad[4];
    int value[16];
  } * attributes;
  unsigned attribute_count;
};
Result cuLaunchKernelEx(const LaunchExConfig* config, Kernel* kernel, void** arguments,
                        void** extra) {
  constexpr int kCooperative = 2;  // CU_LAUNCH_ATTRIBUTE_COOPERATIVE
  LaunchShape shape = {{config->grid[0], config->grid[1], config->grid[2]},
                       {config->block[0], config->block[1], config->block[2]},
                       config->shared,
                       false};
  for (unsigned i = 0; i < config->attribute_count; i++)
    if (config->attributes[i].id == kCooperative)
      shape.cooperative = config->attributes[i].value[0] != 0;
  return Launch(kernel, shape, config->stream, arguments, extra);
}
Result cuLaunchHostFunc(void* stream, void (*function)(void*), void* data) {
  return InContext([&] { return Submit(stream, [=] { return function(data), kSuccess; }); });
}

// ---- streams and events

Result cuStreamCreate(Stream** out, unsigned) {
  return InContext([&] {
    *out = new Stream;
    (*out)->context = CurrentContext();
    return kSuccess;
  });
}
Result cuStreamCreateWithPriority(Stream** out, unsigned flags, int) {
  return cuStreamCreate(out, flags);
}
Result cuStreamDestroy_v2(Stream* stream) {
  if (!stream) return kInvalidHandle;
  return delete stream, kSuccess;
}
Result cuStreamSynchronize(void* stream) { return Synchronize(ResolveStream(stream)); }
Result cuStreamQuery(void* stream) { return Synchronize(ResolveStream(stream)); }
Result cuStreamGetFlags(void*, unsigned* flags) { return *flags = 0, kSuccess; }
Result cuStreamGetPriority(void*, int* priority) { return *priority = 0, kSuccess; }
Result cuStreamGetCtx(Stream* stream, void** context) {
  return InContext([&] {
    void* const own = ResolveStream(stream)->context;
    return *context = own ? own : CurrentContext(), kSuccess;
  });
}
// Work is done in submission order anyway; waiting for a captured event joins its capture.
Result cuStreamWaitEvent(void* handle, Event* event, unsigned) {
  return InContext([&]() -> Result {
    if (!event) return kInvalidHandle;
    Stream* stream = ResolveStream(handle);
    std::shared_ptr<Capture> capture = event->capture.lock();
    if (capture && !capture->ended && !stream->capture) stream->capture = capture;
    return kSuccess;
  });
}

Result cuEventCreate(Event** out, unsigned) {
  return InContext([&] { return *out = new Event, kSuccess; });
}
Result cuEventDestroy_v2(Event* event) {
  if (!event) return kInvalidHandle;
  return delete event, kSuccess;
}
Result cuEventRecord(Event* event, void* handle) {
  return InContext([&]() -> Result {
    if (!event) return kInvalidHandle;
    Stream* stream = ResolveStream(handle);
    event->capture = stream->capture;
    if (!stream->capture) event->milliseconds = NowMilliseconds();
    return kSuccess;
  });
}
Result cuEventRecordWithFlags(Event* event, void* stream, unsigned) {
  return cuEventRecord(event, stream);
}
Result cuEventSynchronize(Event* event) { return event ? StickyError() : Result(kInvalidHandle); }
Result cuEventQuery(Event* event) { return event ? StickyError() : Result(kInvalidHandle); }
Result cuEventElapsedTime(float* milliseconds, Event* begin, Event* end) {
  if (!begin || !end || begin->milliseconds < 0 || end->milliseconds < 0) return kInvalidHandle;
  return *milliseconds = float(end->milliseconds - begin->milliseconds), kSuccess;
}
Result cuEventElapsedTime_v2(float* milliseconds, Event* begin, Event* end) {
  return cuEventElapsedTime(milliseconds, begin, end);
}

// ---- stream capture and graphs

Result cuStreamBeginCapture_v2(void* stream, int mode) {
  return InContext([&] { return BeginCapture(ResolveStream(stream), CaptureMode(mode)); });
}
Result cuStreamEndCapture(void* stream, Graph** graph) {
  return InContext([&] { return EndCapture(ResolveStream(stream), graph); });
}
Result cuStreamIsCapturing(void* handle, int* status) {
  const Capture* capture = ResolveStream(handle)->capture.get();  // 0 none, 1 active, 2 invalidated
  return *status = !capture ? 0 : capture->invalidated ? 2 : 1, kSuccess;
}
Result cuThreadExchangeStreamCaptureMode(int* mode) {
  return *mode = int(CaptureMode::kGlobal), kSuccess;
}
Result cuGraphCreate(Graph** out, unsigned) { return *out = new Graph, kSuccess; }
Result cuGraphDestroy(Graph* graph) {
  if (!graph) return kInvalidValue;
  return delete graph, kSuccess;
}
Result cuGraphGetNodes(Graph* graph, void** nodes, size_t* count) {
  if (nodes) return kNotSupported;
  return *count = graph->nodes.size(), kSuccess;
}
// An executable graph is a copy: the original may be destroyed or instantiated again.
Result cuGraphInstantiateWithFlags(Graph** out, Graph* graph, u64) {
  if (!graph) return kInvalidValue;
  return *out = new Graph(*graph), kSuccess;
}
Result cuGraphExecDestroy(Graph* executable) {
  if (!executable) return kInvalidValue;
  return delete executable, kSuccess;
}
Result cuGraphUpload(Graph*, void*) { return kSuccess; }
Result cuGraphLaunch(Graph* executable, void* stream) {
  return InContext([&]() -> Result {
    if (!executable) return kInvalidValue;
    std::vector<Work> nodes = executable->nodes;
    return Submit(stream, [nodes] { return RunGraph({nodes}); });
  });
}

// ---- errors and entry points

Result cuGetErrorName(Result error, const char** name) {
  static const std::map<int, const char*> kNames = {
      {kSuccess, "CUDA_SUCCESS"},
      {kInvalidValue, "CUDA_ERROR_INVALID_VALUE"},
      {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY"},
      {kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE"},
      {kInvalidImage, "CUDA_ERROR_INVALID_IMAGE"},
      {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT"},
      {kNoBinaryForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
      {kInvalidPtx, "CUDA_ERROR_INVALID_PTX"},
      {kFileNotFound, "CUDA_ERROR_FILE_NOT_FOUND"},
      {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE"},
      {kIllegalState, "CUDA_ERROR_ILLEGAL_STATE"},
      {kNotFound, "CUDA_ERROR_NOT_FOUND"},
      {kNotReady, "CUDA_ERROR_NOT_READY"},
      {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS"},
      {kDeviceAssert, "CUDA_ERROR_ASSERT"},
      {kMisalignedAddress, "CUDA_ERROR_MISALIGNED_ADDRESS"},
      {kLaunchFailure, "CUDA_ERROR_LAUNCH_FAILED"},
      {kNotSupported, "CUDA_ERROR_NOT_SUPPORTED"},
      {kCaptureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
      {kCaptureInvalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
      {kCaptureUnmatched, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"},
      {kCaptureUnjoined, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"},
  };
  auto it = kNames.find(error);
  return *name = it == kNames.end() ? nullptr : it->second, *name ? kSuccess : kInvalidValue;
}
// The name, and what the emulator last complained about.
Result cuGetErrorString(Result error, const char** text) {
  static thread_local std::string description;
  const char* name;
  Result result = cuGetErrorName(error, &name);
  description = error == kSuccess
                    ? "no error"
                    : std::string(name ? name : "unknown error") + ": " + LastMessage();
  return *text = description.c_str(), result;
}

// Finds the newest version of a function that this library exports.
Result cuGetProcAddress_v2(const char* name, void** function, int, u64, int* status) {
  *function = nullptr;
  for (const char* version : {"_v4", "_v3", "_v2", ""})
    if (!*function) *function = dlsym(OwnLibrary(), (std::string(name) + version).c_str());
  if (status) *status = *function ? 0 : 1;  // CU_GET_PROC_ADDRESS_SUCCESS, _SYMBOL_NOT_FOUND
  return *function ? kSuccess : kNotFound;
}
Result cuGetProcAddress(const char* name, void** function, int version, u64 flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
Result cuProfilerStart() { return kSuccess; }
Result cuProfilerStop() { return kSuccess; }

// ---- ptxemu's own

const char* ptxemu_last_message() { return LastMessage().c_str(); }
void ptxemu_clear_error() { ClearStickyError(); }
void ptxemu_counters(u64* warp_instructions, u64* thread_instructions, double* seconds) {
  *warp_instructions = TheCounters().warp_instructions;
  *thread_instructions = TheCounters().thread_instructions;
  *seconds = TheCounters().seconds;
}

}  // extern "C"
#pragma GCC visibility pop
