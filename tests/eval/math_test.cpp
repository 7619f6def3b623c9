// Mathematical answers: extraction, normal form, equality; pairs in fixtures/math_pairs.jsonl
// (make_math_pairs.py), hostile input, and MATH-500's own solutions where ../shared is present.
#include <gtest/gtest.h>

#include <filesystem>

#include "core/common/json.h"
#include "core/common/rng.h"
#include "eval/math/answer.h"
#include "eval/math/value.h"
#include "eval/benchmark/task.h"

namespace vi::eval::math {
namespace {

const std::filesystem::path kShared = VI_SOURCE_DIR "/../shared/data";

TEST(MathAnswers, AgreeWithTheExpectedVerdicts) {
  int pairs = 0;
  for_each_json_line(
      VI_TESTS_DIR "/eval/fixtures/math_pairs.jsonl", [&](std::int64_t line, const Json& json) {
        const auto prediction = json.at("prediction").get<std::string>(),
                   answer = json.at("answer").get<std::string>();
        const Verdict verdict = judge(prediction, answer);
        EXPECT_EQ(verdict.equal, json.at("equal").get<bool>())
            << "line " << line << ": " << prediction << " | " << answer << "; extracted "
            << verdict.extracted.value_or("nothing") << ", normal forms "
            << normalise(verdict.extracted.value_or("")) << " | " << normalise(answer);
        ++pairs;
      });
  EXPECT_GT(pairs, 140);
}

TEST(MathAnswers, EveryAnswerEqualsItself) {
  if (!std::filesystem::exists(kShared / "math")) GTEST_SKIP() << "no " << kShared;
  const TaskLibrary library(VI_SOURCE_DIR "/eval/tasks");
  int right = 0, all = 0;
  for (const char* name :
       {"math/math500", "math/gsm8k", "math/aime24", "math/aime25", "math/amc23"}) {
    const Task task = library.task(name);
    for (const Document& document : read_documents(task, find_task_file(task, kShared)).documents) {
      const std::string& answer = document.answers[0];
      EXPECT_TRUE(judge("Thus \\boxed{" + answer + "}.", answer).equal) << answer;
      EXPECT_TRUE(judge("The answer is $" + answer + "$.", answer).equal) << answer;
      EXPECT_TRUE(judge(answer, answer).equal) << answer;
      if (const auto solution = document.record.find("solution");
          name == std::string_view("math/math500") && solution != document.record.end()) {
        ++all;
        right += judge(solution->get<std::string>(), answer).equal;
      }
    }
  }
  GTEST_LOG_(INFO) << right << " of " << all << " worked solutions of MATH-500 are judged right";
  EXPECT_EQ(right, all);
}

TEST(MathAnswers, Extraction) {
  EXPECT_EQ(extract_answer(""), std::nullopt);
  EXPECT_EQ(extract_answer("no number"), std::nullopt);
  EXPECT_EQ(last_boxed("\\boxed{a\\{b\\}{c}}"), "a\\{b\\}{c}");
  EXPECT_EQ(last_boxed("\\boxed{1} \\boxed{cut"), "1");
  EXPECT_EQ(last_boxed("\\boxed{1} and $\\boxed{2}$"), "1,2");
  EXPECT_EQ(extract_answer("It costs $5, or $7.50."), "7.50");
  EXPECT_EQ(extract_answer("x is -3"), "-3");
  EXPECT_EQ(extract_answer("a5b with 12%"), "12%");
  // Cut inside a formula, and a fraction outside one.
  EXPECT_EQ(extract_answer("For \\( k = 1 \\) we have\n\\[\n\\frac{1}{27} - 4 = -\\frac{24}{27} ="), "-\\frac{24}{27}");
  EXPECT_EQ(extract_answer("It is \\frac{3}{4}, and so on."), "\\frac{3}{4}");
  EXPECT_EQ(extract_answer("It is \\frac{a}{4}"), "4");
  EXPECT_EQ(extract_answer("the ratio 3/4 holds"), "3/4");
}

TEST(MathValues, ExactAndNumeric) {
  EXPECT_EQ(evaluate("\\frac{6}{4}")->exact, (Rational{3, 2}));
  EXPECT_EQ(evaluate("0.25")->exact, (Rational{1, 4}));
  EXPECT_EQ(evaluate("2^{-3}")->exact, (Rational{1, 8}));
  EXPECT_EQ(evaluate("-2^2")->exact, (Rational{-4, 1}));
  EXPECT_EQ(evaluate("1/2/2")->exact, (Rational{1, 4}));
  EXPECT_EQ(evaluate("2(3+4)")->exact, (Rational{14, 1}));
  EXPECT_EQ(evaluate("\\sqrt{\\frac{9}{4}}")->exact, (Rational{3, 2}));
  EXPECT_FALSE(evaluate("1/0")->exact);
  for (const char* text : {"", "(", "1+", "\\frac{1}", "1)", "\\unknown{", "{", "5!!!!!!", "(-1)!",
                           "\\binom{1}{2}", "%"})
    EXPECT_FALSE(evaluate(text).has_value() && evaluate(text)->exact) << text;
  EXPECT_FALSE(evaluate("99^{99}")->exact);  // beyond 128 bits: a number, not a rational
}

TEST(MathAnswers, HostileInputEnds) {
  std::string nested, signs, boxes, pms;
  for (int i = 0; i < 900; ++i) {
    nested += "{(";
    signs += "-+";
    boxes += "\\boxed{";
    pms += "\\pm x,";
  }
  for (const std::string& text :
       {nested, signs, boxes, pms, "(" + pms + ")", std::string(5000, '9'),
        "9" + std::string(300, '!'), std::string("9^{9^{9^{9^9}}}"), std::string("\\frac"), std::string("\\"),
        "{" + std::string(1900, ',') + "}"}) {
    EXPECT_FALSE(equal(text, "1"));
    judge(text, text);
    judge("\\boxed{" + text + "}", "\\boxed{" + text);
  }
  constexpr std::string_view kParts[] = {"\\frac",
                                         "{",
                                         "}",
                                         "(",
                                         ")",
                                         "[",
                                         "]",
                                         "\\{",
                                         "\\}",
                                         "1",
                                         "2.5",
                                         "x",
                                         ",",
                                         "=",
                                         "<",
                                         "\\le",
                                         "^",
                                         "_",
                                         "\\pm",
                                         "\\text{a}",
                                         "\\begin{pmatrix}",
                                         "\\end{pmatrix}",
                                         "&",
                                         "\\\\",
                                         "%",
                                         "\\cup",
                                         "|",
                                         "!",
                                         "\\sqrt",
                                         "\\boxed{",
                                         "$",
                                         " ",
                                         "\xe2",
                                         "/",
                                         "-",
                                         "\\log_",
                                         "\\binom"};
  Rng rng(1);
  for (int round = 0; round < 20000; ++round) {
    std::string a, b;
    for (std::uint64_t i = rng.below(14); i > 0; --i) a += kParts[rng.below(std::size(kParts))];
    for (std::uint64_t i = rng.below(14); i > 0; --i) b += kParts[rng.below(std::size(kParts))];
    EXPECT_EQ(judge(a, b).equal, judge(a, b).equal);
  }
}

}  // namespace
}  // namespace vi::eval::math
