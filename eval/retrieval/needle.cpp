// The passkey prompt and RULER's "needle in a haystack" prompts; ruler.cpp has the other kinds.
#include "eval/retrieval/needle.h"

#include <algorithm>
#include <cmath>

#include "core/common/error.h"
#include "eval/retrieval/needle_parts.h"

namespace vi::eval {
namespace {

using namespace detail;

constexpr std::size_t kMostUnits = std::size_t{1} << 24;
constexpr int kDepths = 40;  // RULER draws from this many even depths

std::string join(const std::vector<std::string>& parts, std::string_view glue) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += glue;
    text += parts[i];
  }
  return text;
}

NeedleSpec resolved(NeedleSpec spec) {
  using enum NeedleKind;
  if (spec.values == 0) spec.values = spec.kind == multi_value ? 4 : 1;
  if (spec.queries == 0) spec.queries = spec.kind == multi_query ? 4 : 1;
  if (spec.keys == 0)
    spec.keys = spec.kind == multi_key && spec.haystack != Haystack::needles ? 4 : 1;
  spec.keys = std::max(spec.keys, spec.queries);
  return spec;
}

// A built prompt before it is known to fit.
struct Draft {
  std::string prompt;
  double depth = -1.0;
};

struct Needles {
  std::vector<std::string> lines;  // shuffled
  std::size_t asked = 0;           // the line that `depth` places
  std::vector<std::string> queries, answers;
};

std::string value_word(NeedleValue kind, bool plural) {
  const std::string word = kind == NeedleValue::number ? "number"
                           : kind == NeedleValue::word ? "word"
                                                       : "uuid";
  return plural ? word + "s" : word;
}

std::string needle_line(const NeedleSpec& spec, const std::string& key, const std::string& value) {
  return "One of the special magic " + value_word(spec.value, true) + " for " + key +
         " is: " + value + ".";
}

Needles draw_needles(const NeedleSpec& spec, Rng& rng, std::vector<std::string>& taken_keys,
                     std::vector<std::string>& taken_values) {
  const auto keys = random_values(spec.key, static_cast<std::size_t>(spec.keys), rng, taken_keys);
  std::vector<std::vector<std::string>> values;
  Needles needles;
  for (const std::string& key : keys) {
    values.push_back(
        random_values(spec.value, static_cast<std::size_t>(spec.values), rng, taken_values));
    for (const std::string& value : values.back())
      needles.lines.push_back(needle_line(spec, key, value));
  }
  std::vector<std::size_t> order(keys.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  shuffle(order, rng);
  order.resize(static_cast<std::size_t>(spec.queries));
  for (const std::size_t i : order) {
    needles.queries.push_back(keys[i]);
    needles.answers.insert(needles.answers.end(), values[i].begin(), values[i].end());
  }
  const std::string first = needle_line(spec, needles.queries[0], needles.answers[0]);
  shuffle(needles.lines, rng);
  needles.asked = static_cast<std::size_t>(
      std::find(needles.lines.begin(), needles.lines.end(), first) - needles.lines.begin());
  return needles;
}

// Where each needle goes among `n` units: the asked one at `depth`, the others at depths of their
// own.
std::vector<std::size_t> places(const Needles& needles, std::size_t n, double depth, Rng& rng) {
  std::vector<std::size_t> steps(kDepths);
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i] = i;
  shuffle(steps, rng);
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < needles.lines.size(); ++i) {
    const double own = static_cast<double>(steps[i % steps.size()]) / (kDepths - 1);
    const double at = i == needles.asked && depth >= 0.0 ? depth : own;
    result.push_back(static_cast<std::size_t>(std::floor(at * static_cast<double>(n) + 0.5)));
  }
  return result;
}

std::string insert_at(std::vector<std::string> units, const Needles& needles,
                      const std::vector<std::size_t>& where, std::string_view glue) {
  std::vector<std::size_t> order(needles.lines.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return where[a] > where[b]; });
  for (const std::size_t i : order)
    units.insert(units.begin() + static_cast<std::ptrdiff_t>(where[i]), needles.lines[i]);
  return join(units, glue);
}

NeedleCase make_ruler_needle(const NeedleSpec& spec, std::int64_t tokens, double depth,
                             std::uint64_t seed, const CountTokens& count, std::string_view text) {
  const std::vector<std::string_view> words = words_of(text);
  if (spec.haystack == Haystack::text && words.empty())
    fail("haystack: text needs a text that is not empty");
  NeedleCase result;
  result.seed = seed;
  result.max_new_tokens = needle_max_new_tokens(spec.kind);
  const bool one = spec.queries * spec.values == 1;
  const std::string what = value_word(spec.value, !one);
  const auto build = [&](std::size_t n) {
    Rng rng(seed);
    std::vector<std::string> taken_keys, taken_values;
    const Needles needles = draw_needles(spec, rng, taken_keys, taken_values);
    result.answers = needles.answers;
    const std::string query = enumerate(needles.queries);
    result.answer_prefix = " The special magic " + what + " for " + query +
                           " mentioned in the provided text " + (one ? "is" : "are");
    Rng place_rng(seed ^ 0x9d2c5680u);  // depths do not depend on the length
    std::vector<std::string> units;
    if (spec.haystack == Haystack::text) {
      units = sentences_of(first_words(words, n));
    } else if (spec.haystack == Haystack::noise) {
      units.assign(n, std::string(kNoise));
    } else {
      const auto keys = random_values(spec.key, n, rng, taken_keys);
      const auto values = random_values(spec.value, n, rng, taken_values);
      for (std::size_t i = 0; i < n; ++i) units.push_back(needle_line(spec, keys[i], values[i]));
    }
    const std::size_t n_units = units.size();
    const auto where = places(needles, n_units, depth, place_rng);
    const std::string context =
        insert_at(std::move(units), needles, where, spec.haystack == Haystack::text ? " " : "\n");
    Draft draft;
    draft.prompt =
        (one ? "A special magic " + what + " is" : "Some special magic " + what + " are") +
        " hidden within the following text. Make sure to memorize it. I will quiz you about the " +
        what + " afterwards.\n" + context + "\n" +
        (one ? "What is the special magic " : "What are all the special magic ") + what + " for " +
        query + " mentioned in the provided text?";
    if (one || depth >= 0.0)
      draft.depth = n_units == 0
                        ? 0.0
                        : static_cast<double>(where[needles.asked]) / static_cast<double>(n_units);
    return draft;
  };
  const auto count_draft = [&](std::size_t n) {
    return count(build(n).prompt + result.answer_prefix);
  };
  const std::size_t most = spec.haystack == Haystack::needles && (spec.key == NeedleValue::word ||
                                                                  spec.value == NeedleValue::word)
                               ? most_words() / 3
                               : kMostUnits;
  Draft draft = build(largest_fit(1, most, tokens, count_draft));
  result.prompt = std::move(draft.prompt);
  result.depth = draft.depth;
  result.tokens = count(result.prompt + result.answer_prefix);
  return result;
}

