// The report page: the table, and that a browser opens the page without a complaint.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "core/common/error.h"
#include "core/common/file.h"
#include "pipeline/report/heatmap.h"
#include "pipeline/report/page.h"
#include "pipeline/report/plot.h"
#include "pipeline/report/ranking.h"
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

// Five tasks on which a always beats b by a little and c is far behind; one that c has not.
Content ranked() {
  Content content;
  for (int t = 0; t < 6; ++t)
    for (const auto& [method, score] : {std::pair{"a", 0.8}, {"b", 0.7}, {"c", 0.1}}) {
      Json one = line(method, fmt::format("task{}", t), 2, score);
      one["metric"] = "qa_f1";
      content.results.push_back(one);
      if (t == 5 && std::string(method) == "c") continue;
      for (int i = 0; i < 20; ++i) content.samples[fmt::format("{}\ttask{}", method, t)].push_back(score + (i % 4 == t % 4 ? (method[0] == 'b' ? 0.3 : -0.2) : 0));
    }
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

TEST(Ranking, MeanRanksIntervalsAndTheCriticalDifference) {
  const Content content = ranked();
  const Ranking ranking = rank_methods(content.results, content.samples);
  ASSERT_EQ(ranking.rows.size(), 3u);
  EXPECT_EQ(ranking.tasks, 5);
  EXPECT_EQ(ranking.left_out, 1);
  // a: 0.8 - 0.05, b: 0.7 + 0.075: b is first by the numbers, c last in every resample.
  EXPECT_EQ(ranking.rows[0].method, "b");
  EXPECT_DOUBLE_EQ(ranking.rows[0].rank, 1);
  EXPECT_EQ(ranking.rows[2].method, "c");
  EXPECT_DOUBLE_EQ(ranking.rows[2].low, 3);
  EXPECT_DOUBLE_EQ(ranking.rows[2].high, 3);
  EXPECT_GT(ranking.rows[0].high, 1);  // a and b overlap when records are drawn again
  EXPECT_LT(ranking.rows[1].low, 2);
  EXPECT_DOUBLE_EQ(ranking.friedman, 10);                                  // 12 * 5 / (3 * 4) * (14 - 12)
  EXPECT_NEAR(ranking.critical.value(), 2.343 * std::sqrt(12.0 / 30), 1e-12);
  EXPECT_NE(ranking_svg(ranking).find("critical difference 1.48"), std::string::npos);
  // Fewer than five tasks: no critical difference; one method: nothing to rank; log-loss: less is better.
  std::vector<Json> few(content.results.begin(), content.results.begin() + 6);
  EXPECT_FALSE(rank_methods(few, content.samples).critical);
  EXPECT_TRUE(rank_methods({few[0]}, content.samples).rows.empty());
  for (Json& one : few) one["metric"] = "perplexity";
  EXPECT_EQ(rank_methods(few, content.samples).rows[0].method, "c");
}

TEST(HeatMap, OneScaleForAll) {
  const std::string svg = heatmaps_svg({{"m<1>", {{0.01, 1.0}, {0.1, 0.0}}}, {"two", {{100.0}}}});
  EXPECT_NE(svg.find("m&lt;1&gt;"), std::string::npos);
  EXPECT_NE(svg.find("fill=\"#ffffff\"><title>layer 0, KV head 0: 0.01</title>"), std::string::npos);
  EXPECT_NE(svg.find("fill=\"#6baed6\"><title>layer 0, KV head 1: 1</title>"), std::string::npos);  // the middle of 0.01 to 100
  EXPECT_NE(svg.find("fill=\"#08306b\"><title>layer 0, KV head 0: 100</title>"), std::string::npos);
  EXPECT_EQ(heatmaps_svg({{"nothing", {{0.0}}}}), "");
}

TEST(Report, ParetoErrorsAndTimesAgainstBits) {
  if (!gnuplot_available()) GTEST_SKIP() << "gnuplot is not installed (make setup)";
  Content content = ranked();
  for (const char* method : {"a", "b"}) content.metrics[std::string(method) + "\ttask0"] = Json{{"output_error", {{0.1, 0.2}, {0.3, 0.1}}}};
  content.timings = {Json{{"name", "d4b8"}, {"kv_len", 1024}, {"ms", 0.5}, {"bits", 2}}, Json{{"name", "dense"}, {"kv_len", 1024}, {"ms", 0.9}, {"bits", 16}}};
  const std::string html = html_page(content);
  for (const char* words : {"<h2>Score against bits</h2>", "Pareto front", "<h2>Ranking</h2>", "<h2>Sensitivity of layers and heads</h2>", "<h2>Error against bits</h2>",
                            "<h2>Time against bits</h2>", "Friedman's chi-square 10.0", "layer 1, KV head 0: 0.3"})
    EXPECT_NE(html.find(words), std::string::npos) << words;
}

TEST(Report, OpensInABrowserWithoutAnError) {
  if (!gnuplot_available()) GTEST_SKIP() << "gnuplot is not installed (make setup)";
  if (std::system("command -v chromium >/dev/null 2>&1") != 0) GTEST_SKIP() << "chromium is not installed (apt-get install chromium)";
  const test::Scratch scratch;
  Content content = example(), more = ranked();
  content.results.insert(content.results.end(), more.results.begin(), more.results.end());
  content.samples = more.samples;
  content.metrics["a\ttask0"] = Json{{"output_error", {{0.1, 0.2}, {0.3, 0.1}}}};
  write_file_atomic(scratch.path() / "report.html", html_page(content));
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
