// `vecinfer sweep` as users meet it, on a tiny model: axes, one table, failures, kills, a memory budget, two at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "core/common/file.h"
#include "core/common/json.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"

namespace vi::test {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr const char* kBase = R"(experiment: grid
model: {name: tiny, path: model}
calibration: {files: [calibration.txt], seq_len: 128, sequences: 3, tokens: 300, probes: 16}
codebook: {iterations: 3, max_points: 4096}
methods: [fp16, {method: kivi-2, codec: {window: {recent: 32}}}]
evaluate:
  - {task: perplexity, mode: window, files: [test.txt], window: 128, count: 2}
)";

class Sweep : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(folder() / "model");
    write_text(folder() / "calibration.txt", 900, 11);
    write_text(folder() / "other.txt", 900, 13);
    write_text(folder() / "test.txt", 900, 12);
  }
  const fs::path& folder() const { return scratch_.path(); }
  void grid(const std::string& axes) const { std::ofstream(folder() / "grid.yaml") << kBase << "sweep:\n" << axes; }
  std::vector<std::string> words(std::vector<std::string> more = {}) const {
    std::vector<std::string> all{"sweep", "grid.yaml", "--store", "store"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Finished sweep(std::vector<std::string> more = {}) const { return run_vecinfer(words(std::move(more)), folder()); }
  std::vector<Json> rows() const {
    std::vector<Json> all;
    for_each_json_line(folder() / "store/runs/grid/results.jsonl", [&](std::int64_t, const Json& line) { all.push_back(line); });
    return all;
  }
  std::size_t points() const {
    std::size_t n = 0;
    for (const auto& entry : fs::directory_iterator(folder() / "store/runs/grid/points")) n += entry.path().extension() == ".json";
    return n;
  }
  Scratch scratch_;
};

TEST_F(Sweep, EveryAxisBecomesPointsOfOneTable) {
  grid("  methods: [fp16, vecinfer-2]\n  bits: [2, 1]\n  window: [16]\n  sinks: [0, 2]\n  seeds: [0, 1]\n");
  const Finished got = sweep({"--jobs", "2"});
  ASSERT_EQ(got.code, 0) << got.err;
  // fp16 knows no bits, windows or sinks: one point a seed. 2 + 2 * 2 * 2.
  EXPECT_THAT(got.err, HasSubstr("grid: 10 points, 10 to run"));
  ASSERT_EQ(rows().size(), 10u);
  std::set<double> bits, scores;
  for (const Json& row : rows()) {
    EXPECT_EQ(row.at("experiment"), "grid");
    for (const char* axis : {"methods", "bits", "window", "sinks", "seeds"}) EXPECT_TRUE(row.at("point").contains(axis)) << axis;
    if (row.at("method") == "fp16") continue;
    bits.insert(row.at("key_bits").get<double>());
    scores.insert(row.at("score").get<double>());
    EXPECT_EQ(row.at("key_bits").get<double>(), std::stod(row.at("point").at("bits").get<std::string>()));
    EXPECT_EQ(row.at("protocol").at("recent").dump(), row.at("point").at("window"));
    EXPECT_EQ(row.at("protocol").at("sinks").dump(), row.at("point").at("sinks"));
    EXPECT_EQ(row.at("seed").dump(), row.at("point").at("seeds"));
  }
  EXPECT_EQ(bits, (std::set<double>{1, 2}));
  EXPECT_EQ(scores.size(), 8u);
  EXPECT_THAT(got.out, HasSubstr("vecinfer-2 [bits=1, sinks=2, seeds=1]"));
  // Over the two seeds: (a + b) / 2, and |a - b| / sqrt(2).
  std::vector<double> pair;
  for (const Json& row : rows())
    if (row.at("method") == "vecinfer-2" && row.at("point").at("bits") == "1" && row.at("point").at("sinks") == "2") pair.push_back(row.at("score"));
  ASSERT_EQ(pair.size(), 2u);
  char summary[96];
  std::snprintf(summary, sizeof summary, "%.2f ± %.2f (2)", (pair[0] + pair[1]) / 2, std::abs(pair[0] - pair[1]) / std::sqrt(2.0));
  EXPECT_THAT(got.out, HasSubstr(summary));
  EXPECT_TRUE(fs::exists(folder() / "store/runs/grid/report.html"));
  // Again: nothing to run, the same table.
  const Finished again = sweep();
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.err, HasSubstr("10 points, 0 to run"));
  EXPECT_EQ(again.out, got.out);
  // A changed input is another point.
  write_text(folder() / "test.txt", 901, 12);
  EXPECT_THAT(sweep({"--set", "sweep.bits=[2]", "--set", "sweep.seeds=[0]", "--set", "sweep.sinks=[0]"}).err, HasSubstr("2 points, 2 to run"));
}

TEST_F(Sweep, NamedSettingsAreCalibrationSets) {
  grid("  text:\n    policy: {calibration.files: [calibration.txt]}\n    other: {calibration.files: [other.txt], methods: {method: vecinfer-2, as: mine}}\n"
       "  calibration.tokens: [200, 300]\n");
  const Finished got = sweep();
  ASSERT_EQ(got.code, 0) << got.err;
  ASSERT_EQ(rows().size(), 6u);
  EXPECT_THAT(got.out, HasSubstr("mine [text=other, calibration.tokens=300]"));
}

