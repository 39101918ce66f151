// The container is not documented by NVIDIA; the layout below was read off files written by nvcc 11
// to 13.
#include "loader/fatbin.h"

#include <dlfcn.h>

#include <cstring>

namespace ptxemu {
namespace {

constexpr u32 kFatbinMagic = 0xBA55ED50;
constexpr u32 kWrapperMagic = 0x466243B1;
constexpr u32 kElfMagic = 0x464C457F;
constexpr u32 kZstdMagic = 0xFD2FB528;
constexpr u16 kEntryPtx = 1, kEntryElf = 2;

template <class T>
T Load(const u8* p) {
  T value;
  memcpy(&value, p, sizeof value);
  return value;
}

// One entry header, at its documented-by-observation offsets.
struct Entry {
  u16 kind;
  u32 header_size;
  u64 payload_size;
  u32 compressed_size;
  u32 arch;
  u64 uncompressed_size;
  const u8* payload;
  explicit Entry(const u8* p)
      : kind(Load<u16>(p)),
        header_size(Load<u32>(p + 4)),
        payload_size(Load<u64>(p + 8)),
        compressed_size(Load<u32>(p + 16)),
        arch(Load<u32>(p + 28)),
        uncompressed_size(Load<u64>(p + 56)),
        payload(p + header_size) {}
};

// LZ4 block format (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).
bool DecompressLz4(const u8* src, size_t src_size, u8* dst, size_t dst_size) {
  const u8* src_end = src + src_size;
  u8* out = dst;
  u8* out_end = dst + dst_size;
  auto extended_length = [&](size_t nibble) {
    size_t length = nibble;
    if (nibble == 15) {
      u8 byte;
      do {
        if (src >= src_end) break;
        byte = *src++;
        length += byte;
      } while (byte == 255);
    }
    return length;
  };
  while (src < src_end) {
    u8 token = *src++;
    size_t literals = extended_length(token >> 4);
    if (literals > size_t(out_end - out) || literals > size_t(src_end - src)) return false;
    memcpy(out, src, literals);
    out += literals;
    src += literals;
    if (src >= src_end || out >= out_end) break;
    if (src_end - src < 2) return false;
    size_t distance = src[0] | (src[1] << 8);
    src += 2;
    size_t match = extended_length(token & 15) + 4;
    if (distance == 0 || size_t(out - dst) < distance || match > size_t(out_end - out))
      return false;
    for (size_t i = 0; i < match; i++, out++) *out = *(out - distance);
  }
  return true;
}

// libzstd is loaded at run time so that building needs no header and old fatbins need no library.
bool DecompressZstd(const u8* src, size_t src_size, u8* dst, size_t dst_size) {
  using Decompress = size_t (*)(void*, size_t, const void*, size_t);
  static Decompress decompress = [] {
    void* handle = dlopen("libzstd.so.1", RTLD_NOW);
    return handle ? reinterpret_cast<Decompress>(dlsym(handle, "ZSTD_decompress")) : nullptr;
  }();
  return decompress && decompress(dst, dst_size, src, src_size) <= dst_size;
}

std::string PtxOfEntry(const Entry& entry) {
  const char* text = reinterpret_cast<const char*>(entry.payload);
  if (!entry.uncompressed_size || !entry.compressed_size)
    return std::string(text, strnlen(text, entry.payload_size));
  std::string out(entry.uncompressed_size, '\0');
  u8* dst = reinterpret_cast<u8*>(&out[0]);
  bool zstd = Load<u32>(entry.payload) == kZstdMagic;
  bool ok = zstd ? DecompressZstd(entry.payload, entry.compressed_size, dst, out.size())
                 : DecompressLz4(entry.payload, entry.compressed_size, dst, out.size());
  if (!ok) throw EmuError(kInvalidImage, "ptxemu: cannot decompress the PTX in the fatbinary");
  return out;
}

std::string PtxFromFatbin(const u8* fatbin) {
  const u8* cursor = fatbin + Load<u16>(fatbin + 6);
  const u8* end = cursor + Load<u64>(fatbin + 8);
  const u8* best = nullptr;
  int best_arch = -1;
  bool has_sass = false;
  while (cursor < end) {
    Entry entry(cursor);
    if (entry.kind == kEntryPtx && int(entry.arch) > best_arch)
      best = cursor, best_arch = entry.arch;
    if (entry.kind == kEntryElf) has_sass = true;
    cursor += entry.header_size + entry.payload_size;
  }
  if (best) return PtxOfEntry(Entry(best));
  if (!has_sass) throw EmuError(kInvalidImage, "ptxemu: empty fatbinary");
  throw EmuError(
      kNoBinaryForGpu,
      "ptxemu: fatbinary holds only SASS, no PTX: build with -arch=compute_XX / code=compute_XX");
}

}  // namespace

ImageKind ClassifyImage(const void* image) {
  switch (Load<u32>(static_cast<const u8*>(image))) {
    case kFatbinMagic:
      return ImageKind::kFatbin;
    case kWrapperMagic:
      return ImageKind::kFatbinWrapper;
    case kElfMagic:
      return ImageKind::kElfCubin;
    default:
      return ImageKind::kPtxText;
  }
}

std::string PtxFromImage(const void* image) {
  const u8* bytes = static_cast<const u8*>(image);
  switch (ClassifyImage(image)) {
    case ImageKind::kFatbin:
      return PtxFromFatbin(bytes);
    case ImageKind::kFatbinWrapper:
      return PtxFromImage(Load<const void*>(bytes + 8));
    case ImageKind::kElfCubin:
      throw EmuError(kNoBinaryForGpu, "ptxemu: cubin given, PTX needed");
    case ImageKind::kPtxText:
      break;
  }
  return std::string(reinterpret_cast<const char*>(bytes));
}

}  // namespace ptxemu
