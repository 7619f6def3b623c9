// The parser behind evaluate(): recursive descent over LaTeX and plain notation, computing as it
// goes.
#include <cctype>
#include <cmath>
#include <string>

#include "eval/math/value.h"

namespace vi::eval::math {
namespace {

constexpr int kMaxDepth = 100;

struct NotAnExpression {};

struct Function {
  std::string_view name;
  long double (*value)(long double);
};
constexpr Function kFunctions[] = {
    {"arcsin", [](long double x) { return std::asin(x); }},
    {"arccos", [](long double x) { return std::acos(x); }},
    {"arctan", [](long double x) { return std::atan(x); }},
    {"sin", [](long double x) { return std::sin(x); }},
    {"cos", [](long double x) { return std::cos(x); }},
    {"tan", [](long double x) { return std::tan(x); }},
    {"cot", [](long double x) { return 1 / std::tan(x); }},
    {"sec", [](long double x) { return 1 / std::cos(x); }},
    {"csc", [](long double x) { return 1 / std::sin(x); }},
    {"log", [](long double x) { return std::log(x); }},
    {"ln", [](long double x) { return std::log(x); }},
    {"exp", [](long double x) { return std::exp(x); }},
};

class Parser {
 public:
  explicit Parser(std::string_view text) : s_(text) {}

  Scalar parse() {
    Scalar value = expression();
    bool percent = false;
    if (peek() == '%') ++at_, percent = true;
    if (peek() != '\0') throw NotAnExpression();
    value.percent = percent;
    return value;
  }

 private:
  char peek() {
    while (at_ < s_.size() && s_[at_] == ' ') ++at_;
    return at_ < s_.size() ? s_[at_] : '\0';
  }
  bool take(std::string_view token) {
    peek();
    if (s_.substr(at_, token.size()) != token) return false;
    const std::size_t end = at_ + token.size();
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    if (token.size() > 1 && letter(token.back()) && end < s_.size() && letter(s_[end]))
      return false;
    at_ = end;
    return true;
  }
  void need(std::string_view token) {
    if (!take(token)) throw NotAnExpression();
  }
  struct Depth {
    explicit Depth(int& depth) : depth_(depth) {
      if (++depth_ > kMaxDepth) {
        --depth_;
        throw NotAnExpression();
      }
    }
    ~Depth() { --depth_; }
    int& depth_;
  };

  Scalar expression() {
    const Depth guard(depth_);
    Scalar value = term();
    for (;;) {
      if (take("+"))
        value = sum(value, term());
      else if (take("-"))
        value = sum(value, negated(term()));
      else
        return value;
    }
  }

  Scalar term() {
    Scalar value = signed_factor();
    for (;;) {
      if (take("*") || take("\\cdot") || take("\\times"))
        value = product(value, signed_factor());
      else if (take("/") || take("\\div"))
        value = quotient(value, signed_factor());
      else if (begins_factor())
        value = product(value, factor());
      else
        return value;
    }
  }

  bool begins_factor() {
    const char c = peek();
    if (c == '\0' || c == '|') return false;
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
    if (c == '(' || c == '{' || c == '[') return true;
    return c == '\\' && at_ + 1 < s_.size() &&
           std::isalpha(static_cast<unsigned char>(s_[at_ + 1]));
  }

  Scalar signed_factor() {
    const Depth guard(depth_);
    if (take("-")) return negated(signed_factor());
    if (take("+")) return signed_factor();
    return factor();
  }

  Scalar factor() {
    Scalar value = base();
    for (;;) {
      if (take("^"))
        value = power(value, script());
      else if (take("!"))
        value = factorial(value);
      else
        return value;
    }
  }

  static Scalar factorial(const Scalar& a) {
    if (!a.exact || a.exact->denominator != 1 || a.exact->numerator < 0 || a.exact->numerator > 170)
      throw NotAnExpression();
    Scalar value = number({1, 1});
    for (int k = 2; k <= static_cast<int>(a.exact->numerator); ++k)
      value = product(value, number({k, 1}));
    return value;
  }

  // What follows ^, \frac or \sqrt: a braced expression or one token.
  Scalar script() {
    const Depth guard(depth_);
    const char c = peek();
    if (take("{")) {
      Scalar value = expression();
      need("}");
      return value;
    }
    if (c >= '0' && c <= '9') {
      ++at_;
      return number({c - '0', 1});
    }
    if (take("-")) return negated(script());
    return base();
  }

  Scalar literal() {
    __int128 digits = 0, scale = 1;
    long double value = 0, place = 1;
    bool overflow = false, point = false;
    for (; at_ < s_.size(); ++at_) {
      const char c = s_[at_];
      if (c == '.' && !point) {
        point = true;
        continue;
      }
      if (c < '0' || c > '9') break;
      value = value * 10 + (c - '0');
      if (point) place *= 10;
      overflow = overflow || __builtin_mul_overflow(digits, static_cast<__int128>(10), &digits) ||
                 __builtin_add_overflow(digits, static_cast<__int128>(c - '0'), &digits) ||
                 (point && __builtin_mul_overflow(scale, static_cast<__int128>(10), &scale));
    }
    Scalar result;
    if (overflow)
      result.at.fill(value / place);
    else
      result = quotient(number({digits, 1}), number({scale, 1}));
    result.decimal = point;
    return result;
  }

