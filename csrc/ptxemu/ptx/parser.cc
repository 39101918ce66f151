// Recursive-descent parser from PTX text to ir.h (PTX ISA 4 "Syntax", 5 "State Spaces", 7 "ABI", 10
// "Directives"). Registers get fixed slots in the warp's register file and labels become
// instruction indices, so that nothing is looked up by name while a kernel runs.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "core/ir.h"
#include "exec/memory.h"
#include "exec/special_registers.h"
#include "isa/decode.h"
#include "isa/system.h"
#include "ptx/lexer.h"

namespace ptxemu {
namespace {

constexpr int kPredicateBytes = 4;  // a predicate is one bit per lane

int AlignUp(int value, int alignment) { return (value + alignment - 1) / alignment * alignment; }

bool IsOneOf(const std::string& text, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (text == name) return true;
  return false;
}

struct RegisterSlot {
  int offset;
  u8 size;
  bool predicate;
};

// A number as written: its bits and, for 0f/0d/decimal floats, the width of those bits (0 for
// integers).
struct Literal {
  u64 bits = 0;
  int float_bytes = 0;
};

Literal ParseLiteral(const std::string& text) {
  Literal literal;
  if (text.size() > 2 && text[0] == '0' && strchr("fFdD", text[1])) {
    literal.bits = strtoull(text.c_str() + 2, nullptr, 16);
    literal.float_bytes = strchr("fF", text[1]) ? 4 : 8;
  } else if (text.find('.') != std::string::npos) {
    double value = strtod(text.c_str(), nullptr);
    memcpy(&literal.bits, &value, 8);
    literal.float_bytes = 8;
  } else {
    literal.bits = strtoull(text.c_str(), nullptr, 0);
  }
  return literal;
}

u64 DoubleBitsToFloatBits(u64 bits) {
  double wide;
  memcpy(&wide, &bits, 8);
  float narrow = static_cast<float>(wide);
  u32 out;
  memcpy(&out, &narrow, 4);
  return out;
}

u64 FloatBitsToDoubleBits(u64 bits) {
  u32 low = static_cast<u32>(bits);
  float narrow;
  memcpy(&narrow, &low, 4);
  double wide = narrow;
  u64 out;
  memcpy(&out, &wide, 8);
  return out;
}

class Parser {
 public:
  explicit Parser(Module* module) : module_(module), tokens_(Tokenize(module->source)) {}

  void Parse() {
    while (!AtEnd()) ParseModuleItem();
    PlaceFunctionRegisters();
    ResolveCalls();
  }

 private:
  // One { } block: its registers and its local or param variables.
  struct Scope {
    int id;
    std::map<std::string, RegisterSlot> registers;
    std::map<std::string, Variable> variables;
  };
  using ScopedName = std::pair<int, std::string>;

  // ---- tokens
  bool AtEnd() const { return pos_ >= tokens_.size(); }
  const Token& Peek() const {
    if (AtEnd()) throw EmuError(kInvalidPtx, "PTX parse error: unexpected end of file");
    return tokens_[pos_];
  }
  bool Is(const char* text) const {
    return !AtEnd() && tokens_[pos_].text == text && tokens_[pos_].kind != Token::Kind::kString;
  }
  bool Accept(const char* text) {
    if (!Is(text)) return false;
    pos_++;
    return true;
  }
  void Expect(const char* text) {
    if (!Accept(text)) Fail(std::string("expected ") + text);
  }
  std::string Next() {
    const Token& token = Peek();
    pos_++;
    return token.text;
  }
  void SkipLine() {
    int line = Peek().line;
    while (!AtEnd() && tokens_[pos_].line == line) pos_++;
  }
  void SkipPast(const char* text) {
    while (!Accept(text)) Next();
  }
  s64 NextInteger() {
    bool minus = Accept("-");
    s64 value = ParseLiteral(Next()).bits;
    return minus ? -value : value;
  }
  [[noreturn]] void Fail(const std::string& why) const {
    std::string where = AtEnd() ? "end of file" : std::to_string(tokens_[pos_].line);
    std::string near = AtEnd() ? "" : tokens_[pos_].text;
    throw EmuError(kInvalidPtx, "PTX parse error line " + where + " near '" + near + "': " + why);
  }

