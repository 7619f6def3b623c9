// The paper's figures as tables: its rows, ours of the same shape, nothing where there is none.
#include "pipeline/report/figure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/process.h"

namespace vi::report {
namespace {

using ::testing::HasSubstr;

TEST(Figure, RowsAreThePapers) {
  FigureSpec spec;
  spec.name = "method";
  spec.rows = {"context", "part"};
  const std::vector<Json> paper{Json{{"context", 96}, {"part", "total"}, {"method", "paper: X"}, {"ms", 16.3}, {"speedup", 2.0}},
                                Json{{"context", 96}, {"part", "smooth"}, {"method", "paper: X"}, {"ms", 0.5}}};
  const std::vector<Json> ours{Json{{"context", 96}, {"method", "d4b8"}, {"ms", 7.0}, {"parts_ms", {{"attention", 2.0}}}},
                               Json{{"context", 128}, {"method", "d4b8"}, {"ms", 8.0}},
                               Json{{"context", 96}, {"part", "total"}, {"method", "paper: Y"}, {"ms", 1.0}, {"source", "a figure"}}};
  const Table table = figure_table(spec, paper, ours, {});
  EXPECT_EQ(table.header, (std::vector<std::string>{"context", "part", "paper: X", "d4b8, ours, committed"}));
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0], (std::vector<std::string>{"96", "total", "16.3 2.0x", "7"}));
  EXPECT_EQ(table.rows[1], (std::vector<std::string>{"96", "smooth", "0.5", "-"}));
}

// Without a GPU each figure still shows the paper's rows, says so, and is no failure.
TEST(Figure, EveryFileOfTheProjectPrints) {
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);  // a GPU would measure for minutes
  for (const int number : {5, 6, 7, 8, 9}) {
    const test::Finished got = test::run_vecinfer({"figure", fmt::format("{}/experiments/paper/fig{}.yaml", VI_SOURCE_DIR, number), "--cases", "quick"}, "/tmp");
    EXPECT_EQ(got.code, 0) << got.err;
    EXPECT_THAT(got.out, HasSubstr(fmt::format("Figure {} of the paper", number)));
    EXPECT_THAT(got.out, HasSubstr("paper: "));
    EXPECT_EQ(got.out.find(", ours, committed") != std::string::npos, number >= 6 && number <= 8);
  }
  EXPECT_EQ(test::run_vecinfer({"figure", "missing.yaml"}, "/tmp").code, 2);
}

}  // namespace
}  // namespace vi::report
