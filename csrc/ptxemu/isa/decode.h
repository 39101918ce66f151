// Turns a parsed instruction into one that can run: picks the handler and fills in its decoder
// fields.
#pragma once
#include <string>
#include <unordered_map>

#include "core/ir.h"

namespace ptxemu {

// Empty on success, else what about the instruction is not supported.
std::string Decode(Instruction& in);

// One decoder per opcode (the text before the first dot). Each family of instructions adds its own.
using DecodeResult = const char*;  // nullptr = supported
using Decoder = DecodeResult (*)(Instruction&);
using DecoderTable = std::unordered_map<std::string, Decoder>;

void AddArithmetic(DecoderTable& table);    // arithmetic.cc
void AddBitwise(DecoderTable& table);       // bitwise.cc
void AddComparison(DecoderTable& table);    // comparison.cc
void AddConversion(DecoderTable& table);    // conversion.cc
void AddDataMovement(DecoderTable& table);  // data_movement.cc
void AddAsyncCopy(DecoderTable& table);     // async_copy.cc
void AddWarpOps(DecoderTable& table);       // warp_ops.cc
void AddTensor(DecoderTable& table);        // tensor.cc
void AddSystem(DecoderTable& table);        // system.cc

// Helpers for decoders.
constexpr DecodeResult kSupported = nullptr;
DecodeResult Use(Instruction& in, Handler handler, DecodeResult if_null = "type");
DecodeResult Use(Instruction& in, Handler handler, int variant, u32 flags = 0);
// Index of the first suffix of the instruction found in `names`, else -1.
int FindSuffix(const Instruction& in, std::initializer_list<const char*> names);
// Whether an operand is 32-bit registers or immediates, or a vector of them.
bool AreWords(const Operand& operand);

void ExecuteNothing(Warp& warp, const Instruction& in, u32 mask);

}  // namespace ptxemu
