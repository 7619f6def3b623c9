// LongBench's code_sim_score: fuzzywuzzy's ratio (on Python's difflib) between the answer and the
// first line of the prediction without '`', '#' or "//", rounded to whole percents as fuzzywuzzy
// does.
#include <cmath>

#include "eval/scorers/metrics.h"
#include "eval/text/difflib.h"
#include "eval/text/unicode.h"

namespace vi::eval {
namespace {

std::string_view first_code_line(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  for (;;) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (line.find_first_of("`#") == std::string_view::npos &&
        line.find("//") == std::string_view::npos)
      return line;
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
}

}  // namespace

double code_sim(std::string_view prediction, std::span<const std::string> answers, const Json&) {
  const std::u32string line = text::to_utf32(first_code_line(prediction));
  return detail::best_of(answers, [&](const std::string& answer) {
    const std::u32string wanted = text::to_utf32(answer);
    if (line == wanted) return 1.0;
    if (line.empty() || wanted.empty()) return 0.0;
    return std::nearbyint(100 * text::sequence_ratio(line, wanted)) /
           100;  // half to even, as round()
  });
}

}  // namespace vi::eval