  Scalar base() {
    const Depth guard(depth_);
    const char c = peek();
    if ((c >= '0' && c <= '9') || (c == '.' && at_ + 1 < s_.size() && std::isdigit(s_[at_ + 1]))) {
      Scalar value = literal();
      // 1\frac{2}{3} is a mixed number
      if (value.exact && !value.decimal && peek() == '\\' && take("\\frac")) {
        const Scalar above = script(), below = script();
        const Scalar part = quotient(above, below);
        const bool mixed = above.exact && below.exact && above.exact->denominator == 1 &&
                           below.exact->denominator == 1;
        return mixed ? sum(value, part) : product(value, part);
      }
      return value;
    }
    if (take("(")) return closed(")");
    if (take("[")) return closed("]");
    if (take("{")) return closed("}");
    if (take("|")) {
      const Scalar value = closed("|");
      Scalar result = applied(value, [](long double x) { return std::fabs(x); });
      if (value.exact) {
        const __int128 n = value.exact->numerator;
        result.exact = Rational{n < 0 ? -n : n, value.exact->denominator};
      }
      return result;
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      std::string name(1, c);
      ++at_;
      return variable(name + subscript());
    }
    if (c != '\\') throw NotAnExpression();
    return command();
  }

  Scalar closed(std::string_view bracket) {
    Scalar value = expression();
    need(bracket);
    return value;
  }

  std::string subscript() {
    if (!take("_")) return {};
    const std::size_t begin = at_;
    if (peek() == '{') {
      while (at_ < s_.size() && s_[at_] != '}') ++at_;
      need("}");
    } else if (at_ < s_.size()) {
      ++at_;
    }
    std::string name;
    for (const char c : s_.substr(begin, at_ - begin))
      if (c != '{' && c != '}' && c != ' ') name += c;
    return "_" + name;
  }

  Scalar command() {
    if (take("\\frac")) {
      const Scalar above = script();
      return quotient(above, script());
    }
    if (take("\\sqrt")) {
      Scalar degree = number({2, 1});
      if (take("[")) degree = closed("]");
      return root(script(), degree);
    }
    if (take("\\binom")) {
      const Scalar n = script(), k = script();
      if (!n.exact || !k.exact || n.exact->denominator != 1 || k.exact->denominator != 1 ||
          n.exact->numerator > 1000 || k.exact->numerator > n.exact->numerator ||
          k.exact->numerator < 0)
        throw NotAnExpression();
      Scalar value = number({1, 1});
      for (__int128 i = 1; i <= k.exact->numerator; ++i)
        value = quotient(product(value, number({n.exact->numerator - k.exact->numerator + i, 1})),
                         number({i, 1}));
      return value;
    }
    if (take("\\pi")) {
      Scalar value;
      value.at.fill(3.14159265358979323846264338327950288L);
      return value;
    }
    for (const Function& function : kFunctions) {
      if (!take("\\" + std::string(function.name))) continue;
      std::optional<Scalar> base_of_log, exponent;
      for (;;) {
        if (function.name == "log" && take("_"))
          base_of_log = script();
        else if (take("^"))
          exponent = script();
        else
          break;
      }
      Scalar value = applied(peek() == '(' || peek() == '{' || peek() == '[' ? base() : argument(),
                             function.value);
      if (base_of_log) value = quotient(value, applied(*base_of_log, function.value));
      return exponent ? power(value, *exponent) : value;
    }
    std::size_t end = at_ + 1;
    while (end < s_.size() && std::isalpha(static_cast<unsigned char>(s_[end]))) ++end;
    if (end == at_ + 1) throw NotAnExpression();
    for (const std::string_view no :
         {"\\begin", "\\end", "\\text", "\\cup", "\\cap", "\\pm", "\\le", "\\ge", "\\ne", "\\in",
          "\\left", "\\right", "\\mp", "\\lt", "\\gt", "\\to"})
      if (s_.substr(at_, end - at_) == no) throw NotAnExpression();
    const std::string name(s_.substr(at_, end - at_));
    at_ = end;
    return variable(name + subscript());
  }

  // \sin 2x: the factors up to the next sign or bracket.
  Scalar argument() {
    Scalar value = factor();
    for (char c = peek(); std::isalnum(static_cast<unsigned char>(c)); c = peek())
      value = product(value, factor());
    return value;
  }

  std::string_view s_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::optional<Scalar> evaluate(std::string_view expression) {
  try {
    return Parser(expression).parse();
  } catch (const NotAnExpression&) {
    return std::nullopt;
  }
}

}  // namespace vi::eval::math
