// Pass or fail of a mathematical answer: the extracted final answer equals one of the answers.
#include "eval/math/answer.h"
#include "eval/scorers/metrics.h"

namespace vi::eval {

double math_answer(std::string_view prediction, std::span<const std::string> answers, const Json&) {
  const std::optional<std::string> found = math::extract_answer(prediction);
  if (!found) return 0.0;
  return detail::best_of(
      answers, [&](const std::string& answer) { return math::answers_equal(*found, answer) ? 1.0 : 0.0; });
}

}  // namespace vi::eval