  // ---- module level
  void ParseModuleItem();
  void ParseTarget();
  void PlaceModuleVariable(Variable& variable);
  void PlaceFunctionRegisters();
  void ResolveCalls();

  // ---- variables and registers
  Variable ParseVariable();
  void ParseInitializer(Variable& variable, u32 element_size);
  void PlaceShared(Variable& variable);
  void ParseRegisters();
  void ParseScopedVariables();
  int AllocateRegister(int size) {
    int offset = AlignUp(register_offset_, 32);
    register_offset_ = offset + (size ? kWarpSize * size : kPredicateBytes);
    return offset;
  }
  const RegisterSlot* FindRegister(const std::string& name) const;
  Variable* FindVariable(const std::string& name);

  // ---- functions
  void ParseFunction(bool is_entry);
  void ParseParameters(Function& function, std::vector<Variable>& list);
  void ParsePerformanceDirectives(Function& function);
  void ParseBody();
  bool ParseLabel();
  void ResolveLabels();
  int FindLabel(const std::string& name, int scope) const;
  void PushScope(int parent) {
    scopes_.push_back({++scope_count_, {}, {}});
    scope_parent_[scope_count_] = parent;
  }

  // ---- instructions
  void ParseInstruction();
  void ParseOpcode(Instruction& in);
  bool ParseControlFlow(Instruction& in);
  void ParseCall(Instruction& in);
  void ParseOperands(Instruction& in);
  int ImmediateSize(const Instruction& in, int index) const;
  Operand ParseOperand(int size, PtxType type = PtxType::kNone);
  Operand ParseAddress();
  Operand VariableOperand(Variable& variable, int size);
  Operand Immediate(u64 value, int size);

