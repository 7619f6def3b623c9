// Numeric meaning of a LaTeX or plain expression: exact rational where it has one, and its value at
// a few fixed pseudo-random points with every letter a variable. Two expressions that agree at all
// points are taken as equal; that decides polynomials and the usual closed forms without algebra.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "eval/math/expression.h"

namespace vi::eval::math {

inline constexpr int kPoints = 4;

struct Rational {
  __int128 numerator = 0, denominator = 1;  // lowest terms, denominator > 0
  bool operator==(const Rational&) const = default;
};

struct Scalar {
  std::array<long double, kPoints> at{};  // NaN outside the domain
  std::optional<Rational> exact;
  bool constant = true;  // no variables
  bool decimal = false;  // one number with a decimal point: compared to six places
  bool percent = false;  // ends in a percent sign, which is not applied to the value
};

Scalar number(Rational value);
// A fixed value for each name and point: positive at half of the points, of either sign at the
// others.
Scalar variable(std::string_view name);
Scalar sum(const Scalar& a, const Scalar& b);
Scalar difference(const Scalar& a, const Scalar& b);
Scalar negated(const Scalar& a);
Scalar product(const Scalar& a, const Scalar& b);
Scalar quotient(const Scalar& a, const Scalar& b);
Scalar power(const Scalar& a, const Scalar& b);
Scalar root(const Scalar& a, const Scalar& degree);
Scalar applied(const Scalar& a, long double (*function)(long double));

// nullopt if the text is not one expression of the grammar (expression.h) or has no value that can
// be had in bounded time (factorials above 170).
std::optional<Scalar> evaluate(std::string_view text);
std::optional<Scalar> evaluate(const Expression& expression);

// Equal as numbers or as functions. A percentage equals its hundredth and, where both are whole,
// its number.
bool same_value(const Scalar& a, const Scalar& b);

// a = factor * b with one factor for all points; the factor, or nullopt.
std::optional<long double> constant_ratio(const Scalar& a, const Scalar& b);
}  // namespace vi::eval::math
