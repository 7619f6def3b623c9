// LongBench's rouge_zh_score: rouge over jieba's words joined by spaces.
#include "eval/scorers/metrics.h"
#include "eval/text/jieba.h"

namespace vi::eval {
namespace {

constexpr int kSpareCalls = 990;  // one frame of eval.py more than rouge's own

std::string spaced(std::string_view text) {
  std::string result;
  bool first = true;
  for (const std::string& word : text::shared_jieba().cut(text)) {
    if (!first) result += ' ';
    result += word;
    first = false;
  }
  return result;
}

}  // namespace

double rouge_l_zh(std::string_view prediction, std::span<const std::string> answers, const Json&) {
  const std::string predicted = spaced(prediction);
  return detail::best_of(answers, [&](const std::string& answer) {
    return detail::rouge_l_f(predicted, spaced(answer), kSpareCalls);
  });
}

}  // namespace vi::eval
