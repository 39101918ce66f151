// How a kernel's mistakes are reported.
#pragma once
#include <string>

#include "core/types.h"

namespace ptxemu {

struct Warp;
struct Block;
struct Instruction;

// Throws EmuError naming kernel, block, thread, PTX line and text.
[[noreturn]] void Fault(Warp& warp, const Instruction& in, int lane, int code,
                        const std::string& what);

// Throws EmuError(kLaunchFailure) saying where each of the first few warps waits.
[[noreturn]] void ReportDeadlock(const Block& block);

}  // namespace ptxemu