TEST_F(Sweep, WrongGridsAreExitCode2BeforeAnythingRuns) {
  const auto refused = [&](const std::string& axes, const std::string& part) {
    grid(axes);
    const Finished got = sweep();
    EXPECT_EQ(got.code, 2) << got.err;
    EXPECT_THAT(got.err, HasSubstr(part));
  };
  refused("  bits: [1.5]\n", "bits 1.5: the keys of kivi-2 are whole-bit integers");
  refused("  methods: [vecinfer-2]\n  bits: [7]\n", "grid.yaml:10:");
  refused("  seeds: 3\n", "'seeds' expects a list");
  refused("  calibration.tokns: [1]\n", "did you mean 'tokens'");
  refused("  calibration.tokens: [300, many]\n", "expected a whole number");
  refused("  {}\n", "no `sweep:` map");
  EXPECT_FALSE(fs::exists(folder() / "store/runs"));
  grid("  seeds: [0]\n");
  EXPECT_EQ(sweep({"--memory", "much"}).code, 2);
  EXPECT_THAT(sweep({"--point", "abc"}).err, HasSubstr("no such point"));
}

TEST_F(Sweep, AFailedPointSaysWhyAndOnlyItRunsAgain) {
  std::ofstream(folder() / "short.txt") << "too short";
  grid("  calibration.files: [[calibration.txt], [short.txt]]\n  methods: [vecinfer-2]\n");
  const Finished got = sweep();
  EXPECT_EQ(got.code, 1);
  EXPECT_THAT(got.out, HasSubstr("failed  calibration.files=short.txt, methods=vecinfer-2: "));
  EXPECT_THAT(got.out, HasSubstr("short.txt"));
  EXPECT_THAT(got.err, HasSubstr("vecinfer: sweep: 1 of 2 points failed"));
  EXPECT_EQ(rows().size(), 1u);  // the other point's result is there
  write_text(folder() / "short.txt", 900, 14);
  const Finished again = sweep();
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("2 points, 1 to run"));
  EXPECT_EQ(rows().size(), 2u);
}

TEST_F(Sweep, TheFirstPointsPeakSaysHowManyFit) {
  grid("  seeds: [0, 1, 2]\n");
  const Finished got = sweep({"--memory", "64G", "--jobs", "3"});
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_THAT(got.err, HasSubstr("GiB as measured; 3 at a time in 64.00 GiB"));
  grid("  seeds: [3, 4]\n");
  const Finished small = sweep({"--memory", "1M", "--jobs", "3"});
  ASSERT_EQ(small.code, 0) << small.err;
  EXPECT_THAT(small.err, HasSubstr("more than the budget"));
}

// Processes whose command line names the scratch folder.
int left_running(const std::string& folder) {
  int n = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    const std::string line{std::istreambuf_iterator<char>(file), {}};
    n += line.find(folder) != std::string::npos && line.find("--point") != std::string::npos;
  }
  return n;
}

TEST_F(Sweep, InterruptedAndKilledSweepsResumeToTheSameResults) {
  grid("  seeds: [0, 1, 2, 3]\n  methods: [vecinfer-2, kivi-2]\n");
  ASSERT_EQ(run_vecinfer({"sweep", "grid.yaml", "--store", "whole", "--jobs", "2"}, folder()).code, 0);
  int stopped = 0;
  for (const int ms : {40, 150, 300, 500, 800})
    for (const int signal : {SIGINT, SIGKILL}) {
      const Finished got = run_vecinfer(words({"--jobs", "2"}), folder(), std::chrono::milliseconds(ms), signal);
      if (got.code != 0) {
        EXPECT_EQ(got.code, signal == SIGINT ? 130 : 128 + SIGKILL) << got.err;
      }
      stopped += got.code != 0;
      for (int i = 0; i < 200 && left_running(folder()) > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
      EXPECT_EQ(left_running(folder()), 0);
    }
  EXPECT_GT(stopped, 3);
  ASSERT_EQ(sweep().code, 0);
  EXPECT_EQ(points(), 8u);
  EXPECT_EQ(read_file(folder() / "store/runs/grid/results.jsonl"), read_file(folder() / "whole/runs/grid/results.jsonl"));
  EXPECT_EQ(run_vecinfer({"verify", "--store", "store"}, folder()).code, 0);
}

TEST_F(Sweep, TwoAtOnceOnOneStore) {
  grid("  seeds: [0, 1]\n  methods: [vecinfer-2, kivi-2]\n");
  const auto run = [&] { return sweep({"--jobs", "2"}); };
  auto one = std::async(std::launch::async, run), two = std::async(std::launch::async, run);
  EXPECT_EQ(one.get().code, 0);
  EXPECT_EQ(two.get().code, 0);
  EXPECT_EQ(rows().size(), 4u);
  EXPECT_EQ(run_vecinfer({"verify", "--store", "store"}, folder()).code, 0);
  ASSERT_EQ(run_vecinfer({"sweep", "grid.yaml", "--store", "alone"}, folder()).code, 0);
  EXPECT_EQ(read_file(folder() / "store/runs/grid/results.jsonl"), read_file(folder() / "alone/runs/grid/results.jsonl"));
}

}  // namespace
}  // namespace vi::test
