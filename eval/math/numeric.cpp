// evaluate(): the numeric meaning of a syntax tree.
#include <cmath>

#include "eval/math/expression.h"
#include "eval/math/value.h"

namespace vi::eval::math {
namespace {

using Kind = Expression::Kind;

struct NoValue {};

struct Function {
  std::string_view name;
  long double (*value)(long double);
};
constexpr Function kFunctions[] = {
    {"arcsin", [](long double x) { return std::asin(x); }},
    {"arccos", [](long double x) { return std::acos(x); }},
    {"arctan", [](long double x) { return std::atan(x); }},
    {"arccot", [](long double x) { return std::atan(1 / x); }},
    {"arcsec", [](long double x) { return std::acos(1 / x); }},
    {"arccsc", [](long double x) { return std::asin(1 / x); }},
    {"sinh", [](long double x) { return std::sinh(x); }},
    {"cosh", [](long double x) { return std::cosh(x); }},
    {"tanh", [](long double x) { return std::tanh(x); }},
    {"sin", [](long double x) { return std::sin(x); }},
    {"cos", [](long double x) { return std::cos(x); }},
    {"tan", [](long double x) { return std::tan(x); }},
    {"cot", [](long double x) { return 1 / std::tan(x); }},
    {"sec", [](long double x) { return 1 / std::cos(x); }},
    {"csc", [](long double x) { return 1 / std::sin(x); }},
    {"ln", [](long double x) { return std::log(x); }},
    {"exp", [](long double x) { return std::exp(x); }},
};

Scalar constant(long double value) {
  Scalar result;
  result.at.fill(value);
  return result;
}

Scalar literal(std::string_view text) {
  __int128 digits = 0, scale = 1;
  long double value = 0, place = 1;
  bool overflow = false, point = false;
  for (const char c : text) {
    if (c == '.') {
      point = true;
      continue;
    }
    value = value * 10 + (c - '0');
    if (point) place *= 10;
    overflow = overflow || __builtin_mul_overflow(digits, static_cast<__int128>(10), &digits) ||
               __builtin_add_overflow(digits, static_cast<__int128>(c - '0'), &digits) ||
               (point && __builtin_mul_overflow(scale, static_cast<__int128>(10), &scale));
  }
  Scalar result =
      overflow ? constant(value / place) : quotient(number({digits, 1}), number({scale, 1}));
  result.decimal = point;
  return result;
}

Scalar factorial(const Scalar& a) {
  if (!a.exact || a.exact->denominator != 1 || a.exact->numerator < 0 || a.exact->numerator > 170)
    throw NoValue();
  Scalar value = number({1, 1});
  for (int k = 2; k <= static_cast<int>(a.exact->numerator); ++k)
    value = product(value, number({k, 1}));
  return value;
}

Scalar binomial(const Scalar& n, const Scalar& k) {
  if (!n.exact || !k.exact || n.exact->denominator != 1 || k.exact->denominator != 1 ||
      n.exact->numerator > 1000 || k.exact->numerator > n.exact->numerator ||
      k.exact->numerator < 0)
    throw NoValue();
  Scalar value = number({1, 1});
  for (__int128 i = 1; i <= k.exact->numerator; ++i)
    value = quotient(product(value, number({n.exact->numerator - k.exact->numerator + i, 1})),
                     number({i, 1}));
  return value;
}

Scalar absolute(const Scalar& value) {
  Scalar result = applied(value, [](long double x) { return std::fabs(x); });
  if (value.exact) {
    const __int128 n = value.exact->numerator;
    result.exact = Rational{n < 0 ? -n : n, value.exact->denominator};
  }
  return result;
}

Scalar whole(const Scalar& value, bool up) {
  Scalar result = up ? applied(value, [](long double x) { return std::ceil(x); })
                     : applied(value, [](long double x) { return std::floor(x); });
  if (value.exact) {
    const __int128 n = value.exact->numerator, d = value.exact->denominator;
    const __int128 down = n / d - (n % d < 0 ? 1 : 0);
    result.exact = Rational{up && n % d != 0 ? down + 1 : down, 1};
  }
  result.decimal = false;
  return result;
}

Scalar value_of(const Expression& e);

template <class Fold>
Scalar fold(const Expression& e, Fold&& by) {
  Scalar result = value_of(e.parts[0]);
  for (std::size_t i = 1; i < e.parts.size(); ++i) result = by(result, value_of(e.parts[i]));
  result.decimal = false;
  return result;
}

Scalar value_of(const Expression& e) {
  const auto part = [&](std::size_t i) { return value_of(e.parts[i]); };
  switch (e.kind) {
    case Kind::number:
      return literal(e.text);
    case Kind::symbol:
      if (e.text == "\\pi") return constant(3.14159265358979323846264338327950288L);
      if (e.text == "e") return constant(2.71828182845904523536028747135266250L);
      return variable(e.text);  // \infty too: a value of its own that equals itself only
    case Kind::sum:
      return fold(e, [](const Scalar& a, const Scalar& b) { return sum(a, b); });
    case Kind::product:
      return fold(e, [](const Scalar& a, const Scalar& b) { return product(a, b); });
    case Kind::quotient:
      return fold(e, [](const Scalar& a, const Scalar& b) { return quotient(a, b); });
    case Kind::negative:
      return negated(part(0));
    case Kind::power:
      return fold(e, [](const Scalar& a, const Scalar& b) { return power(a, b); });
    case Kind::root:
      return fold(e, [](const Scalar& a, const Scalar& b) { return root(a, b); });
    case Kind::factorial:
      return factorial(part(0));
    case Kind::binomial:
      return fold(e, [](const Scalar& a, const Scalar& b) { return binomial(a, b); });
    case Kind::absolute:
      return absolute(part(0));
    case Kind::floor:
      return whole(part(0), false);
    case Kind::ceiling:
      return whole(part(0), true);
    case Kind::percent: {
      Scalar value = part(0);
      value.percent = true;
      return value;
    }
    case Kind::function:
      for (const Function& function : kFunctions)
        if (function.name == e.text) {
          Scalar value = applied(part(0), function.value);
          value.decimal = false;
          return value;
        }
      throw NoValue();
  }
  throw NoValue();
}

}  // namespace

std::optional<Scalar> evaluate(const Expression& expression) {
  try {
    return value_of(expression);
  } catch (const NoValue&) {
    return std::nullopt;
  }
}

std::optional<Scalar> evaluate(std::string_view text) {
  const std::optional<Expression> expression = parse_expression(text);
  return expression ? evaluate(*expression) : std::nullopt;
}

}  // namespace vi::eval::math