  Module* module_;
  std::vector<Token> tokens_;
  size_t pos_ = 0;
  Function* function_ = nullptr;
  std::vector<Scope> scopes_;
  int scope_count_ = 0;
  std::map<int, int> scope_parent_;
  std::map<ScopedName, int> labels_;
  std::map<ScopedName, std::vector<std::string>> branch_tables_;
  std::map<std::pair<u64, int>, int> constant_offsets_;
  int register_offset_ = 0;
  u32 shared_offset_ = 0;
  int largest_entry_frame_ = 0, function_frame_ = 0;
  std::vector<std::pair<int, int>> function_ranges_;  // code of every .func
};

// ---- module level

void Parser::ParseTarget() {
  module_->target = Next();
  module_->target_sm = module_->target.size() > 3 ? atoi(module_->target.c_str() + 3) : 0;
  while (Accept(",")) Next();
}

void Parser::ParseModuleItem() {
  std::string word = Peek().text;
  if (IsOneOf(word, {".version", ".address_size"})) {
    Next();
    const std::string number = Next();  // "7.0"
    const size_t point = number.find('.');
    if (word == ".version" && point != std::string::npos)
      module_->ptx_version = 10 * atoi(number.c_str()) + atoi(number.c_str() + point + 1);
    return;
  }
  if (Accept(".target")) return ParseTarget();
  if (IsOneOf(word, {".file", ".loc"})) return SkipLine();
  if (word == ".section") {  // debug information
    while (!Is("{")) Next();
    int depth = 0;
    do {
      if (Is("{")) depth++;
      if (Is("}")) depth--;
      Next();
    } while (depth);
    return;
  }
  if (IsOneOf(word, {".pragma", ".alias"})) return SkipPast(";");
  if (Accept(";")) return;

  bool external = false;
  while (IsOneOf(word, {".visible", ".extern", ".weak", ".common", ".hidden", ".internal"})) {
    if (word == ".extern") external = true;
    Next();
    word = Peek().text;
  }
  if (Accept(".entry")) return ParseFunction(true);
  if (Accept(".func")) return ParseFunction(false);
  if (!IsOneOf(word, {".global", ".const", ".shared", ".param", ".local"}))
    Fail("module-level token");
  do {
    Variable variable = ParseVariable();
    if (external && variable.space == StateSpace::kShared) variable.external = true;
    PlaceModuleVariable(variable);
  } while (Accept(","));
  Expect(";");
}

void Parser::PlaceModuleVariable(Variable& variable) {
  if (variable.space == StateSpace::kGlobal || variable.space == StateSpace::kConst) {
    bool is_redeclaration =
        variable.external && variable.size == 0 && module_->variables.count(variable.name);
    if (is_redeclaration) return;
    constexpr u64 kAlignment = 256;
    u64 size = std::max<u64>(variable.size, 1);
    auto storage = std::make_unique<u8[]>(size + 2 * kAlignment);
    u8* base = reinterpret_cast<u8*>((reinterpret_cast<u64>(storage.get()) + kAlignment - 1) &
                                     ~(kAlignment - 1));
    memset(base, 0, size);
    memcpy(base, variable.initializer.data(), std::min<size_t>(variable.initializer.size(), size));
    variable.address = reinterpret_cast<u64>(base);
    DeviceMemory::Register(base, size);
    module_->storage.push_back(std::move(storage));
  } else if (variable.space == StateSpace::kShared) {
    variable.offset = -1;
  }
  module_->variables[variable.name] = variable;
}

// A .func runs on top of its caller's registers, so its frame starts after the largest entry frame.
void Parser::PlaceFunctionRegisters() {
  int base = AlignUp(largest_entry_frame_, 64);
  std::function<void(Operand&)> shift = [&](Operand& operand) {
    bool in_register_file =
        operand.kind == Operand::Kind::kRegister || operand.kind == Operand::Kind::kPredicate;
    if (in_register_file && !operand.is_constant && operand.offset >= kSpecialRegisterBytes)
      operand.offset += base;
    for (Operand& part : operand.parts) shift(part);
  };
  for (auto& range : function_ranges_) {
    for (int i = range.first; i < range.second; i++) {
      Instruction& in = module_->code[i];
      for (Operand& operand : in.operands) shift(operand);
      for (Operand& operand : in.call_args) shift(operand);
      if (in.guard >= kSpecialRegisterBytes) in.guard += base;
    }
  }
  module_->register_bytes = base + function_frame_ + 64;
}

void Parser::ResolveCalls() {
  for (Instruction& in : module_->code) {
    if (in.flow != Flow::kCall) continue;
    auto it = module_->functions.find(in.symbol);
    if (it == module_->functions.end() || it->second.start < 0)
      throw EmuError(kInvalidPtx, "call to unknown function " + in.symbol);
    in.target = it->second.start;
  }
}

// ---- variables and registers

// PTX ISA 5.4 "Variables"; stands at the state space.
Variable Parser::ParseVariable() {
  static const std::map<std::string, StateSpace> kSpaces = {
      {".global", StateSpace::kGlobal}, {".const", StateSpace::kConst},
      {".shared", StateSpace::kShared}, {".local", StateSpace::kLocal},
      {".param", StateSpace::kParam},   {".reg", StateSpace::kParam}};
  Variable variable;
  PtxType type = PtxType::kNone;
  int vector_width = 1;
  for (;;) {
    std::string word = Next();
    auto space = kSpaces.find(word);
    if (space != kSpaces.end()) {
      variable.space = space->second;
    } else if (word == ".align") {
      variable.align = NextInteger();
    } else if (word == ".v2" || word == ".v4") {
      vector_width = word[2] - '0';
    } else if (word == ".managed" || word.compare(0, 10, ".attribute") == 0) {
      if (Is("(")) SkipPast(")");
    } else if (word == ".ptr") {
    } else if (word[0] == '.') {
      type = TypeFromName(word.substr(1));
      if (type == PtxType::kNone) Fail("variable type " + word);
    } else {
      variable.name = word;
      break;
    }
  }
  u32 element_size = TypeSize(type) * vector_width;
  variable.align = std::max({variable.align, element_size, 1u});
  u64 count = 1;
  while (Accept("[")) {
    if (Accept("]")) {
      count = 0;
      variable.external = true;
      break;
    }
    count *= NextInteger();
    Expect("]");
  }
  variable.size = element_size * count;
  if (Accept("=")) ParseInitializer(variable, element_size);
  return variable;
}

void Parser::ParseInitializer(Variable& variable, u32 element_size) {
  auto append = [&](u64 value) {
    size_t end = variable.initializer.size();
    variable.initializer.resize(end + element_size);
    memcpy(&variable.initializer[end], &value, element_size);
  };
  auto address_of = [&](const std::string& name) {
    auto it = module_->variables.find(name);
    return it == module_->variables.end() ? 0 : it->second.address;
  };
  int depth = 0;
  do {
    if (Accept("{")) {
      depth++;
    } else if (Accept("}")) {
      depth--;
    } else if (Accept(",")) {
    } else {
      bool minus = Accept("-");
      if (Peek().kind == Token::Kind::kNumber) {
        Literal literal = ParseLiteral(Next());
        u64 value = minus ? -literal.bits : literal.bits;
        append(literal.float_bytes == 8 && element_size == 4 ? DoubleBitsToFloatBits(value)
                                                             : value);
      } else if (Accept("generic")) {
        Expect("(");
        std::string name = Next();
        s64 displacement = Accept("+") ? NextInteger() : 0;
        Expect(")");
        if (!module_->variables.count(name)) Fail("initializer symbol " + name);
        append(address_of(name) + displacement);
      } else {
        append(address_of(Next()));
      }
    }
  } while (depth > 0 || Is(","));
}

void Parser::PlaceShared(Variable& variable) {
  shared_offset_ = AlignUp(shared_offset_, variable.align);
  variable.offset = shared_offset_;
  shared_offset_ += variable.size;
}

// .reg .b32 %r<10>; or .reg .pred p, q;
void Parser::ParseRegisters() {
  Expect(".reg");
  std::string type_name = Next();
  if (type_name == ".v2" || type_name == ".v4") type_name = Next();
  PtxType type = TypeFromName(type_name.substr(1));
  bool predicate = type == PtxType::kPred;
  int size = predicate ? 0 : std::max(TypeSize(type), 2);
  auto declare = [&](const std::string& name) {
    scopes_.back().registers[name] = {AllocateRegister(size),
                                      u8(predicate ? kPredicateBytes : size), predicate};
  };
  do {
    std::string name = Next();
    if (!Accept("<")) {
      declare(name);
      continue;
    }
    int count = NextInteger();
    Expect(">");
    for (int i = 0; i < count; i++) declare(name + std::to_string(i));
  } while (Accept(","));
  Expect(";");
}

void Parser::ParseScopedVariables() {
  do {
    Variable variable = ParseVariable();
    if (variable.space == StateSpace::kShared) {
      variable.offset = -1;
      if (!variable.external) PlaceShared(variable);
      module_->variables[variable.name] = variable;
    } else if (variable.space == StateSpace::kLocal || variable.space == StateSpace::kParam) {
      module_->local_bytes = AlignUp(module_->local_bytes, std::max<int>(16, variable.align));
      variable.offset = module_->local_bytes;
      module_->local_bytes += variable.size;
      scopes_.back().variables[variable.name] = variable;
    } else {
      PlaceModuleVariable(variable);
      scopes_.back().variables[variable.name] = module_->variables[variable.name];
    }
  } while (Accept(","));
  Expect(";");
}

const RegisterSlot* Parser::FindRegister(const std::string& name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    auto it = scope->registers.find(name);
    if (it != scope->registers.end()) return &it->second;
  }
  return nullptr;
}

Variable* Parser::FindVariable(const std::string& name) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    auto it = scope->variables.find(name);
    if (it != scope->variables.end()) return &it->second;
  }
  if (function_) {
    for (auto* list : {&function_->params, &function_->results})
      for (Variable& variable : *list)
        if (variable.name == name) return &variable;
  }
  auto it = module_->variables.find(name);
  return it == module_->variables.end() ? nullptr : &it->second;
}

