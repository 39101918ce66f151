// The kernels as host functions: one object file for each instruction set, GOCP_ISA being base, v3
// or v4. Everything is inside one namespace of that name, so the linker cannot mix the builds.
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "host.h"

#define GOCP_PASTE_(a, b) a##b
#define GOCP_PASTE(a, b) GOCP_PASTE_(a, b)
#define GOCP_NAMESPACE GOCP_PASTE(gocp_, GOCP_ISA)
#define GOCP_TABLE GOCP_PASTE(gocp_kernels_, GOCP_ISA)

namespace GOCP_NAMESPACE {

struct HostBlock {
  int id, count;
};
static thread_local HostBlock host_block;

#define GOCP_KERNELS_BODIES
#include "kernels_gen.h"
#undef GOCP_KERNELS_BODIES

using gocp::Grid;
using gocp::HostKernel;
using gocp::ParamKind;

template <class T>
struct Kind;
template <class T>
struct Kind<T*> {
  static constexpr ParamKind value = gocp::kPointer;
};
template <>
struct Kind<int> {
  static constexpr ParamKind value = gocp::kInt32;
};
template <>
struct Kind<int64_t> {
  static constexpr ParamKind value = gocp::kInt64;
};
template <>
struct Kind<float> {
  static constexpr ParamKind value = gocp::kFloat32;
};

template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  typedef Indices<I...> type;
};

// Turns a kernel into a table entry: its parameters' kinds, and a loop over blocks.
template <auto F>
struct Entry;
template <class... A, void (*F)(A...)>
struct Entry<F> {
  static_assert(sizeof...(A) <= gocp::kMaxParams, "a kernel with too many parameters");
  static constexpr int nparams = sizeof...(A);
  static constexpr ParamKind kinds[sizeof...(A) + 1] = {Kind<A>::value..., ParamKind(0)};

  template <int... I>
  static inline void call(void** params, Indices<I...>) {
    (void)params;  // a kernel without any
    F(*static_cast<A*>(params[I])...);
  }
  static void run(Grid grid, void** params, int first, int last) {
    host_block.count = static_cast<int>(grid.blocks);
    for (int b = first; b < last; b++) {
      host_block.id = b;
      call(params, typename MakeIndices<nparams>::type());
    }
  }
};

}  // namespace GOCP_NAMESPACE

extern "C" const gocp::HostKernel GOCP_TABLE[] = {
#define GOCP_KERNEL(name)                                       \
  {#name, GOCP_NAMESPACE::Entry<GOCP_NAMESPACE::name>::nparams, \
   GOCP_NAMESPACE::Entry<GOCP_NAMESPACE::name>::kinds,          \
   GOCP_NAMESPACE::Entry<GOCP_NAMESPACE::name>::run, nullptr},
#define GOCP_KERNELS_LIST
#include "kernels_gen.h"
#undef GOCP_KERNELS_LIST
    {nullptr, 0, nullptr, nullptr, nullptr},
};
