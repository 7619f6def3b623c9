// `vecinfer sweep --launcher slurm` on a real Slurm of one node. Skips where Debian's packages are not installed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "core/common/file.h"
#include "core/common/json.h"
#include "tests/support/process.h"
#include "tests/support/slurm.h"
#include "tests/support/tiny_model.h"

namespace vi::test {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(SlurmSweep, SubmitsFollowsCollectsAndResubmitsOnlyWhatFailed) {
  const Slurm slurm;
  if (!slurm.problem().empty()) GTEST_SKIP() << slurm.problem();
  const Scratch scratch;
  const fs::path& folder = scratch.path();
  write_tiny_model(folder / "model");
  write_text(folder / "calibration.txt", 900, 11);
  write_text(folder / "test.txt", 900, 12);
  std::ofstream(folder / "short.txt") << "too short";
  std::ofstream(folder / "grid.yaml") << R"(experiment: grid
model: {name: tiny, path: model}
calibration: {seq_len: 128, sequences: 3, tokens: 300, probes: 16}
codebook: {iterations: 3, max_points: 4096}
methods: [vecinfer-2]
evaluate:
  - {task: perplexity, mode: window, files: [test.txt], window: 128, count: 2}
sweep:
  calibration.files: [[calibration.txt], [short.txt]]
  seeds: [0, 1]
)";
  const auto sweep = [&](const std::string& store, std::vector<std::string> more, const std::function<bool()>& interrupt = {}) {
    std::vector<std::string> words{"sweep", "grid.yaml", "--store", store};
    words.insert(words.end(), more.begin(), more.end());
    return interrupt ? run_vecinfer_until(words, folder, interrupt, SIGINT) : run_vecinfer(words, folder);
  };
  const auto recorded = [&] { return parse_json(read_file(folder / "store/runs/grid/points/slurm.json"), "slurm.json"); };

  // Ctrl-C while it is followed: the job goes on, and the same command follows it.
  int asked = 0;  // a third of a second after the job was submitted
  const Finished left = sweep("store", {"--launcher", "slurm", "--jobs", "1"},
                              [&] { return fs::exists(folder / "store/runs/grid/points/slurm.json") && ++asked > 300; });
  ASSERT_EQ(left.code, 130) << left.err;
  EXPECT_THAT(left.err, HasSubstr("the same command follows it again"));
  const Json first = recorded();
  EXPECT_EQ(first.at("points"), 4);
  const Finished followed = sweep("store", {"--launcher", "slurm"});
  EXPECT_EQ(followed.code, 1) << followed.err;
  EXPECT_THAT(followed.err, HasSubstr("in the queue: following it"));
  EXPECT_EQ(recorded().at("job"), first.at("job"));
  EXPECT_THAT(followed.out, HasSubstr("failed  calibration.files=short.txt, seeds=0: "));
  EXPECT_THAT(followed.err, HasSubstr("2 of 4 points failed"));

  // The cause removed: an array of the two that failed.
  write_text(folder / "short.txt", 900, 13);
  const Finished again = sweep("store", {"--launcher", "slurm", "--memory", "900M", "--slurm=--cpus-per-task=1"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(recorded().at("points"), 2);
  EXPECT_NE(recorded().at("job"), first.at("job"));
  EXPECT_THAT(read_file(folder / "store/runs/grid/points/job.sh"), HasSubstr("#SBATCH --mem=900M\n#SBATCH --cpus-per-task=1\n"));

  // The same rows as from local processes.
  ASSERT_EQ(sweep("local", {"--jobs", "2"}).code, 0);
  EXPECT_EQ(read_file(folder / "store/runs/grid/results.jsonl"), read_file(folder / "local/runs/grid/results.jsonl"));

  // What sbatch refuses is said in one line.
  const Finished refused = sweep("other", {"--launcher", "slurm", "--slurm=--partition=nowhere"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("vecinfer: sweep: sbatch"));
  EXPECT_THAT(refused.err, HasSubstr("nvalid partition"));
}

TEST(SlurmSweep, WithoutSlurmItSaysSo) {
  const Scratch scratch;
  write_tiny_model(scratch.path() / "model");
  write_text(scratch.path() / "test.txt", 400, 12);
  std::ofstream(scratch.path() / "grid.yaml") << "experiment: g\nmodel: {name: tiny, path: model}\nmethods: [fp16]\nevaluate:\n"
                                                 "  - {task: perplexity, files: [test.txt], window: 64, count: 1}\nsweep: {evaluate.0.count: [1, 2]}\n";
  const std::string path = std::getenv("PATH") ? std::getenv("PATH") : "";
  ::setenv("PATH", "/nowhere", 1);
  const Finished got = run_vecinfer({"sweep", "grid.yaml", "--store", "store", "--launcher", "slurm"}, scratch.path());
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(got.code, 2);
  EXPECT_THAT(got.err, HasSubstr("sbatch and squeue are not on this machine's PATH"));
}

}  // namespace
}  // namespace vi::test
