#include "eval/math/latex.h"

namespace vi::eval::math {

std::size_t closing_brace(std::string_view text, std::size_t open) {
  int depth = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '{') {
      ++depth;
    } else if (text[i] == '}' && --depth == 0) {
      return i;
    }
  }
  return 0;
}

std::vector<std::string> split_top(std::string_view text,
                                   const std::vector<std::string_view>& separators) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (std::size_t i = 0; i < text.size();) {
    if (depth <= 0) {
      std::size_t taken = 0;
      for (const std::string_view separator : separators) {
        if (text.substr(i, separator.size()) != separator) continue;
        const std::size_t end = i + separator.size();
        const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
        if (letter(separator.back()) && end < text.size() && letter(text[end])) continue;
        taken = separator.size();
        break;
      }
      if (taken > 0) {
        parts.emplace_back();
        i += taken;
        continue;
      }
    }
    const char c = text[i];
    if (text.substr(i, 6) == "\\begin" || c == '(' || c == '[' || c == '{') ++depth;
    if (text.substr(i, 4) == "\\end" || c == ')' || c == ']' || c == '}') --depth;
    if (c == '\\' && i + 1 < text.size()) {
      const char next = text[i + 1];
      if (next == '{') ++depth;
      if (next == '}') --depth;
      parts.back() += c;
      parts.back() += next;
      i += 2;
      continue;
    }
    parts.back() += c;
    ++i;
  }
  return parts;
}

}  // namespace vi::eval::math
