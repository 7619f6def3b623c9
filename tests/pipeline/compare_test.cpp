// The paper's tables as data, and the marks of a comparison.
#include "pipeline/report/paper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>

#include "core/common/error.h"

namespace vi::report {
namespace {

using ::testing::HasSubstr;

const std::string kPaper = VI_SOURCE_DIR "/results/reference/paper";

Json result(const std::string& method, const std::string& task, double score, Json error = nullptr) {
  return Json{{"model", "llama-3.1-8b-instruct"}, {"method", method}, {"task", task}, {"score", score}, {"stderr", error}};
}

TEST(Agreement, HasThreeGrades) {
  EXPECT_EQ(agreement(46.14, {}, 46.1), Agreement::reproduced);
  EXPECT_EQ(agreement(46.16, {}, 46.1), Agreement::within);
  EXPECT_EQ(agreement(45.1, {}, 46.1), Agreement::within);
  EXPECT_EQ(agreement(45.0, {}, 46.1), Agreement::differs);
  EXPECT_EQ(agreement(40.0, 3.1, 46.1), Agreement::within);
  EXPECT_EQ(agreement(40.0, 3.0, 46.1), Agreement::differs);
}

TEST(Paper, TablesAreWholeAndTheirMeansAgree) {
  const auto cells = read_paper(kPaper);
  std::map<int, int> count;
  std::map<std::string, double> sum, mean;
  for (const PaperCell& cell : cells) {
    ++count[cell.table];
    if (cell.table != 2) continue;
    (cell.task == "longbench/paper13" ? mean : sum)[cell.model + " " + cell.method] += cell.score;
  }
  EXPECT_EQ(count[2], 3 * 11 * 14);
  EXPECT_EQ(count[3], 3 * 10 * 4);
  EXPECT_EQ(count[4], 2 * 5 * 7);
  EXPECT_EQ(count[5], 6 * 7 + 6);
  EXPECT_EQ(count[6], 6);
  EXPECT_EQ(count[7], 5 * 2);
  EXPECT_EQ(count[8], 3 * 4);
  ASSERT_EQ(mean.size(), 33u);
  for (const auto& [row, total] : sum) EXPECT_NEAR(total / 13, mean.at(row), 0.13) << row;  // the printed means are rounded twice in places
}

TEST(Paper, EachCellIsMarked) {
  const auto cells = read_paper(kPaper);
  const std::vector<Json> results{result("fp16", "longbench/qasper", 0.459), result("vecinfer-2", "longbench/qasper", 0.45),
                                  result("vecinfer-2", "longbench/trec", 0.5), result("vecinfer-2", "longbench/lcc", 0.5, 0.1)};
  const auto comparisons = compare_with_paper(cells, results, {"llama-3.1-8b-instruct"});
  ASSERT_EQ(comparisons.size(), 6u);  // Tables 2, 4 to 8
  EXPECT_EQ(comparisons[0].count[0], 1);
  EXPECT_EQ(comparisons[0].count[1], 1);
  EXPECT_EQ(comparisons[0].count[2], 2);
  EXPECT_EQ(comparisons[0].count[3], 11 * 14 - 4);
  const std::string text = comparisons[0].text();
  EXPECT_THAT(text, HasSubstr("1 reproduced, 1 within tolerance, 2 differ, 150 not run"));
  for (const char* cell : {"45.9 = 45.9", "46.1 ! 45.0", "72.0 ! 50.0", "60.9 ~ 50.0", "53.7 ."}) EXPECT_THAT(text, HasSubstr(cell));
  EXPECT_EQ(comparisons.back().count[3], 4);
  EXPECT_THAT(comparison_legend(), HasSubstr("1.0 point"));
  EXPECT_TRUE(compare_with_paper(cells, results, {"another"}).empty());
  EXPECT_TRUE(read_paper("/nonexistent").empty());
}

TEST(Paper, AnotherModelStandsBesideWithoutAVerdict) {
  const auto cells = read_paper(kPaper);
  std::vector<Json> results{result("vecinfer-1.5", "longbench/paper13", 0.123), result("vecinfer-1.5", "longbench/paper_sum", 0.2)};
  for (Json& line : results) line["model"] = "small";
  const auto texts = comparison_texts(cells, results, "small", {4});
  ASSERT_EQ(texts.size(), 2u);  // the table of the paper's first model, the legend
  EXPECT_THAT(texts[0], HasSubstr("Table 4 of the paper, llama-3.1-8b-instruct: 0 reproduced, 0 within tolerance, 0 differ, 35 not run; in brackets small"));
  EXPECT_THAT(texts[0], HasSubstr("27.7 (20.0)"));
  EXPECT_THAT(texts[0], HasSubstr("51.8 (12.3)"));
  EXPECT_THAT(texts[0], HasSubstr("46.1 ."));
  EXPECT_THAT(comparison_texts(cells, results, "small", {}).at(0), HasSubstr("no row of model small"));
  EXPECT_TRUE(comparison_texts(cells, results, "small", {3}).empty());
  for (Json& line : results) line["model"] = "qwen2.5-14b-instruct";
  EXPECT_THAT(comparison_texts(cells, results, "qwen2.5-14b-instruct", {4}).at(0), HasSubstr("Table 4 of the paper, qwen2.5-14b-instruct: 0 reproduced, 0 within tolerance, 2 differ, 33 not run"));
}

TEST(Paper, BadLinesAreNamed) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "vi_compare_test";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "t.jsonl") << "{\"paper\":\"x\"}\n{\"table\":2,\"model\":\"m\",\"method\":\"f\",\"label\":\"l\",\"task\":\"t\",\"score\":\"1\"}\n";
  EXPECT_THAT([&] { read_paper(folder); }, ::testing::ThrowsMessage<ContractError>(HasSubstr("t.jsonl:2:score: has the wrong type")));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace vi::report