// ---- functions

// Entry parameters are packed into the launch buffer; those of a .func live in the thread's local
// memory.
void Parser::ParseParameters(Function& function, std::vector<Variable>& list) {
  if (!Accept("(")) return;
  while (!Accept(")")) {
    Variable variable = ParseVariable();
    if (function.is_entry) {
      function.param_bytes = AlignUp(function.param_bytes, variable.align);
      variable.offset = function.param_bytes;
      variable.kernel_param = true;
      function.param_bytes += variable.size;
    } else {
      module_->local_bytes = AlignUp(module_->local_bytes, 16);
      variable.offset = module_->local_bytes;
      module_->local_bytes += variable.size;
    }
    variable.space = StateSpace::kParam;
    list.push_back(variable);
    Accept(",");
  }
}

// PTX ISA 11.4 "Performance-Tuning Directives".
void Parser::ParsePerformanceDirectives(Function& function) {
  for (;;) {
    std::string word = Peek().text;
    if (word == ".maxntid" || word == ".reqntid") {
      Next();
      int* extent = word == ".reqntid" ? function.req_threads : function.max_threads;
      extent[0] = NextInteger();
      extent[1] = extent[2] = 1;
      for (int i = 1; i < 3 && Accept(","); i++) extent[i] = NextInteger();
    } else if (IsOneOf(word, {".minnctapersm", ".maxnreg", ".maxclusterrank", ".reqnctapercluster",
                              ".abi_preserve", ".abi_preserve_control"})) {
      Next();
      do NextInteger();
      while (Accept(","));
    } else if (IsOneOf(word, {".noreturn", ".explicitcluster"})) {
      Next();
    } else if (word == ".pragma") {
      SkipPast(";");
    } else {
      return;
    }
  }
}

