#include "ptx/lexer.h"

#include <cctype>

namespace ptxemu {
namespace {

bool IsSpace(char c) { return isspace(static_cast<unsigned char>(c)) || c == 0; }
bool IsAlnum(char c) { return isalnum(static_cast<unsigned char>(c)); }
bool IsAlpha(char c) { return isalpha(static_cast<unsigned char>(c)); }
bool IsDigit(char c) { return isdigit(static_cast<unsigned char>(c)); }
bool IsIdentifier(char c) { return IsAlnum(c) || c == '_' || c == '$' || c == '%' || c == '.'; }

}  // namespace

std::vector<Token> Tokenize(const std::string& source) {
  std::vector<Token> tokens;
  const size_t size = source.size();
  auto at = [&](size_t i) { return i < size ? source[i] : '\0'; };
  int line = 1;
  size_t i = 0;
  auto emit = [&](size_t begin, size_t end, Token::Kind kind) {
    tokens.push_back({source.substr(begin, end - begin), line, kind});
  };
  while (i < size) {
    char c = source[i];
    size_t j = i + 1;
    if (c == '\n') {
      line++;
    } else if (IsSpace(c)) {
    } else if (c == '/' && at(i + 1) == '/') {
      while (j < size && source[j] != '\n') j++;
    } else if (c == '/' && at(i + 1) == '*') {
      for (j = i + 2; j + 1 < size && !(source[j] == '*' && source[j + 1] == '/'); j++)
        if (source[j] == '\n') line++;
      j += 2;
    } else if (c == '"') {
      while (j < size && source[j] != '"') j++;
      emit(i + 1, j, Token::Kind::kString);
      j++;
    } else if (IsDigit(c)) {
      while (j < size && (IsAlnum(source[j]) || source[j] == '.')) j++;
      emit(i, j, Token::Kind::kNumber);
    } else if (c == '.' && IsAlpha(at(i + 1))) {  // directive such as .shared::cta
      auto scope_colon = [&](size_t k) {
        return at(k) == ':' && (at(k + 1) == ':' || at(k - 1) == ':');
      };
      while (j < size && (IsAlnum(source[j]) || source[j] == '_' || scope_colon(j))) j++;
      emit(i, j, Token::Kind::kIdentifier);
    } else if (IsIdentifier(c)) {  // opcode with all its suffixes, register, label or name
      j = i;
      while (j < size && (IsIdentifier(source[j]) || (source[j] == ':' && at(j + 1) == ':')))
        j += source[j] == ':' ? 2 : 1;
      emit(i, j, Token::Kind::kIdentifier);
    } else {
      emit(i, j, Token::Kind::kPunctuation);
    }
    i = j;
  }
  return tokens;
}

}  // namespace ptxemu
