// Scratch that grows to the largest request and stays with its thread: fresh pages for every call
// would cost more than some of the arithmetic.
#pragma once

#include <stddef.h>
#include <stdlib.h>

namespace gocp {

// In csrc/onednn/linear_maps.cc. Throws a std::exception that says how much was asked for.
[[noreturn]] void out_of_memory(size_t bytes);

// Of each source file its own, for some are compiled once for each instruction set and the linker
// must not mix the builds.
namespace {

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { free(p_); }

  void* get(size_t bytes) {
    void* p = find(bytes);
    if (p == nullptr) out_of_memory(bytes);
    return p;
  }
  // Null where there is no such memory: nothing may be thrown out of a team of threads.
  void* find(size_t bytes) {
    if (bytes > size_) {
      const size_t rounded = (bytes + 4095) / 4096 * 4096;
      free(p_);
      p_ = aligned_alloc(4096, rounded);
      size_ = p_ != nullptr ? rounded : 0;
    }
    return p_;
  }
  float* get_floats(size_t n) { return static_cast<float*>(get(n * sizeof(float))); }
  float* find_floats(size_t n) { return static_cast<float*>(find(n * sizeof(float))); }

 private:
  void* p_ = nullptr;
  size_t size_ = 0;
};

}  // namespace
}  // namespace gocp
