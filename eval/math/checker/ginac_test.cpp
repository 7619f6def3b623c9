// SPDX-License-Identifier: GPL-2.0-or-later
#include "eval/math/checker/ginac_test.h"

#include <ginac/ginac.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

namespace vi::eval::math {
namespace {

using GiNaC::ex;
using GiNaC::numeric;
using Kind = Expression::Kind;

constexpr int kDigits = 40;
constexpr double kMaxBits = 200000;  // of an integer power; beyond it nothing is evaluated
constexpr int kMaxFactorial = 2000;
constexpr long kMaxExponent = 1000000;  // arguments of exp and the like
constexpr int kMaxSize = 1000;          // nodes of both trees

struct NoValue : std::runtime_error {
  NoValue() : std::runtime_error("an expression without a value") {}
};

ex literal(const std::string& text) {  // decimals are exact
  const std::size_t point = text.find('.');
  if (point == std::string::npos) return numeric(text.empty() ? "0" : text.c_str());
  const std::string digits = text.substr(0, point) + text.substr(point + 1);
  const numeric whole(digits.empty() ? "0" : digits.c_str());
  return whole / GiNaC::pow(numeric(10), numeric(static_cast<long>(text.size() - point - 1)));
}

ex bounded_factorial(const ex& n) {
  if (!GiNaC::is_a<numeric>(n)) return GiNaC::factorial(n);
  const numeric value = GiNaC::ex_to<numeric>(n);
  if (!value.is_nonneg_integer() || value > numeric(kMaxFactorial)) throw NoValue();
  return GiNaC::factorial(value);
}

// The expression as GiNaC holds it.
class Reader {
 public:
  ex read(const Expression& e) {
    switch (e.kind) {
      case Kind::number: return literal(e.text);
      case Kind::symbol:
        if (e.text == "\\pi") return GiNaC::Pi;
        if (e.text == "e") return GiNaC::exp(ex(1));
        return symbol(e.text);
      case Kind::sum: {
        ex value = 0;
        for (const Expression& part : e.parts) value += read(part);
        return value;
      }
      case Kind::product: {
        ex value = 1;
        for (const Expression& part : e.parts) value *= read(part);
        return value;
      }
      case Kind::negative: return -read(e.parts[0]);
      case Kind::quotient: return read(e.parts[0]) / read(e.parts[1]);
      case Kind::power: return power(read(e.parts[0]), read(e.parts[1]));
      case Kind::root: return power(read(e.parts[0]), 1 / read(e.parts[1]));
      case Kind::percent: return read(e.parts[0]) / 100;
      case Kind::absolute: return GiNaC::abs(read(e.parts[0]));
      case Kind::factorial: return bounded_factorial(read(e.parts[0]));
      case Kind::binomial: return binomial(read(e.parts[0]), read(e.parts[1]));
      case Kind::floor:
      case Kind::ceiling: throw NoValue();
      case Kind::function: return function(e.text, read(e.parts[0]));
    }
    throw NoValue();
  }

 private:
  ex symbol(const std::string& name) {
    return symbols_.try_emplace(name, GiNaC::realsymbol("x" + std::to_string(symbols_.size())))
        .first->second;
  }

  static ex power(const ex& base, const ex& exponent) {
    if (GiNaC::is_a<numeric>(exponent) && GiNaC::is_a<numeric>(base)) {
      const numeric n = GiNaC::ex_to<numeric>(exponent), b = GiNaC::ex_to<numeric>(base);
      if (n.is_rational() && b.is_rational()) {
        const double bits = std::max(b.numer().int_length(), b.denom().int_length());
        if (std::abs(n.to_double()) * bits > kMaxBits) throw NoValue();
      }
    }
    return GiNaC::pow(base, exponent);
  }

  static ex binomial(const ex& n, const ex& k) {
    if (GiNaC::is_a<numeric>(n) && GiNaC::is_a<numeric>(k)) {
      const numeric a = GiNaC::ex_to<numeric>(n), b = GiNaC::ex_to<numeric>(k);
      if (!a.is_nonneg_integer() || !b.is_nonneg_integer() || a > numeric(kMaxFactorial))
        throw NoValue();
      return GiNaC::binomial(a, b);
    }
    return GiNaC::binomial(n, k);
  }

