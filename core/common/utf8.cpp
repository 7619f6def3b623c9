#include "core/common/utf8.h"

#include "core/common/error.h"

namespace vi::model {
namespace {

// Length of the well-formed sequence at p (n bytes left), or 0; `good` is how many bytes of it were
// right.
int sequence(const unsigned char* p, std::size_t n, int& good) {
  good = 1;
  const unsigned char b = p[0];
  if (b < 0x80) return 1;
  int length;
  unsigned char low = 0x80, high = 0xbf;  // range of the second byte
  if (b >= 0xc2 && b <= 0xdf) {
    length = 2;
  } else if (b >= 0xe0 && b <= 0xef) {
    length = 3;
    if (b == 0xe0) low = 0xa0;
    if (b == 0xed) high = 0x9f;
  } else if (b >= 0xf0 && b <= 0xf4) {
    length = 4;
    if (b == 0xf0) low = 0x90;
    if (b == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  for (; good < length; ++good) {
    if (static_cast<std::size_t>(good) >= n || p[good] < low || p[good] > high) return 0;
    low = 0x80;
    high = 0xbf;
  }
  return length;
}

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

std::size_t find_invalid_utf8(std::string_view text) {
  const unsigned char* p = bytes_of(text);
  int good;
  for (std::size_t i = 0; i < text.size();) {
    if (p[i] < 0x80) {
      ++i;
      continue;
    }
    const int length = sequence(p + i, text.size() - i, good);
    if (length == 0) return i;
    i += static_cast<std::size_t>(length);
  }
  return std::string_view::npos;
}

std::size_t whole_utf8_prefix(std::string_view text) {
  std::size_t i = text.size();
  for (int back = 1; back <= 3 && i > 0; ++back) {
    const auto b = static_cast<unsigned char>(text[--i]);
    if (b < 0x80) return text.size();
    if (b >= 0xc0) {
      const int needs = b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2;
      return needs > back ? i : text.size();
    }
  }
  return text.size();
}

void require_utf8(std::string_view text, std::string_view place) {
  const std::size_t at = find_invalid_utf8(text);
  if (at != std::string_view::npos)
    fail<ContractError>("{}: byte {}: expected UTF-8 text", place, at);
}

char32_t next_code_point(std::string_view text, std::size_t& at) {
  const unsigned char* p = bytes_of(text) + at;
  if (p[0] < 0x80) {
    at += 1;
    return p[0];
  }
  if (p[0] < 0xe0) {
    at += 2;
    return ((p[0] & 0x1fu) << 6) | (p[1] & 0x3fu);
  }
  if (p[0] < 0xf0) {
    at += 3;
    return ((p[0] & 0x0fu) << 12) | ((p[1] & 0x3fu) << 6) | (p[2] & 0x3fu);
  }
  at += 4;
  return ((p[0] & 0x07u) << 18) | ((p[1] & 0x3fu) << 12) | ((p[2] & 0x3fu) << 6) | (p[3] & 0x3fu);
}

char32_t previous_code_point(std::string_view text, std::size_t& at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80);
  std::size_t copy = at;
  return next_code_point(text, copy);
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

std::u32string to_code_points(std::string_view text) {
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) out += next_code_point(text, i);
  return out;
}

std::string to_utf8(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) append_utf8(out, c);
  return out;
}

std::string utf8_lossy(std::string_view bytes) {
  const unsigned char* p = bytes_of(bytes);
  std::string out;
  for (std::size_t i = 0; i < bytes.size();) {
    int good;
    const int length = sequence(p + i, bytes.size() - i, good);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      i += static_cast<std::size_t>(good);
    } else {
      out.append(bytes.substr(i, static_cast<std::size_t>(length)));
      i += static_cast<std::size_t>(length);
    }
  }
  return out;
}

std::string printable(std::string_view bytes) {
  constexpr std::size_t kLimit = 80;
  std::string out;
  const unsigned char* p = bytes_of(bytes);
  std::size_t i = 0;
  while (i < bytes.size() && out.size() < kLimit) {
    int good;
    const int length = sequence(p + i, bytes.size() - i, good);
    if (length == 0 || p[i] < 0x20 || p[i] == 0x7f) {
      if (p[i] == '\n')
        out += "\\n";
      else
        out += fmt::format("\\x{:02x}", p[i]);
      ++i;
    } else {
      out.append(bytes.substr(i, static_cast<std::size_t>(length)));
      i += static_cast<std::size_t>(length);
    }
  }
  if (i < bytes.size()) out += "...";
  return out;
}

}  // namespace vi::model
