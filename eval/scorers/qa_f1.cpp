// LongBench's qa_f1_score (SQuAD's F1): lower case, no punctuation, no articles, words by
// whitespace.
#include "eval/scorers/metrics.h"
#include "eval/text/unicode.h"

namespace vi::eval {
namespace {

std::vector<std::u32string> words_of(std::string_view utf8) {
  std::u32string text = text::lower(text::to_utf32(utf8));
  std::erase_if(text, text::is_ascii_punct);
  // re.sub(r"\b(a|an|the)\b", " ", text): whole runs of word characters
  std::u32string kept;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t stop = i;
    while (stop < text.size() && text::is_word(text[stop])) ++stop;
    const std::u32string_view word(text.data() + i, stop - i);
    if (word == U"a" || word == U"an" || word == U"the")
      kept += U' ';
    else
      kept += word;
    if (stop < text.size()) kept += text[stop++];
    i = stop;
  }
  return text::split(kept);
}

}  // namespace

double qa_f1(std::string_view prediction, std::span<const std::string> answers, const Json&) {
  const auto predicted = words_of(prediction);
  return detail::best_of(answers, [&](const std::string& answer) {
    return detail::bag_f1(predicted, words_of(answer));
  });
}

}  // namespace vi::eval
