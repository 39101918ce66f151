#include "core/types.h"

#include <cstdlib>
#include <map>

namespace ptxemu {

PtxType TypeFromName(const std::string& name) {
  using T = PtxType;
  static const std::map<std::string, PtxType> kTypes = {
      {"b1", T::kB1},         {"b8", T::kB8},         {"b16", T::kB16},     {"b32", T::kB32},
      {"b64", T::kB64},       {"b128", T::kB128},     {"u8", T::kU8},       {"u16", T::kU16},
      {"u32", T::kU32},       {"u64", T::kU64},       {"s8", T::kS8},       {"s16", T::kS16},
      {"s32", T::kS32},       {"s64", T::kS64},       {"f16", T::kF16},     {"f16x2", T::kF16x2},
      {"bf16", T::kBF16},     {"bf16x2", T::kBF16x2}, {"tf32", T::kTF32},   {"f32", T::kF32},
      {"f64", T::kF64},       {"e4m3", T::kE4M3},     {"e5m2", T::kE5M2},   {"e4m3x2", T::kE4M3x2},
      {"e5m2x2", T::kE5M2x2}, {"u16x2", T::kU16x2},   {"s16x2", T::kS16x2}, {"f32x2", T::kF32x2},
      {"pred", T::kPred}};
  auto it = kTypes.find(name);
  return it == kTypes.end() ? PtxType::kNone : it->second;
}

int TypeSize(PtxType type) {
  switch (type) {
    case PtxType::kNone:
      return 0;
    case PtxType::kB8:
    case PtxType::kU8:
    case PtxType::kS8:
    case PtxType::kE4M3:
    case PtxType::kE5M2:
      return 1;
    case PtxType::kB16:
    case PtxType::kU16:
    case PtxType::kS16:
    case PtxType::kF16:
    case PtxType::kBF16:
    case PtxType::kE4M3x2:
    case PtxType::kE5M2x2:
      return 2;
    case PtxType::kB64:
    case PtxType::kU64:
    case PtxType::kS64:
    case PtxType::kF64:
    case PtxType::kF32x2:
      return 8;
    case PtxType::kB128:
      return 16;
    default:
      return 4;
  }
}

bool IsSigned(PtxType type) { return type >= PtxType::kS8 && type <= PtxType::kS64; }
bool IsFloat(PtxType type) { return type >= PtxType::kF16 && type <= PtxType::kF64; }
bool IsHalfFamily(PtxType type) { return type >= PtxType::kF16 && type <= PtxType::kBF16x2; }
bool IsPackedHalf(PtxType type) { return type == PtxType::kF16x2 || type == PtxType::kBF16x2; }
bool IsBrainFloat(PtxType type) { return type == PtxType::kBF16 || type == PtxType::kBF16x2; }

int EnvInt(const char* name, int fallback) {
  const char* text = getenv(name);
  return text && *text ? atoi(text) : fallback;
}

}  // namespace ptxemu
