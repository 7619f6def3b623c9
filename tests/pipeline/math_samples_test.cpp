// Pass@1 over samples: seeds and decoding in the records, the comparison in metrics.json, and a run
// that is killed between samples and goes on to the same bytes.
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <set>

#include "core/common/file.h"
#include "core/common/json.h"
#include "core/common/rng.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"

namespace vi::test {
namespace {
namespace fs = std::filesystem;

constexpr const char* kExperiment = R"(experiment: samples
model: {name: tiny, path: model}
calibration: {files: [calibration.txt], seq_len: 128, sequences: 3, tokens: 300, probes: 16}
methods: [fp16]
evaluate:
  - {task: math/aime24, dir: data, limit: 2, max_new_tokens: 12}
)";

fs::path only_file(const fs::path& under, const std::string& name) {
  fs::path found;
  for (const auto& entry : fs::recursive_directory_iterator(under))
    if (entry.path().filename() == name) found = entry.path();
  return found;
}

class MathSamples : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(folder() / "model");
    write_text(folder() / "calibration.txt", 900, 11);
    fs::create_directories(folder() / "data/math");
    std::ofstream(folder() / "data/math/aime24.jsonl")
        << R"({"id":1,"problem":"One and one?","solution":"2","answer":"2"})" << "\n"
        << R"({"id":2,"problem":"Two and two?","solution":"4","answer":"4"})" << "\n";
    std::ofstream(folder() / "samples.yaml") << kExperiment;
  }
  const fs::path& folder() const { return scratch_.path(); }
  Finished run(const std::string& store) const {
    return run_vecinfer({"run", "samples.yaml", "--store", store}, folder());
  }
  Scratch scratch_;
};

TEST_F(MathSamples, SeedsAndDecodingAreRecorded) {
  const Finished finished = run("store");
  ASSERT_EQ(finished.code, 0) << finished.err;
  std::set<std::pair<int, int>> places;
  std::set<std::uint64_t> seeds;
  std::set<std::string> texts;
  for_each_json_line(only_file(folder() / "store", "predictions.jsonl"),
                     [&](std::int64_t, const Json& line) {
                       places.emplace(line.at("doc").get<int>(), line.at("sample").get<int>());
                       seeds.insert(line.at("seed").get<std::uint64_t>());
                       texts.insert(line.at("tokens").dump());
                     });
  EXPECT_EQ(places.size(), 16u);  // 2 records, 8 samples each
  EXPECT_EQ(seeds.size(), 16u);
  EXPECT_GT(texts.size(), 4u);  // sampled, not greedy
  const Json metrics = Json::parse(read_file(only_file(folder() / "store", "metrics.json")));
  EXPECT_EQ(metrics.at("n"), 2);
  const Json& protocol = metrics.at("protocol");
  EXPECT_EQ(protocol.at("sampling").at("temperature"), 0.6);
  EXPECT_EQ(protocol.at("sampling").at("top_p"), 0.95);
  EXPECT_EQ(protocol.at("sampling").at("samples"), 8);
  EXPECT_EQ(protocol.at("comparison"), "symbolic");
  EXPECT_EQ(protocol.at("stopped_pairs"), 0);
}

TEST_F(MathSamples, KilledBetweenSamplesEndsInTheSameBytes) {
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_EQ(run("whole").code, 0);
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begun);
  const int killed = kill_at_random(
      6, took, 7,
      [&](int, std::chrono::microseconds after) { return run_vecinfer({"run", "samples.yaml", "--store", "killed"}, folder(), after, SIGKILL); },
      [&] { fs::remove_all(folder() / "killed" / "evaluate"); });
  EXPECT_GT(killed, 0);
  ASSERT_EQ(run("killed").code, 0);
  for (const char* name : {"predictions.jsonl", "scores.jsonl", "metrics.json"})
    EXPECT_EQ(read_file(only_file(folder() / "killed", name)),
              read_file(only_file(folder() / "whole", name)))
        << name;
}

}  // namespace
}  // namespace vi::test
