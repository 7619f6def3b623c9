// Every experiment of experiments/paper on a tiny model and two made-up records a task: each cell of the paper's tables
// gets a number of ours beside it. The figures print the paper's rows and the committed measurements.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "core/common/json.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"

namespace vi::test {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

const fs::path kSource = VI_SOURCE_DIR;

class Paper : public ::testing::TestWithParam<int> {};

TEST_P(Paper, EveryColumnOfTheTableFills) {
  const Scratch scratch;
  const fs::path& folder = scratch.path();
  write_tiny_model(folder / "model");
  write_text(folder / "calibration.txt", 2000, 11);
  const std::string table = std::to_string(GetParam());
  std::vector<std::string> words{GetParam() == 7 ? "sweep" : "run", (kSource / "experiments/paper" / ("table" + table + ".yaml")).string(),
                                 "--model", (folder / "model").string(), "--data", (kSource / "tests/fixtures/records").string(),
                                 "--store", "store", "--limit", "2"};
  // Small enough for a test: few tokens to train on, short answers.
  for (const char* set : {"calibration.seq_len=64", "calibration.sequences=2", "calibration.tokens=128", "calibration.probes=16", "codebook.iterations=2",
                          "codebook.max_points=2048", "evaluate.0.max_new_tokens=2"})
    words.insert(words.end(), {"--set", set});
  if (GetParam() != 7) words.insert(words.end(), {"--set", "calibration.files=[calibration.txt]"});
  const Finished got = run_vecinfer(words, folder);
  ASSERT_EQ(got.code, 0) << got.err;
  const std::size_t at = got.out.find("Table " + table + " of the paper");
  ASSERT_NE(at, std::string::npos) << got.out;
  const std::string shown = got.out.substr(at, got.out.find("\n\n", at) - at);
  EXPECT_EQ(shown.find(" ."), std::string::npos) << shown;  // a cell without ours
  // As many filled cells as the paper's table has for its first model.
  std::string model;
  std::ptrdiff_t cells = 0;
  for_each_json_line(kSource / "results/reference/paper" / ("table" + table + ".jsonl"), [&](std::int64_t, const Json& line) {
    if (line.contains("paper")) return;
    if (model.empty()) model = line.at("model");
    cells += line.at("model") == model;
  });
  const std::regex cell(R"([0-9.]+ \([0-9.]+\))");
  EXPECT_EQ(std::distance(std::sregex_iterator(shown.begin(), shown.end(), cell), std::sregex_iterator()), cells) << shown;
  EXPECT_THAT(shown, HasSubstr("in brackets model, another model, without a verdict"));
}

INSTANTIATE_TEST_SUITE_P(Table, Paper, ::testing::Range(2, 9), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace vi::test
