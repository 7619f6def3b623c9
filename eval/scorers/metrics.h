// The metric functions, one a file; registry.h names them. Each takes the best over the answers.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/common/json.h"

namespace vi::eval {

double qa_f1(std::string_view prediction, std::span<const std::string> answers, const Json& record);
double qa_f1_zh(std::string_view prediction, std::span<const std::string> answers,
                const Json& record);
double rouge_l(std::string_view prediction, std::span<const std::string> answers,
               const Json& record);
double rouge_l_zh(std::string_view prediction, std::span<const std::string> answers,
                  const Json& record);
double classification(std::string_view prediction, std::span<const std::string> answers,
                      const Json& record);
double retrieval(std::string_view prediction, std::span<const std::string> answers,
                 const Json& record);
double retrieval_zh(std::string_view prediction, std::span<const std::string> answers,
                    const Json& record);
double count(std::string_view prediction, std::span<const std::string> answers, const Json& record);
double code_sim(std::string_view prediction, std::span<const std::string> answers,
                const Json& record);
double math_answer(std::string_view prediction, std::span<const std::string> answers,
                   const Json& record);

namespace detail {

// max(0, score(answer), ...): the official loop.
template <class F>
double best_of(std::span<const std::string> answers, F&& score) {
  double best = 0.0;
  for (const std::string& answer : answers)
    best = std::max(best, static_cast<double>(score(answer)));
  return best;
}

// The share of the prediction's numbers that are `wanted`.
double number_share(std::string_view prediction, std::u32string_view wanted);

// rouge.Rouge().get_scores([p], [a], avg=True)["rouge-l"]["f"], 0 where the official code catches
// an exception. `spare_calls`: how many nested calls Python's recursion limit leaves to the
// package.
double rouge_l_f(std::string_view prediction, std::string_view answer, int spare_calls);

// F1 of two bags of words.
template <class Word>
double bag_f1(std::vector<Word> prediction, std::vector<Word> answer) {
  std::sort(prediction.begin(), prediction.end());
  std::sort(answer.begin(), answer.end());
  std::size_t same = 0;
  for (std::size_t i = 0, j = 0; i < prediction.size() && j < answer.size();) {
    if (prediction[i] == answer[j])
      ++same, ++i, ++j;
    else if (prediction[i] < answer[j])
      ++i;
    else
      ++j;
  }
  if (same == 0) return 0.0;
  const double precision = 1.0 * static_cast<double>(same) / static_cast<double>(prediction.size());
  const double recall = 1.0 * static_cast<double>(same) / static_cast<double>(answer.size());
  return (2 * precision * recall) / (precision + recall);
}

}  // namespace detail
}  // namespace vi::eval
