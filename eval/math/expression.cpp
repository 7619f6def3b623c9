// Recursive descent over LaTeX and plain notation.
#include "eval/math/expression.h"

#include <algorithm>
#include <cctype>

namespace vi::eval::math {
namespace {

constexpr int kMaxDepth = 100;
using Kind = Expression::Kind;

struct NotAnExpression {};

// Longer names first where one begins with another.
constexpr std::string_view kFunctions[] = {
    "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "sinh", "cosh", "tanh", "sin",
    "cos",    "tan",    "cot",    "sec",    "csc",    "log",    "ln",   "exp"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

Expression node(Kind kind, std::vector<Expression> parts) { return {kind, {}, std::move(parts)}; }
Expression leaf(Kind kind, std::string text) { return {kind, std::move(text), {}}; }
Expression negative(Expression value) { return node(Kind::negative, {std::move(value)}); }

bool is_integer(const Expression& e) {
  return e.kind == Kind::number && e.text.find('.') == std::string::npos;
}
bool is_positive_fraction(const Expression& e) {
  return e.kind == Kind::quotient && is_integer(e.parts[0]) && is_integer(e.parts[1]);
}

class Parser {
 public:
  explicit Parser(std::string_view text) : s_(text) {}

  Expression parse() {
    Expression value = fraction();
    if (peek() != '\0') throw NotAnExpression();
    return value;
  }

 private:
  char peek() {
    while (at_ < s_.size() && s_[at_] == ' ') ++at_;
    return at_ < s_.size() ? s_[at_] : '\0';
  }
  char last() const {  // before the next token
    std::size_t i = at_;
    while (i > 0 && s_[i - 1] == ' ') --i;
    return i > 0 ? s_[i - 1] : '\0';
  }
  bool take(std::string_view token) {
    peek();
    if (s_.substr(at_, token.size()) != token) return false;
    const std::size_t end = at_ + token.size();
    if (token.size() > 1 && is_letter(token.back()) && end < s_.size() && is_letter(s_[end]))
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

  // What a group holds: a \over b, n \choose k, or an expression.
  Expression fraction() {
    Expression value = expression();
    if (take("\\over")) return node(Kind::quotient, {std::move(value), expression()});
    if (take("\\choose")) return node(Kind::binomial, {std::move(value), expression()});
    return value;
  }

  Expression expression() {
    const Depth guard(depth_);
    std::vector<Expression> terms{term()};
    for (;;) {
      if (take("+"))
        terms.push_back(term());
      else if (take("-"))
        terms.push_back(negative(term()));
      else
        break;
    }
    return terms.size() == 1 ? std::move(terms[0]) : node(Kind::sum, std::move(terms));
  }

  // Explicit products and quotients, left to right; 1/2x is 1/(2x): a product without a sign binds
  // tighter, as in Math-Verify's grammar.
  Expression term() {
    Expression value = operand();
    int quotients = 0;  // a / b / c nests to the left
    for (;;) {
      if (take("*") || take("\\cdot") || take("\\times")) {
        multiply(value, operand());
      } else if (take("/") || take("\\div") || take(":")) {
        if (++quotients > kMaxDepth) throw NotAnExpression();
        value = node(Kind::quotient, {std::move(value), operand()});
      } else {
        return value;
      }
    }
  }

  static void multiply(Expression& value, Expression by) {
    if (value.kind == Kind::product)
      value.parts.push_back(std::move(by));
    else
      value = node(Kind::product, {std::move(value), std::move(by)});
  }

  // A signed product without signs between its factors: -2x(y+1).
  Expression operand() {
    const Depth guard(depth_);
    if (take("-")) return negative(operand());
    if (take("+")) return operand();
    Expression value = factor();
    while (begins_factor()) {
      if (is_digit(peek()) && is_digit(last())) throw NotAnExpression();  // 12 000
      multiply(value, factor());
    }
    return value;
  }

  bool begins_factor() {
    const char c = peek();
    if (is_digit(c) || is_letter(c) || c == '(' || c == '{' || c == '[') return true;
    if (c != '\\' || at_ + 1 >= s_.size() || !is_letter(s_[at_ + 1])) return false;
    for (const std::string_view sign :
         {"\\cdot", "\\times", "\\div", "\\over", "\\choose", "\\rfloor", "\\rceil"})
      if (at_command(sign)) return false;
    return true;
  }
  bool at_command(std::string_view name) {
    const std::size_t before = at_;
    const bool found = take(name);
    at_ = before;
    return found;
  }

  Expression factor() {
    Expression value = base();
    for (int scripts = 0; scripts < kMaxDepth; ++scripts) {
      if (take("^"))
        value = node(Kind::power, {std::move(value), exponent()});
      else if (take("!"))
        value = node(Kind::factorial, {std::move(value)});
      else if (take("%"))
        value = node(Kind::percent, {std::move(value)});
      else
        return value;
    }
    throw NotAnExpression();
  }

  // 2^10 is 2^{10} to Math-Verify.
  Expression exponent() { return is_digit(peek()) ? literal() : script(); }

  // What follows \frac or \sqrt: a braced expression or one token.
  Expression script() {
    const Depth guard(depth_);
    const char c = peek();
    if (take("{")) {
      Expression value = fraction();
      need("}");
      return value;
    }
    if (is_digit(c)) {
      ++at_;
      return leaf(Kind::number, std::string(1, c));
    }
    if (take("-")) return negative(script());
    return base();
  }

  Expression literal() {
    std::string digits;
    bool point = false;
    for (; at_ < s_.size(); ++at_) {
      const char c = s_[at_];
      if (c == '.' && !point && at_ + 1 < s_.size() && is_digit(s_[at_ + 1]))
        point = true;
      else if (!is_digit(c))
        break;
      digits += c;
    }
    Expression value = leaf(Kind::number, digits);
    if (at_ + 1 < s_.size() && s_[at_] == 'E' && is_digit(s_[at_ + 1])) {  // 3.1E2, not 3.1e2
      ++at_;
      std::string tens;
      while (at_ < s_.size() && is_digit(s_[at_])) tens += s_[at_++];
      return node(Kind::product, {std::move(value), node(Kind::power, {leaf(Kind::number, "10"), leaf(Kind::number, tens)})});
    }
    return value;
  }

  Expression base() {
    const Depth guard(depth_);
    const char c = peek();
    if (is_digit(c) || (c == '.' && at_ + 1 < s_.size() && is_digit(s_[at_ + 1]))) {
      Expression value = literal();
      if (!is_integer(value) || !at_command("\\frac")) return value;
      Expression part = command();  // 1\frac{2}{3} is a mixed number
      const bool mixed = is_positive_fraction(part);
      return node(mixed ? Kind::sum : Kind::product, {std::move(value), std::move(part)});
    }
    if (take("(")) return closed(")");
    if (take("[")) return closed("]");
    if (take("{")) return closed("}");
    if (take("|")) return node(Kind::absolute, {closed("|")});
    if (is_letter(c)) {
      ++at_;
      return symbol(std::string(1, c));
    }
    if (c != '\\') throw NotAnExpression();
    return command();
  }

  Expression closed(std::string_view bracket) {
    Expression value = fraction();
    need(bracket);
    return value;
  }

  Expression symbol(std::string name) {
    name += subscript();
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return leaf(Kind::symbol, std::move(name));
  }

  std::string subscript() {
    if (!take("_")) return {};
    peek();
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

  Expression command() {
    if (take("\\frac")) {
      Expression above = script();
      return node(Kind::quotient, {std::move(above), script()});
    }
    if (take("\\sqrt")) {
      Expression degree = leaf(Kind::number, "2");
      if (take("[")) degree = closed("]");
      return node(Kind::root, {script(), std::move(degree)});
    }
    if (take("\\binom")) {
      Expression n = script();
      return node(Kind::binomial, {std::move(n), script()});
    }
    if (take("\\lfloor")) return node(Kind::floor, {closed("\\rfloor")});
    if (take("\\lceil")) return node(Kind::ceiling, {closed("\\rceil")});
    for (const std::string_view name : kFunctions)
      if (take("\\" + std::string(name))) return function(name);
    std::size_t end = at_ + 1;
    while (end < s_.size() && is_letter(s_[end])) ++end;
    if (end == at_ + 1) throw NotAnExpression();
    const std::string name(s_.substr(at_, end - at_));
    for (const std::string_view no :
         {"\\begin", "\\end", "\\text", "\\cup", "\\cap", "\\pm", "\\le", "\\ge", "\\ne", "\\in",
          "\\left", "\\right", "\\mp", "\\lt", "\\gt", "\\to", "\\over", "\\choose", "\\rfloor", "\\rceil",
          "\\setminus", "\\emptyset", "\\approx"})
      if (name == no) throw NotAnExpression();
    at_ = end;
    return symbol(name);
  }

  Expression function(std::string_view name) {
    std::optional<Expression> log_base, raised;
    for (;;) {
      if (name == "log" && take("_"))
        log_base = script();
      else if (take("^"))
        raised = exponent();
      else
        break;
    }
    Expression argument = [&] {
      const char c = peek();
      if (c == '(' || c == '{' || c == '[' || c == '|') return base();
      const Depth guard(depth_);
      return bare_argument();
    }();
    if (name == "log" && !log_base) log_base = leaf(Kind::number, "10");
    const bool inverse = raised && raised->kind == Kind::negative &&
                         raised->parts[0].kind == Kind::number &&
                         raised->parts[0].text == "1" && name != "log" && name != "ln";
    const std::string full =
        name == "log" ? "ln" : inverse && !name.starts_with("arc") ? "arc" + std::string(name) : std::string(name);
    Expression value{Kind::function, full, {std::move(argument)}};
    if (log_base)
      value = node(Kind::quotient,
                   {std::move(value), {Kind::function, "ln", {std::move(*log_base)}}});
    if (raised && !inverse) return node(Kind::power, {std::move(value), std::move(*raised)});
    return value;
  }

  // \sin 2x/3: the factors up to the next sign, bracket or function.
  Expression bare_argument() {
    Expression value = factor();
    for (;;) {
      const char c = peek();
      bool another = is_digit(c) || is_letter(c);
      if (c == '\\' && at_ + 1 < s_.size() && is_letter(s_[at_ + 1]))
        another = begins_factor() && !begins_function();
      if (another)
        value = node(Kind::product, {std::move(value), factor()});
      else if (take("/"))
        value = node(Kind::quotient, {std::move(value), factor()});
      else
        return value;
      if (++chain_ > 4 * kMaxDepth) throw NotAnExpression();
    }
  }
  bool begins_function() {
    for (const std::string_view name : kFunctions)
      if (at_command("\\" + std::string(name))) return true;
    return false;
  }

  std::string_view s_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int chain_ = 0;  // left-nested factors of bare arguments
};

}  // namespace

std::optional<Expression> parse_expression(std::string_view text) {
  try {
    return Parser(text).parse();
  } catch (const NotAnExpression&) {
    return std::nullopt;
  }
}

}  // namespace vi::eval::math
