#include "image.h"

#include <string_view>

// CMake defines GOCP_GPU_IMAGE as the file of `make gpu`, when there is one of these sources.
#ifdef GOCP_GPU_IMAGE
__asm__(
    ".section .rodata\n"
    ".balign 64\n"
    ".hidden gocp_image_begin, gocp_image_end\n"
    ".globl gocp_image_begin, gocp_image_end\n"
    "gocp_image_begin:\n"
    ".incbin \"" GOCP_GPU_IMAGE
    "\"\n"
    "gocp_image_end:\n"
    ".byte 0\n"
    ".text\n");
extern "C" const char gocp_image_begin[], gocp_image_end[];
#endif

namespace gocp {

#ifdef GOCP_GPU_IMAGE
const char* image_data() { return gocp_image_begin; }
size_t image_size() { return static_cast<size_t>(gocp_image_end - gocp_image_begin); }
#else
const char* image_data() { return nullptr; }
size_t image_size() { return 0; }
#endif

std::string image_line(const char* key) {
  const std::string_view image(image_data() != nullptr ? image_data() : "", image_size());
  const std::string head = std::string("\n") + key + " ";
  const size_t at = image.find(head);
  if (at == std::string_view::npos) return "";
  const size_t from = at + head.size();
  return std::string(image.substr(from, image.find('\n', from) - from));
}

}  // namespace gocp
