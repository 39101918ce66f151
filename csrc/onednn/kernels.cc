// The convolution kernels of the host engine: unpack a launch's parameters, one call. Each kernel
// takes primal and tangent planes of its two operands and its result (linear_maps.h).
#include "../host/host.h"
#include "linear_maps.h"

namespace gocp {
namespace {

using Map = void (*)(const ConvShape&, Precision, Operand, Operand, Result);

template <Map map>
void run(Grid, void** params, int) {
  auto pointer = [&](int i) { return *static_cast<float**>(params[i]); };
  auto integer = [&](int i) { return *static_cast<int*>(params[i]); };
  map({integer(6), integer(7), integer(8), integer(9), integer(10), integer(11), integer(12),
       integer(13), integer(14), integer(16)},
      static_cast<Precision>(integer(15)), {pointer(0), pointer(1)}, {pointer(2), pointer(3)},
      {pointer(4), pointer(5)});
}

constexpr ParamKind kKinds[] = {kPointer, kPointer, kPointer, kPointer, kPointer, kPointer,
                                kScalar,  kScalar,  kScalar,  kScalar,  kScalar,  kScalar,
                                kScalar,  kScalar,  kScalar,  kScalar,  kScalar};

}  // namespace
}  // namespace gocp

extern "C" const gocp::HostKernel gocp_onednn_kernels[] = {
    {"conv_forward", 17, gocp::kKinds, nullptr, gocp::run<gocp::conv_forward>},
    {"conv_backward_data", 17, gocp::kKinds, nullptr, gocp::run<gocp::conv_backward_data>},
    {"conv_backward_weight", 17, gocp::kKinds, nullptr, gocp::run<gocp::conv_backward_weight>},
};
extern "C" const int gocp_onednn_count = 3;
