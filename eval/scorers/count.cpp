// LongBench's count_score: of the numbers in the prediction, the share that is the answer.
#include "eval/scorers/metrics.h"
#include "eval/text/unicode.h"

namespace vi::eval {

double count(std::string_view prediction, std::span<const std::string> answers, const Json&) {
  return detail::best_of(answers, [&](const std::string& answer) {
    return detail::number_share(prediction, text::to_utf32(answer));
  });
}

}  // namespace vi::eval
