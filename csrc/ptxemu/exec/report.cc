#include "exec/report.h"

#include <algorithm>
#include <sstream>

#include "exec/warp.h"

namespace ptxemu {
namespace {

std::string SourceLine(const std::string& source, int line) {
  size_t begin = 0;
  for (int i = 1; i < line && begin != std::string::npos; i++) {
    begin = source.find('\n', begin);
    if (begin != std::string::npos) begin++;
  }
  if (begin == std::string::npos) return "";
  return source.substr(begin, source.find('\n', begin) - begin);
}

}  // namespace

void Fault(Warp& warp, const Instruction& in, int lane, int code, const std::string& what) {
  const Block& block = *warp.block;
  const LaunchConfig& launch = *block.launch;
  const u32* size = launch.block;
  u32 thread = warp.id * kWarpSize + lane;
  std::ostringstream out;
  out << "ptxemu: " << what << " in kernel " << launch.function->name << " block ("
      << block.index[0] << "," << block.index[1] << "," << block.index[2] << ") thread ("
      << thread % size[0] << "," << thread / size[0] % size[1] << "," << thread / size[0] / size[1]
      << ") ptx line " << in.line << ": " << SourceLine(launch.module->source, in.line);
  throw EmuError(code, out.str());
}

void ReportDeadlock(const Block& block) {
  constexpr int kMaxWarpsShown = 4;
  std::ostringstream out;
  out << "ptxemu: deadlock in kernel " << block.launch->function->name << ":";
  int shown = 0;
  for (const Warp& warp : block.warps) {
    if (!warp.live || shown++ >= kMaxWarpsShown) continue;
    u32 not_at_barrier = warp.live & ~warp.at_barrier;
    int lane = FirstLane(not_at_barrier ? not_at_barrier : warp.live);
    // A lane at a barrier has already moved past it; one at a warp sync has not.
    int pc = std::max(0, int(warp.pc[lane]) - (not_at_barrier ? 0 : 1));
    out << " warp " << warp.id << (not_at_barrier ? " waits at warp-sync/bar" : " waits at bar")
        << " ptx line " << block.launch->module->code[pc].line << ";";
  }
  throw EmuError(kLaunchFailure, out.str());
}

}  // namespace ptxemu
