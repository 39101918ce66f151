// Scalar aliases, PTX types and state spaces, and the one exception type used everywhere.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

namespace ptxemu {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using u128 = unsigned __int128;
using s128 = __int128;

constexpr int kWarpSize = 32;
constexpr u32 kFullMask = ~0u;

// PTX ISA 5.2 "Types", plus the packed and alternate floating-point formats of 5.2.3.
enum class PtxType : u8 {
  kNone,
  kB1,
  kB8,
  kB16,
  kB32,
  kB64,
  kB128,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kF16x2,
  kBF16,
  kBF16x2,
  kTF32,
  kF32,
  kF64,
  kE4M3,
  kE5M2,
  kE4M3x2,
  kE5M2x2,
  kU16x2,
  kS16x2,
  kF32x2,
  kPred
};

PtxType TypeFromName(const std::string& name);  // "f16x2" -> kF16x2; kNone if not a type
int TypeSize(PtxType type);                     // bytes; 0 for kNone
bool IsSigned(PtxType type);
bool IsFloat(PtxType type);       // any scalar or packed format from f16 to f64
bool IsHalfFamily(PtxType type);  // f16, f16x2, bf16, bf16x2
bool IsPackedHalf(PtxType type);  // f16x2, bf16x2
bool IsBrainFloat(PtxType type);  // bf16, bf16x2

// PTX ISA 5.1 "State Spaces".
enum class StateSpace : u8 { kGeneric, kGlobal, kShared, kLocal, kParam, kConst };

// CUresult / cudaError_t values this emulator raises (cuda.h, driver_types.h).
enum ErrorCode : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kNoBinaryForGpu = 209,
  kInvalidPtx = 218,
  kUnsupportedPtxVersion = 222,
  kFileNotFound = 301,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kDeviceAssert = 710,
  kMisalignedAddress = 716,
  kLaunchFailure = 719,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureUnmatched = 903,
  kCaptureUnjoined = 904,
  kIllegalState = 401,
};

struct EmuError : std::runtime_error {
  int code;
  EmuError(int error_code, const std::string& message)
      : std::runtime_error(message), code(error_code) {}
};

// Integer environment variable, or `fallback` when unset or empty. The variables are listed in
// README.md.
int EnvInt(const char* name, int fallback);

}  // namespace ptxemu
