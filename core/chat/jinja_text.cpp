#include "core/chat/jinja_text.h"

#include <algorithm>

#include "core/chat/jinja_eval.h"
#include "core/common/utf8.h"
#include "core/tokenizer/unicode.h"

namespace vi::model::jinja {
namespace {

// str.isspace(): White_Space and the four separators U+001C..1F.
bool blank(char32_t c) { return is_white_space(c) || (c >= 0x1c && c <= 0x1f); }

char32_t to_upper(char32_t c) {
  if (c >= 'a' && c <= 'z') return c - 32;
  if ((c >= 0xe0 && c <= 0xfe && c != 0xf7) || (c >= 0x3b1 && c <= 0x3c9 && c != 0x3c2) ||
      (c >= 0x430 && c <= 0x44f))
    return c - 32;
  if (c >= 0x450 && c <= 0x45f) return c - 80;
  return c;
}
char32_t to_lower(char32_t c) {
  if (c >= 'A' && c <= 'Z') return c + 32;
  if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3a9 && c != 0x3a2) ||
      (c >= 0x410 && c <= 0x42f))
    return c + 32;
  if (c >= 0x400 && c <= 0x40f) return c + 80;
  return c;
}
bool cased(char32_t c) { return to_upper(c) != c || to_lower(c) != c; }

template <class F>
std::string map_points(std::string_view text, F&& f) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) append_utf8(out, f(next_code_point(text, i)));
  return out;
}

}  // namespace

std::string strip(std::string_view text, const std::string* chars, bool left, bool right) {
  const std::u32string set = chars ? to_code_points(*chars) : std::u32string();
  const auto goes = [&](char32_t c) {
    return chars ? set.find(c) != std::u32string::npos : blank(c);
  };
  while (left && !text.empty()) {
    std::size_t i = 0;
    if (!goes(next_code_point(text, i))) break;
    text.remove_prefix(i);
  }
  while (right && !text.empty()) {
    std::size_t i = text.size();
    if (!goes(previous_code_point(text, i))) break;
    text = text.substr(0, i);
  }
  return std::string(text);
}

std::vector<std::string> split(std::string_view text, const std::string* separator,
                               std::int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  const auto more = [&] { return limit < 0 || static_cast<std::int64_t>(parts.size()) < limit; };
  if (separator) {
    if (separator->empty()) throw Trouble("split: expected a separator that is not empty");
    while (more()) {
      const std::size_t at = from_right ? text.rfind(*separator) : text.find(*separator);
      if (at == std::string_view::npos) break;
      parts.emplace_back(from_right ? text.substr(at + separator->size()) : text.substr(0, at));
      text = from_right ? text.substr(0, at) : text.substr(at + separator->size());
    }
    parts.emplace_back(text);
  } else {
    for (;;) {
      const std::size_t kept = strip(text, nullptr, !from_right, from_right).size();
      text = from_right ? text.substr(0, kept) : text.substr(text.size() - kept);
      if (text.empty()) break;
      if (!more()) {
        parts.emplace_back(text);
        break;
      }
      std::size_t at = from_right ? text.size() : 0;
      while (from_right ? at > 0 : at < text.size()) {
        std::size_t next = at;
        if (blank(from_right ? previous_code_point(text, next) : next_code_point(text, next)))
          break;
        at = next;
      }
      parts.emplace_back(from_right ? text.substr(at) : text.substr(0, at));
      text = from_right ? text.substr(0, at) : text.substr(at);
    }
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t at = i;
    const char32_t c = next_code_point(text, i);
    const bool ends = (c >= 0xa && c <= 0xd) || (c >= 0x1c && c <= 0x1e) || c == 0x85 ||
                      c == 0x2028 || c == 0x2029;
    if (!ends) continue;
    if (c == '\r' && i < text.size() && text[i] == '\n') ++i;
    lines.emplace_back(text.substr(begin, at - begin));
    begin = i;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t limit) {
  std::string out;
  std::size_t at = 0;
  while (limit != 0) {
    const std::size_t found = text.find(from, at);
    if (found == std::string_view::npos) break;
    out.append(text.substr(at, found - at)).append(to);
    check_size(out.size());
    at = found + from.size();
    if (from.empty()) {  // between all characters
      if (at >= text.size()) return out;
      const std::size_t begin = at;
      next_code_point(text, at);
      out.append(text.substr(begin, at - begin));
    }
    if (limit > 0) --limit;
  }
  return out.append(text.substr(at));
}

std::int64_t count(std::string_view text, std::string_view part) {
  std::int64_t n = 0;
  if (part.empty()) return length(Value(std::string(text))) + 1;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size())
    ++n;
  return n;
}

std::string upper(std::string_view text) {
  std::string out = map_points(text, to_upper);
  return text.find("\xc3\x9f") == std::string_view::npos ? out : replace(out, "\xc3\x9f", "SS", -1);
}
std::string lower(std::string_view text) { return map_points(text, to_lower); }

std::string capitalize(std::string_view text) {
  bool first = true;
  return map_points(text, [&](char32_t c) {
    const char32_t out = first ? to_upper(c) : to_lower(c);
    first = false;
    return out;
  });
}

std::string title(std::string_view text) {
  bool inside = false;
  return map_points(text, [&](char32_t c) {
    const char32_t out = inside ? to_lower(c) : to_upper(c);
    inside = cased(c);
    return out;
  });
}

bool all_ascii(std::string_view text, char first, char last) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [&](char c) { return c >= first && c <= last; });
}

}  // namespace vi::model::jinja
