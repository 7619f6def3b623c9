// Retrieval in long prompts, generated from a seed at a chosen length and depth: the passkey of
// KIVI and LongChat, and RULER's needles, variable tracking and common words with its scoring.
// Invariant: same spec, seed and token counter give the same bytes on every machine.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/options.h"

namespace vi::eval {

enum class NeedleKind {
  passkey,            // "The pass key is N" in repeated noise
  single,             // RULER niah_single: one key, one value
  multi_key,          // distractor needles with other keys
  multi_value,        // several values of one key, all asked for
  multi_query,        // several keys, all asked for
  variable_tracking,  // chains X1 = 123, X2 = X1, ...: all names that hold the value
  common_words        // the ten most frequent words of a list
};
constexpr auto enum_names(NeedleKind) {
  using enum NeedleKind;
  using namespace std::string_view_literals;
  return std::array{
      std::pair{"passkey"sv, passkey},          std::pair{"single"sv, single},
      std::pair{"multi_key"sv, multi_key},      std::pair{"multi_value"sv, multi_value},
      std::pair{"multi_query"sv, multi_query},  std::pair{"variable_tracking"sv, variable_tracking},
      std::pair{"common_words"sv, common_words}};
}

enum class Haystack {
  noise,
  text,
  needles
};  // needles: only other needles (RULER's niah_multikey_2 and 3)
constexpr auto enum_names(Haystack) {
  using namespace std::string_view_literals;
  return std::array{std::pair{"noise"sv, Haystack::noise}, std::pair{"text"sv, Haystack::text},
                    std::pair{"needles"sv, Haystack::needles}};
}

enum class NeedleValue { number, word, uuid };
constexpr auto enum_names(NeedleValue) {
  using namespace std::string_view_literals;
  return std::array{std::pair{"number"sv, NeedleValue::number},
                    std::pair{"word"sv, NeedleValue::word}, std::pair{"uuid"sv, NeedleValue::uuid}};
}

struct NeedleSpec {
  NeedleKind kind = NeedleKind::passkey;
  Haystack haystack = Haystack::noise;
  NeedleValue key = NeedleValue::word, value = NeedleValue::number;
  // 0: RULER's number for the kind (multi_key 4 keys, multi_value 4 values, multi_query 4 asked).
  int keys = 0;              // needles with a key of their own, the asked ones included
  int values = 0;            // values of each key
  int queries = 0;           // keys asked for
  int chains = 1, hops = 4;  // variable_tracking
  int common = 10, common_repeats = 30, uncommon_repeats = 3;  // common_words

  template <class V>
  void visit(V& v) {
    v("kind", kind,
      "passkey, single, multi_key, multi_value, multi_query, variable_tracking, common_words");
    v("haystack", haystack, "noise (repeated sentences), text (a given file) or needles");
    v("key", key, "what keys are: number, word, uuid");
    v("value", value, "what values are: number, word, uuid");
    v("keys", keys, "needles with a key of their own, 0: by kind");
    v("values", values, "values of each key, 0: by kind");
    v("queries", queries, "keys asked for, 0: by kind");
    v("chains", chains, "variable_tracking: chains, the first is asked for");
    v("hops", hops, "variable_tracking: assignments after the first");
    v("common", common, "common_words: words to be named");
    v("common_repeats", common_repeats, "common_words: occurrences of each common word");
    v("uncommon_repeats", uncommon_repeats, "common_words: occurrences of the others");
  }
  void check(const config::Mark& mark) const;
};

struct NeedleCase {
  std::string prompt;
  std::vector<std::string> answers;
  std::string answer_prefix;  // RULER: begins the model's turn; "" where there is none
  std::int64_t tokens = 0;    // of prompt + answer_prefix
  double depth = 0.0;         // 0 start .. 1 end, where the (first) asked needle lies; -1 if spread
  std::uint64_t seed = 0;
  int max_new_tokens = 0;  // RULER's limit for the kind
};

int needle_max_new_tokens(NeedleKind kind);  // RULER's limit; 16 for the passkey

using CountTokens = std::function<std::int64_t(std::string_view)>;

// The longest prompt of at most `tokens` tokens. depth in [0, 1], or < 0 for depths drawn from the
// seed. `text` is used where spec.haystack is text (whole sentences, from its start, repeated if
// short). Error if not even the shortest prompt fits.
NeedleCase make_needle(const NeedleSpec& spec, std::int64_t tokens, double depth,
                       std::uint64_t seed, const CountTokens& count, std::string_view text = {});

// RULER: the share of the answers that stand in the prediction, letter case apart
// (string_match_all).
double score_needle_all(std::string_view prediction, const std::vector<std::string>& answers);
// RULER: 1 if any answer stands in the prediction (string_match_part).
double score_needle_part(std::string_view prediction, const std::vector<std::string>& answers);
// passkey: the first run of digits of the prediction is the answer.
double score_passkey(std::string_view prediction, const std::vector<std::string>& answers);
double score_needle(NeedleKind kind, std::string_view prediction,
                    const std::vector<std::string>& answers);

}  // namespace vi::eval
