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

struct NoValue : std::runtime_error {
  NoValue() : std::runtime_error("an expression without a value") {}
};

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
      case Kind::factorial: return factorial(read(e.parts[0]));
      case Kind::binomial: return binomial(read(e.parts[0]), read(e.parts[1]));
      case Kind::floor: return whole(read(e.parts[0]), false);
      case Kind::ceiling: return whole(read(e.parts[0]), true);
      case Kind::function: return function(e.text, read(e.parts[0]));
    }
    throw NoValue();
  }
  const std::map<std::string, GiNaC::realsymbol>& symbols() const { return symbols_; }

 private:
  ex symbol(const std::string& name) {
    return symbols_.try_emplace(name, GiNaC::realsymbol("x" + std::to_string(symbols_.size())))
        .first->second;
  }

  static ex literal(const std::string& text) {  // decimals are exact
    const std::size_t point = text.find('.');
    if (point == std::string::npos) return numeric(text.empty() ? "0" : text.c_str());
    const std::string digits = text.substr(0, point) + text.substr(point + 1);
    const numeric whole(digits.empty() ? "0" : digits.c_str());
    return whole / GiNaC::pow(numeric(10), numeric(static_cast<long>(text.size() - point - 1)));
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

  static ex factorial(const ex& n) {
    if (!GiNaC::is_a<numeric>(n)) return GiNaC::factorial(n);
    const numeric value = GiNaC::ex_to<numeric>(n);
    if (!value.is_nonneg_integer() || value > numeric(kMaxFactorial)) throw NoValue();
    return GiNaC::factorial(value);
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

  static ex whole(const ex& argument, bool up) {
    const ex value = argument.evalf();
    if (!GiNaC::is_a<numeric>(value) || !GiNaC::ex_to<numeric>(value).is_real()) throw NoValue();
    const numeric number = GiNaC::is_a<numeric>(argument) ? GiNaC::ex_to<numeric>(argument)
                                                          : GiNaC::ex_to<numeric>(value);
    if (!number.is_rational() && GiNaC::abs(number) > numeric(1000000000)) throw NoValue();
    numeric down = number.is_rational()
                       ? GiNaC::iquo(number.numer(), number.denom())  // towards zero
                       : numeric(static_cast<long>(std::floor(number.to_double())));
    if (number.is_rational() && number.is_negative() && !number.is_integer()) down = down - 1;
    return up && !number.is_integer() ? ex(down + 1) : ex(down);
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

// |value| is nothing beside the size of the two sides. nullopt: not a number.
std::optional<bool> vanishes(const ex& difference, const ex& scale) {
  const ex value = difference.evalf(), size = scale.evalf();
  if (!GiNaC::is_a<numeric>(value)) return std::nullopt;
  numeric bound = 1;
  if (GiNaC::is_a<numeric>(size)) bound = std::max(bound, GiNaC::abs(GiNaC::ex_to<numeric>(size)));
  return GiNaC::abs(GiNaC::ex_to<numeric>(value)) <
         bound * GiNaC::pow(numeric(10), numeric(10 - kDigits));
}

}  // namespace

std::optional<bool> GinacTest::equal(const Expression& a, const Expression& b) const {
  GiNaC::Digits = kDigits;
  try {
    Reader reader;
    const ex x = reader.read(a), y = reader.read(b), difference = x - y;
    if (difference.is_zero()) return true;
    if (GiNaC::is_a<numeric>(difference) && GiNaC::ex_to<numeric>(difference).is_crational())
      return false;
    if (reader.symbols().empty()) return vanishes(difference, x);
    bool compared = false;  // at points first: they are cheap, and a difference there is final
    for (int point = 0; point < 4; ++point) {
      GiNaC::exmap values;
      long seed = 7 + 11 * point;
      int place = point;
      for (const auto& [name, symbol] : reader.symbols()) {
        seed = (seed * 48271) % 2147483647;
        const numeric value(seed % 1999 + 500, 1009);
        // all positive, all negative, then of alternating signs: \sqrt{xy} is not \sqrt x \sqrt y
        const bool below = point == 1 || (point > 1 && place++ % 2 == 0);
        values[symbol] = below ? -value : value;
      }
      const std::optional<bool> here = vanishes(difference.subs(values), x.subs(values));
      if (here && !*here) return false;
      compared = compared || here;
    }
    if (compared) return true;
    return GiNaC::normal(difference.expand()).is_zero() ? std::optional(true) : std::nullopt;
  } catch (const std::exception&) {  // NoValue, poles, divisions by zero
    return std::nullopt;
  }
}

}  // namespace vi::eval::math
