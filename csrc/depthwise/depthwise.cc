#include "depthwise.h"

#include <string.h>

#include "../host/engine.h"

// The builds of channels.cc: one for each instruction set.
#define GOCP_BUILD(isa)                                                                       \
  namespace gocp_depthwise_##isa {                                                            \
    void forward(const gocp::ConvShape&, gocp::Operand, gocp::Operand, gocp::Result);         \
    void backward_data(const gocp::ConvShape&, gocp::Operand, gocp::Operand, gocp::Result);   \
    void backward_weight(const gocp::ConvShape&, gocp::Operand, gocp::Operand, gocp::Result); \
  }
GOCP_BUILD(base)
#ifdef __x86_64__
GOCP_BUILD(v3)
GOCP_BUILD(v4)
#endif
#undef GOCP_BUILD

namespace gocp {
namespace {

struct Build {
  decltype(&depthwise_forward) forward, backward_data, backward_weight;
  int channels;  // from which it is worth it
};

#define GOCP_BUILD(isa, channels)                                       \
  Build {                                                               \
    gocp_depthwise_##isa::forward, gocp_depthwise_##isa::backward_data, \
        gocp_depthwise_##isa::backward_weight, channels                 \
  }

// The build for the instruction set that the host engine chose.
Build find_build() {
#ifdef __x86_64__
  if (strcmp(isa(), "v4") == 0) return GOCP_BUILD(v4, 64);
  if (strcmp(isa(), "v3") == 0) return GOCP_BUILD(v3, 32);
#endif
  return GOCP_BUILD(base, 16);
}
#undef GOCP_BUILD

const Build& build() {
  static const Build found = find_build();
  return found;
}

}  // namespace

bool depthwise_fits(const ConvShape& g) {
  return g.groups > 1 && g.groups == g.c && g.c == g.k && g.c >= build().channels;
}

void depthwise_forward(const ConvShape& g, Operand x, Operand w, Result y) {
  build().forward(g, x, w, y);
}

void depthwise_backward_data(const ConvShape& g, Operand dy, Operand w, Result dx) {
  build().backward_data(g, dy, w, dx);
}

void depthwise_backward_weight(const ConvShape& g, Operand x, Operand dy, Result dw) {
  build().backward_weight(g, x, dy, dw);
}

}  // namespace gocp
