// Devices, contexts, modules and launches: the host engine's entries in the driver's table.
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <vector>

#include "engine.h"
#include "kernels_gen.h"

struct CUctx_st {
  unsigned flags = 0;
  std::mutex mu;
  std::vector<CUstream> streams;
  CUstream standard = nullptr;  // the default stream, made when first asked for
};

struct CUmod_st {};

// The tables of host/kernels.cc, ending with an empty entry.
extern "C" {
extern const gocp::HostKernel gocp_kernels_base[];
#if defined(__x86_64__)
extern const gocp::HostKernel gocp_kernels_v3[];
extern const gocp::HostKernel gocp_kernels_v4[];
#endif
}

namespace gocp {
namespace {

const HostKernel* kernels = nullptr;
int kernel_count = 0;
const char* isa_name = "";

#if defined(__x86_64__)
// The levels' features that no processor has without the others (clang 14 does not know the levels
// by name).
bool has_v3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

CUresult choose_isa() {
  struct Build {
    const char* name;
    const HostKernel* table;
    bool runs;
  };
  const Build builds[] = {
#if defined(__x86_64__)
    {"v4", gocp_kernels_v4, has_v4()},
    {"v3", gocp_kernels_v3, has_v3()},
#endif
    {"base", gocp_kernels_base, true},
  };
  const char* forced = getenv("GOCP_ISA");
  if (forced != nullptr && *forced == 0) forced = nullptr;
  for (const Build& b : builds) {
    if (forced != nullptr ? strcmp(forced, b.name) != 0 : !b.runs) continue;
    if (!b.runs) {
      return fail(CUDA_ERROR_NOT_SUPPORTED, "GOCP_ISA=%s: not an instruction set of this processor",
                  b.name);
    }
    isa_name = b.name;
    kernels = b.table;
    for (kernel_count = 0; kernels[kernel_count].name != nullptr;) kernel_count++;
    return CUDA_SUCCESS;
  }
  return fail(CUDA_ERROR_INVALID_VALUE, "GOCP_ISA=%s: not one this build has", forced);
}

// Whole cores that the control group's quota pays for; 0 for no quota.
int quota_cores() {
  double quota = 0, period = 0;
  if (FILE* f = fopen("/sys/fs/cgroup/cpu.max", "re")) {
    if (fscanf(f, "%lf %lf", &quota, &period) != 2) quota = 0;
    fclose(f);
  } else if (FILE* q = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re")) {
    if (fscanf(q, "%lf", &quota) != 1) quota = 0;
    fclose(q);
    if (FILE* p = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re")) {
      if (fscanf(p, "%lf", &period) != 1) period = 0;
      fclose(p);
    }
  }
  return quota > 0 && period > 0 ? std::max(1, static_cast<int>(lround(quota / period))) : 0;
}

// ---- devices

CUresult init(unsigned) {
  const char* threads = getenv("GOCP_THREADS");
  if (threads != nullptr && *threads != 0) {
    char* end;
    const long n = strtol(threads, &end, 10);
    if (*end != 0 || n < 1 || n > 4096) {
      return fail(CUDA_ERROR_INVALID_VALUE, "GOCP_THREADS=%s: not a number of threads", threads);
    }
  }
  const char* check = getenv("GOCP_CHECK");
  if (check != nullptr && strlen(check) != 0 && strcmp(check, "0") != 0 &&
      strcmp(check, "1") != 0) {
    return fail(CUDA_ERROR_INVALID_VALUE, "GOCP_CHECK=%s: neither 0 nor 1", check);
  }
  return choose_isa();
}

CUresult device_count(int* n) {
  *n = 1;
  return CUDA_SUCCESS;
}

CUresult device_get(CUdevice* device, int ordinal) {
  if (ordinal != 0) return fail(CUDA_ERROR_INVALID_DEVICE, "device %d of 1", ordinal);
  *device = 0;
  return CUDA_SUCCESS;
}

CUresult device_name(char* name, int size, CUdevice) {
  std::string model = "host";
  if (FILE* f = fopen("/proc/cpuinfo", "re")) {
    char line[256];
    while (fgets(line, sizeof line, f) != nullptr) {
      if (strncmp(line, "model name", 10) != 0) continue;
      const char* p = strchr(line, ':');
      if (p == nullptr) continue;
      model = p + 1;
      model.erase(0, model.find_first_not_of(" \t"));
      model.erase(model.find_last_not_of(" \n") + 1);
      break;
    }
    fclose(f);
  }
  if (size < 1) return fail(CUDA_ERROR_INVALID_VALUE, "no room for the device's name");
  snprintf(name, static_cast<size_t>(size), "%s", model.c_str());
  return CUDA_SUCCESS;
}

CUresult device_uuid(CUuuid* uuid, CUdevice) {
  memset(uuid, 0, sizeof *uuid);
  return CUDA_SUCCESS;
}

CUresult device_memory(size_t* bytes, CUdevice) {
  size_t available;
  mem_info(&available, bytes);
  return CUDA_SUCCESS;
}

CUresult device_attribute(int* value, CUdevice_attribute attribute, CUdevice) {
  switch (static_cast<int>(attribute)) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
      *value = 1024;
      break;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
      *value = 64;
      break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
      *value = 0x7fffffff;
      break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
    case CU_DEVICE_ATTRIBUTE_INTEGRATED:
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS:
      *value = 1;
      break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
      *value = 48 << 10;
      break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = cores();
      break;
    default:
      *value = 0;
  }
  return CUDA_SUCCESS;
}

CUresult driver_version(int* version) {
  *version = 12090;  // the interface of cuda.h
  return CUDA_SUCCESS;
}

CUresult can_access_peer(int* can, CUdevice, CUdevice) {
  *can = 0;
  return CUDA_SUCCESS;
}

// ---- contexts

thread_local std::vector<CUcontext> contexts;  // the calling thread's stack

CUcontext current() { return contexts.empty() ? nullptr : contexts.back(); }

#define NEED_CONTEXT()                                                               \
  if (current() == nullptr) {                                                        \
    return fail(CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread"); \
  }

struct Primary {
  std::mutex mu;
  CUcontext context = nullptr;
  int users = 0;
  unsigned flags = 0;
} primary;

void destroy_streams(CUcontext c) {
  std::vector<CUstream> streams;
  {
    std::lock_guard<std::mutex> lock(c->mu);
    streams.swap(c->streams);
    c->standard = nullptr;
  }
  for (CUstream s : streams) stream_destroy(s);
}

CUresult context_create(CUcontext* context, unsigned flags, CUdevice device) {
  if (device != 0) return fail(CUDA_ERROR_INVALID_DEVICE, "device %d of 1", device);
  *context = new CUctx_st;
  (*context)->flags = flags;
  contexts.push_back(*context);
  return CUDA_SUCCESS;
}

CUresult context_destroy(CUcontext context) {
  if (context == nullptr) return fail(CUDA_ERROR_INVALID_CONTEXT, "no context");
  destroy_streams(context);
  contexts.erase(std::remove(contexts.begin(), contexts.end(), context), contexts.end());
  delete context;
  return CUDA_SUCCESS;
}

CUresult context_set(CUcontext context) {
  if (!contexts.empty()) contexts.pop_back();
  if (context != nullptr) contexts.push_back(context);
  return CUDA_SUCCESS;
}

CUresult context_get(CUcontext* context) {
  *context = current();
  return CUDA_SUCCESS;
}

CUresult context_push(CUcontext context) {
  if (context == nullptr) return fail(CUDA_ERROR_INVALID_CONTEXT, "no context");
  contexts.push_back(context);
  return CUDA_SUCCESS;
}

CUresult context_pop(CUcontext* context) {
  NEED_CONTEXT();
  *context = current();
  contexts.pop_back();
  return CUDA_SUCCESS;
}

CUresult context_device(CUdevice* device) {
  NEED_CONTEXT();
  *device = 0;
  return CUDA_SUCCESS;
}

CUresult context_flags(unsigned* flags) {
  NEED_CONTEXT();
  *flags = current()->flags;
  return CUDA_SUCCESS;
}

CUresult context_version(CUcontext, unsigned* version) {
  *version = 3020;  // what every driver since 3.2 says
  return CUDA_SUCCESS;
}

CUresult context_priorities(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = 0;
  return CUDA_SUCCESS;
}

CUresult primary_retain(CUcontext* context, CUdevice) {
  std::lock_guard<std::mutex> lock(primary.mu);
  if (primary.context == nullptr) {
    primary.context = new CUctx_st;
    primary.context->flags = primary.flags;
  }
  primary.users++;
  *context = primary.context;
  return CUDA_SUCCESS;
}

// The context itself stays, as its handle may still be on some thread's stack.
CUresult primary_release(CUdevice) {
  std::lock_guard<std::mutex> lock(primary.mu);
  if (primary.users == 0) return fail(CUDA_ERROR_INVALID_CONTEXT, "released too often");
  if (--primary.users == 0) destroy_streams(primary.context);
  return CUDA_SUCCESS;
}

CUresult primary_reset(CUdevice) {
  std::lock_guard<std::mutex> lock(primary.mu);
  if (primary.context != nullptr) destroy_streams(primary.context);
  return CUDA_SUCCESS;
}

CUresult primary_state(CUdevice, unsigned* flags, int* active) {
  std::lock_guard<std::mutex> lock(primary.mu);
  *flags = primary.flags;
  *active = primary.users > 0;
  return CUDA_SUCCESS;
}

CUresult primary_flags(CUdevice, unsigned flags) {
  std::lock_guard<std::mutex> lock(primary.mu);
  primary.flags = flags;
  if (primary.context != nullptr) primary.context->flags = flags;
  return CUDA_SUCCESS;
}

// ---- streams

CUresult create_stream(CUstream* stream, unsigned flags, int priority) {
  NEED_CONTEXT();
  CUcontext c = current();
  const CUresult r = stream_create(c, flags, priority, stream);
  if (r != CUDA_SUCCESS) return r;
  std::lock_guard<std::mutex> lock(c->mu);
  c->streams.push_back(*stream);
  return CUDA_SUCCESS;
}

CUresult create_plain_stream(CUstream* stream, unsigned flags) {
  return create_stream(stream, flags, 0);
}

CUresult destroy_stream(CUstream stream) {
  NEED_CONTEXT();
  CUcontext c = current();
  {
    std::lock_guard<std::mutex> lock(c->mu);
    auto it = std::find(c->streams.begin(), c->streams.end(), stream);
    if (it == c->streams.end() || stream == c->standard) {
      return fail(CUDA_ERROR_INVALID_HANDLE, "not a stream of this context");
    }
    c->streams.erase(it);
  }
  return stream_destroy(stream);
}

// All streams of the current context; only those ordered with the default stream if so asked.
CUresult drain(bool blocking_only) {
  NEED_CONTEXT();
  CUcontext c = current();
  std::vector<CUstream> streams;
  {
    std::lock_guard<std::mutex> lock(c->mu);
    streams = c->streams;
  }
  CUresult first = CUDA_SUCCESS;
  for (CUstream s : streams) {
    if (blocking_only && !stream_blocking(s)) continue;
    const CUresult r = stream_sync(s);
    if (first == CUDA_SUCCESS) first = r;
  }
  return first;
}

CUresult context_sync() { return drain(false); }

// Runs f on a stream. The default stream (handles 0, 1 and 2) waits for the blocking streams
// before, and the caller for it after: a correct, if slow, reading of its rules.
template <class F>
CUresult on(CUstream stream, F f) {
  NEED_CONTEXT();
  if (reinterpret_cast<uintptr_t>(stream) > 2) return f(stream);
  CUcontext c = current();
  CUstream standard;
  {
    std::lock_guard<std::mutex> lock(c->mu);
    if (c->standard == nullptr) {
      const CUresult r = stream_create(c, CU_STREAM_DEFAULT, 0, &c->standard);
      if (r != CUDA_SUCCESS) return r;
      c->streams.push_back(c->standard);
    }
    standard = c->standard;
  }
  CUresult r = drain(true);
  if (r == CUDA_SUCCESS) r = f(standard);
  return r == CUDA_SUCCESS ? stream_sync(standard) : r;
}

CUresult sync_stream(CUstream stream) {
  return on(stream, [](CUstream s) { return stream_sync(s); });
}

CUresult query_stream(CUstream stream) {
  return on(stream, [](CUstream s) { return stream_query(s); });
}

CUresult flags_of_stream(CUstream stream, unsigned* flags) {
  return on(stream, [flags](CUstream s) {
    *flags = stream_flags(s);
    return CUDA_SUCCESS;
  });
}

CUresult priority_of_stream(CUstream stream, int* priority) {
  return on(stream, [priority](CUstream s) {
    *priority = stream_priority(s);
    return CUDA_SUCCESS;
  });
}

CUresult wait_event(CUstream stream, CUevent event, unsigned) {
  return on(stream, [event](CUstream s) { return stream_wait_event(s, event); });
}

CUresult record_event(CUevent event, CUstream stream) {
  return on(stream, [event](CUstream s) { return event_record(event, s); });
}

CUresult create_event(CUevent* event, unsigned flags) {
  NEED_CONTEXT();
  return event_create(event, flags);
}

// ---- memory

CUresult alloc(CUdeviceptr* p, size_t bytes) {
  NEED_CONTEXT();
  return mem_alloc(p, bytes);
}

CUresult alloc_managed(CUdeviceptr* p, size_t bytes, unsigned) { return alloc(p, bytes); }

CUresult alloc_pitch(CUdeviceptr* p, size_t* pitch, size_t width, size_t height, unsigned) {
  *pitch = (width + 255) / 256 * 256;
  return alloc(p, *pitch * height);
}

CUresult free_memory(CUdeviceptr p) {
  NEED_CONTEXT();
  if (p == 0) return CUDA_SUCCESS;
  Block* block;
  CUresult r = mem_retire(p, &block);
  if (r != CUDA_SUCCESS) return r;
  r = drain(false);
  const CUresult released = mem_release(block);
  return r == CUDA_SUCCESS ? released : r;
}

CUresult memory_info(size_t* available, size_t* total) {
  NEED_CONTEXT();
  mem_info(available, total);
  return CUDA_SUCCESS;
}

CUresult address_range(CUdeviceptr* base, size_t* bytes, CUdeviceptr p) {
  NEED_CONTEXT();
  return mem_range(p, base, bytes);
}

CUresult pointer_attribute(void* value, CUpointer_attribute attribute, CUdeviceptr p) {
  CUdeviceptr base;
  const CUresult r = mem_range(p, &base, nullptr);
  if (r != CUDA_SUCCESS) return r;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      *static_cast<CUcontext*>(value) = current();
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      *static_cast<CUmemorytype*>(value) = CU_MEMORYTYPE_DEVICE;
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      *static_cast<CUdeviceptr*>(value) = p;
      return CUDA_SUCCESS;
    default:
      return fail(CUDA_ERROR_INVALID_VALUE, "pointer attribute %d", static_cast<int>(attribute));
  }
}

CUresult to_device(CUdeviceptr to, const void* from, size_t n, CUstream stream) {
  return on(stream, [=](CUstream s) { return copy_to_device(s, to, from, n); });
}

CUresult to_device_now(CUdeviceptr to, const void* from, size_t n) {
  return to_device(to, from, n, nullptr);
}

CUresult to_host(void* to, CUdeviceptr from, size_t n, CUstream stream) {
  return on(stream, [=](CUstream s) { return copy_to_host(s, to, from, n); });
}

CUresult to_host_now(void* to, CUdeviceptr from, size_t n) { return to_host(to, from, n, nullptr); }

CUresult on_device(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream stream) {
  return on(stream, [=](CUstream s) { return copy_on_device(s, to, from, n); });
}

CUresult on_device_now(CUdeviceptr to, CUdeviceptr from, size_t n) {
  return on_device(to, from, n, nullptr);
}

template <class T>
CUresult set_async(CUdeviceptr to, T value, size_t count, CUstream stream) {
  return on(stream, [=](CUstream s) { return set(s, to, value, sizeof(T), count); });
}

template <class T>
CUresult set_now(CUdeviceptr to, T value, size_t count) {
  return set_async<T>(to, value, count, nullptr);
}

// ---- modules and launches

// The host's kernels are all of this build's, whatever the image holds for GPUs.
CUresult module_load(CUmodule* module, const void*) {
  NEED_CONTEXT();
  *module = new CUmod_st;
  return CUDA_SUCCESS;
}

CUresult module_load_with(CUmodule* module, const void* image, unsigned, CUjit_option*, void**) {
  return module_load(module, image);
}

CUresult module_unload(CUmodule module) {
  delete module;
  return CUDA_SUCCESS;
}

CUresult module_function(CUfunction* function, CUmodule, const char* name) {
  for (int i = 0; const HostKernel* k = kernel_at(i); i++) {
    if (strcmp(k->name, name) != 0) continue;
    *function = reinterpret_cast<CUfunction>(const_cast<HostKernel*>(k));
    return CUDA_SUCCESS;
  }
  return fail(CUDA_ERROR_NOT_FOUND, "no kernel %s in this build", name);
}

CUresult launch_kernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                       unsigned by, unsigned bz, unsigned, CUstream stream, void** params,
                       void** extra) {
  if (function == nullptr) return fail(CUDA_ERROR_INVALID_HANDLE, "no function");
  const HostKernel* k = reinterpret_cast<const HostKernel*>(function);
  if (gx == 0 || gx > 0x7fffffff || gy != 1 || gz != 1) {
    return fail(CUDA_ERROR_INVALID_VALUE, "kernel %s: grid %ux%ux%u", k->name, gx, gy, gz);
  }
  if (bx == 0 || by == 0 || bz == 0 || static_cast<uint64_t>(bx) * by * bz > 1024) {
    return fail(CUDA_ERROR_INVALID_VALUE, "kernel %s: block %ux%ux%u", k->name, bx, by, bz);
  }
  if (extra != nullptr || (params == nullptr && k->nparams != 0)) {
    return fail(CUDA_ERROR_NOT_SUPPORTED, "kernel %s: packed parameters", k->name);
  }
  return on(stream, [=](CUstream s) { return launch(s, k, gx, params); });
}

CUresult function_attribute(int* value, CUfunction_attribute attribute, CUfunction) {
  *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}

CUresult function_cache(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }

CUresult occupancy(int* blocks, CUfunction, int, size_t) {
  *blocks = 1;
  return CUDA_SUCCESS;
}

CUresult occupancy_with(int* blocks, CUfunction f, int threads, size_t shared, unsigned) {
  return occupancy(blocks, f, threads, shared);
}

}  // namespace

