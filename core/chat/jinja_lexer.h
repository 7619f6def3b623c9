// Template text -> tokens, with the whitespace rules of trim_blocks and lstrip_blocks applied to the text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vi::model::jinja {

enum class TokenKind { text, block_begin, block_end, print_begin, print_end, name, string, integer, real, op, end };

struct Token {
  TokenKind kind = TokenKind::end;
  std::string text;  // string: unescaped
  int line = 1;
};

// Throws Trouble; `line` is then where. Ends in one token of kind end.
std::vector<Token> lex(std::string_view source, int& line);

}  // namespace vi::model::jinja
