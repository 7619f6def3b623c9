#include "eval/text/unicode.h"

#include <algorithm>
#include <iterator>

namespace vi::eval::text {
namespace {

struct Range {
  char32_t first, last;
};
struct LowerRun {
  char32_t first, last;
  int step, delta;
};

#include "eval/text/unicode_tables.inc"

template <class Row, std::size_t N>
const Row* find_row(const Row (&table)[N], char32_t c) {
  const Row* row = std::upper_bound(std::begin(table), std::end(table), c,
                                    [](char32_t value, const Row& r) { return value < r.first; });
  if (row == std::begin(table)) return nullptr;
  --row;
  return c <= row->last ? row : nullptr;
}

// Reads one code point at `i` and moves past it; U+FFFD for a byte that begins none.
char32_t next_code_point(std::string_view s, std::size_t& i, bool& valid) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(s[k]); };
  const unsigned lead = byte(i);
  valid = true;
  if (lead < 0x80) {
    ++i;
    return lead;
  }
  int extra = 0;
  char32_t c = 0, least = 0;
  if (lead >= 0xc2 && lead <= 0xdf) extra = 1, c = lead & 0x1f, least = 0x80;
  if (lead >= 0xe0 && lead <= 0xef) extra = 2, c = lead & 0x0f, least = 0x800;
  if (lead >= 0xf0 && lead <= 0xf4) extra = 3, c = lead & 0x07, least = 0x10000;
  bool good = extra > 0 && s.size() - i > static_cast<std::size_t>(extra);
  for (int k = 1; good && k <= extra; ++k) {
    const unsigned next = byte(i + static_cast<std::size_t>(k));
    good = (next & 0xc0) == 0x80;
    c = (c << 6) | (next & 0x3f);
  }
  if (!good || c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
    ++i;
    valid = false;
    return 0xfffd;
  }
  i += static_cast<std::size_t>(extra) + 1;
  return c;
}

bool is_final_sigma(std::u32string_view text, std::size_t at) {
  std::size_t before = at;
  while (before > 0 && find_row(kCaseIgnorable, text[before - 1])) --before;
  if (before == 0 || !find_row(kCased, text[before - 1])) return false;
  std::size_t after = at + 1;
  while (after < text.size() && find_row(kCaseIgnorable, text[after])) ++after;
  return after == text.size() || !find_row(kCased, text[after]);
}

}  // namespace

std::u32string to_utf32(std::string_view utf8) {
  std::u32string text;
  text.reserve(utf8.size());
  bool valid = true;
  for (std::size_t i = 0; i < utf8.size();) text += next_code_point(utf8, i, valid);
  return text;
}

bool is_valid_utf8(std::string_view bytes) {
  bool valid = true;
  for (std::size_t i = 0; i < bytes.size() && valid;) next_code_point(bytes, i, valid);
  return valid;
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t bits) {
    out += static_cast<char>(static_cast<unsigned char>(bits));
  };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | (c >> 6)), put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | (c >> 12)), put(0x80 | ((c >> 6) & 0x3f)), put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | (c >> 18)), put(0x80 | ((c >> 12) & 0x3f));
    put(0x80 | ((c >> 6) & 0x3f)), put(0x80 | (c & 0x3f));
  }
}

std::string to_utf8(std::u32string_view text) {
  std::string utf8;
  utf8.reserve(text.size());
  for (const char32_t c : text) append_utf8(utf8, c);
  return utf8;
}

bool is_space(char32_t c) { return find_row(kSpace, c) != nullptr; }
bool is_decimal(char32_t c) { return find_row(kDecimal, c) != nullptr; }
bool is_word(char32_t c) { return find_row(kWord, c) != nullptr; }
bool is_ascii_punct(char32_t c) {
  return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) ||
         (c >= 0x7b && c <= 0x7e);
}

std::u32string lower(std::u32string_view text) {
  std::u32string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (c == 0x3a3) {
      result += is_final_sigma(text, i) ? U'\u03c2' : U'\u03c3';
    } else if (c == 0x130) {
      result += U"i\u0307";
    } else if (const LowerRun* run = find_row(kLower, c);
               run && (c - run->first) % static_cast<char32_t>(run->step) == 0) {
      result += static_cast<char32_t>(static_cast<int>(c) + run->delta);
    } else {
      result += c;
    }
  }
  return result;
}

std::vector<std::u32string> split(std::u32string_view text) {
  std::vector<std::u32string> words;
  for (std::size_t i = 0; i < text.size();) {
    while (i < text.size() && is_space(text[i])) ++i;
    const std::size_t begin = i;
    while (i < text.size() && !is_space(text[i])) ++i;
    if (i > begin) words.emplace_back(text.substr(begin, i - begin));
  }
  return words;
}

std::vector<std::u32string> digit_runs(std::u32string_view text) {
  std::vector<std::u32string> runs;
  for (std::size_t i = 0; i < text.size();) {
    while (i < text.size() && !is_decimal(text[i])) ++i;
    const std::size_t begin = i;
    while (i < text.size() && is_decimal(text[i])) ++i;
    if (i > begin) runs.emplace_back(text.substr(begin, i - begin));
  }
  return runs;
}

std::string_view first_line(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  return text.substr(0, text.find('\n'));
}

std::string_view trim_ascii(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\f\v";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

}  // namespace vi::eval::text
