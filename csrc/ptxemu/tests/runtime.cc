// The part of the CUDA runtime that the test programs use, over the driver interface: what nvcc's
// host code calls (registration, <<<>>>), memory, symbols, errors. CUresult and cudaError_t agree
// on every code that passes through here.
#include <cuda.h>
#include <driver_types.h>

#include <algorithm>
#include <map>
#include <string>

extern "C" const char* ptxemu_last_message();

namespace {

using Error = int;  // a cudaError_t

Error last_error = 0;

// Remembers a failure for cudaGetLastError.
Error Note(int result) {
  if (result) last_error = result;
  return result;
}

void UseContext() {
  static const bool ready = [] {
    CUcontext context;
    return cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, 0) == 0 &&
           cuCtxSetCurrent(context) == 0;
  }();
  static_cast<void>(ready);  // a failure shows in the next call
}

// A fatbinary that the program registered, loaded on first use.
struct FatBinary {
  const void* wrapper;
  CUmodule module = nullptr;
  Error Load() {
    UseContext();
    return module ? 0 : cuModuleLoadData(&module, wrapper);
  }
};

// A kernel or variable by its name on the device.
struct Symbol {
  FatBinary* binary;
  std::string name;
};

std::map<const void*, Symbol>& Symbols() {
  static auto* symbols = new std::map<const void*, Symbol>;
  return *symbols;
}

Error FindKernel(const void* stub, CUfunction* function) {
  auto it = Symbols().find(stub);
  if (it == Symbols().end()) return cudaErrorInvalidDeviceFunction;
  if (Error error = it->second.binary->Load()) return error;
  return cuModuleGetFunction(function, it->second.binary->module, it->second.name.c_str());
}

Error FindVariable(const void* symbol, size_t bytes, size_t offset, CUdeviceptr* address) {
  auto it = Symbols().find(symbol);
  if (it == Symbols().end()) return cudaErrorInvalidSymbol;
  if (Error error = it->second.binary->Load()) return error;
  size_t size = 0;
  const FatBinary& binary = *it->second.binary;
  if (Error error = cuModuleGetGlobal(address, &size, binary.module, it->second.name.c_str()))
    return error;
  *address += offset;
  return offset + bytes <= size ? 0 : cudaErrorInvalidValue;
}

CUdeviceptr Address(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

struct Dim3 {
  unsigned x, y, z;
};

// The <<<>>> configuration between its push and the host stub's pop.
struct CallConfiguration {
  Dim3 grid, block;
  size_t shared;
  void* stream;
};
thread_local CallConfiguration call;

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  return reinterpret_cast<void**>(new FatBinary{wrapper});
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFunction(void** handle, const char* stub, char*, const char* name, int, void*,
                            void*, void*, void*, int*) {
  Symbols()[stub] = {reinterpret_cast<FatBinary*>(handle), name};
}
void __cudaRegisterVar(void** handle, char* symbol, char*, const char* name, int, size_t, int,
                       int) {
  Symbols()[symbol] = {reinterpret_cast<FatBinary*>(handle), name};
}
unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared, void* stream) {
  call = {grid, block, shared, stream};
  return 0;
}
Error __cudaPopCallConfiguration(Dim3* grid, Dim3* block, size_t* shared, void** stream) {
  *grid = call.grid;
  *block = call.block;
  *shared = call.shared;
  *stream = call.stream;
  return 0;
}

Error cudaLaunchKernel(const void* stub, Dim3 grid, Dim3 block, void** arguments, size_t shared,
                       CUstream stream) {
  CUfunction f;
  if (Error error = FindKernel(stub, &f)) return Note(error);
  return Note(cuLaunchKernel(f, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, stream,
                             arguments, nullptr));
}
Error __cudaLaunchKernel(const void* stub, Dim3 grid, Dim3 block, void** arguments, size_t shared,
                         CUstream stream) {
  return cudaLaunchKernel(stub, grid, block, arguments, shared, stream);
}
Error __cudaGetKernel(void** kernel, const void* stub) {
  return *kernel = const_cast<void*>(stub), 0;
}
Error cudaLaunchCooperativeKernel(const void* stub, Dim3 grid, Dim3 block, void** arguments,
                                  size_t shared, CUstream stream) {
  CUfunction f;
  if (Error error = FindKernel(stub, &f)) return Note(error);
  return Note(cuLaunchCooperativeKernel(f, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                        shared, stream, arguments));
}
Error cudaFuncSetAttribute(const void* stub, int attribute, int value) {
  CUfunction f;
  if (Error error = FindKernel(stub, &f)) return Note(error);
  return Note(cuFuncSetAttribute(f, static_cast<CUfunction_attribute>(attribute), value));
}

Error cudaMalloc(void** out, size_t bytes) {
  UseContext();
  return Note(cuMemAlloc(reinterpret_cast<CUdeviceptr*>(out), std::max<size_t>(bytes, 1)));
}
Error cudaMemcpy(void* destination, const void* source, size_t bytes, int kind) {
  UseContext();
  if (kind == cudaMemcpyHostToDevice)
    return Note(cuMemcpyHtoD(Address(destination), source, bytes));
  if (kind == cudaMemcpyDeviceToHost)
    return Note(cuMemcpyDtoH(destination, Address(source), bytes));
  return Note(cuMemcpy(Address(destination), Address(source), bytes));
}
Error cudaMemset(void* pointer, int value, size_t bytes) {
  UseContext();
  return Note(cuMemsetD8(Address(pointer), static_cast<unsigned char>(value), bytes));
}
Error cudaMemcpyToSymbol(const void* symbol, const void* source, size_t bytes, size_t offset, int) {
  CUdeviceptr address;
  if (Error error = FindVariable(symbol, bytes, offset, &address)) return Note(error);
  return Note(cuMemcpyHtoD(address, source, bytes));
}
Error cudaMemcpyFromSymbol(void* destination, const void* symbol, size_t bytes, size_t offset,
                           int) {
  CUdeviceptr address;
  if (Error error = FindVariable(symbol, bytes, offset, &address)) return Note(error);
  return Note(cuMemcpyDtoH(destination, address, bytes));
}

Error cudaDeviceSynchronize() {
  UseContext();
  return Note(cuCtxSynchronize());
}
// A kernel's fault stays: only other errors are cleared by asking.
Error cudaGetLastError() {
  UseContext();
  const Error error = last_error;
  last_error = cuCtxSynchronize();
  return error;
}
const char* cudaGetErrorString(Error error) {
  static std::string text;
  text = "error " + std::to_string(error) + ": " + ptxemu_last_message();
  return text.c_str();
}

}  // extern "C"