void Parser::ParseFunction(bool is_entry) {
  Function function;
  function.is_entry = is_entry;
  ParseParameters(function, function.results);
  function.name = Next();
  ParseParameters(function, function.params);
  ParsePerformanceDirectives(function);
  if (Accept(";")) {  // declaration
    module_->functions.emplace(function.name, function);
    return;
  }
  function_ = &(module_->functions[function.name] = function);
  register_offset_ =
      is_entry ? kSpecialRegisterBytes : std::max(function_frame_, kSpecialRegisterBytes);
  scopes_.clear();
  labels_.clear();
  branch_tables_.clear();
  shared_offset_ = 0;
  for (auto& entry :
       module_->variables)  // every entry lays out the shared variables it uses afresh
    if (entry.second.space == StateSpace::kShared) entry.second.offset = -1;

  function_->start = module_->code.size();
  Expect("{");
  PushScope(0);
  ParseBody();
  Instruction fall_off_end;
  fall_off_end.flow = is_entry ? Flow::kExit : Flow::kReturn;
  fall_off_end.line = AtEnd() ? 0 : Peek().line;
  module_->code.push_back(fall_off_end);
  function_->end = module_->code.size();
  function_->static_shared = shared_offset_;
  if (is_entry) {
    largest_entry_frame_ = std::max(largest_entry_frame_, register_offset_);
  } else {
    function_frame_ = register_offset_;
    function_ranges_.push_back({function_->start, function_->end});
    if (shared_offset_)
      throw EmuError(kInvalidPtx, "static shared in .func unsupported: " + function_->name);
  }
  ResolveLabels();
  function_ = nullptr;
}

void Parser::ParseBody() {
  for (;;) {
    if (Accept("}")) return scopes_.pop_back();
    if (Accept("{")) {
      PushScope(scopes_.back().id);
      ParseBody();
      continue;
    }
    if (Accept(";")) continue;
    const std::string& word = Peek().text;
    if (IsOneOf(word, {".loc", ".file"})) {
      SkipLine();
    } else if (word == ".pragma") {
      SkipPast(";");
    } else if (word == ".reg") {
      ParseRegisters();
    } else if (IsOneOf(word, {".local", ".shared", ".param", ".const", ".global"})) {
      ParseScopedVariables();
    } else if (!ParseLabel()) {
      ParseInstruction();
    }
  }
}

