// LongBench's retrieval_score: of the numbers in the prediction, the share that is the paragraph's.
#include "core/common/error.h"
#include "eval/scorers/metrics.h"
#include "eval/text/unicode.h"

namespace vi::eval {

double detail::number_share(std::string_view prediction, std::u32string_view wanted) {
  const std::vector<std::u32string> numbers = text::digit_runs(text::to_utf32(prediction));
  if (numbers.empty()) return 0.0;
  const auto right = std::count(numbers.begin(), numbers.end(), wanted);
  return static_cast<double>(right) / static_cast<double>(numbers.size());
}

namespace {

double paragraph_share(std::string_view prediction, std::span<const std::string> answers,
                       std::u32string_view word, std::string_view expected) {
  return detail::best_of(answers, [&](const std::string& answer) {
    const std::u32string text = text::to_utf32(answer);
    for (std::size_t at = text.find(word); at != std::u32string::npos;
         at = text.find(word, at + 1)) {
      const std::size_t begin = at + word.size();
      std::size_t end = begin;
      while (end < text.size() && text::is_decimal(text[end])) ++end;
      if (end > begin) return detail::number_share(prediction, text.substr(begin, end - begin));
    }
    fail<ContractError>("answers: expected '{}N', found '{}'", expected, answer);
  });
}

}  // namespace

double retrieval(std::string_view prediction, std::span<const std::string> answers, const Json&) {
  return paragraph_share(prediction, answers, U"Paragraph ", "Paragraph ");
}

double retrieval_zh(std::string_view prediction, std::span<const std::string> answers,
                    const Json&) {
  return paragraph_share(prediction, answers, U"段落", "段落");
}

}  // namespace vi::eval
