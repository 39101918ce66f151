#include "winograd.h"

#include <string.h>

#include "../host/engine.h"

// The builds of tiles.cc and windows.cc: one for each instruction set (none but on x86-64).
#define GOCP_BUILD(isa)                                                                       \
  namespace gocp_winograd_##isa {                                                             \
    void forward(const gocp::ConvShape&, gocp::Operand, gocp::Operand, gocp::Result, bool);   \
    void backward_weight(const gocp::ConvShape&, gocp::Operand, gocp::Operand, gocp::Result); \
  }
GOCP_BUILD(v3)
GOCP_BUILD(v4)
#undef GOCP_BUILD

namespace gocp {
namespace {

struct Build {
  decltype(&winograd_forward) forward;
  decltype(&winograd_backward_weight) backward_weight;
  int channels;  // from which it is worth it
};

// The build for the instruction set that the host engine chose; its plain build has none.
Build find_build() {
#ifdef __x86_64__
  if (strcmp(isa(), "v4") == 0)
    return {gocp_winograd_v4::forward, gocp_winograd_v4::backward_weight, 32};
  if (strcmp(isa(), "v3") == 0)
    return {gocp_winograd_v3::forward, gocp_winograd_v3::backward_weight, 16};
#endif
  return {nullptr, nullptr, 0};
}

const Build& build() {
  static const Build found = find_build();
  return found;
}

}  // namespace

bool winograd_fits(const ConvShape& g, bool dual) {
  if (g.r != 3 || g.s != 3 || g.stride != 1 || build().forward == nullptr) return false;
  const int channels = dual ? 16 : build().channels;
  if (g.c % channels != 0 || g.k % channels != 0) return false;
  const int tiles = ((g.out_h() + 3) / 4) * ((g.out_w() + 3) / 4);
  return 6 * tiles <= g.out_h() * g.out_w();  // 36 for 54 at most
}

void winograd_forward(const ConvShape& g, Operand x, Operand w, Result y, bool windows) {
  build().forward(g, x, w, y, windows);
}

void winograd_backward_weight(const ConvShape& g, Operand x, Operand dy, Result dw) {
  build().backward_weight(g, x, dy, dw);
}

}  // namespace gocp
