#include "eval/text/py_literal.h"

#include <algorithm>
#include <charconv>

#include "core/common/error.h"
#include "eval/text/unicode.h"

namespace vi::eval::text {
namespace {

constexpr std::size_t kMaxDepth = 8;

class Parser {
 public:
  Parser(std::string_view source, std::string_view place,
         const std::function<void(const PyEntry&)>& fn)
      : s_(source), place_(place), fn_(fn) {}

  void run() {
    at_ = s_.find('{');
    if (at_ == std::string_view::npos) at_ = s_.size();
    dictionary();
  }

 private:
  [[noreturn]] void refuse(std::string_view expected) const {
    const auto line =
        1 + std::count(s_.begin(), s_.begin() + static_cast<std::ptrdiff_t>(at_), '\n');
    fail<ContractError>("{}:{}: expected {}", place_, line, expected);
  }
  char peek() {
    while (at_ < s_.size() &&
           (s_[at_] == ' ' || s_[at_] == '\n' || s_[at_] == '\t' || s_[at_] == '\r'))
      ++at_;
    return at_ < s_.size() ? s_[at_] : '\0';
  }
  void take(char c, std::string_view expected) {
    if (peek() != c) refuse(expected);
    ++at_;
  }

  void dictionary() {
    if (entry_.keys.size() >= kMaxDepth) refuse("fewer nested dictionaries");
    take('{', "'{'");
    while (peek() != '}') {
      entry_.keys.push_back(string());
      take(':', "':'");
      if (peek() == '{') {
        dictionary();
      } else {
        const char* first = s_.data() + at_;
        const auto [end, code] = std::from_chars(first, s_.data() + s_.size(), entry_.value);
        if (code != std::errc{}) refuse("a number");
        at_ += static_cast<std::size_t>(end - first);
        fn_(entry_);
      }
      entry_.keys.pop_back();
      if (peek() == ',')
        ++at_;
      else if (peek() != '}')
        refuse("',' or '}'");
    }
    take('}', "'}'");
  }

  std::string string() {
    if (peek() == 'u') ++at_;
    const char quote = peek();
    if (quote != '\'' && quote != '"') refuse("a quoted key");
    ++at_;
    std::string text;
    while (at_ < s_.size() && s_[at_] != quote) {
      if (s_[at_] != '\\') {
        text += s_[at_++];
        continue;
      }
      const char kind = at_ + 1 < s_.size() ? s_[at_ + 1] : '\0';
      const std::size_t digits = kind == 'u' ? 4 : kind == 'U' ? 8 : kind == 'x' ? 2 : 0;
      if (digits == 0) {
        if (kind != '\\' && kind != '\'' && kind != '"') refuse("a known escape");
        text += kind;
        at_ += 2;
        continue;
      }
      unsigned value = 0;
      const char* first = s_.data() + std::min(at_ + 2, s_.size());
      const char* last = s_.data() + std::min(at_ + 2 + digits, s_.size());
      const auto [end, code] = std::from_chars(first, last, value, 16);
      if (code != std::errc{} || end != first + digits || value > 0x10ffff) refuse("a \\u escape");
      append_utf8(text, value);
      at_ += 2 + digits;
    }
    if (at_ >= s_.size()) refuse("a closing quote");
    ++at_;
    return text;
  }

  std::string_view s_, place_;
  const std::function<void(const PyEntry&)>& fn_;
  std::size_t at_ = 0;
  PyEntry entry_;
};

}  // namespace

void for_each_py_entry(std::string_view source, std::string_view place,
                       const std::function<void(const PyEntry&)>& fn) {
  Parser(source, place, fn).run();
}

}  // namespace vi::eval::text