bool Parser::ParseLabel() {
  bool is_label = Peek().kind == Token::Kind::kIdentifier && pos_ + 1 < tokens_.size() &&
                  tokens_[pos_ + 1].text == ":" &&
                  tokens_[pos_ + 1].kind == Token::Kind::kPunctuation;
  if (!is_label) return false;
  ScopedName name = {scopes_.back().id, Next()};
  Expect(":");
  if (Accept(".branchtargets")) {
    while (!Accept(";")) {
      branch_tables_[name].push_back(Next());
      Accept(",");
    }
  } else if (Is(".callprototype") || Is(".calltargets")) {
    SkipPast(";");
  } else {
    labels_[name] = module_->code.size();
  }
  return true;
}

int Parser::FindLabel(const std::string& name, int scope) const {
  for (; scope; scope = scope_parent_.at(scope)) {
    auto it = labels_.find({scope, name});
    if (it != labels_.end()) return it->second;
  }
  throw EmuError(kInvalidPtx, "unknown label " + name);
}

void Parser::ResolveLabels() {
  for (int i = function_->start; i < function_->end; i++) {
    Instruction& in = module_->code[i];
    if (in.flow == Flow::kBranch) in.target = FindLabel(in.symbol, in.scope);
    if (in.flow != Flow::kIndexedBranch) continue;
    const std::vector<std::string>* table = nullptr;
    for (int scope = in.scope; scope && !table; scope = scope_parent_[scope]) {
      auto it = branch_tables_.find({scope, in.symbol});
      if (it != branch_tables_.end()) table = &it->second;
    }
    if (!table) throw EmuError(kInvalidPtx, "unknown branch table " + in.symbol);
    for (const std::string& label : *table) in.branch_targets.push_back(FindLabel(label, in.scope));
  }
}

// ---- instructions

// Splits the opcode at its dots and notes the types, state space and vector width among the
// suffixes.
void Parser::ParseOpcode(Instruction& in) {
  std::string opcode = Next();
  for (size_t begin = 0; begin <= opcode.size();) {
    size_t end = std::min(opcode.find('.', begin), opcode.size());
    in.parts.push_back(opcode.substr(begin, end - begin));
    begin = end + 1;
  }
  static const std::map<std::string, StateSpace> kSpaces = {{"global", StateSpace::kGlobal},
                                                            {"shared", StateSpace::kShared},
                                                            {"local", StateSpace::kLocal},
                                                            {"param", StateSpace::kParam},
                                                            {"const", StateSpace::kConst}};
  for (size_t i = 1; i < in.parts.size(); i++) {
    const std::string& part = in.parts[i];
    PtxType type = TypeFromName(part);
    if (type != PtxType::kNone) {
      if (in.type == PtxType::kNone) in.type = type;
      in.last_type = type;
    }
    if (IsOneOf(part, {"v2", "v4", "v8"})) in.vector_width = part[1] - '0';
    auto space = kSpaces.find(part.substr(0, part.find(':')));  // shared::cta is shared
    if (space != kSpaces.end()) in.space = space->second;
  }
}

void Parser::ParseInstruction() {
  size_t first_token = pos_;
  Instruction in;
  in.line = Peek().line;
  in.scope = scopes_.back().id;
  if (Accept("@")) {
    in.guard_negated = Accept("!");
    const RegisterSlot* guard = FindRegister(Next());
    if (!guard || !guard->predicate) Fail("guard predicate");
    in.guard = guard->offset;
  }
  ParseOpcode(in);
  if (!ParseControlFlow(in)) {
    ParseOperands(in);
    Expect(";");
    std::string unsupported = Decode(in);
    if (!unsupported.empty()) {
      in.symbol.clear();
      for (size_t i = first_token; i < pos_; i++) in.symbol += tokens_[i].text + " ";
      in.symbol += " (" + unsupported + ")";
      in.flow = Flow::kStraight;
      in.execute = ExecuteUnsupported;
      if (EnvInt("PTXEMU_STRICT", 0))
        throw EmuError(kInvalidPtx,
                       "unsupported PTX at line " + std::to_string(in.line) + ": " + in.symbol);
    }
  }
  module_->code.push_back(std::move(in));
}

