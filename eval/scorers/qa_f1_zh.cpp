// LongBench's qa_f1_zh_score: F1 over jieba's words, lower case, without punctuation and
// whitespace.
#include "eval/scorers/metrics.h"
#include "eval/text/jieba.h"
#include "eval/text/unicode.h"

namespace vi::eval {
namespace {

// The official list beside string.punctuation.
constexpr std::u32string_view kPunctuation =
    U"！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔"
    U"〕〖〗〘〙〚〛〜〝〞〟"
    U"〰〾〿–—‘’‛“”„‟…‧﹏.";

std::vector<std::u32string> words_of(std::string_view utf8) {
  std::vector<std::u32string> words;
  for (const std::string& token : text::shared_jieba().cut(utf8)) {
    std::u32string word = text::lower(text::to_utf32(token));
    std::erase_if(word, [](char32_t c) {
      return text::is_ascii_punct(c) || text::is_space(c) ||
             kPunctuation.find(c) != std::u32string_view::npos;
    });
    if (!word.empty()) words.push_back(std::move(word));
  }
  return words;
}

}  // namespace

double qa_f1_zh(std::string_view prediction, std::span<const std::string> answers, const Json&) {
  const auto predicted = words_of(prediction);
  return detail::best_of(answers, [&](const std::string& answer) {
    return detail::bag_f1(predicted, words_of(answer));
  });
}

}  // namespace vi::eval
