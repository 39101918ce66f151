// The front of the driver interface: every cuXxx goes through one table, which cuInit fills once,
// from libcuda.so.1 or with the host engine. gorgonia.org/cu calls cuInit before main and exits if
// it fails, so the choice is made here, by the environment:
//
//   GOCP_DEVICE=auto   the driver, if it initialises, shows a device, and this build has code for
//                      it; else the host engine (the default)
//   GOCP_DEVICE=cuda   the driver, or an error
//   GOCP_DEVICE=cpu    the host engine
//   GOCP_LIBCUDA=FILE  the driver's library, instead of libcuda.so.1
//   GOCP_IMAGE=FILE    GPU code to load, instead of what this build carries
//   GOCP_CALLS=FILE    every driver call's name is appended to FILE, a line each (tests count them)
//
// A driver that is too old for the GPU code of this build, or a device that it has nothing for,
// counts as one that cannot be taken.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mutex>
#include <string>

#include "../host/engine.h"
#include "../onednn/about.h"
#include "image.h"
#include "table.h"

// A recorded command list: exactly one of the two is set.
struct gocp_graph {
  gocp::Graph* host;
  CUgraphExec exec;
};

namespace {

// Takes any function's parameters, and only answers.
template <CUresult code, class... A>
CUresult answer(A...) {
  return code;
}

// Before cuInit.
gocp_table table = {
    answer<CUDA_ERROR_NOT_INITIALIZED>,
#define GOCP_FN(name, params, args) answer<CUDA_ERROR_NOT_INITIALIZED>,
#include "functions.inc"
#undef GOCP_FN
};

// What a back end does not have.
const gocp_table unsupported = {
    answer<CUDA_ERROR_NOT_SUPPORTED>,
#define GOCP_FN(name, params, args) answer<CUDA_ERROR_NOT_SUPPORTED>,
#include "functions.inc"
#undef GOCP_FN
};

// Driver functions that gorgonia.org/cu does not bind. Constants by their values in cuda.h 11-13.
struct Extra {
  CUresult (*func_set_attribute)(CUfunction, int, int);
  CUresult (*module_get_function)(CUfunction*, CUmodule, const char*);
  CUresult (*stream_begin_capture)(CUstream, int);
  CUresult (*stream_end_capture)(CUstream, CUgraph*);
  CUresult (*graph_instantiate)(CUgraphExec*, CUgraph, unsigned long long);
  CUresult (*graph_launch)(CUgraphExec, CUstream);
  CUresult (*mem_host_alloc)(void**, size_t, unsigned);
  CUresult (*card_uuid)(CUuuid*, CUdevice);
  CUresult (*get_error_name)(CUresult, const char**);
  CUresult (*get_error_string)(CUresult, const char**);
};
constexpr int kCaptureRelaxed = 2;
constexpr int kFuncMaxDynamicShared = 8;
constexpr auto kFuncShared = CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
constexpr auto kDeviceSharedOptin = static_cast<CUdevice_attribute>(97);
Extra extra;

// GOCP_CALLS: the file, and the table that the noted calls go on to.
int calls = -1;
gocp_table noted;

void note(const char* name) {
  if (calls >= 0) dprintf(calls, "%s\n", name);
}

#define GOCP_FN(name, params, args) \
  CUresult note_##name params {     \
    note(#name);                    \
    return noted.name args;         \
  }
#include "functions.inc"
#undef GOCP_FN

void note_calls() {
  const char* path = getenv("GOCP_CALLS");
  if (path == nullptr || *path == 0) return;
  calls = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (calls < 0) return;
  noted = table;
#define GOCP_FN(name, params, args) table.name = note_##name;
#include "functions.inc"
#undef GOCP_FN
}

enum class Backend { kNone, kHost, kCuda };
Backend backend = Backend::kNone;
std::string why = "cuInit was not called";
CUresult init_result = CUDA_ERROR_NOT_INITIALIZED;

// cu v0.9.6 has no cuFuncSetAttribute: every function may use all the shared memory there is.
CUresult get_function_with_shared_memory(CUfunction* f, CUmodule m, const char* name) {
  const CUresult r = extra.module_get_function(f, m, name);
  CUdevice device;
  int optin = 0, used = 0;
  if (r == CUDA_SUCCESS && extra.func_set_attribute != nullptr &&
      table.cuCtxGetDevice(&device) == CUDA_SUCCESS &&
      table.cuDeviceGetAttribute(&optin, kDeviceSharedOptin, device) == CUDA_SUCCESS &&
      table.cuFuncGetAttribute(&used, kFuncShared, *f) == CUDA_SUCCESS &&
      optin - used > 48 * 1024) {
    extra.func_set_attribute(*f, kFuncMaxDynamicShared, optin - used);
  }
  return r;
}

template <class F>
void look_up(void* library, const char* symbol, F* f) {
  *f = reinterpret_cast<F>(dlsym(library, symbol));
}

std::string version_text(int v) {
  return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
}

bool image_is_given() {
  const char* path = getenv("GOCP_IMAGE");
  return path != nullptr && *path != 0;
}

// Whether this build's GPU code runs with that driver on the first device; else *said is why not.
bool image_fits(const gocp_table& real, int version, std::string* said) {
  if (gocp::image_size() == 0 || image_is_given()) return true;
  CUdevice device = 0;
  char name[128] = "";
  if (real.cuDeviceGet(&device, 0) == CUDA_SUCCESS) real.cuDeviceGetName(name, sizeof name, device);
  // A driver runs what compilers of its own major release made.
  const std::string made_by = gocp::image_line("nvcc");
  if (version / 1000 < atoi(made_by.c_str())) {
    *said = std::string(name) + ": the driver is for CUDA " + version_text(version) +
            ", and this build's GPU code wants CUDA " + std::to_string(atoi(made_by.c_str())) +
            ".0 or later";
    return false;
  }
  int major = 0, minor = 0;
  if (real.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) !=
          CUDA_SUCCESS ||
      real.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device) !=
          CUDA_SUCCESS) {
    return true;  // let the load say what is wrong
  }
  const int least = atoi(gocp::image_line("ptx").c_str());
  if (major * 10 + minor >= least) return true;
  *said = std::string(name) + " has compute capability " + std::to_string(major) + "." +
          std::to_string(minor) + ", and this build's GPU code begins at " +
          std::to_string(least / 10) + "." + std::to_string(least % 10);
  return false;
}

