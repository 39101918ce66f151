// Which oneDNN this is and what it makes of this processor: its order of summation follows from
// that.
#include "about.h"

#include <unistd.h>

#include <oneapi/dnnl/dnnl.h>
#include <cstdio>

namespace gocp {
namespace {

const char* isa_of(dnnl_cpu_isa_t isa) {
  switch (isa) {
    case dnnl_cpu_isa_sse41:
      return "sse41";
    case dnnl_cpu_isa_avx:
      return "avx";
    case dnnl_cpu_isa_avx2:
      return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
      return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
      return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
      return "avx512_core_amx";
    default:
      return nullptr;
  }
}

std::string describe() {
  const dnnl_version_t* v = dnnl_version();
  char text[256], number[32];
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  snprintf(number, sizeof number, "instruction set %#x", static_cast<unsigned>(isa));
  dnnl_fpmath_mode_t mode = dnnl_fpmath_mode_strict;
  dnnl_get_default_fpmath_mode(&mode);
  const char* name = isa_of(isa);
  // It cuts sums to the caches (platform::get_per_core_cache_size, oneDNN 2.6).
  snprintf(text, sizeof text, "%d.%d.%d, %s%s, caches of %ld, %ld and %ld KiB", v->major, v->minor,
           v->patch, name != nullptr ? name : number,
           mode == dnnl_fpmath_mode_strict ? "" : ", float32 products rounded",
           sysconf(_SC_LEVEL1_DCACHE_SIZE) / 1024, sysconf(_SC_LEVEL2_CACHE_SIZE) / 1024,
           sysconf(_SC_LEVEL3_CACHE_SIZE) / 1024);
  return text;
}

}  // namespace

const std::string& about_onednn() {
  static const std::string text = describe();
  return text;
}

}  // namespace gocp
