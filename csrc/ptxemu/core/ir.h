// The parsed program: operands, instructions, variables, functions and modules.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/types.h"

namespace ptxemu {

struct Warp;
struct Instruction;

// Executes one instruction for the lanes set in `mask`.
using Handler = void (*)(Warp&, const Instruction&, u32 mask);

// One operand. Registers and immediates are both arrays of 32 lane values: registers live in the
// warp's register file at `offset`, immediates in the module's constant pool, already replicated 32
// times.
struct Operand {
  enum class Kind : u8 { kNone, kRegister, kPredicate, kVector, kAddress, kLabel, kSink };
  Kind kind = Kind::kNone;
  bool is_constant = false;   // value lives in the constant pool
  bool negated = false;       // predicate operand written as !p
  bool kernel_param = false;  // names a parameter of the entry function (not of a .func)
  u8 size = 0;                // bytes per lane
  int offset = 0;             // byte offset of lane 0
  s64 imm = 0;                // immediate value, or displacement of an address
  StateSpace space = StateSpace::kGeneric;
  std::vector<Operand>
      parts;  // vector elements, or the base register (and extra operands) of an address
  std::string label;
};

// What the scheduler does with an instruction; everything but kStraight changes the flow of
// control.
enum class Flow : u8 {
  kStraight,
  kBranch,
  kIndexedBranch,
  kReturn,
  kExit,
  kBarrier,
  kWarpSync,
  kCall
};

// Special values of Instruction::membermask_operand.
constexpr int kMembermaskAll = -1;      // no membermask: all live lanes
constexpr int kMembermaskAligned = -2;  // .aligned: every lane the warp started with

struct Instruction {
  Handler execute = nullptr;
  Flow flow = Flow::kStraight;
  int guard = -1;  // register-file offset of the guard predicate, -1 = none
  bool guard_negated = false;
  PtxType type = PtxType::kNone;       // first type suffix
  PtxType last_type = PtxType::kNone;  // last type suffix
  StateSpace space = StateSpace::kGeneric;
  u8 vector_width = 1;  // .v2/.v4/.v8
  std::vector<Operand> operands;
  bool dual_destination = false;    // written as d|p
  std::vector<std::string> parts;   // opcode split at the dots
  int line = 0;                     // PTX source line
  int scope = 0;                    // label scope
  std::string symbol;               // branch label, callee, or text of an unsupported instruction
  int target = -1;                  // resolved branch or call target
  std::vector<int> branch_targets;  // brx.idx
  std::vector<Operand> call_args, call_results;

  // Filled in by the decoder of the opcode; the meaning belongs to that decoder.
  int variant = 0;
  u32 flags = 0;
  int membermask_operand = kMembermaskAll;
  PtxType a_type = PtxType::kNone, b_type = PtxType::kNone;  // mma/wmma multiplicands
  int m = 0, n = 0, k = 0;                                   // mma/wmma shape

  bool Has(const char* suffix) const {
    for (const std::string& part : parts)
      if (part == suffix) return true;
    return false;
  }
};

struct Variable {
  std::string name;
  StateSpace space = StateSpace::kGeneric;
  u32 size = 0, align = 1;
  u64 address = 0;        // global and const: host address of the storage
  int offset = 0;         // shared, local and param: offset in its frame; -1 = not placed yet
  bool external = false;  // .extern or of unknown size (dynamic shared memory)
  bool kernel_param = false;
  std::vector<u8> initializer;
};

struct Function {
  std::string name;
  bool is_entry = false;
  int start = -1, end = -1;  // instruction range
  std::vector<Variable> params, results;
  u32 param_bytes = 0;
  u32 static_shared = 0;
  int max_threads[3] = {0, 0, 0};  // .maxntid
  int req_threads[3] = {0, 0, 0};  // .reqntid
  int MaxThreadsPerBlock() const { return max_threads[0] * max_threads[1] * max_threads[2]; }
};

struct Module {
  std::string source;
  std::string target;   // "sm_80"
  int target_sm = 0;    // 80
  int ptx_version = 0;  // 70 of ".version 7.0"
  std::vector<Instruction> code;
  std::map<std::string, Function> functions;
  std::map<std::string, Variable> variables;
  std::vector<u8> constant_pool;
  u32 register_bytes = 0;    // register file of one warp, special registers included
  u32 local_bytes = 0;       // local memory (and .func params) of one thread
  bool reads_clock = false;  // uses %clock*/%globaltimer*
  std::vector<std::unique_ptr<u8[]>> storage;  // backs .global and .const variables

  Module() = default;
  Module(const Module&) = delete;
  ~Module();  // unregisters the variables' memory
};

// Parses PTX text. Throws EmuError(kInvalidPtx).
std::unique_ptr<Module> ParseModule(const std::string& text);

}  // namespace ptxemu
