// Syntax tree of one LaTeX or plain expression. Two readers give it a meaning: numeric.cpp (exact
// rationals and values at sample points) and the program in checker/ (GiNaC).
// Source of the conventions: the Python package Math-Verify, which reads \log as base 10, e as
// Euler's number, i as a letter, a:b as a quotient and letters without regard to case.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vi::eval::math {

struct Expression {
  enum class Kind {
    number,     // text: digits with at most one point
    symbol,     // text: lower-case name with its subscript; "e", "\\pi", "\\infty" are constants
    sum,        // of parts
    product,    // of parts
    negative,   // parts[0]
    quotient,   // parts[0] / parts[1]
    power,      // parts[0] ^ parts[1]
    root,       // parts[0] is the radicand, parts[1] the degree
    factorial,  // parts[0]
    binomial,   // parts[0] over parts[1]
    absolute,
    floor,
    ceiling,
    function,  // text: sin, ln, ...; parts[0]
    percent    // parts[0] with a percent sign after it
  };
  Kind kind = Kind::number;
  std::string text;
  std::vector<Expression> parts;
};

// nullopt if `text` (normalised) is not one expression of the grammar: numbers, letters,
// + - * / : ^ !, \frac, \over, \sqrt, \binom, elementary functions, implicit products, mixed
// numbers, |x|, floors, brackets. Trees are at most 100 levels of brackets deep.
std::optional<Expression> parse_expression(std::string_view text);

}  // namespace vi::eval::math