  static ex function(const std::string& name, const ex& x) {
    if (name == "sin") return GiNaC::sin(x);
    if (name == "cos") return GiNaC::cos(x);
    if (name == "tan") return GiNaC::tan(x);
    if (name == "cot") return GiNaC::cos(x) / GiNaC::sin(x);
    if (name == "sec") return 1 / GiNaC::cos(x);
    if (name == "csc") return 1 / GiNaC::sin(x);
    if (name == "arcsin") return GiNaC::asin(x);
    if (name == "arccos") return GiNaC::acos(x);
    if (name == "arctan") return GiNaC::atan(x);
    if (name == "arccot") return GiNaC::atan(1 / x);
    if (name == "arcsec") return GiNaC::acos(1 / x);
    if (name == "arccsc") return GiNaC::asin(1 / x);
    if (name == "sinh") return GiNaC::sinh(x);
    if (name == "cosh") return GiNaC::cosh(x);
    if (name == "tanh") return GiNaC::tanh(x);
    if (name == "ln") return GiNaC::log(x);
    if (name == "exp") return GiNaC::exp(x);
    throw NoValue();
  }

  std::map<std::string, GiNaC::realsymbol> symbols_;
};

// The value at one point: every letter a fixed number, 40 digits, rationals exact, complex values
// allowed. GiNaC's own evalf() gives wrong numbers where an exponent overflows, hence the bounds.
class PointReader {
 public:
  explicit PointReader(const std::map<std::string, numeric>& letters) : letters_(letters) {}

  numeric read(const Expression& e) const {
    const auto part = [&](std::size_t i) { return read(e.parts[i]); };
    switch (e.kind) {
      case Kind::number: return GiNaC::ex_to<numeric>(literal(e.text));
      case Kind::symbol:
        if (e.text == "\\pi") return GiNaC::ex_to<numeric>(GiNaC::Pi.evalf());
        if (e.text == "e") return GiNaC::exp(numeric(1));
        return letters_.at(e.text);
      case Kind::sum: {
        numeric value = 0;
        for (const Expression& one : e.parts) value = value + read(one);
        return value;
      }
      case Kind::product: {
        numeric value = 1;
        for (const Expression& one : e.parts) value = value * read(one);
        return value;
      }
      case Kind::negative: return -part(0);
      case Kind::quotient: return divide(part(0), part(1));
      case Kind::power: return power(part(0), part(1));
      case Kind::root: return power(part(0), divide(1, part(1)));
      case Kind::percent: return part(0) / numeric(100);
      case Kind::absolute: return GiNaC::abs(part(0));
      case Kind::factorial: {
        const numeric n = part(0);
        if (!n.is_integer() && n.is_real() && GiNaC::abs(n) < numeric(50))
          return GiNaC::tgamma(n + numeric(1));
        return GiNaC::ex_to<numeric>(bounded_factorial(n));
      }
      case Kind::binomial: {
        const numeric n = part(0), k = part(1);
        if (!k.is_nonneg_integer() || k > numeric(kMaxFactorial)) throw NoValue();
        numeric value = 1;  // a polynomial in n
        for (long i = 0; i < k.to_long(); ++i) value = value * (n - numeric(i)) / numeric(i + 1);
        return value;
      }
      case Kind::floor: return whole(part(0), false);
      case Kind::ceiling: return whole(part(0), true);
      case Kind::function: return function(e.text, part(0));
    }
    throw NoValue();
  }

