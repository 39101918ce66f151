// ldmatrix, stmatrix, mma.sync and wmma (PTX ISA 9.7.14). Fragment layouts follow the figures
// of 9.7.14.5; sums are formed in double and rounded once, so they are at least as exact as
// hardware's.
#include <algorithm>
#include <cstring>

#include "exec/memory.h"
#include "exec/report.h"
#include "exec/warp.h"
#include "isa/decode.h"
#include "isa/float_formats.h"

namespace ptxemu {
namespace {

void RequireFullWarp(Warp& warp, const Instruction& in, u32 mask) {
  if (mask != kFullMask)
    Fault(warp, in, FirstLane(mask), kLaunchFailure,
          "warp-wide .aligned instruction executed by a partial warp");
}

// In every figure lane l belongs to group l/4 and is thread l%4 of that group.
int GroupOf(int lane) { return lane >> 2; }
int ThreadInGroup(int lane) { return lane & 3; }

// ---- ldmatrix, stmatrix (9.7.14.5.15, 9.7.14.5.16)

constexpr int kMatrixRows = 8, kRowBytes = 16;
constexpr u32 kTransposed = 1;  // Instruction::flags
using Matrix8x8 = u16[8][8];

// Address of row r of matrix i comes from lane 8 * i + r.
u8* MatrixRow(Warp& warp, const Instruction& in, const Operand& address, int matrix, int row,
              Access access) {
  const int lane = matrix * kMatrixRows + row;
  const StateSpace space =
      in.space == StateSpace::kGeneric ? StateSpace::kGeneric : StateSpace::kShared;
  return ResolveAddress(warp, in, lane, EffectiveAddress(warp, address, lane), kRowBytes, space,
                        access);
}

// The two elements of the matrix that a lane's register holds, lower half first.
template <class Matrix>
auto* ElementOf(Matrix& matrix, int lane, int half, bool transposed) {
  const int row = GroupOf(lane), column = 2 * ThreadInGroup(lane) + half;
  return transposed ? &matrix[column][row] : &matrix[row][column];
}

void RunLdmatrix(Warp& warp, const Instruction& in, u32 mask) {
  RequireFullWarp(warp, in, mask);
  const Operand& d = in.operands[0];
  const bool transposed = in.flags & kTransposed;
  Matrix8x8 matrices[4];  // all rows are read before any register is written: an address may be a
                          // destination
  for (int i = 0; i < VectorSize(d); i++)
    for (int row = 0; row < kMatrixRows; row++)
      memcpy(matrices[i][row], MatrixRow(warp, in, in.operands[1], i, row, Access::kRead),
             kRowBytes);
  for (int i = 0; i < VectorSize(d); i++) {
    u32* to = LaneValues<u32>(warp, VectorElement(d, i));
    for (int lane = 0; lane < kWarpSize; lane++)
      to[lane] = *ElementOf(matrices[i], lane, 0, transposed) |
                 u32(*ElementOf(matrices[i], lane, 1, transposed)) << 16;
  }
}

void RunStmatrix(Warp& warp, const Instruction& in, u32 mask) {
  RequireFullWarp(warp, in, mask);
  const Operand& source = in.operands[1];
  const bool transposed = in.flags & kTransposed;
  for (int i = 0; i < VectorSize(source); i++) {
    Matrix8x8 matrix;
    for (int lane = 0; lane < kWarpSize; lane++) {
      u32 pair = ReadLane(warp, VectorElement(source, i), lane);
      *ElementOf(matrix, lane, 0, transposed) = u16(pair);
      *ElementOf(matrix, lane, 1, transposed) = u16(pair >> 16);
    }
    for (int row = 0; row < kMatrixRows; row++) {
      const u8* stored = reinterpret_cast<const u8*>(matrix[row]);
      const int lane = i * kMatrixRows + row;
      const StateSpace space =
          in.space == StateSpace::kGeneric ? StateSpace::kGeneric : StateSpace::kShared;
      memcpy(ResolveAddress(warp, in, lane, EffectiveAddress(warp, in.operands[0], lane), kRowBytes,
                            space, Access::kWrite, true, stored),
             stored, kRowBytes);
    }
  }
}

DecodeResult UseAligned(Instruction& in, Handler handler) {
  in.flow = Flow::kWarpSync;
  in.membermask_operand = kMembermaskAligned;
  return Use(in, handler);
}

DecodeResult DecodeMatrixCopy(Instruction& in) {
  if (!in.Has("b16") || !in.Has("m8n8")) return "ldmatrix shape";
  for (const Operand& part : in.operands[in.parts[0] == "ldmatrix" ? 0 : 1].parts)
    if (part.kind != Operand::Kind::kRegister || part.size != 4) return "ldmatrix register";
  in.flags = in.Has("trans") ? kTransposed : 0;
  return UseAligned(in, in.parts[0] == "ldmatrix" ? RunLdmatrix : RunStmatrix);
}

// ---- fragment elements

// Element `index` of a register holding packed elements of `type`.
double ElementValue(PtxType type, u64 bits, int index) {
  switch (type) {
    case PtxType::kF16:
      return HalfToFloat(u16(bits >> (16 * index)));
    case PtxType::kBF16:
      return Bf16ToFloat(u16(bits >> (16 * index)));
    case PtxType::kTF32:
      return Tf32FromBits(u32(bits));
    case PtxType::kF32:
      return FloatFromBits(bits);
    case PtxType::kF64:
      return DoubleFromBits(bits);
    case PtxType::kS32:
      return s32(bits);
    case PtxType::kS8:
      return s8(bits >> (8 * index));
    case PtxType::kU8:
      return u8(bits >> (8 * index));
    case PtxType::kE4M3:
      return Fp8ToFloat(u8(bits >> (8 * index)), false);
    case PtxType::kE5M2:
      return Fp8ToFloat(u8(bits >> (8 * index)), true);
    default:
      return 0;
  }
}

int ElementsPerRegister(PtxType type) {
  switch (type) {
    case PtxType::kF16:
    case PtxType::kBF16:
      return 2;
    case PtxType::kS8:
    case PtxType::kU8:
    case PtxType::kE4M3:
    case PtxType::kE5M2:
      return 4;
    default:
      return 1;
  }
}

u64 ResultBits(PtxType type, double value, bool satfinite) {
  switch (type) {
    case PtxType::kF16:
      return DoubleToHalf(value);
    case PtxType::kF64:
      return BitsOf(value);
    case PtxType::kS32: {
      constexpr double kMax = 2147483647.0, kMin = -2147483648.0;
      if (satfinite) value = value > kMax ? kMax : value < kMin ? kMin : value;
      return u32(s64(value));
    }
    default:
      return BitsOf(float(value));
  }
}

// The element types named in the opcode, in order: d, a, b, c.
std::vector<PtxType> MatrixTypes(const Instruction& in) {
  std::vector<PtxType> types;
  for (const std::string& part : in.parts) {
    PtxType type = TypeFromName(part);
    if (ElementsPerRegister(type) > 1 || type == PtxType::kTF32 || type == PtxType::kF32 ||
        type == PtxType::kF64 || type == PtxType::kS32)
      types.push_back(type);
  }
  return types;
}

bool ParseShape(Instruction& in) {
  for (const std::string& part : in.parts)
    if (sscanf(part.c_str(), "m%dn%dk%d", &in.m, &in.n, &in.k) == 3) return true;
  return false;
}

// ---- mma.sync (9.7.14.5)

struct Position {
  int row, column;
};

// For m16 the registers of A alternate between rows g and g+8, then move on by one block of
// columns; the registers of B only move along k. A block of columns is 4 threads times the elements
// of a register.
Position PositionInA(const Instruction& in, int lane, int reg, int element) {
  const int per_register = ElementsPerRegister(in.a_type);
  const int row_half = in.m == 16 ? reg & 1 : 0, block = in.m == 16 ? reg >> 1 : reg;
  return {GroupOf(lane) + 8 * row_half, (4 * block + ThreadInGroup(lane)) * per_register + element};
}

Position PositionInB(const Instruction& in, int lane, int reg, int element) {
  return {(4 * reg + ThreadInGroup(lane)) * ElementsPerRegister(in.b_type) + element,
          GroupOf(lane)};
}

// C and D: a lane holds two neighbouring columns, of row g and (m16) of row g+8. `index` counts
// elements.
Position PositionInC(int lane, int index) {
  return {GroupOf(lane) + 8 * (index >> 1), 2 * ThreadInGroup(lane) + (index & 1)};
}

void RunMma(Warp& warp, const Instruction& in, u32 mask) {
  RequireFullWarp(warp, in, mask);
  double a[16][64], b[64][8], c[16][8];
  const Operand &d_operand = in.operands[0], &a_operand = in.operands[1];
  const Operand &b_operand = in.operands[2], &c_operand = in.operands[3];
  const PtxType c_type = in.last_type;
  const int c_per_register = ElementsPerRegister(c_type),
            d_per_register = ElementsPerRegister(in.type);

  for (int lane = 0; lane < kWarpSize; lane++) {
    for (int reg = 0; reg < VectorSize(a_operand); reg++) {
      u64 bits = ReadLane(warp, VectorElement(a_operand, reg), lane);
      for (int e = 0; e < ElementsPerRegister(in.a_type); e++) {
        Position p = PositionInA(in, lane, reg, e);
        a[p.row][p.column] = ElementValue(in.a_type, bits, e);
      }
    }
    for (int reg = 0; reg < VectorSize(b_operand); reg++) {
      u64 bits = ReadLane(warp, VectorElement(b_operand, reg), lane);
      for (int e = 0; e < ElementsPerRegister(in.b_type); e++) {
        Position p = PositionInB(in, lane, reg, e);
        b[p.row][p.column] = ElementValue(in.b_type, bits, e);
      }
    }
    for (int i = 0; i < VectorSize(c_operand) * c_per_register; i++) {
      Position p = PositionInC(lane, i);
      u64 bits = ReadLane(warp, VectorElement(c_operand, i / c_per_register), lane);
      c[p.row][p.column] = ElementValue(c_type, bits, i % c_per_register);
    }
  }

  for (int i = 0; i < in.m; i++)
    for (int k = 0; k < in.k; k++)
      for (int j = 0; j < 8; j++) c[i][j] += a[i][k] * b[k][j];

  const bool satfinite = in.Has("satfinite");
  for (int lane = 0; lane < kWarpSize; lane++) {
    for (int reg = 0; reg < VectorSize(d_operand); reg++) {
      u64 bits = 0;
      for (int e = 0; e < d_per_register; e++) {
        Position p = PositionInC(lane, reg * d_per_register + e);
        bits |= ResultBits(in.type, c[p.row][p.column], satfinite) << (16 * e);
      }
      WriteLane(warp, VectorElement(d_operand, reg), lane, bits);
    }
  }
}

// The same for m16, k = 4 elements or 8 of a register, and sums in float: most of what runs. The
// sums are made in the order of RunMma. Rows of A are neighbouring lanes of a register.
template <bool kPacked>
float MmaElement(u32 bits, int half) {
  if (!kPacked) return Tf32FromBits(bits);
  return FloatFromBits(half ? bits & 0xFFFF0000u : bits << 16);
}

template <bool kPacked>
void RunMmaToFloat(Warp& warp, const Instruction& in, u32 mask) {
  RequireFullWarp(warp, in, mask);
  constexpr int kHalves = kPacked ? 2 : 1;
  using Row = double __attribute__((vector_size(64)));  // 8 columns
  double a[16][16];
  Row b[16], c[16];
  const std::vector<Operand>& a_parts = in.operands[1].parts;
  const std::vector<Operand>& b_parts = in.operands[2].parts;
  for (size_t reg = 0; reg < a_parts.size(); reg++) {
    const u32* from = LaneValues<u32>(warp, a_parts[reg]);
    const int first_row = 8 * (reg & 1), first_column = 4 * kHalves * int(reg >> 1);
    for (int g = 0; g < 8; g++)
      for (int t = 0; t < 4; t++)
        for (int e = 0; e < kHalves; e++)
          a[first_row + g][first_column + kHalves * t + e] =
              MmaElement<kPacked>(from[4 * g + t], e);
  }
  for (int reg = 0; reg < VectorSize(in.operands[2]); reg++) {
    const u32* from = LaneValues<u32>(warp, b_parts.empty() ? in.operands[2] : b_parts[reg]);
    for (int t = 0; t < 4; t++)
      for (int e = 0; e < kHalves; e++)
        for (int g = 0; g < 8; g++)
          b[(4 * reg + t) * kHalves + e][g] = MmaElement<kPacked>(from[4 * g + t], e);
  }
  for (int i = 0; i < 4; i++) {
    const float* from = LaneValues<float>(warp, in.operands[3].parts[i]);
    for (int lane = 0; lane < kWarpSize; lane++)
      c[(lane >> 2) + 8 * (i >> 1)][2 * (lane & 3) + (i & 1)] = from[lane];
  }
  for (int i = 0; i < 16; i++) {
    Row sum = c[i];
    for (int k = 0; k < in.k; k++) sum += a[i][k] * b[k];
    c[i] = sum;
  }
  for (int i = 0; i < 4; i++) {
    float* to = LaneValues<float>(warp, in.operands[0].parts[i]);
    for (int lane = 0; lane < kWarpSize; lane++)
      to[lane] = float(c[(lane >> 2) + 8 * (i >> 1)][2 * (lane & 3) + (i & 1)]);
  }
}

DecodeResult DecodeMma(Instruction& in) {
  if (!ParseShape(in) || in.n != 8 || (in.m != 16 && in.m != 8)) return "mma shape";
  if (in.Has("sp")) return "sparse mma";
  if (!in.Has("row") || !in.Has("col")) return "mma layout";
  std::vector<PtxType> types = MatrixTypes(in);
  if (in.Has("xor") || types.size() != 4) return "mma types";
  in.type = types[0];
  in.a_type = types[1];
  in.b_type = types[2];
  in.last_type = types[3];
  if (in.m == 8 && in.a_type == PtxType::kF16) return "m8n8k4 f16";
  const int elements =
      4 * ElementsPerRegister(in.a_type);  // of a row of A that 4 threads hold in a register
  if (VectorSize(in.operands[1]) * elements * 8 != in.m * in.k ||
      VectorSize(in.operands[2]) * elements != in.k)
    return "mma fragment count";
  const bool tf32 = in.a_type == PtxType::kTF32, bf16 = in.a_type == PtxType::kBF16;
  if (in.m == 16 && (tf32 || bf16) && in.b_type == in.a_type && in.type == PtxType::kF32 &&
      in.last_type == PtxType::kF32 && VectorSize(in.operands[0]) == 4 &&
      VectorSize(in.operands[3]) == 4 &&
      std::all_of(in.operands.begin(), in.operands.end(), AreWords))
    return UseAligned(in, bf16 ? RunMmaToFloat<true> : RunMmaToFloat<false>);
  return UseAligned(in, RunMma);
}

// ---- wmma (9.7.14.4)
// -------------------------------------------------------------------------------------- The
// fragment layout is opaque to programs, so ours is simple: lane l holds a run of row l % rows; B
// is kept transposed. When there are more lanes than runs, lanes hold copies.

enum class Fragment { kA, kB, kAccumulator };

struct FragmentLayout {
  int rows, run;  // rows, and elements of one row per lane
  int runs_per_row;
  FragmentLayout(const Instruction& in, Fragment which, PtxType type, int registers) {
    rows = which == Fragment::kB ? in.n : in.m;
    int columns = which == Fragment::kAccumulator ? in.n : in.k;
    run = registers * ElementsPerRegister(type);
    runs_per_row = columns >= run ? columns / run : 1;
  }
  Position At(int lane, int element) const {
    return {lane % rows, lane / rows % runs_per_row * run + element};
  }
};

int ElementBytes(PtxType type) { return type == PtxType::kTF32 ? 4 : TypeSize(type); }

void RunWmmaLoadStore(Warp& warp, const Instruction& in, u32 mask) {
  RequireFullWarp(warp, in, mask);
  const bool is_store = in.parts[1] == "store";
  const Operand& fragment = in.operands[is_store ? 1 : 0];
  const Operand& address = in.operands[is_store ? 0 : 1];
  const Fragment which = Fragment(in.variant);
  const FragmentLayout layout(in, which, in.type, VectorSize(fragment));
  const int bytes = ElementBytes(in.type), per_register = ElementsPerRegister(in.type);
  const bool row_major = in.Has("row");
  for (int lane = 0; lane < kWarpSize; lane++) {
    const u64 base = EffectiveAddress(warp, address, lane);
    const u32 stride = in.operands.size() > 2 ? ReadLane(warp, in.operands[2], lane) : 0;
    u64 bits = 0;
    for (int e = 0; e < layout.run; e++) {
      Position p = layout.At(lane, e);
      if (which == Fragment::kB) std::swap(p.row, p.column);
      const u64 index = row_major ? u64(p.row) * stride + p.column : u64(p.column) * stride + p.row;
      u8* memory = ResolveAddress(warp, in, lane, base + index * bytes, bytes, in.space,
                                  is_store ? Access::kWrite : Access::kRead);
      const Operand& reg = VectorElement(fragment, e / per_register);
      const int shift = 8 * bytes * (e % per_register);
      if (is_store) {
        u64 value = ReadLane(warp, reg, lane) >> shift;
        memcpy(memory, &value, bytes);
        continue;
      }
      u64 value = 0;
      memcpy(&value, memory, bytes);
      bits = (e % per_register ? bits : 0) | value << shift;
      if (e % per_register == per_register - 1) WriteLane(warp, reg, lane, bits);
    }
  }
}

void RunWmmaMma(Warp& warp, const Instruction& in, u32 mask) {
  RequireFullWarp(warp, in, mask);
  constexpr int kMaxExtent = 32;
  static thread_local double a[kMaxExtent][kMaxExtent], b[kMaxExtent][kMaxExtent],
      c[kMaxExtent][kMaxExtent];
  auto load = [&](const Operand& operand, Fragment which, PtxType type,
                  double(&matrix)[kMaxExtent][kMaxExtent]) {
    const FragmentLayout layout(in, which, type, VectorSize(operand));
    const int per_register = ElementsPerRegister(type);
    for (int lane = 0; lane < kWarpSize; lane++)
      for (int e = 0; e < layout.run; e++) {
        Position p = layout.At(lane, e);
        u64 bits = ReadLane(warp, VectorElement(operand, e / per_register), lane);
        matrix[p.row][p.column] = ElementValue(type, bits, e % per_register);
      }
  };
  load(in.operands[1], Fragment::kA, in.a_type, a);
  load(in.operands[2], Fragment::kB, in.b_type, b);  // b[column][k]
  load(in.operands[3], Fragment::kAccumulator, in.last_type, c);

  for (int i = 0; i < in.m; i++)
    for (int j = 0; j < in.n; j++)
      for (int k = 0; k < in.k; k++) c[i][j] += a[i][k] * b[j][k];

  const Operand& d = in.operands[0];
  const FragmentLayout layout(in, Fragment::kAccumulator, in.type, VectorSize(d));
  const int per_register = ElementsPerRegister(in.type);
  for (int lane = 0; lane < kWarpSize; lane++)
    for (int reg = 0; reg < VectorSize(d); reg++) {
      u64 bits = 0;
      for (int e = 0; e < per_register; e++) {
        Position p = layout.At(lane, reg * per_register + e);
        bits |= ResultBits(in.type, c[p.row][p.column], in.Has("satfinite")) << (16 * e);
      }
      WriteLane(warp, VectorElement(d, reg), lane, bits);
    }
}

DecodeResult DecodeWmma(Instruction& in) {
  if (!ParseShape(in)) return "wmma shape";
  std::vector<PtxType> types = MatrixTypes(in);
  if (in.parts[1] != "mma") {
    in.variant = int(in.parts[2] == "a"   ? Fragment::kA
                     : in.parts[2] == "b" ? Fragment::kB
                                          : Fragment::kAccumulator);
    if (types.empty()) return "wmma types";
    in.type = types.back();
    return UseAligned(in, RunWmmaLoadStore);
  }
  if (types.size() == 2)
    types = {types[0], PtxType::kF16, PtxType::kF16, types[1]};  // f16 factors are implied
  if (types.size() != 4) return "wmma types";
  in.type = types[0];
  in.a_type = types[1];
  in.b_type = types[2];
  in.last_type = types[3];
  return UseAligned(in, RunWmmaMma);
}

}  // namespace

void AddTensor(DecoderTable& table) {
  table.insert({{"ldmatrix", DecodeMatrixCopy},
                {"stmatrix", DecodeMatrixCopy},
                {"mma", DecodeMma},
                {"wmma", DecodeWmma}});
}

}  // namespace ptxemu
