// Generated retrieval prompts: length, depth, determinism, answers present, RULER's wording and
// scoring.
#include "eval/retrieval/needle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "core/common/error.h"
#include "core/common/hash.h"
#include "core/common/json.h"

namespace vi::eval {
namespace {

// Words and single punctuation marks: near enough to a tokenizer.
std::int64_t count_tokens(std::string_view text) {
  std::int64_t n = 0;
  bool word = false;
  for (const char c : text) {
    const bool alnum = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (alnum ? !word : c != ' ') ++n;
    word = alnum;
  }
  return n;
}

NeedleSpec spec_of(NeedleKind kind, Haystack haystack = Haystack::noise) {
  NeedleSpec spec;
  spec.kind = kind;
  spec.haystack = haystack;
  return spec;
}

std::string story() {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += "Day " + std::to_string(i) +
            " was calm.\nThe crew, tired, slept! Did it rain? It did not. ";
  return text;
}

std::size_t occurrences(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1))
    ++n;
  return n;
}

TEST(Needle, FillsTheLengthAndHoldsItsAnswers) {
  const std::string text = story();
  for (const auto& [name, kind] : enum_names(NeedleKind{}))
    for (const Haystack haystack : {Haystack::noise, Haystack::text, Haystack::needles})
      for (const std::int64_t tokens : {700, 2048, 8192}) {
        const NeedleSpec spec = spec_of(kind, haystack);
        if (haystack == Haystack::needles &&
            (kind == NeedleKind::passkey || kind == NeedleKind::variable_tracking ||
             kind == NeedleKind::common_words)) {
          EXPECT_THROW(make_needle(spec, tokens, 0.5, 1, count_tokens, text), ConfigError);
          continue;
        }
        const NeedleCase made = make_needle(spec, tokens, 0.5, 7, count_tokens, text);
        EXPECT_EQ(made.tokens, count_tokens(made.prompt + made.answer_prefix));
        EXPECT_LE(made.tokens, tokens);
        EXPECT_GT(made.tokens, tokens - 64) << name;  // a word of the list stands in it three times
        ASSERT_FALSE(made.answers.empty());
        for (const std::string& answer : made.answers)
          EXPECT_NE(made.prompt.find(answer), std::string::npos) << name << " " << answer;
        EXPECT_EQ(score_needle(kind, made.answers.size() == 1 ? "It is " + made.answers[0] + "." : [&] {
                    std::string all;
                    for (const std::string& answer : made.answers) all += answer + " ";
                    return all;
                  }(), made.answers), 1.0) << name;
        EXPECT_EQ(score_needle(kind, "nothing", made.answers), 0.0);
      }
}

// RULER's lengths. Never above the length asked for, and at most 64 tokens or 0.2 % below it (the word
// lists, whose words change with their number, need the latter).
TEST(Needle, LengthsFrom4kTo128k) {
  const std::string text = story();
  for (const auto& [name, kind] : enum_names(NeedleKind{}))
    for (const std::int64_t tokens : {4096, 16384, 65536, 131072})
      for (const Haystack haystack : {Haystack::noise, Haystack::text}) {
        const NeedleCase made = make_needle(spec_of(kind, haystack), tokens, 0.5, 21, count_tokens, text);
        EXPECT_LE(made.tokens, tokens) << name;
        EXPECT_GE(made.tokens, tokens - std::max<std::int64_t>(64, tokens / 500)) << name;
        EXPECT_EQ(made.tokens, count_tokens(made.prompt + made.answer_prefix));
        for (const std::string& answer : made.answers)
          EXPECT_NE(made.prompt.find(answer), std::string::npos) << name << " " << answer;
        if (kind == NeedleKind::passkey || kind == NeedleKind::single) {
          const double at = static_cast<double>(made.prompt.find(made.answers[0])) / static_cast<double>(made.prompt.size());
          EXPECT_NEAR(at, 0.5, 0.01) << name << " " << tokens;
        }
        EXPECT_EQ(made.max_new_tokens, needle_max_new_tokens(kind));
      }
}