 private:
  static numeric divide(const numeric& a, const numeric& b) {
    if (b.is_zero()) throw NoValue();
    return a / b;
  }
  static numeric bounded(const numeric& x) {
    if (GiNaC::abs(x) > numeric(kMaxExponent)) throw NoValue();
    return x;
  }
  static numeric power(const numeric& base, const numeric& exponent) {
    if (exponent.is_zero()) return 1;
    if (base.is_zero()) {
      if (!exponent.is_real() || exponent.is_negative()) throw NoValue();
      return 0;
    }
    bounded(exponent);
    if (base.is_crational() && exponent.is_integer()) {
      const double bits = std::max(base.numer().int_length(), base.denom().int_length());
      if (std::abs(exponent.to_double()) * bits > kMaxBits) throw NoValue();
    } else {
      bounded(exponent * GiNaC::log(base));
    }
    return GiNaC::pow(base, exponent);
  }
  static numeric whole(const numeric& x, bool up) {
    if (!x.is_real()) throw NoValue();
    if (x.is_integer()) return x;
    bounded(x);
    numeric down = x.is_rational() ? GiNaC::iquo(x.numer(), x.denom())
                                   : numeric(static_cast<long>(std::floor(x.to_double())));
    if (x.is_rational() && x.is_negative()) down = down - numeric(1);
    return up ? down + numeric(1) : down;
  }
  static numeric function(const std::string& name, const numeric& x) {
    bounded(x);
    if (name == "sin") return GiNaC::sin(x);
    if (name == "cos") return GiNaC::cos(x);
    if (name == "tan") return divide(GiNaC::sin(x), GiNaC::cos(x));
    if (name == "cot") return divide(GiNaC::cos(x), GiNaC::sin(x));
    if (name == "sec") return divide(1, GiNaC::cos(x));
    if (name == "csc") return divide(1, GiNaC::sin(x));
    if (name == "arcsin") return GiNaC::asin(x);
    if (name == "arccos") return GiNaC::acos(x);
    if (name == "arctan") return GiNaC::atan(x);
    if (name == "arccot") return GiNaC::atan(divide(1, x));
    if (name == "arcsec") return GiNaC::acos(divide(1, x));
    if (name == "arccsc") return GiNaC::asin(divide(1, x));
    if (name == "sinh") return GiNaC::sinh(x);
    if (name == "cosh") return GiNaC::cosh(x);
    if (name == "tanh") return GiNaC::tanh(x);
    if (name == "ln" && !x.is_zero()) return GiNaC::log(x);
    if (name == "exp") return GiNaC::exp(x);
    throw NoValue();
  }

  const std::map<std::string, numeric>& letters_;
};

bool same_number(const numeric& x, const numeric& y) {
  const numeric difference = x - y;
  if (difference.is_crational()) return difference.is_zero();
  const numeric size = std::max(numeric(1), GiNaC::abs(x));
  return GiNaC::abs(difference) < size * GiNaC::pow(numeric(10), numeric(10 - kDigits));
}

void collect(const Expression& e, std::map<std::string, numeric>& letters, int& size) {
  ++size;
  if (e.kind == Kind::symbol) letters.emplace(e.text, 0);
  for (const Expression& part : e.parts) collect(part, letters, size);
}

// nullopt: no value at any of the points.
std::optional<bool> same_at_points(const Expression& a, const Expression& b,
                                   std::map<std::string, numeric> letters) {
  bool compared = false;
  for (int point = 0; point < (letters.empty() ? 1 : 4); ++point) {
    long seed = 7 + 11 * point;
    int place = point;
    for (auto& [name, value] : letters) {
      seed = (seed * 48271) % 2147483647;
      value = numeric(seed % 1999 + 500, 1009);
      // all positive, all negative, then of alternating signs: \sqrt{xy} is not \sqrt x \sqrt y
      if (point == 1 || (point > 1 && place++ % 2 == 0)) value = -value;
    }
    const auto value_at = [&](const Expression& e) -> std::optional<numeric> {
      try {
        return PointReader(letters).read(e);
      } catch (const std::exception&) {  // NoValue, poles
        return std::nullopt;
      }
    };
    const std::optional<numeric> x = value_at(a), y = value_at(b);
    if (!x && !y) continue;
    if (!x || !y || !same_number(*x, *y)) return false;
    compared = true;
  }
  return compared ? std::optional(true) : std::nullopt;
}

}  // namespace

std::optional<bool> GinacTest::equal(const Expression& a, const Expression& b) const {
  GiNaC::Digits = kDigits;
  std::map<std::string, numeric> letters;
  int size = 0;
  collect(a, letters, size);
  collect(b, letters, size);
  letters.erase("\\pi");
  letters.erase("e");
  if (size > kMaxSize) return std::nullopt;
  const std::optional<bool> verdict = same_at_points(a, b, letters);
  if (verdict) return verdict;
  try {
    Reader reader;  // huge or undefined at every point: only algebra can tell
    return GiNaC::normal(reader.read(a) - reader.read(b)).is_zero() ? std::optional(true)
                                                                     : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace vi::eval::math
