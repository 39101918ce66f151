// A profiler for tests: it writes every range of NVTX as a line to the file that NVTX_RECORD names.
//
//   push THREAD NAME    pop THREAD    start ID NAME    end ID
#include <nvtx3/nvToolsExt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>

namespace {

FILE* file;
std::mutex mutex;
uint64_t ids;

long thread() { return syscall(SYS_gettid); }

int push(const char* name) {
  const std::lock_guard<std::mutex> lock(mutex);
  fprintf(file, "push %ld %s\n", thread(), name);
  return 0;
}

int pop() {
  const std::lock_guard<std::mutex> lock(mutex);
  fprintf(file, "pop %ld\n", thread());
  fflush(file);
  return 0;
}

nvtxRangeId_t start(const char* name) {
  const std::lock_guard<std::mutex> lock(mutex);
  fprintf(file, "start %llu %s\n", static_cast<unsigned long long>(++ids), name);
  return ids;
}

void end(nvtxRangeId_t id) {
  const std::lock_guard<std::mutex> lock(mutex);
  fprintf(file, "end %llu\n", static_cast<unsigned long long>(id));
  fflush(file);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtx2(
    NvtxGetExportTableFunc_t get) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  const char* path = getenv("NVTX_RECORD");
  if (callbacks == nullptr || path == nullptr ||
      callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size) == 0 ||
      size <= NVTX_CBID_CORE_RangePop) {
    return 0;
  }
  file = fopen(path, "w");
  if (file == nullptr) return 0;
  *table[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(push);
  *table[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
  *table[NVTX_CBID_CORE_RangeStartA] = reinterpret_cast<NvtxFunctionPointer>(start);
  *table[NVTX_CBID_CORE_RangeEnd] = reinterpret_cast<NvtxFunctionPointer>(end);
  return 1;
}
