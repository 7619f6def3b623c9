// RULER's variable tracking and common words, and the scoring of all retrieval tasks.
#include <algorithm>

#include "core/common/error.h"
#include "eval/retrieval/needle_parts.h"
#include "eval/text/unicode.h"

namespace vi::eval {
namespace detail {
namespace {

constexpr std::size_t kMostUnits = std::size_t{1} << 24;
constexpr std::int64_t kShort = 4096;  // RULER repeats words less often in shorter prompts

std::string variable_name(Rng& rng) {
  std::string name;
  for (int i = 0; i < 5; ++i) name += static_cast<char>('A' + rng.below(26));
  return name;
}

std::string numbered(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i)
    text += (i > 0 ? " " : "") + std::to_string(i + 1) + ". " + words[i];
  return text;
}

struct WordList {
  std::string context;
  std::vector<std::string> common;
};

WordList word_list(std::size_t n_words, std::size_t n_common, std::size_t common_repeats,
                   std::size_t uncommon_repeats, Rng& rng) {
  const std::vector<std::string> words = random_words(n_words, rng);
  WordList result;
  std::vector<std::string> all;
  for (std::size_t i = 0; i < n_words; ++i) {
    if (i < n_common) result.common.push_back(words[i]);
    all.insert(all.end(), i < n_common ? common_repeats : uncommon_repeats, words[i]);
  }
  shuffle(all, rng);
  result.context = numbered(all);
  return result;
}

}  // namespace

NeedleCase make_variable_tracking(const NeedleSpec& spec, std::int64_t tokens, std::uint64_t seed,
                                  const CountTokens& count, std::string_view text) {
  const auto chain_length = static_cast<std::size_t>(spec.hops) + 1;
  const auto n_chains = static_cast<std::size_t>(spec.chains);
  Rng rng(seed);
  std::vector<std::string> names;
  while (names.size() < chain_length * n_chains) {
    std::string name = variable_name(rng);
    if (std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(std::move(name));
  }
  std::vector<std::string> numbers;
  while (numbers.size() < n_chains) {
    std::string number = std::to_string(10'000 + rng.below(90'000));
    if (std::find(numbers.begin(), numbers.end(), number) == numbers.end())
      numbers.push_back(number);
  }
  const auto assignment = [&](std::size_t chain, std::size_t step) {
    const std::string& name = names[chain * chain_length + step];
    return step == 0 ? "VAR " + name + " = " + numbers[chain]
                     : "VAR " + name + " = VAR " + names[chain * chain_length + step - 1];
  };

  NeedleCase result;
  result.seed = seed;
  result.depth = -1.0;
  result.max_new_tokens = needle_max_new_tokens(spec.kind);
  result.answers.assign(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(chain_length));
  result.answer_prefix = fmt::format(
      " Answer: According to the chain(s) of variable assignment in the text above, {} variables "
      "are assigned "
      "the value {}, they are: ",
      chain_length, numbers[0]);
  const std::vector<std::string_view> words = words_of(text);
  const bool from_text = spec.haystack == Haystack::text;
  if (from_text && words.empty()) fail("haystack: text needs a text that is not empty");

  const auto build = [&](std::size_t n) {
    Rng place_rng(seed ^ 0x5bd1e995u);
    std::vector<std::string> units(n, std::string(kNoise));
    if (from_text) units = sentences_of(first_words(words, n));
    for (std::size_t chain = 0; chain < n_chains; ++chain) {  // each chain in its order, anywhere
      const auto where = sample(chain_length, std::max(units.size(), chain_length), place_rng);
      for (std::size_t step = 0; step < chain_length; ++step)
        units.insert(
            units.begin() + static_cast<std::ptrdiff_t>(std::min(where[step] + step, units.size())),
            assignment(chain, step) + (from_text ? "." : ""));
    }
    std::string context;
    for (std::size_t i = 0; i < units.size(); ++i)
      context += (i > 0 ? (from_text ? " " : "\n") : "") + units[i];
    return "Memorize and track the chain(s) of variable assignment hidden in the following "
           "text.\n\n" +
           context + "\nQuestion: Find all variables that are assigned the value " + numbers[0] +
           " in the text above.";
  };
  const auto tokens_of = [&](std::size_t n) { return count(build(n) + result.answer_prefix); };
  result.prompt = build(largest_fit(1, kMostUnits, tokens, tokens_of));
  result.tokens = count(result.prompt + result.answer_prefix);
  return result;
}

NeedleCase make_common_words(const NeedleSpec& spec, std::int64_t tokens, std::uint64_t seed,
                             const CountTokens& count) {
  const auto n_common = static_cast<std::size_t>(spec.common);
  const bool is_short = tokens < kShort;
  const auto often =
      static_cast<std::size_t>(is_short ? std::min(spec.common_repeats, 6) : spec.common_repeats);
  const auto seldom = static_cast<std::size_t>(is_short ? std::min(spec.uncommon_repeats, 1)
                                                        : spec.uncommon_repeats);
  NeedleCase result;
  result.seed = seed;
  result.depth = -1.0;
  result.max_new_tokens = needle_max_new_tokens(spec.kind);
  result.answer_prefix =
      fmt::format(" Answer: The top {} words that appear most often in the list are:", n_common);
  const auto question = [&](const std::string& context) {
    return "Below is a numbered list of words. In these words, some appear more often than others. "
           "Memorize the "
           "ones that appear most often.\n" +
           context +
           fmt::format("\nQuestion: What are the {} most common words in the above list?",
                       n_common);
  };
  const auto build = [&](std::size_t n) {
    Rng rng(seed);  // one worked example first, as RULER has it
    const WordList example = word_list(n_common + (is_short ? 10 : 30), n_common, is_short ? 3 : 10,
                                       is_short ? 1 : 3, rng);
    const WordList list = word_list(n, n_common, often, seldom, rng);
    result.answers = list.common;
    return question(example.context) + result.answer_prefix + " " + numbered(example.common) +
           "\n" + question(list.context);
  };
  const auto tokens_of = [&](std::size_t n) { return count(build(n) + result.answer_prefix); };
  result.prompt = build(largest_fit(n_common + 1, most_words(), tokens, tokens_of));
  result.tokens = count(result.prompt + result.answer_prefix);
  return result;
}

}  // namespace detail

