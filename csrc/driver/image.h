// The GPU code that this build carries (scripts/gpu.sh says how it is laid out), if any.
#ifndef GOCP_DRIVER_IMAGE_H
#define GOCP_DRIVER_IMAGE_H
#include <stddef.h>

#include <string>

namespace gocp {

const char* image_data();  // null: none
size_t image_size();

// A line of the image's header by its first word, without it: "80" for "ptx"; "" if there is none.
std::string image_line(const char* key);

}  // namespace gocp

#endif
