#ifndef GOCP_ONEDNN_ABOUT_H
#define GOCP_ONEDNN_ABOUT_H
#include <string>

namespace gocp {

// Version, instruction set and cache sizes, in one line.
const std::string& about_onednn();

}  // namespace gocp
#endif
