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
  EXPECT_EQ(count[8], 3 * 4);
  ASSERT_EQ(mean.size(), 33u);
  for (const auto& [row, total] : sum) EXPECT_NEAR(total / 13, mean.at(row), 0.13) << row;  // the printed means are rounded twice in places
}

TEST(Paper, EachCellIsMarked) {
  const auto cells = read_paper(kPaper);
  const std::vector<Json> results{result("fp16", "longbench/qasper", 0.459), result("vecinfer-2", "longbench/qasper", 0.45),
                                  result("vecinfer-2", "longbench/trec", 0.5), result("vecinfer-2", "longbench/lcc", 0.5, 0.1)};
  const auto comparisons = compare_with_paper(cells, results, {"llama-3.1-8b-instruct"});
  ASSERT_EQ(comparisons.size(), 2u);  // Tables 2 and 8
  EXPECT_EQ(comparisons[0].count[0], 1);
  EXPECT_EQ(comparisons[0].count[1], 1);
  EXPECT_EQ(comparisons[0].count[2], 2);
  EXPECT_EQ(comparisons[0].count[3], 11 * 14 - 4);
  const std::string text = comparisons[0].text();
  EXPECT_THAT(text, HasSubstr("1 reproduced, 1 within tolerance, 2 differ, 150 not run"));
  for (const char* cell : {"45.9 = 45.9", "46.1 ! 45.0", "72.0 ! 50.0", "60.9 ~ 50.0", "53.7 ."}) EXPECT_THAT(text, HasSubstr(cell));
  EXPECT_EQ(comparisons[1].count[3], 4);
  EXPECT_THAT(comparison_legend(), HasSubstr("1.0 point"));
  EXPECT_TRUE(compare_with_paper(cells, results, {"another"}).empty());
  EXPECT_TRUE(read_paper("/nonexistent").empty());
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
