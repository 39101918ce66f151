// Driver API without the runtime: module from PTX text, stream capture and graph replay,
// stream-ordered memory, attributes, entry points, stubs and error reporting. Links libcuda.so.1
// only.
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static int checks = 0, failures = 0;

static void Check(bool ok, const char* what) {
  checks++;
  failures += !ok;
  if (!ok) printf("FAIL driver_api: %s\n", what);
}

// data[i] = data[i] * factor + 1
static const char kPtx[] = R"(
.version 7.0
.target sm_80
.address_size 64
.visible .entry scale(.param .u64 data, .param .f32 factor, .param .u32 count) {
  .reg .pred %p; .reg .f32 %f<3>; .reg .b32 %r<6>; .reg .b64 %rd<4>;
  ld.param.u64 %rd0, [data]; ld.param.f32 %f0, [factor]; ld.param.u32 %r0, [count];
  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
  mad.lo.s32 %r4, %r1, %r2, %r3; setp.ge.u32 %p, %r4, %r0; @%p bra DONE;
  cvta.to.global.u64 %rd1, %rd0; mul.wide.u32 %rd2, %r4, 4; add.s64 %rd3, %rd1, %rd2;
  ld.global.f32 %f1, [%rd3]; fma.rn.f32 %f2, %f1, %f0, 0f3F800000; st.global.f32 [%rd3], %f2;
DONE: ret;
})";

static void TestGraph(CUfunction scale) {
  const int n = 100;
  std::vector<float> in(n), out(n, -1);
  for (int i = 0; i < n; i++) in[i] = float(i);
  CUdeviceptr data;
  CUstream stream, other;
  CUevent fork, join;
  Check(cuStreamCreate(&stream, 0) == 0 && cuStreamCreate(&other, 0) == 0, "cuStreamCreate");
  Check(cuEventCreate(&fork, 0) == 0 && cuEventCreate(&join, 0) == 0, "cuEventCreate");
  Check(cuMemAllocAsync(&data, n * 4, stream) == 0, "cuMemAllocAsync");

  CUgraph graph;
  CUgraphExec exec;
  float factor = 2;
  int count = n;
  void* arguments[] = {&data, &factor, &count};
  Check(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0, "cuStreamBeginCapture");
  Check(cuMemcpyHtoDAsync(data, in.data(), n * 4, stream) == 0, "capture memcpy");
  Check(cuLaunchKernel(scale, 1, 1, 1, 128, 1, 1, 0, stream, arguments, nullptr) == 0,
        "capture launch");
  factor = 3;  // arguments are copied at capture
  Check(cuEventRecord(fork, stream) == 0 && cuStreamWaitEvent(other, fork, 0) == 0, "fork");
  Check(cuLaunchKernel(scale, 1, 1, 1, 128, 1, 1, 0, other, arguments, nullptr) == 0,
        "capture on joined stream");
  Check(cuEventRecord(join, other) == 0 && cuStreamWaitEvent(stream, join, 0) == 0, "join");
  Check(cuMemcpyDtoHAsync(out.data(), data, n * 4, stream) == 0, "capture copy back");
  Check(cuMemsetD32Async(data, 0, n, stream) == 0, "capture memset");
  CUstreamCaptureStatus status;
  Check(cuStreamIsCapturing(stream, &status) == 0 && status == CU_STREAM_CAPTURE_STATUS_ACTIVE,
        "is capturing");
  Check(cuStreamEndCapture(stream, &graph) == 0 && graph, "cuStreamEndCapture");
  size_t nodes = 0;
  Check(cuGraphGetNodes(graph, nullptr, &nodes) == 0 && nodes == 5, "five nodes");
  Check(out[0] == -1, "nothing runs during capture");
  Check(cuGraphInstantiateWithFlags(&exec, graph, 0) == 0, "cuGraphInstantiateWithFlags");
  Check(cuGraphDestroy(graph) == 0, "cuGraphDestroy");

  for (int replay = 0; replay < 2; replay++) {
    in[7] = float(replay);  // sources are read at replay
    Check(cuGraphLaunch(exec, stream) == 0 && cuStreamSynchronize(stream) == 0, "cuGraphLaunch");
    bool equal = true;
    for (int i = 0; i < n; i++) equal &= out[i] == (in[i] * 2 + 1) * 3 + 1;
    Check(equal, "replayed result");
  }
  Check(cuMemcpyDtoH(out.data(), data, n * 4) == 0 && out[5] == 0, "memset replayed last");
  Check(cuMemsetD8Async(data, 1, 4, other) == 0, "joined stream is free again");

  Check(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0, "second capture");
  CUdeviceptr forbidden;
  Check(cuMemAlloc(&forbidden, 4) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        "cuMemAlloc during capture");
  Check(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        "capture invalidated");
  Check(cuGraphExecDestroy(exec) == 0, "cuGraphExecDestroy");
  Check(cuMemFreeAsync(data, stream) == 0, "cuMemFreeAsync");
  Check(cuStreamDestroy(stream) == 0 && cuStreamDestroy(other) == 0, "cuStreamDestroy");
  Check(cuEventDestroy(fork) == 0 && cuEventDestroy(join) == 0, "cuEventDestroy");
}