NeedleCase make_passkey(const NeedleSpec& spec, std::int64_t tokens, double depth,
                        std::uint64_t seed, const CountTokens& count, std::string_view text) {
  Rng rng(seed);
  const std::string key = std::to_string(10'000 + rng.below(90'000));
  if (depth < 0.0) depth = static_cast<double>(rng.below(kDepths)) / (kDepths - 1);
  const std::vector<std::string_view> words = words_of(text);
  if (spec.haystack == Haystack::text && words.empty())
    fail("haystack: text needs a text that is not empty");
  NeedleCase result;
  result.answers = {key};
  result.seed = seed;
  result.answer_prefix = " The pass key is";
  result.max_new_tokens = needle_max_new_tokens(spec.kind);
  Needles needles;
  needles.lines = {"The pass key is " + key + ". Remember it. " + key + " is the pass key."};
  const auto build = [&](std::size_t n) {
    std::vector<std::string> units(n, std::string(kNoise));
    if (spec.haystack == Haystack::text) units = sentences_of(first_words(words, n));
    const std::size_t n_units = units.size();
    const auto where =
        static_cast<std::size_t>(std::floor(depth * static_cast<double>(n_units) + 0.5));
    result.depth = n_units == 0 ? 0.0 : static_cast<double>(where) / static_cast<double>(n_units);
    return "There is an important info hidden inside a lot of irrelevant text. Find it and "
           "memorize it. I will "
           "quiz you about the important information there.\n" +
           insert_at(std::move(units), needles, {where},
                     spec.haystack == Haystack::text ? " " : "\n") +
           "\nWhat is the pass key?";
  };
  const auto tokens_of = [&](std::size_t n) { return count(build(n) + result.answer_prefix); };
  result.prompt = build(largest_fit(1, kMostUnits, tokens, tokens_of));
  result.tokens = count(result.prompt + result.answer_prefix);
  return result;
}

}  // namespace

int needle_max_new_tokens(NeedleKind kind) {
  switch (kind) {
    case NeedleKind::passkey:
      return 16;
    case NeedleKind::variable_tracking:
      return 30;
    case NeedleKind::common_words:
      return 120;
    default:
      return 128;
  }
}

void NeedleSpec::check(const config::Mark& mark) const {
  using config::config_fail;
  const auto need = [&](bool good, const char* message) {
    if (!good) config_fail(mark, "{}", message);
  };
  need(keys >= 0 && keys <= 1000, "keys: expected 0 (by kind) to 1000");
  need(values >= 0 && values <= 1000, "values: expected 0 (by kind) to 1000");
  need(queries >= 0 && queries <= 1000, "queries: expected 0 (by kind) to 1000");
  need(chains >= 1 && chains <= 100, "chains: expected 1 to 100");
  need(hops >= 1 && hops <= 100, "hops: expected 1 to 100");
  need(common >= 1 && common <= 100, "common: expected 1 to 100");
  need(common_repeats > uncommon_repeats && uncommon_repeats >= 1,
       "common_repeats: expected more than uncommon_repeats, which is 1 or more");
  const bool lists = kind == NeedleKind::variable_tracking || kind == NeedleKind::common_words ||
                     kind == NeedleKind::passkey;
  need(!(lists && haystack == Haystack::needles), "haystack: needles is for keys and values only");
  need(kind != NeedleKind::multi_key || haystack == Haystack::needles || keys != 1,
       "keys: multi_key needs 2 or more");
}

NeedleCase make_needle(const NeedleSpec& given, std::int64_t tokens, double depth,
                       std::uint64_t seed, const CountTokens& count, std::string_view text) {
  VI_CHECK(tokens > 0 && depth <= 1.0, "tokens {}, depth {}", tokens, depth);
  given.check({});
  const NeedleSpec spec = resolved(given);
  switch (spec.kind) {
    case NeedleKind::passkey:
      return make_passkey(spec, tokens, depth, seed, count, text);
    case NeedleKind::variable_tracking:
      return make_variable_tracking(spec, tokens, seed, count, text);
    case NeedleKind::common_words:
      return make_common_words(spec, tokens, seed, count);
    default:
      return make_ruler_needle(spec, tokens, depth, seed, count, text);
  }
}

}  // namespace vi::eval
