// What the fuzzer of mathematical answers does with one input; the corpus test runs the same. The
// first line is a prediction, the rest the answer. Nothing may throw, and verdicts do not change.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string_view>

#include "eval/math/answer.h"
#include "eval/math/expression.h"
#include "eval/math/value.h"

namespace vi::fuzz {

inline void math_latex(std::span<const std::uint8_t> input) {
  const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
  const std::size_t line = text.find('\n');
  const std::string_view prediction = text.substr(0, line);
  const std::string_view answer = line == text.npos ? text : text.substr(line + 1);
  if (const auto expression = eval::math::parse_expression(prediction))
    eval::math::evaluate(*expression);
  const auto first = eval::math::judge(prediction, answer);
  if (first.equal != eval::math::judge(prediction, answer).equal)
    throw std::logic_error("two verdicts on one pair");
  eval::math::judge(answer, prediction);
}

}  // namespace vi::fuzz
