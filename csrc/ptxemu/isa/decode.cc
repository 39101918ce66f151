#include "isa/decode.h"

#include <algorithm>

namespace ptxemu {

std::string Decode(Instruction& in) {
  static const DecoderTable table = [] {
    DecoderTable t;
    for (auto add : {AddArithmetic, AddBitwise, AddComparison, AddConversion, AddDataMovement,
                     AddAsyncCopy, AddWarpOps, AddTensor, AddSystem})
      add(t);
    return t;
  }();
  auto decoder = table.find(in.parts[0]);
  if (decoder == table.end()) return "opcode";
  DecodeResult unsupported = decoder->second(in);
  return unsupported ? unsupported : "";
}

DecodeResult Use(Instruction& in, Handler handler, DecodeResult if_null) {
  in.execute = handler;
  return handler ? kSupported : if_null;
}

DecodeResult Use(Instruction& in, Handler handler, int variant, u32 flags) {
  in.variant = variant;
  in.flags = flags;
  return Use(in, handler);
}

int FindSuffix(const Instruction& in, std::initializer_list<const char*> names) {
  int index = 0;
  for (const char* name : names) {
    if (in.Has(name)) return index;
    index++;
  }
  return -1;
}

bool AreWords(const Operand& operand) {
  auto is_word = [](const Operand& o) { return o.kind == Operand::Kind::kRegister && o.size == 4; };
  if (operand.kind != Operand::Kind::kVector) return is_word(operand);
  return std::all_of(operand.parts.begin(), operand.parts.end(), is_word);
}

void ExecuteNothing(Warp&, const Instruction&, u32) {}

}  // namespace ptxemu
