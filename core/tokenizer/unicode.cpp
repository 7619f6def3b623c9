#include "core/tokenizer/unicode.h"

#include <algorithm>
#include <iterator>

#include "core/common/error.h"
#include "core/common/utf8.h"

namespace vi::model {
namespace {

struct Range {
  std::uint32_t first, last;
};
struct Combining {
  std::uint32_t first, last, ccc;
};
struct Decomposed {
  std::uint32_t from, to[4];
};
struct Composed {
  std::uint32_t first, second, to;
};

#include "core/tokenizer/unicode_tables.inc"

constexpr Range kWhiteSpace[] = {
    {0x9, 0xd},       {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680},
    {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}};

template <class Row, std::size_t N>
const Row* find(const Row (&table)[N], char32_t c) {
  const Row* row = std::lower_bound(std::begin(table), std::end(table), c,
                                    [](const Row& r, char32_t x) { return r.last < x; });
  return row != std::end(table) && row->first <= c ? row : nullptr;
}

template <std::size_t N>
std::string bracket_body(const char* start, const Range (&table)[N]) {
  std::string body = start;
  for (const Range& r : table) body += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", r.first, r.last);
  return body;
}

constexpr char32_t kL = 0x1100, kV = 0x1161, kT = 0x11a7, kS = 0xac00;  // Hangul, by arithmetic
constexpr char32_t kNumV = 21, kNumT = 28, kNumL = 19, kNumS = kNumL * kNumV * kNumT;

void decompose(char32_t c, std::u32string& out) {
  if (c >= kS && c < kS + kNumS) {
    const char32_t s = c - kS;
    out += kL + s / (kNumV * kNumT);
    out += kV + s % (kNumV * kNumT) / kNumT;
    if (s % kNumT) out += kT + s % kNumT;
    return;
  }
  const auto* row = std::lower_bound(std::begin(kDecomposed), std::end(kDecomposed), c,
                                     [](const Decomposed& d, char32_t x) { return d.from < x; });
  if (row == std::end(kDecomposed) || row->from != c) {
    out += c;
    return;
  }
  for (const std::uint32_t part : row->to)
    if (part) out += static_cast<char32_t>(part);
}

std::uint32_t combining_class(char32_t c) {
  const Combining* row = c < 0x300 ? nullptr : find(kCombining, c);
  return row ? row->ccc : 0;
}

// Their composition, or 0.
char32_t compose(char32_t a, char32_t b) {
  if (a >= kL && a < kL + kNumL && b >= kV && b < kV + kNumV)
    return kS + ((a - kL) * kNumV + (b - kV)) * kNumT;
  if (a >= kS && a < kS + kNumS && (a - kS) % kNumT == 0 && b > kT && b < kT + kNumT)
    return a + (b - kT);
  const auto* row = std::lower_bound(
      std::begin(kComposed), std::end(kComposed), std::pair<char32_t, char32_t>(a, b),
      [](const Composed& x, const std::pair<char32_t, char32_t>& p) {
        return x.first != p.first ? x.first < p.first : x.second < p.second;
      });
  return row != std::end(kComposed) && row->first == a && row->second == b ? row->to : 0;
}

}  // namespace

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return find(kWhiteSpace, c) != nullptr;
}
bool is_letter_or_number_ascii(char32_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return find(kNumeric, c) != nullptr;
}
bool is_word(char32_t c) { return find(kWord, c) != nullptr; }

const std::string& letter_class() {
  static const std::string body = bracket_body("\\p{L}", kNewLetters);
  return body;
}
const std::string& number_class() {
  static const std::string body = bracket_body("\\p{N}", kNewNumbers);
  return body;
}
const std::string& white_space_class() {
  static const std::string body = bracket_body("", kWhiteSpace);
  return body;
}

std::string nfc(std::string_view text) {
  // Below U+0300 (first bytes below 0xCC) nothing decomposes without composing back.
  if (std::none_of(text.begin(), text.end(),
                   [](char b) { return static_cast<unsigned char>(b) >= 0xcc; }))
    return std::string(text);
  std::u32string points;
  for (std::size_t i = 0; i < text.size();) decompose(next_code_point(text, i), points);
  for (std::size_t i = 0; i < points.size();) {  // canonical order: runs of marks sorted by class
    std::size_t end = i;
    while (end < points.size() && combining_class(points[end]) != 0) ++end;
    std::stable_sort(points.begin() + static_cast<std::ptrdiff_t>(i),
                     points.begin() + static_cast<std::ptrdiff_t>(end), [](char32_t a, char32_t b) {
                       return combining_class(a) < combining_class(b);
                     });
    i = end + 1;
  }
  std::u32string out;
  constexpr std::size_t kNone = std::u32string::npos;
  std::size_t starter = kNone;
  std::uint32_t previous = 0;  // class of the last mark kept since the starter
  for (const char32_t c : points) {
    const std::uint32_t ccc = combining_class(c);
    const bool adjacent = starter != kNone && starter + 1 == out.size();
    if (starter != kNone && (adjacent || (previous < ccc && previous != 0))) {
      if (const char32_t both = compose(out[starter], c)) {
        out[starter] = both;
        continue;
      }
    }
    if (ccc == 0) starter = out.size();
    previous = ccc;
    out += c;
  }
  return to_utf8(out);
}

}  // namespace vi::model