namespace {

double share_found(std::string_view prediction, const std::vector<std::string>& answers) {
  if (answers.empty()) return 0.0;
  const std::u32string text = text::lower(text::to_utf32(prediction));
  double found = 0.0;
  for (const std::string& answer : answers)
    found += text.find(text::lower(text::to_utf32(answer))) != std::u32string::npos ? 1.0 : 0.0;
  return found / static_cast<double>(answers.size());
}

}  // namespace

double score_needle_all(std::string_view prediction, const std::vector<std::string>& answers) {
  return share_found(prediction, answers);
}

double score_needle_part(std::string_view prediction, const std::vector<std::string>& answers) {
  return share_found(prediction, answers) > 0.0 ? 1.0 : 0.0;
}

double score_passkey(std::string_view prediction, const std::vector<std::string>& answers) {
  constexpr std::string_view kDigits = "0123456789";
  const std::size_t begin = prediction.find_first_of(kDigits);
  if (begin == std::string_view::npos) return 0.0;
  const std::size_t end = std::min(prediction.find_first_not_of(kDigits, begin), prediction.size());
  const std::string_view digits = prediction.substr(begin, end - begin);
  return std::find(answers.begin(), answers.end(), digits) != answers.end() ? 1.0 : 0.0;
}

double score_needle(NeedleKind kind, std::string_view prediction,
                    const std::vector<std::string>& answers) {
  return kind == NeedleKind::passkey ? score_passkey(prediction, answers)
                                     : score_needle_all(prediction, answers);
}

}  // namespace vi::eval