static void TestQueries(CUdevice device, CUfunction scale) {
  int value = 0;
  Check(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, device) == 0 && value == 32,
        "warp size");
  Check(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, scale) == 0 &&
            value == 1024,
        "threads");
  Check(cuFuncSetAttribute(scale, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100 << 10) == 0,
        "100 KiB shared");
  Check(cuFuncSetAttribute(scale, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 20) != 0,
        "1 MiB shared");
  Check(cuOccupancyMaxActiveBlocksPerMultiprocessor(&value, scale, 256, 0) == 0 && value == 8,
        "occupancy");
  void* function = nullptr;
  Check(cuGetProcAddress("cuMemAlloc", &function, 13000, 0, nullptr) == 0 &&
            function == (void*)cuMemAlloc,
        "cuGetProcAddress picks the _v2 function");
  Check(cuGetProcAddress("cuNoSuchThing", &function, 13000, 0, nullptr) == CUDA_ERROR_NOT_FOUND,
        "unknown name");
  CUarray array = nullptr;
  Check(cuArrayDestroy(array) == CUDA_ERROR_NOT_SUPPORTED, "stub");
  CUevent begin, end;
  float milliseconds = -1;
  Check(cuEventCreate(&begin, 0) == 0 && cuEventCreate(&end, 0) == 0, "events");
  Check(cuEventElapsedTime(&milliseconds, begin, end) == CUDA_ERROR_INVALID_HANDLE,
        "unrecorded events");
  Check(cuEventRecord(begin, nullptr) == 0 && cuEventRecord(end, nullptr) == 0, "cuEventRecord");
  Check(cuEventElapsedTime(&milliseconds, begin, end) == 0 && milliseconds >= 0,
        "cuEventElapsedTime");
  void* host;
  Check(cuMemHostAlloc(&host, 64, 0) == 0 && cuMemFreeHost(host) == 0, "cuMemHostAlloc");
  CUmodule bad;
  Check(cuModuleLoadData(&bad, "not PTX") == CUDA_ERROR_INVALID_PTX, "bad PTX");
}

// What needs a context says so without one, and a handle of nothing is refused.
static void TestHandles(CUcontext context, CUfunction scale) {
  CUcontext popped = nullptr;
  Check(cuCtxPopCurrent(&popped) == 0 && popped == context, "cuCtxPopCurrent");
  Check(cuCtxPopCurrent(&popped) == CUDA_ERROR_INVALID_CONTEXT, "nothing to pop");
  CUmodule module;
  CUfunction function;
  CUdeviceptr data = 0;
  CUstream stream;
  size_t bytes = 0;
  float factor = 1;
  int count = 0;
  void* arguments[] = {&data, &factor, &count};
  const CUresult none = CUDA_ERROR_INVALID_CONTEXT;
  Check(cuLaunchKernel(scale, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr) == none,
        "launch without a context");
  Check(cuModuleLoadData(&module, kPtx) == none, "module without a context");
  Check(cuModuleGetFunction(&function, nullptr, "scale") == none, "function without a context");
  Check(cuModuleUnload(nullptr) == none, "unload without a context");
  Check(cuMemAlloc(&data, 4) == none && cuMemGetInfo(&bytes, &bytes) == none,
        "memory without a context");
  Check(cuStreamCreate(&stream, 0) == none, "stream without a context");
  Check(cuCtxSynchronize() == none, "synchronize without a context");
  Check(cuCtxPushCurrent(context) == 0, "cuCtxPushCurrent");
  Check(cuModuleGetFunction(&function, nullptr, "scale") == CUDA_ERROR_INVALID_HANDLE,
        "function of no module");
  Check(cuModuleGetGlobal(&data, &bytes, nullptr, "scale") == CUDA_ERROR_INVALID_HANDLE,
        "variable of no module");
  Check(cuModuleUnload(nullptr) == CUDA_ERROR_INVALID_HANDLE, "unload of no module");
  Check(cuLaunchKernel(nullptr, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr) ==
            CUDA_ERROR_INVALID_HANDLE,
        "launch of no function");
  Check(cuGraphLaunch(nullptr, nullptr) == CUDA_ERROR_INVALID_VALUE, "launch of no graph");
}

