/* A stand-in for libcuda.so.1, for tests of the driver front: memory by malloc, work done at once,
   two kernels. Each device has a context; memory, streams and kernels of another one than the
   thread's are refused. Threads may call it at once. It says on stderr what the tests want to see.

     FAKE_INIT=code     cuInit fails with it
     FAKE_DEVICES=n     how many devices there are (1) */
#include <cuda.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NODES 64

#define MAX_DEVICES 8

struct CUstream_st {
  CUgraph capture;
  CUcontext context;
};
struct CUmod_st {
  CUcontext context;
};
struct CUfunc_st {
  int which;
  CUcontext context;
};
struct node {
  CUfunction f;
  unsigned n;
  CUdeviceptr x;
  float a;
};
struct CUgraph_st {
  int nodes;
  struct node node[MAX_NODES];
};

/* A context is its device's entry. */
struct CUctx_st {
  struct CUmod_st module;
  struct CUfunc_st functions[2];
  int dynamic_shared[2];
  atomic_int launches;
};
static struct CUctx_st contexts[MAX_DEVICES];
static _Thread_local CUcontext current;
static atomic_size_t in_use;

static int number(const char* name, int otherwise) {
  const char* v = getenv(name);
  return v == NULL ? otherwise : atoi(v);
}

CUresult cuDriverGetVersion(int* version) {
  *version = number("FAKE_VERSION", 13020);
  return CUDA_SUCCESS;
}
CUresult cuInit(unsigned flags) {
  (void)flags;
  return (CUresult)number("FAKE_INIT", CUDA_SUCCESS);
}
CUresult cuDeviceGetCount(int* count) {
  /* The real driver calls itself like this: the front must not answer in its place. */
  int version = 0;
  cuDriverGetVersion(&version);
  if (version != number("FAKE_VERSION", 13020)) fprintf(stderr, "fakecuda: interposed\n");
  *count = number("FAKE_DEVICES", 1);
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult code, const char** name) {
  *name = code == CUDA_ERROR_SYSTEM_DRIVER_MISMATCH ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : NULL;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return ordinal < number("FAKE_DEVICES", 1) && ordinal < MAX_DEVICES ? CUDA_SUCCESS
                                                                      : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
  memset(uuid, 16 + device, sizeof *uuid);
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int size, CUdevice device) {
  (void)device;
  snprintf(name, (size_t)size, "Fake GPU");
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice device) {
  (void)device;
  *bytes = (size_t)1 << 30;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  (void)device;
  const int capability = number("FAKE_CAPABILITY", 90);
  *value = (int)attribute == 97   ? 232448
           : (int)attribute == 75 ? capability / 10
           : (int)attribute == 76 ? capability % 10
                                  : 0;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  *context = &contexts[device];
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  fprintf(stderr, "fakecuda: released device %d after %d launches with %zu bytes in use\n", device,
          atomic_load(&contexts[device].launches), atomic_load(&in_use));
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  if (context < contexts || context >= contexts + MAX_DEVICES) return CUDA_ERROR_INVALID_CONTEXT;
  current = context;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
  if (current == NULL) return CUDA_ERROR_INVALID_CONTEXT;
  *device = (CUdevice)(current - contexts);
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  if (strcmp(image, "fake image") != 0) return CUDA_ERROR_INVALID_IMAGE;
  if (current == NULL) return CUDA_ERROR_INVALID_CONTEXT;
  current->module.context = current;
  *module = &current->module;
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) {
  (void)module;
  return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction* f, CUmodule module, const char* name) {
  if (module->context != current) return CUDA_ERROR_INVALID_CONTEXT;
  if (strcmp(name, "scale") != 0 && strcmp(name, "shift") != 0) return CUDA_ERROR_NOT_FOUND;
  const int which = strcmp(name, "shift") == 0;
  *f = &current->functions[which];
  **f = (struct CUfunc_st){which, current};
  return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction f) {
  (void)f;
  *value = attribute == CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES ? 1024 : 0;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction f, int attribute, int value) {
  if (attribute == 8) f->context->dynamic_shared[f->which] = value;
  return CUDA_SUCCESS;
}

static void run(const struct node* k) {
  float* x = (float*)(size_t)k->x;
  for (unsigned i = 0; i < k->n; i++) x[i] = k->f->which == 0 ? x[i] * k->a : x[i] + k->a;
}

/* scale(n, x, a) and shift(n, x, a) */
CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared, CUstream stream, void** params,
                        void** extra) {
  (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)extra;
  if (gx == 0) return CUDA_ERROR_INVALID_VALUE;
  const size_t* memory = (const size_t*)(size_t) * (CUdeviceptr*)params[1] - 2;
  if (f->context != current || stream->context != current || (CUcontext)memory[1] != current) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  current->launches++;
  if (current->dynamic_shared[f->which] != 232448 - 1024) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  struct node k = {f, *(unsigned*)params[0], *(CUdeviceptr*)params[1], *(float*)params[2]};
  if (stream->capture == NULL) {
    run(&k);
  } else if (stream->capture->nodes < MAX_NODES) {
    stream->capture->node[stream->capture->nodes++] = k;
  }
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  (void)flags;
  *stream = calloc(1, sizeof **stream);
  (*stream)->context = current;
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) {
  free(stream);
  return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
  (void)stream;
  return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  if (mode != 2) return CUDA_ERROR_INVALID_VALUE;
  stream->capture = calloc(1, sizeof *stream->capture);
  return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  *graph = stream->capture;
  stream->capture = NULL;
  return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long flags) {
  (void)flags;
  CUgraph copy = malloc(sizeof *copy);
  *copy = *graph;
  *exec = (CUgraphExec)copy;
  return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  (void)stream;
  CUgraph graph = (CUgraph)exec;
  for (int i = 0; i < graph->nodes; i++) run(&graph->node[i]);
  return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) {
  free(graph);
  return CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec exec) {
  free(exec);
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr* p, size_t bytes) {
  size_t* raw = malloc(16 + bytes);
  raw[0] = bytes;
  raw[1] = (size_t)current;
  in_use += bytes;
  *p = (CUdeviceptr)(size_t)(raw + 2);
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr p) {
  size_t* raw = (size_t*)(size_t)p - 2;
  in_use -= raw[0];
  free(raw);
  return CUDA_SUCCESS;
}
CUresult cuMemGetInfo(size_t* available, size_t* total) {
  *total = (size_t)1 << 30;
  *available = *total - in_use;
  return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  (void)stream;
  memcpy((void*)(size_t)to, from, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  (void)stream;
  memcpy(to, (void*)(size_t)from, bytes);
  return CUDA_SUCCESS;
}
