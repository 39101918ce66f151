// The host engine's side of a kernel: what kernels/*.cu and csrc/onednn/*.cc are compiled against.
//
// 1. Kernels of kernels/*.cu. host/kernels.cc includes every kernels/*.cu inside one namespace
//    (gocp_base, gocp_v3, gocp_v4: one object file for each instruction set), after the C headers
//    <math.h> <stddef.h> <stdint.h> <string.h> and, in that namespace, this:
//
//        struct HostBlock { int id, count; };
//        static thread_local HostBlock host_block;   // the block being run, and the grid
//
//    so the host half of block.cuh reads block::id() from host_block.id and block::count() from
//    host_block.count, and defines KERNEL as `static void`. A kernel is found by its line
//    `KERNEL name(` (nothing before it on the line), takes pointers, int, int64_t and float, at
//    most kMaxParams of them, and runs once for each block of a one-dimensional grid. Kernels use
//    no std:: templates: the linker would keep one copy for all instruction sets.
//
// 2. Whole-grid functions of csrc/onednn/*.cc (oneDNN parallelises itself). They are collected in
//    one table, which a file there defines (CMake sets GOCP_HAVE_ONEDNN when there is one):
//
//        extern "C" const gocp::HostKernel gocp_onednn_kernels[] = {
//            {"conv_forward_f32", 14, kinds, nullptr, conv_forward_f32},
//        };
//        extern "C" const int gocp_onednn_count = 1;
//
//    where `kinds` has one gocp::ParamKind for each parameter and the function is
//
//        void conv_forward_f32(gocp::Grid grid, void** params, int width);
//
//    params[i] points to the i-th parameter's 8-byte slot: `*(float**)params[0]`,
//    `*(int*)params[1]`, `*(float*)params[2]`. It runs on the stream's own thread, which lives as
//    long as the stream (thread_local caches survive between launches) and whose OpenMP default
//    is `width` threads already. It throws std::exception to report failure: the launch, and
//    everything later on that stream, then fails with its text. It must have finished when it
//    returns.
#pragma once

#include <stdint.h>

namespace gocp {

constexpr int kMaxParams = 48;

// What a parameter is. gocp/device compares a launch's arguments with it; checked mode looks up
// every kPointer among the live allocations.
enum ParamKind : uint8_t {
  kInt32 = 'i',
  kInt64 = 'l',
  kFloat32 = 'f',
  kPointer = 'p',
  kScalar = 's',  // any of the first three
};

struct Grid {
  unsigned blocks;  // one-dimensional
};

struct HostKernel {
  const char* name;
  int nparams;
  const ParamKind* kinds;  // nparams of them
  // Exactly one of the two is set. run does the blocks [first, last).
  void (*run)(Grid grid, void** params, int first, int last);
  void (*whole)(Grid grid, void** params, int width);
};

}  // namespace gocp

extern "C" {
extern const gocp::HostKernel gocp_onednn_kernels[];
extern const int gocp_onednn_count;
}