const char* isa() { return isa_name; }

int cores() {
  static const int n = [] {
    const char* v = getenv("GOCP_THREADS");
    if (v != nullptr && atoi(v) > 0) return atoi(v);
    const int usable = omp_get_num_procs(), paid = quota_cores();
    return paid > 0 ? std::min(usable, paid) : usable;
  }();
  return n;
}

const HostKernel* kernel_at(int i) {
  if (i < 0) return nullptr;
  if (i < kernel_count) return &kernels[i];
#if GOCP_HAVE_ONEDNN
  if (i - kernel_count < gocp_onednn_count) return &gocp_onednn_kernels[i - kernel_count];
#endif
  return nullptr;
}

void fill_table(gocp_table* t) {
  t->cuInit = init;
  t->cuDeviceGetCount = device_count;
  t->cuDeviceGet = device_get;
  t->cuDeviceGetName = device_name;
  t->cuDeviceGetUuid = device_uuid;
  t->cuDeviceTotalMem_v2 = device_memory;
  t->cuDeviceGetAttribute = device_attribute;
  t->cuDeviceCanAccessPeer = can_access_peer;
  t->cuDriverGetVersion = driver_version;

  t->cuCtxCreate_v2 = context_create;
  t->cuCtxDestroy_v2 = context_destroy;
  t->cuCtxSetCurrent = context_set;
  t->cuCtxGetCurrent = context_get;
  t->cuCtxPushCurrent_v2 = context_push;
  t->cuCtxPopCurrent_v2 = context_pop;
  t->cuCtxGetDevice = context_device;
  t->cuCtxGetFlags = context_flags;
  t->cuCtxGetApiVersion = context_version;
  t->cuCtxGetStreamPriorityRange = context_priorities;
  t->cuCtxSynchronize = context_sync;
  t->cuDevicePrimaryCtxRetain = primary_retain;
  t->cuDevicePrimaryCtxRelease_v2 = primary_release;
  t->cuDevicePrimaryCtxReset_v2 = primary_reset;
  t->cuDevicePrimaryCtxGetState = primary_state;
  t->cuDevicePrimaryCtxSetFlags_v2 = primary_flags;

  t->cuStreamCreate = create_plain_stream;
  t->cuStreamCreateWithPriority = create_stream;
  t->cuStreamDestroy_v2 = destroy_stream;
  t->cuStreamSynchronize = sync_stream;
  t->cuStreamQuery = query_stream;
  t->cuStreamGetFlags = flags_of_stream;
  t->cuStreamGetPriority = priority_of_stream;
  t->cuStreamWaitEvent = wait_event;
  t->cuEventCreate = create_event;
  t->cuEventDestroy_v2 = event_destroy;
  t->cuEventRecord = record_event;
  t->cuEventQuery = event_query;
  t->cuEventSynchronize = event_sync;
  t->cuEventElapsedTime = event_elapsed;

  t->cuMemAlloc_v2 = alloc;
  t->cuMemAllocManaged = alloc_managed;
  t->cuMemAllocPitch_v2 = alloc_pitch;
  t->cuMemFree_v2 = free_memory;
  t->cuMemFreeHost = mem_free_host;
  t->cuMemGetInfo_v2 = memory_info;
  t->cuMemGetAddressRange_v2 = address_range;
  t->cuPointerGetAttribute = pointer_attribute;
  t->cuMemcpyHtoD_v2 = to_device_now;
  t->cuMemcpyDtoH_v2 = to_host_now;
  t->cuMemcpyDtoD_v2 = on_device_now;
  t->cuMemcpy = on_device_now;
  t->cuMemcpyHtoDAsync_v2 = to_device;
  t->cuMemcpyDtoHAsync_v2 = to_host;
  t->cuMemcpyDtoDAsync_v2 = on_device;
  t->cuMemcpyAsync = on_device;
  t->cuMemsetD8_v2 = set_now<unsigned char>;
  t->cuMemsetD16_v2 = set_now<unsigned short>;
  t->cuMemsetD32_v2 = set_now<unsigned>;
  t->cuMemsetD8Async = set_async<unsigned char>;
  t->cuMemsetD16Async = set_async<unsigned short>;
  t->cuMemsetD32Async = set_async<unsigned>;

  t->cuModuleLoadData = module_load;
  t->cuModuleLoadFatBinary = module_load;
  t->cuModuleLoadDataEx = module_load_with;
  t->cuModuleUnload = module_unload;
  t->cuModuleGetFunction = module_function;
  t->cuLaunchKernel = launch_kernel;
  t->cuFuncGetAttribute = function_attribute;
  t->cuFuncSetCacheConfig = function_cache;
  t->cuOccupancyMaxActiveBlocksPerMultiprocessor = occupancy;
  t->cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags = occupancy_with;
}

}  // namespace gocp
