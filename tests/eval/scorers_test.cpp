// Metrics against the official Python's values (fixtures/scores.jsonl, made by
// make_score_fixtures.py) and the quirks that are easy to lose.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "core/common/error.h"
#include "eval/scorers/registry.h"
#include "eval/benchmark/task.h"
#include "eval/text/difflib.h"
#include "eval/text/jieba.h"
#include "eval/text/unicode.h"

namespace vi::eval {
namespace {

bool have_jieba() {
  return std::filesystem::exists(std::filesystem::path(text::kJiebaFolder) / "dict.txt");
}

double score(std::string_view metric, std::string_view prediction, std::vector<std::string> answers,
             Json record = Json::object()) {
  return find_metric(metric).score(prediction, answers, record);
}

TEST(Scorers, EqualTheOfficialScriptsOnFrozenPredictions) {
  const TaskLibrary library(VI_SOURCE_DIR "/eval/tasks");
  std::map<std::string, int> cases;
  int left_out = 0;
  double worst = 0.0;
  for_each_json_line(VI_TESTS_DIR "/eval/fixtures/scores.jsonl", [&](std::int64_t line,
                                                                     const Json& json) {
    const Task task = library.task("longbench/" + json.at("task").get<std::string>());
    if (find_metric(task.metric).needs_jieba && !have_jieba()) {
      ++left_out;
      return;
    }
    const double got = score_prediction(task, json.at("prediction").get<std::string>(),
                                        json.at("answers").get<std::vector<std::string>>(), json);
    const double difference = std::abs(got - json.at("score").get<double>());
    worst = std::max(worst, difference);
    EXPECT_LE(difference, 1e-9) << task.name << ", line " << line << ": " << got << " instead of "
                                << json.at("score");
    ++cases[task.name];
  });
  EXPECT_EQ(cases.size(), have_jieba() ? 21u : 16u);
  if (left_out > 0)
    GTEST_LOG_(INFO) << left_out << " Chinese cases left out: python3-jieba is not installed";
  GTEST_LOG_(INFO) << "largest difference from the official score: " << worst;
}

TEST(Scorers, TableHasNoTwoOfAName) {
  std::set<std::string_view> names;
  for (const Metric& metric : metrics()) {
    EXPECT_TRUE(names.insert(metric.name).second) << metric.name;
    EXPECT_EQ(&find_metric(metric.name), &metric);
    EXPECT_FALSE(metric.what.empty());
  }
}

TEST(Scorers, UnknownNameSaysTheNearest) {
  try {
    find_metric("ruoge");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'rouge'"), std::string::npos)
        << error.what();
  }
}

TEST(Scorers, EmptyInputsScoreZero) {
  for (const Metric& metric : metrics()) {
    if (metric.needs_jieba && !have_jieba()) continue;
    const Json record{{"all_classes", {"A", "B"}}};
    EXPECT_EQ(metric.score("", {}, record), 0.0) << metric.name;
    EXPECT_EQ(metric.score("text", {}, record), 0.0) << metric.name;
  }
}

TEST(Scorers, ClassificationNeedsItsClasses) {
  EXPECT_THROW(score("classification", "A", {"A"}), ContractError);
  EXPECT_THROW(score("classification", "A", {"A"}, Json{{"all_classes", "A"}}), ContractError);
  EXPECT_EQ(score("classification", "A or B", {"A"}, Json{{"all_classes", {"A", "B"}}}), 0.5);
}

TEST(Scorers, ClassificationKeepsTheLoopThatSkips) {
  // "a" and "ab" are parts of "abc"; removing "a" makes the loop pass over "ab".
  const Json record{{"all_classes", {"a", "ab", "abc"}}};
  EXPECT_EQ(score("classification", "abc", {"abc"}, record), 0.5);
}

TEST(Scorers, CodeSimilarityTakesTheFirstLineOfCode) {
  EXPECT_EQ(score("code_sim", "\n\n```python\n# note\n// note\nx = 1\ny = 2", {"x = 1"}), 1.0);
  EXPECT_EQ(score("code_sim", "# only notes", {""}), 1.0);
  EXPECT_EQ(score("code_sim", "# only notes", {"x"}), 0.0);
}

TEST(Scorers, RetrievalRefusesAnAnswerWithoutNumber) {
  EXPECT_THROW(score("retrieval", "Paragraph 1", {"first"}), ContractError);
  EXPECT_EQ(score("retrieval", "Paragraph 3, not 4", {"Paragraph 3"}), 0.5);
}

TEST(Scorers, RougePastPythonsRecursionLimitIsZero) {
  std::string line;
  for (int i = 0; i < 990; ++i) line += "w" + std::to_string(i) + " ";
  EXPECT_GT(score("rouge", line, {line}), 0.99);
  line += "last";
  EXPECT_EQ(score("rouge", line, {line}), 0.0);
}

TEST(Unicode, FollowsPython) {
  using text::to_utf32;
  EXPECT_EQ(text::to_utf8(text::lower(to_utf32("ΟΔΟΣ Σ ΑΣ. İI ẞ Ǆ"))), "οδος σ ας. i̇i ß ǆ");
  EXPECT_EQ(text::split(to_utf32("a\u00a0b\u3000c\x1f"
                                 "d\u200be"))
                .size(),
            4u);
  EXPECT_EQ(text::digit_runs(to_utf32("a1２٣b x² 45")).size(), 2u);
  EXPECT_TRUE(text::is_word(U'é') && text::is_word(U'_') && text::is_word(U'½') &&
              !text::is_word(U'-'));
  for (const char* bad :
       {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xe4\xb8", "\xf4\x90\x80\x80", "a\x80"}) {
    EXPECT_FALSE(text::is_valid_utf8(bad));
    EXPECT_NE(text::to_utf8(to_utf32(bad)).find("\xef\xbf\xbd"), std::string::npos);
  }
  EXPECT_TRUE(text::is_valid_utf8("aé中\U0001F600"));
}

TEST(Difflib, KnownRatios) {
  EXPECT_EQ(text::sequence_ratio(U"", U""), 1.0);
  EXPECT_EQ(text::sequence_ratio(U"abcd", U"bcde"), 0.75);
  // A popular character begins no match, but a match at the corner of a window grows over it.
  const std::u32string popular(300, U'x');
  EXPECT_EQ(text::sequence_ratio(U"x", popular), 2.0 / 301.0);
  EXPECT_EQ(text::sequence_ratio(U"ax", U"bb" + popular), 0.0);
  EXPECT_EQ(text::sequence_ratio(std::u32string(3, U'x'), std::u32string(199, U'x')), 6.0 / 202.0);
}

TEST(Jieba, KnownSegmentations) {
  if (!have_jieba()) GTEST_SKIP() << "install python3-jieba";
  using Words = std::vector<std::string>;
  const text::Jieba& jieba = text::shared_jieba();
  EXPECT_EQ(jieba.cut("我来到北京清华大学"), (Words{"我", "来到", "北京", "清华大学"}));
  EXPECT_EQ(jieba.cut("他来到了网易杭研大厦"), (Words{"他", "来到", "了", "网易", "杭研", "大厦"}));
  EXPECT_EQ(jieba.cut(""), Words{});
  EXPECT_EQ(jieba.cut("a\r\n b"), (Words{"a", "\r\n", " ", "b"}));
  for (const std::string text : {"中a\xff\xe4国", "𠀀。%3.5%x"}) {
    std::string joined;
    for (const std::string& word : jieba.cut(text)) joined += word;
    EXPECT_EQ(joined, text::to_utf8(text::to_utf32(text)));
  }
}

TEST(Jieba, MissingDataNameThePackage) {
  try {
    text::Jieba("/nonexistent");
    FAIL();
  } catch (const ContractError& error) {
    EXPECT_NE(std::string(error.what()).find("python3-jieba"), std::string::npos);
  }
}

}  // namespace
}  // namespace vi::eval
