/* What csrc adds to the driver interface of cuda.h, on both back ends: the choice of back end and
   its reason, a stream's width, recorded command lists, pinned memory, and words for errors. */
#ifndef GOCP_H
#define GOCP_H
#include <stdint.h>

#include "cuda.h"
#ifdef __cplusplus
extern "C" {
#endif

/* "cuda", "host", or "none" when cuInit failed. */
const char* gocp_backend(void);
/* One line: what was taken, and why. */
const char* gocp_why(void);
/* Which build of the host kernels runs: "base", "v3" or "v4"; "" on cuda. */
const char* gocp_isa(void);
/* Version of oneDNN and what it makes of this processor, "" on cuda. */
const char* gocp_onednn(void);
/* Whether GOCP_CHECK=1 guards the host engine's memory and launches; on cuda, whether it was set.
 */
int gocp_checked(void);
/* The cores this process may use (GOCP_THREADS overrides): a stream's width by default. */
int gocp_cores(void);
/* The GPU code that this build carries (scripts/gpu.sh), null if none. */
const char* gocp_image(size_t* bytes);
/* Whether a device is a MIG slice of a card. */
int gocp_is_slice(CUdevice device);
/* Bytes of device memory in use; on cuda, by everyone. */
size_t gocp_mem_in_use(void);
/* The calling thread's last failure in words, "" if there is nothing to add to the code. */
const char* gocp_last_error(void);
/* What the driver says of a code, "" if nothing; the host engine says it by gocp_last_error. */
const char* gocp_error_text(CUresult code);

/* The i-th host kernel's name, null past the last one and on cuda. */
const char* gocp_kernel_name(int i);
/* How many parameters it has; *kinds is the kind of each, one of "ilfp" (int32, int64, float32,
   pointer), not terminated. */
int gocp_kernel_params(int i, const char** kinds);

/* How many threads share a launch on this stream; 1: none but the stream's own. No effect on
   cuda. */
CUresult gocp_stream_set_width(CUstream stream, int width);
/* Frees memory once all work enqueued on this stream is done with it, without waiting for that or
   for any other stream (on cuda: cuMemFree, which waits). */
CUresult gocp_mem_free(CUdeviceptr p, CUstream stream);
/* Page-locked host memory: copies to and from it need not wait. Freed by cuMemFreeHost. */
CUresult gocp_mem_alloc_host(void** p, size_t bytes);

/* Between begin and end, work enqueued on the stream is recorded instead of run. A recorded list is
   launched as one command. On the host engine a captured list holds launches, memsets and copies
   on the device; anything else fails, and so does the end. */
typedef struct gocp_graph gocp_graph;
CUresult gocp_capture_begin(CUstream stream);
CUresult gocp_capture_end(CUstream stream, gocp_graph** graph);
CUresult gocp_graph_launch(gocp_graph* graph, CUstream stream);
CUresult gocp_graph_destroy(gocp_graph* graph);

/* Named ranges of time for profilers (NVTX): of the calling thread, nested, or of the process.
   Without a profiler (gocp_profiled() is 0, always) they do nothing. */
int gocp_profiled(void);
void gocp_range_push(const char* name);
void gocp_range_pop(void);
uint64_t gocp_range_start(const char* name);
void gocp_range_end(uint64_t id);

#ifdef __cplusplus
}
#endif
#endif
