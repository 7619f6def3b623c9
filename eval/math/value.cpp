#include "eval/math/value.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/common/rng.h"

namespace vi::eval::math {
namespace {

constexpr long double kNaN = std::numeric_limits<long double>::quiet_NaN();

__int128 gcd(__int128 a, __int128 b) {
  if (a < 0) a = -a;
  if (b < 0) b = -b;
  while (b != 0) {
    const __int128 r = a % b;
    a = b;
    b = r;
  }
  return a;
}

std::optional<Rational> rational(__int128 n, __int128 d) {
  constexpr __int128 kLowest = static_cast<__int128>(1) << 127;  // has no negative
  if (d == 0 || n == kLowest || d == kLowest) return std::nullopt;
  if (d < 0) n = -n, d = -d;
  const __int128 g = gcd(n, d);
  return Rational{n / g, d / g};
}

using Maybe = std::optional<Rational>;

Maybe multiply(const Maybe& a, const Maybe& b) {
  __int128 n = 0, d = 0;
  if (!a || !b || __builtin_mul_overflow(a->numerator, b->numerator, &n) ||
      __builtin_mul_overflow(a->denominator, b->denominator, &d))
    return std::nullopt;
  return rational(n, d);
}

Maybe add(const Maybe& a, const Maybe& b) {
  __int128 x = 0, y = 0, n = 0, d = 0;
  if (!a || !b || __builtin_mul_overflow(a->numerator, b->denominator, &x) ||
      __builtin_mul_overflow(b->numerator, a->denominator, &y) ||
      __builtin_add_overflow(x, y, &n) ||
      __builtin_mul_overflow(a->denominator, b->denominator, &d))
    return std::nullopt;
  return rational(n, d);
}

Maybe invert(const Maybe& a) { return a ? rational(a->denominator, a->numerator) : std::nullopt; }

Maybe raise(const Maybe& base, const Maybe& exponent) {
  if (!base || !exponent || exponent->denominator != 1) return std::nullopt;
  __int128 n = exponent->numerator;
  if (n < -256 || n > 256) return std::nullopt;
  const Maybe factor = n < 0 ? invert(base) : base;
  Maybe result = Rational{1, 1};
  for (__int128 i = n < 0 ? -n : n; i > 0; --i) result = multiply(result, factor);
  return result;
}

template <class F>
Scalar combine(const Scalar& a, const Scalar& b, F&& f, Maybe exact) {
  Scalar result;
  for (int k = 0; k < kPoints; ++k) result.at[k] = f(a.at[k], b.at[k]);
  result.exact = exact;
  result.constant = a.constant && b.constant;
  result.percent = a.percent || b.percent;
  return result;
}

bool close(long double a, long double b) {
  const long double scale = std::max({std::fabs(a), std::fabs(b), 1e-6L});
  return std::fabs(a - b) <= 1e-11L * scale;
}

bool same_plain(const Scalar& a, const Scalar& b, long double factor) {
  const bool rounded = a.decimal || b.decimal || factor != 1;
  if (a.exact && b.exact && factor == 1 && *a.exact == *b.exact) return true;
  if (a.exact && b.exact && !rounded) return false;
  // A whole number has no places to round to: 100.0000001 is not 100.
  const auto whole = [](const Scalar& s) { return s.exact && !s.decimal && s.exact->denominator == 1; };
  if (factor == 1 && a.exact && b.exact && (whole(a) || whole(b))) return false;
  int compared = 0;
  for (int k = 0; k < kPoints; ++k) {
    const long double x = a.at[k] * factor, y = b.at[k];
    if (std::isnan(x) && std::isnan(y)) continue;
    if (std::isnan(x) || std::isnan(y)) return false;
    const bool six_places =
        rounded && std::fabs(x) < 1e12L && std::nearbyint(x * 1e6L) == std::nearbyint(y * 1e6L);
    if (!six_places && !close(x, y)) return false;
    ++compared;
  }
  return compared > 0;
}

}  // namespace

Scalar product(const Scalar& a, const Scalar& b) {
  return combine(
      a, b, [](auto x, auto y) { return x * y; }, multiply(a.exact, b.exact));
}
Scalar quotient(const Scalar& a, const Scalar& b) {
  return combine(
      a, b, [](auto x, auto y) { return y == 0 ? kNaN : x / y; },
      multiply(a.exact, invert(b.exact)));
}
Scalar sum(const Scalar& a, const Scalar& b) {
  return combine(
      a, b, [](auto x, auto y) { return x + y; }, add(a.exact, b.exact));
}

Scalar number(Rational value) {
  Scalar s;
  s.exact = value;
  s.at.fill(static_cast<long double>(value.numerator) /
            static_cast<long double>(value.denominator));
  return s;
}

Scalar negated(const Scalar& a) {
  Scalar result = product(number({-1, 1}), a);
  result.decimal = a.decimal;
  return result;
}

Scalar power(const Scalar& a, const Scalar& b) {
  Scalar result = combine(
      a, b,
      [](long double x, long double y) {
        const long double value = std::pow(x, y);
        return std::isfinite(value) ? value : kNaN;
      },
      raise(a.exact, b.exact));
  if (b.exact && b.exact->denominator > 1 && b.exact->denominator % 2 == 1)  // the real odd root
    for (int k = 0; k < kPoints; ++k)
      if (a.at[k] < 0)
        result.at[k] = std::pow(-a.at[k], b.at[k]) * (b.exact->numerator % 2 == 0 ? 1.0L : -1.0L);
  return result;
}

Scalar root(const Scalar& a, const Scalar& degree) {
  Scalar result = combine(
      a, degree,
      [](long double x, long double n) {
        if (n == 3) return std::cbrt(x);
        return x < 0 ? kNaN : n == 2 ? std::sqrt(x) : std::pow(x, 1 / n);
      },
      std::nullopt);
  if (a.exact && degree.exact == Rational{2, 1}) {  // perfect squares stay exact
    const auto whole = [](__int128 n) {
      const auto r = static_cast<__int128>(std::sqrt(static_cast<long double>(n)) + 0.5L);
      return r * r == n ? r : static_cast<__int128>(-1);
    };
    const __int128 n = a.exact->numerator < 0 ? -1 : whole(a.exact->numerator);
    const __int128 d = whole(a.exact->denominator);
    if (n >= 0 && d > 0) result.exact = Rational{n, d};
  }
  return result;
}

Scalar variable(std::string_view name) {
  std::uint64_t seed = 1469598103934665603ull;
  for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  Rng rng(seed);
  Scalar s;
  s.constant = false;
  for (int k = 0; k < kPoints; ++k) {
    s.at[k] = 0.4L + 2.0L * static_cast<long double>(rng.uniform());
    if (k >= kPoints / 2 && rng.uniform() < 0.5) s.at[k] = -s.at[k];
  }
  return s;
}

Scalar applied(const Scalar& a, long double (*function)(long double)) {
  Scalar result;
  for (int k = 0; k < kPoints; ++k) result.at[k] = function(a.at[k]);
  result.constant = a.constant;
  result.decimal = a.decimal;
  return result;
}

Scalar difference(const Scalar& a, const Scalar& b) { return sum(a, negated(b)); }

bool same_value(const Scalar& a, const Scalar& b) {
  if (a.percent == b.percent) return same_plain(a, b, 1);
  const auto whole = [](const Scalar& s) { return s.exact && s.exact->denominator == 1 && !s.decimal; };
  if (whole(a) && whole(b) && *a.exact == *b.exact) return true;
  return a.percent ? same_plain(a, b, 0.01L) : same_plain(b, a, 0.01L);
}

std::optional<long double> constant_ratio(const Scalar& a, const Scalar& b) {
  std::optional<long double> factor;
  for (int k = 0; k < kPoints; ++k) {
    if (std::isnan(a.at[k]) && std::isnan(b.at[k])) continue;
    if (std::isnan(a.at[k]) || std::isnan(b.at[k]) || b.at[k] == 0 || a.at[k] == 0)
      return std::nullopt;
    const long double here = a.at[k] / b.at[k];
    if (factor && !close(*factor, here)) return std::nullopt;
    factor = here;
  }
  return factor;
}

}  // namespace vi::eval::math
