// Handlers the parser attaches to calls of the device runtime and to instructions that are not
// supported.
#pragma once
#include "core/ir.h"

namespace ptxemu {

void ExecuteUnsupported(Warp& warp, const Instruction& in, u32 mask);  // faults when reached
void ExecuteAssert(Warp& warp, const Instruction& in, u32 mask);       // __assertfail
void ExecutePrintf(Warp& warp, const Instruction& in, u32 mask);       // vprintf

}  // namespace ptxemu
