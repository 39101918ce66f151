// What tiles.cc asks of windows.cc, in the build of one instruction set (GOCP_ISA is v3 or v4).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../onednn/linear_maps.h"

#define GOCP_PASTE_(a, b) a##b
#define GOCP_PASTE(a, b) GOCP_PASTE_(a, b)
#define GOCP_NAMESPACE GOCP_PASTE(gocp_winograd_, GOCP_ISA)

namespace GOCP_NAMESPACE {

// Whether two pixels of an image x [h,w,c], or one and zeros, may be equal: never false where they
// are.
bool may_repeat(const gocp::ConvShape& g, const float* x);
// Settles the windows (winograd.h) of the images n with suspects[n].
void settle_windows(const gocp::ConvShape& g, const uint8_t* suspects, const float* x, float* y);

}  // namespace GOCP_NAMESPACE