// PTX ISA 9.7.12 "Control Flow Instructions".
bool Parser::ParseControlFlow(Instruction& in) {
  const std::string& opcode = in.parts[0];
  if (opcode == "call") {
    ParseCall(in);
    return true;
  }
  if (opcode == "bra") {
    in.flow = Flow::kBranch;
    in.symbol = Next();
  } else if (opcode == "brx") {
    in.flow = Flow::kIndexedBranch;
    in.operands.push_back(ParseOperand(4));
    Expect(",");
    in.symbol = Next();
  } else if (opcode == "ret") {
    in.flow = function_->is_entry ? Flow::kExit : Flow::kReturn;
  } else if (opcode == "exit") {
    in.flow = Flow::kExit;
  } else {
    return false;
  }
  Expect(";");
  return true;
}

void Parser::ParseCall(Instruction& in) {
  auto parse_list = [&](std::vector<Operand>& list) {
    if (!Accept("(")) return false;
    while (!Accept(")")) {
      list.push_back(ParseOperand(8));
      Accept(",");
    }
    return true;
  };
  if (parse_list(in.call_results)) Expect(",");
  in.symbol = Next();
  if (FindRegister(in.symbol)) Fail("indirect call unsupported");
  if (Accept(",")) {
    parse_list(in.call_args);
    while (Accept(",")) Next();  // prototype
  }
  Expect(";");
  if (in.symbol == "vprintf") {
    in.execute = ExecutePrintf;
  } else if (in.symbol == "__assertfail") {
    in.execute = ExecuteAssert;
  } else if (in.symbol == "malloc" || in.symbol == "free") {
    Fail("device malloc unsupported");
  } else {
    in.flow = Flow::kCall;
    if (!module_->functions.count(in.symbol)) Fail("call target " + in.symbol);
  }
}

void Parser::ParseOperands(Instruction& in) {
  bool reads_last_type = in.parts[0] == "cvt" || in.parts[0] == "set";
  while (!Is(";")) {
    int index = in.operands.size() - in.dual_destination;
    in.operands.push_back(
        ParseOperand(ImmediateSize(in, index), reads_last_type ? in.last_type : in.type));
    if (Accept("|")) {
      in.operands.push_back(ParseOperand(4));
      in.dual_destination = true;
    }
    if (!Is(";")) Expect(",");
  }
}

// Bytes per lane of an immediate in operand position `index` (0 = destination).
int Parser::ImmediateSize(const Instruction& in, int index) const {
  const std::string& op = in.parts[0];
  bool is_64_bit = in.type == PtxType::kB64 || in.type == PtxType::kU64;
  int size = TypeSize(in.type);
  if (op == "cvt") size = std::max(TypeSize(in.last_type), index == 0 ? 0 : 2);
  if (op == "set") size = TypeSize(in.last_type);
  if (op == "slct" && index == 3) size = TypeSize(in.last_type);
  if ((op == "shl" || op == "shr") && index == 2) size = 4;
  if ((op == "mad" || op == "mul") && in.Has("wide") && index == 3) size *= 2;
  if ((op == "bfe" && index >= 2) || (op == "bfi" && index >= 3)) size = 4;
  if (IsOneOf(op, {"shf", "prmt", "lop3", "shfl", "cp", "ldmatrix", "mbarrier", "nanosleep"}))
    size = 4;
  if (op == "selp" && index == 3) size = 4;
  if (op == "match" && index == 2) size = 4;
  if (IsOneOf(op, {"vote", "bar", "barrier", "match", "redux", "activemask", "elect"}) &&
      !is_64_bit)
    size = 4;
  if (size == 0) return op == "mov" ? 8 : 4;
  return std::max(size, 2);
}

Operand Parser::Immediate(u64 value, int size) {
  Operand operand;
  operand.kind = Operand::Kind::kRegister;
  operand.is_constant = true;
  operand.size = size;
  operand.imm = value;
  auto inserted = constant_offsets_.emplace(std::make_pair(value, size), 0);
  if (inserted.second) {
    std::vector<u8>& pool = module_->constant_pool;
    int offset = AlignUp(pool.size(), 32);
    pool.resize(offset + kWarpSize * size);
    for (int lane = 0; lane < kWarpSize; lane++) memcpy(&pool[offset + lane * size], &value, size);
    inserted.first->second = offset;
  }
  operand.offset = inserted.first->second;
  return operand;
}

