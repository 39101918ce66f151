// Depthwise convolutions of the host engine: every channel has filters of its own, k = c = groups.
//
// They are limited by memory, so every product of a launch is made in one pass over the operands:
// in dual numbers x, ẋ, w, ẇ are read once. Loops run over channels, innermost in memory, in
// vectors; a data gradient of stride s visits those taps alone that reach its pixel. Sums are
// float32, and of the weights' gradient in parts of some images each, added in order: the bits do
// not depend on the number of threads.
#pragma once

#include "../onednn/linear_maps.h"

namespace gocp {

// Whether g is depthwise and has channels enough for blocks of four vectors; with fewer oneDNN is
// faster.
bool depthwise_fits(const ConvShape& g);

// As in linear_maps.h, in float32.
void depthwise_forward(const ConvShape& g, Operand x, Operand w, Result y);
void depthwise_backward_data(const ConvShape& g, Operand dy, Operand w, Result dx);
void depthwise_backward_weight(const ConvShape& g, Operand x, Operand dy, Result dw);

}  // namespace gocp