TEST(Needle, SameSeedSameBytesOtherSeedOtherAnswers) {
  for (const auto& [name, kind] : enum_names(NeedleKind{})) {
    const NeedleCase a = make_needle(spec_of(kind), 2000, -1, 11, count_tokens);
    const NeedleCase b = make_needle(spec_of(kind), 2000, -1, 11, count_tokens);
    const NeedleCase c = make_needle(spec_of(kind), 2000, -1, 12, count_tokens);
    EXPECT_EQ(a.prompt, b.prompt) << name;
    EXPECT_EQ(a.answers, b.answers);
    EXPECT_NE(a.answers, c.answers) << name;
  }
  // Frozen: a change of these bytes changes scores.
  const NeedleCase frozen = make_needle(spec_of(NeedleKind::passkey), 500, 0.5, 1, count_tokens);
  EXPECT_EQ(sha256_hex(frozen.prompt).substr(0, 16), "e503785cf10dca2f");
  const NeedleCase multi = make_needle(spec_of(NeedleKind::multi_key), 500, 0.5, 1, count_tokens);
  EXPECT_EQ(sha256_hex(multi.prompt).substr(0, 16), "04044ec561a89cf1");
}

TEST(Needle, DepthPlacesTheAskedOne) {
  const std::string text = story();
  for (const NeedleKind kind :
       {NeedleKind::passkey, NeedleKind::single, NeedleKind::multi_key, NeedleKind::multi_value})
    for (const Haystack haystack : {Haystack::noise, Haystack::text})
      for (const double depth : {0.0, 0.25, 0.5, 1.0}) {
        const NeedleCase made =
            make_needle(spec_of(kind, haystack), 4000, depth, 3, count_tokens, text);
        EXPECT_NEAR(made.depth, depth, 0.02);
        const auto at = static_cast<double>(made.prompt.find(made.answers[0]));
        EXPECT_NEAR(at / static_cast<double>(made.prompt.size()), depth, 0.08);
      }
}

TEST(Needle, CountsOfKeysAndValues) {
  const NeedleCase keys = make_needle(spec_of(NeedleKind::multi_key), 2000, 0.5, 1, count_tokens);
  EXPECT_EQ(occurrences(keys.prompt, "One of the special magic numbers for "), 4u);
  EXPECT_EQ(keys.answers.size(), 1u);
  const NeedleCase values =
      make_needle(spec_of(NeedleKind::multi_value), 2000, 0.5, 1, count_tokens);
  EXPECT_EQ(occurrences(values.prompt, "One of the special magic numbers for "), 4u);
  EXPECT_EQ(values.answers.size(), 4u);
  const NeedleCase queries =
      make_needle(spec_of(NeedleKind::multi_query), 2000, 0.5, 1, count_tokens);
  EXPECT_EQ(queries.answers.size(), 4u);
  EXPECT_NE(queries.prompt.find("What are all the special magic numbers for "), std::string::npos);
  EXPECT_NE(queries.answer_prefix.find(", and "), std::string::npos);
  NeedleSpec spec = spec_of(NeedleKind::multi_query);
  spec.keys = 9, spec.queries = 2, spec.values = 3;
  const NeedleCase mixed = make_needle(spec, 2000, -1, 1, count_tokens);
  EXPECT_EQ(occurrences(mixed.prompt, "One of the special magic numbers for "), 27u);
  EXPECT_EQ(std::set<std::string>(mixed.answers.begin(), mixed.answers.end()).size(), 6u);
}

TEST(Needle, VariableChainsStandInOrder) {
  NeedleSpec spec = spec_of(NeedleKind::variable_tracking);
  spec.chains = 3;
  for (const std::int64_t tokens : {250, 4000}) {
    const NeedleCase made = make_needle(spec, tokens, -1, 5, count_tokens);
    ASSERT_EQ(made.answers.size(), 5u);
    EXPECT_EQ(occurrences(made.prompt, "VAR "), 3u * (1 + 4 * 2));
    std::size_t last = 0;
    for (std::size_t i = 0; i < made.answers.size(); ++i) {
      const std::size_t at = made.prompt.find("VAR " + made.answers[i] + " = ");
      ASSERT_NE(at, std::string::npos);
      EXPECT_GE(at, last);
      last = at;
      if (i > 0) {
        EXPECT_EQ(made.prompt.substr(at + 12, 9), "VAR " + made.answers[i - 1]);
      }
    }
  }
}