// [base+displacement, extra...]
Operand Parser::ParseAddress() {
  Operand address;
  address.kind = Operand::Kind::kAddress;
  Operand base = ParseOperand(8);
  address.space = base.space;
  address.kernel_param = base.kernel_param;
  if (base.is_constant) {
    address.imm = base.imm;
  } else {
    address.parts.push_back(base);
  }
  for (;;) {
    if (Accept("+") || Is("-")) {
      address.imm += NextInteger();
    } else if (Accept(",")) {
      address.parts.push_back(ParseOperand(4));
    } else {
      break;
    }
  }
  Expect("]");
  return address;
}

Operand Parser::VariableOperand(Variable& variable, int size) {
  Operand operand;
  if (variable.space == StateSpace::kShared &&
      variable.external) {  // starts after the static variables
    SpecialRegister base =
        size == 8 ? SpecialRegister::kDynamicSharedBase64 : SpecialRegister::kDynamicSharedBase;
    operand.kind = Operand::Kind::kRegister;
    operand.size = size == 8 ? 8 : 4;
    operand.offset = SpecialRegisterOffset(base);
  } else if (variable.space == StateSpace::kShared) {
    if (variable.offset < 0) PlaceShared(variable);
    operand = Immediate(variable.offset, size);
  } else if (variable.space == StateSpace::kLocal || variable.space == StateSpace::kParam) {
    operand = Immediate(variable.offset, size);
    operand.kernel_param = variable.kernel_param;
  } else {
    operand = Immediate(variable.address, 8);
  }
  operand.space = variable.space;
  return operand;
}

Operand Parser::ParseOperand(int size, PtxType type) {
  Operand operand;
  if (Accept("{")) {
    operand.kind = Operand::Kind::kVector;
    while (!Accept("}")) {
      operand.parts.push_back(ParseOperand(size, type));
      Accept(",");
    }
    return operand;
  }
  if (Accept("[")) return ParseAddress();

  bool negated = Accept("!");
  bool minus = Accept("-");
  const Token& token = Peek();
  if (token.kind == Token::Kind::kNumber) {
    Literal literal = ParseLiteral(Next());
    u64 value = literal.bits;
    if (literal.float_bytes == 4 && size == 8 && type == PtxType::kF64)
      value = FloatBitsToDoubleBits(value);
    if (literal.float_bytes == 8 && size == 4) value = DoubleBitsToFloatBits(value);
    if (minus && !literal.float_bytes) value = -value;
    if (minus && literal.float_bytes)
      value ^= size == 4 || literal.float_bytes == 4 ? 1ull << 31 : 1ull << 63;
    return Immediate(value, size ? size : 8);
  }
  const std::string name = Next();
  if (name == "_") {
    operand.kind = Operand::Kind::kSink;
    return operand;
  }
  if (name == "WARP_SZ") return Immediate(kWarpSize, size);
  if (const RegisterSlot* slot = FindRegister(name)) {
    operand.kind = slot->predicate ? Operand::Kind::kPredicate : Operand::Kind::kRegister;
    operand.offset = slot->offset;
    operand.size = slot->size;
    operand.negated = negated;
    return operand;
  }
  if (name[0] == '%') {
    const SpecialRegisterInfo* special = FindSpecialRegister(name);
    if (!special) Fail("unknown register " + name);
    if (special->is_clock) module_->reads_clock = true;
    operand.kind = Operand::Kind::kRegister;
    operand.offset = SpecialRegisterOffset(special->id);
    operand.size = special->size;
    return operand;
  }
  if (Variable* variable = FindVariable(name)) return VariableOperand(*variable, size);
  operand.kind = Operand::Kind::kLabel;
  operand.label = name;
  return operand;
}

}  // namespace

Module::~Module() {
  for (auto& entry : variables)
    if (entry.second.address)
      DeviceMemory::Unregister(reinterpret_cast<void*>(entry.second.address));
}

std::unique_ptr<Module> ParseModule(const std::string& text) {
  auto module = std::make_unique<Module>();
  module->source = text;
  Parser(module.get()).Parse();
  return module;
}

}  // namespace ptxemu
