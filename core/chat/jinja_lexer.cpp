#include "core/chat/jinja_lexer.h"

#include <algorithm>

#include "core/chat/jinja_text.h"
#include "core/chat/jinja_value.h"
#include "core/common/error.h"
#include "core/common/utf8.h"
#include "core/tokenizer/unicode.h"

namespace vi::model::jinja {
namespace {

constexpr auto npos = std::string_view::npos;

// Length of the white space character at text[at], or 0.
std::size_t blank(std::string_view text, std::size_t at) {
  if (at >= text.size()) return 0;
  const std::size_t begin = at;
  const char32_t c = next_code_point(text, at);
  return is_white_space(c) || (c >= 0x1c && c <= 0x1f) ? at - begin : 0;
}
std::size_t blanks(std::string_view text, std::size_t at = 0) {  // of a run
  const std::size_t begin = at;
  while (const std::size_t n = blank(text, at)) at += n;
  return at - begin;
}
bool name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool digit(char c) { return c >= '0' && c <= '9'; }

// \r\n and \r become \n, one newline at the end goes (keep_trailing_newline is off).
std::string normalise(std::string_view source) {
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

class Lexer {
 public:
  Lexer(std::string_view source, int& line) : text_(normalise(source)), line_(line) { line_ = 1; }

  std::vector<Token> run() {
    while (at_ < text_.size()) data();
    put(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(text_).substr(at_); }
  bool here(std::string_view what) const { return rest().starts_with(what); }
  void put(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  void advance(std::size_t n) {
    line_ +=
        static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                    text_.begin() + static_cast<std::ptrdiff_t>(at_ + n), '\n'));
    at_ += n;
  }
  void skip_blanks() { advance(blanks(text_, at_)); }

  // Text up to the next tag, then the tag.
  void data() {
    std::size_t tag = text_.find('{', at_);
    while (tag != std::string::npos &&
           (tag + 1 >= text_.size() || std::string_view("{%#").find(text_[tag + 1]) == npos))
      tag = text_.find('{', tag + 1);
    if (tag == std::string::npos) {
      put(TokenKind::text, text_.substr(at_));
      advance(text_.size() - at_);
      return;
    }
    const char kind = text_[tag + 1];
    const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
    std::string_view before = std::string_view(text_).substr(at_, tag - at_);
    if (sign == '-') {
      before = before.substr(0, strip(before, nullptr, false, true).size());
    } else if (sign != '+' && kind != '{') {  // lstrip_blocks: only blanks since the line began
      const std::size_t newline = before.rfind('\n');
      const std::size_t start = newline == npos ? 0 : newline + 1;
      if ((start > 0 || line_starts_) && start + blanks(before, start) == before.size())
        before = before.substr(0, start);
    }
    if (!before.empty()) put(TokenKind::text, std::string(before));
    advance(tag - at_ + 2);
    if (sign == '-' || sign == '+') advance(1);
    line_starts_ = false;
    if (kind == '#')
      comment();
    else if (kind == '%' && is_raw())
      raw();
    else
      code(kind);
  }

  void comment() {
    const std::size_t close = text_.find("#}", at_);
    if (close == std::string::npos) throw Trouble("expected #} to end the comment");
    const char sign = close > at_ ? text_[close - 1] : '\0';
    advance(close + 2 - at_);
    after_tag(sign, true);
  }

  // Behind a tag: what -, + and trim_blocks take.
  void after_tag(char sign, bool trim) {
    if (sign == '-') {
      const std::size_t from = at_;
      skip_blanks();
      line_starts_ = at_ > from && text_[at_ - 1] == '\n';
    } else if (sign != '+' && trim && here("\n")) {
      advance(1);
      line_starts_ = true;
    }
  }

  static std::size_t word_at(std::string_view text, std::string_view word) {  // its end, or npos
    std::size_t i = blanks(text);
    if (!text.substr(i).starts_with(word)) return npos;
    i += word.size();
    i += blanks(text, i);
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    return text.substr(i).starts_with("%}") ? i + 2 : npos;
  }
  bool is_raw() const { return word_at(rest(), "raw") != npos; }

  void raw() {
    const std::size_t head = word_at(rest(), "raw");
    const char sign = rest()[head - 3];
    advance(head);
    if (sign == '-') skip_blanks();
    for (std::size_t tag = at_; (tag = text_.find("{%", tag)) != std::string::npos; tag += 2) {
      std::size_t inner = tag + 2;
      const char lead = inner < text_.size() ? text_[inner] : '\0';
      if (lead == '-' || lead == '+') ++inner;
      const std::size_t tail = word_at(std::string_view(text_).substr(inner), "endraw");
      if (tail == npos) continue;
      std::string_view body = std::string_view(text_).substr(at_, tag - at_);
      if (lead == '-') {
        body = body.substr(0, strip(body, nullptr, false, true).size());
      } else if (lead != '+') {
        const std::size_t newline = body.rfind('\n');
        if (newline != npos && newline + 1 + blanks(body, newline + 1) == body.size())
          body = body.substr(0, newline + 1);
      }
      if (!body.empty()) put(TokenKind::text, std::string(body));
      advance(inner + tail - at_);
      after_tag(text_[at_ - 3], true);
      return;
    }
    throw Trouble("expected {% endraw %}");
  }

  // Inside {% %} or {{ }}.
  void code(char kind) {
    const bool block = kind == '%';
    put(block ? TokenKind::block_begin : TokenKind::print_begin, "");
    const std::string close = block ? "%}" : "}}";
    std::string open;  // brackets
    for (;;) {
      skip_blanks();
      if (at_ >= text_.size()) throw Trouble(fmt::format("expected {} to end the tag", close));
      if (open.empty()) {
        const char sign = text_[at_];
        const bool signed_end =
            (sign == '-' || (block && sign == '+')) && rest().substr(1).starts_with(close);
        if (signed_end || here(close)) {
          put(block ? TokenKind::block_end : TokenKind::print_end, "");
          advance(signed_end ? 3 : 2);
          after_tag(signed_end ? sign : '\0', block);
          return;
        }
      }
      const char c = text_[at_];
      if (name_start(c)) {
        std::size_t n = 1;
        while (at_ + n < text_.size() && (name_start(text_[at_ + n]) || digit(text_[at_ + n]))) ++n;
        put(TokenKind::name, text_.substr(at_, n));
        advance(n);
      } else if (digit(c)) {
        number();
      } else if (c == '"' || c == '\'') {
        string(c);
      } else {
        symbol(open);
      }
    }
  }

  void number() {
    std::size_t n = 0;
    std::string text;
    const auto digits = [&] {
      while (at_ + n < text_.size() && (digit(text_[at_ + n]) || text_[at_ + n] == '_')) {
        if (text_[at_ + n] != '_') text += text_[at_ + n];
        ++n;
      }
    };
    const auto peek = [&](std::size_t k) {
      return at_ + n + k < text_.size() ? text_[at_ + n + k] : '\0';
    };
    digits();
    bool real = false;
    if (peek(0) == '.' && digit(peek(1))) {
      real = true;
      text += '.';
      ++n;
      digits();
    }
    const std::size_t signed_exponent = peek(1) == '+' || peek(1) == '-' ? 2 : 1;
    if ((peek(0) == 'e' || peek(0) == 'E') && digit(peek(signed_exponent))) {
      real = true;
      text.append(text_, at_ + n, signed_exponent);
      n += signed_exponent;
      digits();
    }
    put(real ? TokenKind::real : TokenKind::integer, text);
    advance(n);
  }

  void string(char mark) {
    std::size_t n = 1;
    while (at_ + n < text_.size() && text_[at_ + n] != mark) n += text_[at_ + n] == '\\' ? 2 : 1;
    if (at_ + n >= text_.size()) throw Trouble("expected the end of the string");
    put(TokenKind::string, unescape(text_.substr(at_ + 1, n - 1)));
    advance(n + 1);
  }

  // Python's unicode-escape; an escape it does not know keeps its backslash.
  static std::string unescape(std::string_view in) {
    std::string out;
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (in[i] != '\\' || i + 1 >= in.size()) {
        out += in[i];
        continue;
      }
      const char c = in[++i];
      constexpr std::string_view kFrom = "abfnrtv\\'\"", kTo = "\a\b\f\n\r\t\v\\'\"";
      const std::size_t plain = kFrom.find(c);
      const std::size_t hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
      if (plain != npos) {
        out += kTo[plain];
      } else if (c == '\n') {  // a line goes on
      } else if (hex) {
        if (i + hex >= in.size()) throw Trouble("expected hexadecimal digits after the escape");
        char32_t code = 0;
        for (std::size_t k = 1; k <= hex; ++k) {
          const char h = in[i + k];
          const int v = digit(h)               ? h - '0'
                        : h >= 'a' && h <= 'f' ? h - 'a' + 10
                        : h >= 'A' && h <= 'F' ? h - 'A' + 10
                                               : -1;
          if (v < 0) throw Trouble("expected hexadecimal digits after the escape");
          code = code * 16 + static_cast<char32_t>(v);
        }
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
          throw Trouble("expected a Unicode character");
        append_utf8(out, code);
        i += hex;
      } else if (c >= '0' && c <= '7') {
        char32_t code = 0;
        std::size_t k = 0;
        for (; k < 3 && i + k < in.size() && in[i + k] >= '0' && in[i + k] <= '7'; ++k)
          code = code * 8 + static_cast<char32_t>(in[i + k] - '0');
        append_utf8(out, code);
        i += k - 1;
      } else {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  void symbol(std::string& open) {
    static constexpr std::string_view kSymbols[] = {
        "//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "|",
        "<",  ">",  "=",  ".",  ",",  ":",  "(", ")", "[", "]", "{", "}"};
    for (const std::string_view s : kSymbols) {
      if (!here(s)) continue;
      if (s == "(" || s == "[" || s == "{") {
        open += s == "(" ? ')' : s == "[" ? ']' : '}';
      } else if (s == ")" || s == "]" || s == "}") {
        if (open.empty() || open.back() != s[0]) throw Trouble(fmt::format("unexpected {}", s));
        open.pop_back();
      }
      put(TokenKind::op, std::string(s));
      advance(s.size());
      return;
    }
    throw Trouble(fmt::format("unexpected character {}", printable(rest().substr(0, 1))));
  }

  std::string text_;
  int& line_;
  std::size_t at_ = 0;
  bool line_starts_ = true;  // the last tag ended in a newline, or the template begins
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> lex(std::string_view source, int& line) { return Lexer(source, line).run(); }

}  // namespace vi::model::jinja
