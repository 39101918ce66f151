// Named ranges of time for profilers, by NVTX. A profiler gives its library in
// NVTX_INJECTION64_PATH before the program starts; without one there is nothing to call.
#include <nvtx3/nvToolsExt.h>

#include "../gocp.h"

extern "C" {

int gocp_profiled(void) {
  nvtxInitialize(nullptr);
  // Initialisation clears what no tool took.
  return NVTX_VERSIONED_IDENTIFIER(nvtxGlobals).nvtxRangePushA_impl_fnptr != nullptr;
}

void gocp_range_push(const char* name) { nvtxRangePushA(name); }
void gocp_range_pop(void) { nvtxRangePop(); }
uint64_t gocp_range_start(const char* name) { return nvtxRangeStartA(name); }
void gocp_range_end(uint64_t id) { nvtxRangeEnd(id); }

}  // extern "C"
