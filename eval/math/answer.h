// Answers of mathematical tasks: taking the final answer out of a generation, and equality of two
// answers by normal form, structure and value. Algebra is done by a program of its own (checker/);
// without it expressions are compared at sample points. Rules: docs/math.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace vi::eval::math {

// The final answer of a generation: the last \boxed{...} (nested braces, \fbox too), else what
// follows the last "answer is", "#### " or "= " claim, else the last number. nullopt if there is
// none. Text after the last </think> is searched first.
std::optional<std::string> extract_answer(std::string_view text);

// The last \boxed{} or \fbox{} alone.
std::optional<std::string> last_boxed(std::string_view text);

// Canonical text of a LaTeX or plain answer: spacing, sizing commands, units, currency, text
// wrappers, degree and percent signs, fraction spellings.
std::string normalise(std::string_view answer);

// Equality of two answers (not of two generations): by numbers, and by `symbolic` where given.
class SymbolicTest;  // compare.h
bool equal(std::string_view prediction, std::string_view answer,
           const SymbolicTest* symbolic = nullptr);

// One case of `vecinfer score --task math`: the prediction may be a generation or a bare answer,
// the answer may be bare, boxed or GSM8K's worked solution.
struct Verdict {
  bool equal = false;
  std::optional<std::string> extracted;  // what was compared
};
Verdict judge(std::string_view prediction, std::string_view answer);

// Answers longer than this are equal only if their texts are.
inline constexpr std::size_t kLongestAnswer = 2000;

// equal() by the symbolic program where use_checker() (checker.h) named it, in this process by
// numbers otherwise.
bool answers_equal(std::string_view prediction, std::string_view answer);

}  // namespace vi::eval::math
