// The honesty table: what stands in a cell, and that README shows what the committed files say.
#include "pipeline/report/honesty.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/common/file.h"

namespace vi::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

HonestyInput::Line line(const std::string& file, const std::string& experiment, const std::string& method, double bits, const std::string& task,
                        const std::string& metric, double score) {
  return {file, Json{{"experiment", experiment}, {"model", "m"}, {"method", method}, {"bits_total", bits}, {"task", task}, {"metric", metric},
                     {"mode", "window"}, {"score", score}, {"n", 10}, {"protocol", {{"windows", 4}, {"window", 2048}}}}};
}

HonestyInput example() {
  HonestyInput input;
  input.presets = {{"fp16", {}}, {"vecinfer-2", {true, "K-d4b8/V-d4b8 shared"}}, {"kivi-2", {}}, {"vecinfer-1", {true, "K-d8b8/V-d8b8 shared"}}};
  input.kernels = {Json{{"case", "K-d4b8/V-d4b8 shared 16x16384"}, {"kernel", "lookup"}, {"ms", 0.0709}},
                   Json{{"case", "dense head_dim 128 16x16384"}, {"kernel", "dense_f16"}, {"ms", 0.3852}}};
  input.results = {line("a.jsonl", "wikitext2", "fp16", 16, "perplexity-window", "perplexity", 10.0),
                   line("a.jsonl", "wikitext2", "vecinfer-2", 2.05, "perplexity-window", "perplexity", 11.254),
                   line("b.jsonl", "q", "kivi-2", 3.05, "perplexity-window", "perplexity", 12.0),
                   line("b.jsonl", "lb", "fp16", 16, "longbench/trec", "classification", 0.5), line("b.jsonl", "lb", "fp16", 16, "longbench/qasper", "qa_f1", 0.3),
                   line("b.jsonl", "lb", "kivi-2", 3.05, "longbench/trec", "classification", 0.25),
                   line("b.jsonl", "lb", "fp16", 16, "longbench/paper13", "mean", 0.9), line("b.jsonl", "lb", "vecinfer-1", 1.06, "passkey", "needle", 0.75)};
  for (const int seed : {0, 1, 1}) {  // the last line of a seed stands
    input.results.push_back(line("b.jsonl", "m", "fp16", 16, "math/gsm8k", "math", seed ? 0.4 : 0.2));
    input.results.back().row["seed"] = seed;
  }
  return input;
}

TEST(Honesty, EachCellIsMeasuredOrADash) {
  const std::string text = honesty_markdown(example());
  EXPECT_THAT(text, HasSubstr("| 16 | fp16 | 16.00 | 10.00 | - | - | 40.0 | 30.0 | 0.385 (dense) |\n"));  // the mean row is made of others
  EXPECT_THAT(text, HasSubstr("| above 2 | kivi-2 | 3.05 | - | 12.00 | - | - | - | simulated |\n"));    // one of two tasks: no mean
  EXPECT_THAT(text, HasSubstr("| 2 | vecinfer-2 | 2.05 | 11.25 | - | - | - | - | 0.071 |\n"));
  EXPECT_THAT(text, HasSubstr("| 1 | vecinfer-1 | 1.06 | - | - | 75.0 | - | - | - |\n"));               // fused, not measured
  EXPECT_THAT(text, HasSubstr("mathematics, %: b.jsonl (m; 1 tasks, 4 windows of 2048 tokens, means of up to 2 seeds)"));
  EXPECT_THAT(text, HasSubstr("WikiText-2 perplexity: a.jsonl (wikitext2; 4 windows of 2048 tokens)"));
}

TEST(Honesty, AColumnShowsOneExperiment) {
  HonestyInput input = example();
  // Another run of fewer methods does not mix in; one of more takes the column.
  input.results.push_back(line("z.jsonl", "wikitext2-other", "fp16", 16, "perplexity-window", "perplexity", 99.0));
  EXPECT_THAT(honesty_markdown(input), Not(HasSubstr("99.00")));
  for (const char* method : {"vecinfer-2", "vecinfer-1"}) input.results.push_back(line("z.jsonl", "wikitext2-other", method, 2.05, "perplexity-window", "perplexity", 98.0));
  const std::string text = honesty_markdown(input);
  EXPECT_THAT(text, HasSubstr("99.00"));
  EXPECT_THAT(text, Not(HasSubstr("11.25")));
  // Ablation rows, broken rows and other metrics are passed over.
  input.results.push_back(line("z.jsonl", "x", "my variant", 2.0, "perplexity-window", "perplexity", 97.0));
  input.results.push_back({"z.jsonl", Json{{"bits_total", 2}}});
  EXPECT_EQ(honesty_markdown(input), text);
}

TEST(Honesty, ReadmeShowsWhatTheFilesSay) {
  const std::string readme = read_file(VI_SOURCE_DIR "/README.md");
  const std::string from = "<!-- honesty -->\n", to = "<!-- /honesty -->";
  const std::size_t begin = readme.find(from), end = readme.find(to);
  ASSERT_NE(begin, std::string::npos);
  ASSERT_NE(end, std::string::npos);
  EXPECT_EQ(readme.substr(begin + from.size(), end - begin - from.size()), honesty_markdown(read_honesty(VI_SOURCE_DIR)))
      << "make honesty puts the new table into README.md";
}

}  // namespace
}  // namespace vi::report
