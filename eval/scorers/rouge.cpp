// LongBench's rouge_score: summary-level ROUGE-L F of the PyPI package rouge 1.0, in its default
// "exclusive" form: sentences split at '.', words as sets; recall and precision are the number of
// different words in the union of the longest common subsequences of every pair of sentences, over
// the number of different words of the answer and of the prediction; F = 2 p r / (p + r + 1e-8).
// The package walks a subsequence back by recursion, one call a step; two long sentences pass
// Python's recursion limit, and the official script scores such a pair 0. Prose without '.'
// (Chinese) does so in practice, therefore the walk is counted here.
#include <unordered_map>

#include "eval/scorers/metrics.h"
#include "eval/text/unicode.h"

namespace vi::eval {
namespace {

using Ids = std::vector<std::int32_t>;

// Words of every sentence as ids; a sentence of whitespace holds one empty word.
class Vocabulary {
 public:
  std::vector<Ids> sentences(std::u32string_view text) {
    std::vector<Ids> result;
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find(U'.', begin), text.size());
      if (end > begin) {
        Ids& words = result.emplace_back();
        for (const std::u32string& word : text::split(text.substr(begin, end - begin)))
          words.push_back(id(word));
        if (words.empty()) words.push_back(id(U""));
      }
      begin = end + 1;
    }
    return result;
  }
  std::size_t size() const { return ids_.size(); }

 private:
  std::int32_t id(const std::u32string& word) {
    return ids_.try_emplace(word, static_cast<std::int32_t>(ids_.size())).first->second;
  }
  std::unordered_map<std::u32string, std::int32_t> ids_;
};

std::size_t count_different(const std::vector<Ids>& sentences, std::size_t vocabulary) {
  std::vector<bool> seen(vocabulary);
  std::size_t n = 0;
  for (const Ids& words : sentences)
    for (const std::int32_t word : words)
      if (!seen[static_cast<std::size_t>(word)]) seen[static_cast<std::size_t>(word)] = true, ++n;
  return n;
}

// Marks the words of the subsequence that the package walks back to. Returns the number of nested
// calls.
int walk_lcs(const Ids& x, const Ids& y, std::vector<std::int32_t>& table,
             std::vector<bool>& in_union) {
  const std::size_t n = x.size(), m = y.size(), row = m + 1;
  table.assign((n + 1) * row, 0);
  for (std::size_t i = 1; i <= n; ++i)
    for (std::size_t j = 1; j <= m; ++j)
      table[i * row + j] = x[i - 1] == y[j - 1]
                               ? table[(i - 1) * row + j - 1] + 1
                               : std::max(table[(i - 1) * row + j], table[i * row + j - 1]);
  int calls = 1;
  for (std::size_t i = n, j = m; i > 0 && j > 0; ++calls) {
    if (x[i - 1] == y[j - 1]) {
      in_union[static_cast<std::size_t>(x[i - 1])] = true;
      --i, --j;
    } else if (table[(i - 1) * row + j] > table[i * row + j - 1]) {
      --i;
    } else {
      --j;
    }
  }
  return calls;
}

// What the limit of 1000 leaves in CPython 3.11 to 3.13 below eval.py's own frames (measured).
constexpr int kSpareCalls = 991;

}  // namespace

double detail::rouge_l_f(std::string_view prediction, std::string_view answer, int spare_calls) {
  Vocabulary vocabulary;
  const std::vector<Ids> predicted = vocabulary.sentences(text::to_utf32(prediction));
  const std::vector<Ids> wanted = vocabulary.sentences(text::to_utf32(answer));
  if (predicted.empty() || wanted.empty()) return 0.0;
  std::vector<bool> in_union(vocabulary.size());
  std::vector<std::int32_t> table;
  for (const Ids& reference : wanted)
    for (const Ids& sentence : predicted)
      if (walk_lcs(reference, sentence, table, in_union) > spare_calls) return 0.0;
  const auto common = static_cast<double>(std::count(in_union.begin(), in_union.end(), true));
  const double recall = common / static_cast<double>(count_different(wanted, vocabulary.size()));
  const double precision =
      common / static_cast<double>(count_different(predicted, vocabulary.size()));
  return 2.0 * ((precision * recall) / (precision + recall + 1e-8));
}

double rouge_l(std::string_view prediction, std::span<const std::string> answers, const Json&) {
  return detail::best_of(answers, [&](const std::string& answer) {
    return detail::rouge_l_f(prediction, answer, kSpareCalls);
  });
}

}  // namespace vi::eval
