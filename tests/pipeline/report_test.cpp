// The report page: the table, and that a browser opens the page without a complaint.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "core/common/file.h"
#include "pipeline/report/page.h"
#include "pipeline/report/plot.h"
#include "pipeline/report/roofline.h"
#include "pipeline/results.h"
#include "tests/support/process.h"

namespace vi::report {
namespace {

Json line(const std::string& method, const std::string& task, double bits, double score) {
  return Json{{"experiment", "t"}, {"model", "m"}, {"method", method}, {"key_bits", bits}, {"value_bits", bits}, {"bits_total", bits},
              {"bits_at", 32768}, {"codebook_bytes", 1 << 20}, {"mode", "window"}, {"task", task}, {"task_version", 1},
              {"metric", "perplexity"}, {"score", score}, {"n", 100}, {"stderr", nullptr}, {"codebook_marked", method == "plain-2"}};
}

Content example() {
  Content content;
  content.experiment = "a <b> & \"c\"";
  content.results = {line("fp16", "ppl", 16, 11.5), line("plain-2", "ppl", 2.05, 12.5), line("smooth-2", "ppl", 2.05, 12.7),
                     line("hadamard-2", "ppl", 2.05, 13.25), line("vecinfer-2", "ppl", 2.05, 12.45)};
  content.metrics["plain-2\tppl"] = Json{{"key_error", {0.1, 0.2, 0.15}}, {"value_error", {0.2, 0.3, 0.25}}};
  content.outliers = Json{{"layer", 1}, {"stages", {Json{{"name", "as the model makes them"}, {"absmax", {1.0, 9.0, 2.0}}}}}};
  content.memory = Json::array({Json{{"method", "fp16"}, {"points", {{1024, 10.0}, {2048, 20.0}}}}});
  content.timings = {Json{{"name", "d4b8"}, {"kv_len", 1024}, {"ms", 0.5}}, Json{{"name", "d4b8"}, {"kv_len", 2048}, {"ms", 0.9}}};
  return content;
}

TEST(Report, TableHasOneRowAMethod) {
  const Table table = result_table(example());
  EXPECT_EQ(table.header, (std::vector<std::string>{"method", "K bits", "V bits", "total", "codebook MiB", "fidelity", "ppl"}));
  ASSERT_EQ(table.rows.size(), 5u);
  EXPECT_EQ(table.rows[1], (std::vector<std::string>{"plain-2", "2.05", "2.05", "2.05", "1.00*", "", "12.50"}));
  EXPECT_NE(table.text().find("plain-2"), std::string::npos);
}

TEST(Report, PageEscapesAndSaysTheOrderFound) {
  if (!gnuplot_available()) GTEST_SKIP() << "gnuplot is not installed (make setup)";
  const std::string html = html_page(example());
  EXPECT_NE(html.find("a &lt;b&gt; &amp; &quot;c&quot;"), std::string::npos);
  EXPECT_NE(html.find("smooth then Hadamard (VecInfer) (12.45), plain VQ (12.50), smooth (12.70), Hadamard (13.25)"), std::string::npos);
  std::size_t plots = 0;
  for (std::size_t at = html.find("<svg"); at != std::string::npos; at = html.find("<svg", at + 1)) ++plots;
  EXPECT_EQ(plots, 6u);  // perplexity, outliers, two errors, memory, timings
  EXPECT_EQ(html, html_page(example()));
}

TEST(Report, RooflineIsTheCopysTime) {
  const auto row = [](const char* name, double bytes, double ms) {
    return Json{{"contender", name}, {"bytes", bytes}, {"ms", ms}, {"copy_gb_s", 2000.0}};
  };
  EXPECT_TRUE(roofline_plots(example().timings).empty());  // no bytes
  const auto plots = roofline_plots({row("a", 4e9, 3), row("b", 1e9, 0.6), row("a", 2e9, 1.5), Json{{"contender", "a"}, {"skipped", "memory"}}});
  ASSERT_EQ(plots.size(), 1u);
  const auto& series = plots[0].series;
  ASSERT_EQ(series.size(), 3u);
  EXPECT_EQ(series[0].points, (std::vector<std::pair<double, double>>{{2000, 1.5}, {4000, 3}}));
  EXPECT_EQ(series[2].points, (std::vector<std::pair<double, double>>{{1000, 0.5}, {4000, 2}}));
  if (!gnuplot_available()) GTEST_SKIP() << "gnuplot is not installed (make setup)";
  Content content = example();
  content.timings = {row("d4b8", 2e9, 1.5)};
  content.timings[0]["name"] = "d4b8";
  EXPECT_NE(html_page(content).find("copy, 2000 GB/s"), std::string::npos);
}

TEST(Report, OpensInABrowserWithoutAnError) {
  if (!gnuplot_available()) GTEST_SKIP() << "gnuplot is not installed (make setup)";
  if (std::system("command -v chromium >/dev/null 2>&1") != 0) GTEST_SKIP() << "chromium is not installed (apt-get install chromium)";
  const test::Scratch scratch;
  write_file_atomic(scratch.path() / "report.html", html_page(example()));
  const std::string command = "cd '" + scratch.path().string() +
                              "' && HOME=. timeout 60 chromium --headless --no-sandbox --disable-gpu --enable-logging=stderr --v=0 "
                              "--screenshot=page.png --window-size=1200,2400 report.html > log 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0) << read_file(scratch.path() / "log");
  EXPECT_EQ(read_file(scratch.path() / "log").find("CONSOLE"), std::string::npos) << read_file(scratch.path() / "log");
  EXPECT_GT(std::filesystem::file_size(scratch.path() / "page.png"), 10000u);
}

TEST(Results, ReplaceTheLinesOfTheirExperimentOnly) {
  const test::Scratch scratch;
  const auto path = scratch.path() / "results.jsonl";
  pipeline::publish_results(path, "a", {{Json{{"experiment", "a"}, {"score", 1}}, {}}});
  pipeline::publish_results(path, "b", {{Json{{"experiment", "b"}, {"score", 2}}, {}}});
  pipeline::publish_results(path, "a", {{Json{{"experiment", "a"}, {"score", 3}}, {}}});
  EXPECT_EQ(read_file(path), "{\"experiment\":\"b\",\"score\":2}\n{\"experiment\":\"a\",\"score\":3}\n");
}

}  // namespace
}  // namespace vi::report