// Fills the table from the driver's library; *said is why it was taken, or why it could not be.
CUresult take_driver(unsigned flags, std::string* said) {
  const char* path = getenv("GOCP_LIBCUDA");
  if (path == nullptr || *path == 0) path = "libcuda.so.1";
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    *said = dlerror();
    return CUDA_ERROR_SHARED_OBJECT_INIT_FAILED;
  }
  gocp_table real = unsupported;
  look_up(library, "cuInit", &real.cuInit);
  if (real.cuInit == nullptr) {
    *said = std::string(path) + " has no cuInit";
    return CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND;
  }
#define GOCP_FN(name, params, args) \
  if (void* p = dlsym(library, #name)) real.name = reinterpret_cast<CUresult(*) params>(p);
#include "functions.inc"
#undef GOCP_FN
  look_up(library, "cuFuncSetAttribute", &extra.func_set_attribute);
  look_up(library, "cuStreamBeginCapture_v2", &extra.stream_begin_capture);
  look_up(library, "cuStreamEndCapture", &extra.stream_end_capture);
  look_up(library, "cuGraphInstantiateWithFlags", &extra.graph_instantiate);
  look_up(library, "cuGraphLaunch", &extra.graph_launch);
  look_up(library, "cuMemHostAlloc", &extra.mem_host_alloc);
  // Of a MIG slice cuDeviceGetUuid names the card, and its second version the slice.
  extra.card_uuid = real.cuDeviceGetUuid;
  if (void* p = dlsym(library, "cuDeviceGetUuid_v2"))
    real.cuDeviceGetUuid = reinterpret_cast<CUresult (*)(CUuuid*, CUdevice)>(p);
  look_up(library, "cuGetErrorName", &extra.get_error_name);
  look_up(library, "cuGetErrorString", &extra.get_error_string);

  CUresult r = real.cuInit(flags);
  if (r != CUDA_SUCCESS) {
    const char* name = nullptr;
    if (extra.get_error_name != nullptr) extra.get_error_name(r, &name);
    *said = std::string(path) + ": cuInit: " +
            (name != nullptr ? name : "error " + std::to_string(static_cast<int>(r)));
    return r;
  }
  int devices = 0, version = 0;
  r = real.cuDeviceGetCount(&devices);
  if (r == CUDA_SUCCESS && devices == 0) r = CUDA_ERROR_NO_DEVICE;
  if (r != CUDA_SUCCESS) {
    *said = std::string(path) + " shows no device";
    return r;
  }
  real.cuDriverGetVersion(&version);
  if (!image_fits(real, version, said)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  extra.module_get_function = real.cuModuleGetFunction;
  real.cuModuleGetFunction = get_function_with_shared_memory;
  table = real;
  *said = std::string(path) + ", driver " + version_text(version) + ", " + std::to_string(devices) +
          (devices == 1 ? " device" : " devices");
  return CUDA_SUCCESS;
}

CUresult take_host(unsigned flags, const std::string& because) {
  gocp_table host = unsupported;
  gocp::fill_table(&host);
  const CUresult r = host.cuInit(flags);
  if (r != CUDA_SUCCESS) {
    why = gocp::last_error();
    return r;
  }
  table = host;
  backend = Backend::kHost;
  why = "host engine: " + because;
  return CUDA_SUCCESS;
}

CUresult choose(unsigned flags) {
  const char* value = getenv("GOCP_DEVICE");
  const std::string device = value == nullptr || *value == 0 ? "auto" : value;
  if (device == "cpu") return take_host(flags, "GOCP_DEVICE=cpu");
  if (device != "auto" && device != "cuda") {
    why = "GOCP_DEVICE=" + device + ": not one of auto, cuda, cpu";
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (device == "auto" && !image_is_given() && gocp::image_size() == 0) {
    return take_host(flags, "this build carries no GPU code");
  }
  std::string said;
  const CUresult r = take_driver(flags, &said);
  if (r == CUDA_SUCCESS) {
    backend = Backend::kCuda;
    why = "cuda: " + said;
    return r;
  }
  if (device == "cuda") {
    why = "GOCP_DEVICE=cuda: " + said;
    return r;
  }
  return take_host(flags, said);
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned flags) {
  static std::once_flag once;
  std::call_once(once, [flags] {
    init_result = choose(flags);
    // gorgonia.org/cu would print the code as well, and exit.
    if (init_result != CUDA_SUCCESS) {
      fprintf(stderr, "gocp: %s\n", why.c_str());
      _exit(1);
    }
    note_calls();
  });
  return init_result;
}

#define GOCP_FN(name, params, args) \
  CUresult name params { return table.name args; }
#include "functions.inc"
#undef GOCP_FN

const char* gocp_backend(void) {
  return backend == Backend::kCuda ? "cuda" : backend == Backend::kHost ? "host" : "none";
}
const char* gocp_why(void) { return why.c_str(); }
const char* gocp_isa(void) { return backend == Backend::kHost ? gocp::isa() : ""; }
const char* gocp_onednn(void) {
  return backend == Backend::kHost ? gocp::about_onednn().c_str() : "";
}
int gocp_checked(void) {
  if (backend == Backend::kHost) return gocp::checked();
  const char* check = getenv("GOCP_CHECK");
  return check != nullptr && strcmp(check, "1") == 0;
}
int gocp_cores(void) { return gocp::cores(); }
const char* gocp_last_error(void) { return backend == Backend::kHost ? gocp::last_error() : ""; }
const char* gocp_error_text(CUresult r) {
  const char* text = nullptr;
  const bool known = extra.get_error_string != nullptr &&
                     extra.get_error_string(r, &text) == CUDA_SUCCESS && text != nullptr;
  return backend == Backend::kCuda && known ? text : "";
}

const char* gocp_image(size_t* bytes) {
  *bytes = gocp::image_size();
  return gocp::image_data();
}

int gocp_is_slice(CUdevice device) {
  CUuuid own, card;
  return backend == Backend::kCuda && table.cuDeviceGetUuid(&own, device) == CUDA_SUCCESS &&
         extra.card_uuid(&card, device) == CUDA_SUCCESS && memcmp(&own, &card, sizeof own) != 0;
}

size_t gocp_mem_in_use(void) {
  if (backend == Backend::kHost) return gocp::mem_in_use();
  size_t available = 0, total = 0;
  return table.cuMemGetInfo_v2(&available, &total) == CUDA_SUCCESS ? total - available : 0;
}

const char* gocp_kernel_name(int i) {
  const gocp::HostKernel* k = backend == Backend::kHost ? gocp::kernel_at(i) : nullptr;
  return k == nullptr ? nullptr : k->name;
}

int gocp_kernel_params(int i, const char** kinds) {
  const gocp::HostKernel* k = backend == Backend::kHost ? gocp::kernel_at(i) : nullptr;
  if (k == nullptr) return -1;
  *kinds = reinterpret_cast<const char*>(k->kinds);
  return k->nparams;
}

CUresult gocp_stream_set_width(CUstream stream, int width) {
  return backend == Backend::kHost ? gocp::stream_set_width(stream, width) : CUDA_SUCCESS;
}

CUresult gocp_mem_free(CUdeviceptr p, CUstream stream) {
  if (backend == Backend::kCuda) return table.cuMemFree_v2(p);
  note("cuMemFree_v2");
  return gocp::mem_free_after(p, stream);
}

CUresult gocp_mem_alloc_host(void** p, size_t bytes) {
  if (backend == Backend::kHost) return gocp::mem_alloc_host(p, bytes);
  return extra.mem_host_alloc != nullptr ? extra.mem_host_alloc(p, bytes, 0)
                                         : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult gocp_capture_begin(CUstream stream) {
  note("cuStreamBeginCapture");
  if (backend == Backend::kHost) return gocp::capture_begin(stream);
  if (extra.stream_begin_capture == nullptr || extra.stream_end_capture == nullptr ||
      extra.graph_instantiate == nullptr || extra.graph_launch == nullptr) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  return extra.stream_begin_capture(stream, kCaptureRelaxed);
}

CUresult gocp_capture_end(CUstream stream, gocp_graph** graph) {
  *graph = nullptr;
  note("cuStreamEndCapture");
  if (backend == Backend::kHost) {
    gocp::Graph* host = nullptr;
    const CUresult r = gocp::capture_end(stream, &host);
    if (r == CUDA_SUCCESS) *graph = new gocp_graph{host, nullptr};
    return r;
  }
  CUgraph recorded = nullptr;
  CUresult r = extra.stream_end_capture(stream, &recorded);
  if (r != CUDA_SUCCESS) return r;
  CUgraphExec exec = nullptr;
  note("cuGraphInstantiate");
  r = extra.graph_instantiate(&exec, recorded, 0);
  table.cuGraphDestroy(recorded);
  if (r == CUDA_SUCCESS) *graph = new gocp_graph{nullptr, exec};
  return r;
}

CUresult gocp_graph_launch(gocp_graph* graph, CUstream stream) {
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  note("cuGraphLaunch");
  return graph->host != nullptr ? gocp::graph_launch(graph->host, stream)
                                : extra.graph_launch(graph->exec, stream);
}

CUresult gocp_graph_destroy(gocp_graph* graph) {
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUresult r = CUDA_SUCCESS;
  if (graph->host != nullptr) {
    gocp::graph_release(graph->host);
  } else {
    r = table.cuGraphExecDestroy(graph->exec);
  }
  delete graph;
  return r;
}

}  // extern "C"