TEST(Needle, CommonWordsAreTheMostFrequent) {
  for (const std::int64_t tokens : {2500, 8000, 40000}) {
    const NeedleCase made =
        make_needle(spec_of(NeedleKind::common_words), tokens, -1, 5, count_tokens);
    const std::size_t begin = made.prompt.rfind("Below is a numbered list");
    std::istringstream words(made.prompt.substr(made.prompt.find('\n', begin)));
    std::map<std::string, int> seen;
    std::string word;
    while (words >> word)
      if (!std::isdigit(static_cast<unsigned char>(word[0]))) ++seen[word];
    int least = 1 << 30, most_other = 0;
    for (const auto& [name, n] : seen) {
      const bool common =
          std::find(made.answers.begin(), made.answers.end(), name) != made.answers.end();
      if (common)
        least = std::min(least, n);
      else if (name.size() > 2 && n < 100)
        most_other = std::max(most_other, n);
    }
    EXPECT_EQ(made.answers.size(), 10u);
    EXPECT_EQ(least, tokens < 4096 ? 6 : 30);
    EXPECT_LT(most_other, least);
  }
}

TEST(Needle, WordingIsRulers) {
  const std::filesystem::path file =
      VI_SOURCE_DIR "/../shared/data/passkey/ruler_niah_multikey_3_4096.jsonl";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
  NeedleSpec spec = spec_of(NeedleKind::multi_key, Haystack::needles);
  spec.key = spec.value = NeedleValue::uuid;
  const NeedleCase made = make_needle(spec, 3000, -1, 1, count_tokens);
  // Both texts with every uuid replaced by U, and the first line, one needle and the question kept.
  const auto skeleton = [](std::string text) {
    std::string result;
    for (std::size_t i = 0; i < text.size();) {
      std::size_t end = i;
      while (end < text.size() &&
             (std::isxdigit(static_cast<unsigned char>(text[end])) || text[end] == '-'))
        ++end;
      if (end - i == 36) {
        result += 'U';
        i = end;
      } else {
        result += text[i++];
      }
    }
    const std::size_t first = result.find('\n'), second = result.find('\n', first + 1);
    return result.substr(0, second) + result.substr(result.rfind('\n'));
  };
  bool first = true;
  for_each_json_line(file, [&](std::int64_t, const Json& json) {
    if (!std::exchange(first, false)) return;
    EXPECT_EQ(skeleton(made.prompt + made.answer_prefix),
              skeleton(json.at("input").get<std::string>()));
  });
}

TEST(Needle, RefusesWhatCannotBe) {
  EXPECT_THROW(make_needle(spec_of(NeedleKind::single), 10, 0.5, 1, count_tokens), Error);
  EXPECT_THROW(
      make_needle(spec_of(NeedleKind::single, Haystack::text), 1000, 0.5, 1, count_tokens, " \n"),
      Error);
  EXPECT_THROW(make_needle(spec_of(NeedleKind::single), 1000, 1.5, 1, count_tokens), Error);
  NeedleSpec spec = spec_of(NeedleKind::multi_key);
  spec.keys = 1;
  EXPECT_THROW(make_needle(spec, 1000, 0.5, 1, count_tokens), ConfigError);
}

TEST(Needle, Scores) {
  EXPECT_EQ(score_needle_all("Alpha and BETA", {"alpha", "beta", "gamma", "delta"}), 0.5);
  EXPECT_EQ(score_needle_part("Alpha", {"alpha", "beta"}), 1.0);
  EXPECT_EQ(score_needle_part("", {"alpha"}), 0.0);
  EXPECT_EQ(score_needle_all("x", {}), 0.0);
  EXPECT_EQ(score_passkey(" 12345. Remember", {"12345"}), 1.0);
  EXPECT_EQ(score_passkey("123456", {"12345"}), 0.0);
  EXPECT_EQ(score_passkey("none", {"12345"}), 0.0);
}

}  // namespace
}  // namespace vi::eval