// A second device has a context of its own: kernels and streams of one are refused in the other.
static void TestDevices(CUcontext first, CUfunction scale) {
  CUdevice device;
  int count = 0;
  Check(cuDeviceGetCount(&count) == 0 && count == 1, "one device");
  Check(cuDeviceGet(&device, 1) == CUDA_ERROR_INVALID_DEVICE, "a device that is not there");
  setenv("PTXEMU_DEVICES", "2", 1);
  Check(cuDeviceGetCount(&count) == 0 && count == 2, "two devices");
  Check(cuDeviceGet(&device, 1) == 0, "the second device");
  CUuuid one, two;
  Check(cuDeviceGetUuid(&one, 0) == 0 && cuDeviceGetUuid(&two, device) == 0 &&
            memcmp(&one, &two, sizeof one) != 0,
        "names of their own");
  CUcontext second;
  CUstream stream;
  CUmodule module;
  CUfunction other;
  CUdeviceptr data;
  float factor = 1;
  int n = 0;
  void* arguments[] = {&data, &factor, &n};
  Check(cuStreamCreate(&stream, 0) == 0, "a stream of the first");
  Check(cuDevicePrimaryCtxRetain(&second, device) == 0 && second != first, "the second context");
  Check(cuCtxSetCurrent(second) == 0 && cuCtxGetDevice(&device) == 0 && device == 1, "is current");
  Check(cuMemAlloc(&data, 4) == 0 && cuModuleLoadData(&module, kPtx) == 0 &&
            cuModuleGetFunction(&other, module, "scale") == 0,
        "memory and a module of the second");
  Check(cuLaunchKernel(other, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr) == 0,
        "a launch on the second");
  const CUresult wrong = CUDA_ERROR_INVALID_CONTEXT;
  Check(cuLaunchKernel(scale, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr) == wrong,
        "a kernel of the first on the second");
  Check(cuLaunchKernel(other, 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr) == wrong,
        "a stream of the first on the second");
  Check(cuMemFree(data) == 0 && cuModuleUnload(module) == 0 && cuCtxSetCurrent(first) == 0 &&
            cuStreamDestroy(stream) == 0,
        "back to the first");
  unsetenv("PTXEMU_DEVICES");
}

static void TestFault(CUfunction scale) {
  CUdeviceptr data;
  float factor = 1;
  int count = 128;
  Check(cuMemAlloc(&data, 64 * 4) == 0, "cuMemAlloc");
  void* arguments[] = {&data, &factor, &count};
  CUresult result = cuLaunchKernel(scale, 1, 1, 1, 128, 1, 1, 0, nullptr, arguments, nullptr);
  Check(result == CUDA_ERROR_ILLEGAL_ADDRESS, "out-of-bounds access");
  Check(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS, "the fault is sticky");
}

int main() {
  CUdevice device;
  CUcontext context, current;
  CUmodule module;
  CUfunction scale;
  Check(cuInit(0) == 0 && cuDeviceGet(&device, 0) == 0, "init");
  Check(cuDevicePrimaryCtxRetain(&context, device) == 0 && cuCtxSetCurrent(context) == 0,
        "primary context");
  Check(cuCtxGetCurrent(&current) == 0 && current == context, "current context");
  Check(cuModuleLoadDataEx(&module, kPtx, 0, nullptr, nullptr) == 0, "cuModuleLoadDataEx");
  Check(cuModuleGetFunction(&scale, module, "scale") == 0, "cuModuleGetFunction");
  Check(cuModuleGetFunction(&scale, module, "nothing") == CUDA_ERROR_NOT_FOUND, "missing function");
  cuModuleGetFunction(&scale, module, "scale");
  TestGraph(scale);
  TestQueries(device, scale);
  TestHandles(context, scale);
  TestDevices(context, scale);
  TestFault(scale);
  Check(cuModuleUnload(module) == 0 && cuDevicePrimaryCtxRelease(device) == 0, "release");
  printf("driver_api: %d of %d checks passed\n", checks - failures, checks);
  return failures != 0;
}
