// The command line as users meet it: exit codes, one-line messages, caching, Ctrl-C and kills.
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "core/common/file.h"
#include "core/common/json.h"
#include "core/common/rng.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"

namespace vi::test {
namespace {
namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

constexpr const char* kExperiment = R"(experiment: tiny
model: {name: tiny, path: model}
calibration: {files: [calibration.txt], seq_len: 128, sequences: 3, tokens: 300, probes: 16}
codebook: {iterations: 5, max_points: 4096}
methods:
  - fp16
  - {method: vecinfer-2, codec: {window: {recent: 32}}}
  - {method: kivi-2, codec: {window: {recent: 32}}}
evaluate:
  - {task: perplexity, mode: window, files: [test.txt], window: 128, count: 2}
  - {task: perplexity, mode: stream, files: [test.txt], window: 96, prefill: 40, count: 1}
)";

class Cli : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(folder() / "model");
    write_text(folder() / "calibration.txt", 900, 11);
    write_text(folder() / "test.txt", 900, 12);
    write(folder() / "tiny.yaml", kExperiment);
  }
  const fs::path& folder() const { return scratch_.path(); }
  Finished vi(std::vector<std::string> arguments) const { return run_vecinfer(arguments, folder()); }
  void expect_failure(const Finished& got, int code, const std::string& part) const {
    EXPECT_EQ(got.code, code) << got.err;
    EXPECT_NE(got.err.find(part), std::string::npos) << got.err;
    // One line of complaint; progress may stand before it.
    const std::size_t at = got.err.find("vecinfer: ");
    ASSERT_NE(at, std::string::npos) << got.err;
    EXPECT_EQ(got.err.find('\n', at), got.err.size() - 1) << got.err;
  }
  Scratch scratch_;
};

TEST_F(Cli, RunsTwiceTheSecondTimeFromTheStore) {
  const Finished first = vi({"run", "tiny.yaml", "--store", "store"});
  ASSERT_EQ(first.code, 0) << first.err;
  for (const char* word : {"fp16", "vecinfer-2", "kivi-2", "perplexity-window", "perplexity-stream"})
    EXPECT_NE(first.out.find(word), std::string::npos) << first.out;
  const auto before = snapshot(folder() / "store");
  const Finished second = vi({"run", "tiny.yaml", "--store", "store"});
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(second.out, first.out);
  EXPECT_NE(second.err.find("all stages were cached"), std::string::npos) << second.err;
  EXPECT_EQ(snapshot(folder() / "store"), before);
  const Finished status = vi({"status", "tiny.yaml", "--store", "store"});
  EXPECT_EQ(status.out.find("miss"), std::string::npos) << status.out;
  EXPECT_EQ(vi({"verify", "--store", "store"}).code, 0);
  // Another store, another folder: the same bytes.
  const Finished other = run_vecinfer({"run", (folder() / "tiny.yaml").string(), "--store", (folder() / "other").string()}, "/");
  ASSERT_EQ(other.code, 0) << other.err;
  EXPECT_TRUE(snapshot(folder() / "other") == before);
  // One result line a (method, task), with the whole schema.
  int lines = 0;
  for_each_json_line(folder() / "store" / "results.jsonl", [&](std::int64_t, const Json& line) {
    ++lines;
    for (const char* key : {"experiment", "model", "method", "key_bits", "value_bits", "bits_total", "bits_at", "codebook_bytes",
                            "mode", "task", "task_version", "metric", "score", "n", "stderr", "seed", "config_sha256", "git", "device"})
      EXPECT_TRUE(line.contains(key)) << key;
  });
  EXPECT_EQ(lines, 6);
}

TEST_F(Cli, StatusNamesTheSettingThatDiffers) {
  ASSERT_EQ(vi({"run", "tiny.yaml", "--store", "store"}).code, 0);
  const Finished status = vi({"status", "tiny.yaml", "--store", "store", "--set", "calibration.seed=5"});
  EXPECT_EQ(status.code, 0) << status.err;
  EXPECT_NE(status.out.find("miss  dump"), std::string::npos) << status.out;
  EXPECT_NE(status.out.find("seed"), std::string::npos) << status.out;
}

TEST_F(Cli, WrongConfigurationIsOneLineAndExitCode2) {
  write(folder() / "key.yaml", std::string(kExperiment) + "metods: []\n");
  expect_failure(vi({"run", "key.yaml"}), 2, "key.yaml:12:1: unknown key 'metods' (did you mean 'methods'?)");
  expect_failure(vi({"run", "tiny.yaml", "--set", "calibration.tokens=many"}), 2, "expected a whole number, not 'many'");
  expect_failure(vi({"run", "tiny.yaml", "--set", "methods.1.codec.key.code={kind: vector, dsub: 5}"}), 2, "dsub");
  expect_failure(vi({"run", "tiny.yaml", "--set", "methods.1.codec.key.code={kind: vector, bits: 17}"}), 2, "17");
  expect_failure(vi({"run", "tiny.yaml", "--set", "methods.1.method=vecinfre-2"}), 2, "did you mean 'vecinfer-2'?");
  expect_failure(vi({"run", "nothing.yaml"}), 2, "nothing.yaml");
  expect_failure(vi({"stage", "dmup", "tiny.yaml"}), 2, "did you mean 'dump'?");
  expect_failure(vi({"run", "tiny.yaml", "--set", "evaluate.0.window=1"}), 2, "window 1 is below 2");
  EXPECT_EQ(vi({"rum", "tiny.yaml"}).code, 2);
  EXPECT_EQ(vi({}).code, 2);
}

TEST_F(Cli, CalibratingOnTheEvaluationTextIsRefusedUnlessSaid) {
  expect_failure(vi({"run", "tiny.yaml", "--store", "store", "--set", "calibration.files=[test.txt]"}), 2, "allow_leak");
  const Finished leak = vi({"run", "tiny.yaml", "--store", "store", "--set", "calibration.files=[test.txt]", "--set", "calibration.allow_leak=true"});
  ASSERT_EQ(leak.code, 0) << leak.err;
  for_each_json_line(folder() / "store" / "results.jsonl",
                     [&](std::int64_t, const Json& line) { EXPECT_TRUE(line.at("leak").get<bool>()); });
}

TEST_F(Cli, BadInputFilesAreExitCode3) {
  expect_failure(vi({"run", "tiny.yaml", "--store", "s", "--set", "evaluate.0.files=[missing.txt]"}), 3, "missing.txt");
  write(folder() / "short.txt", "too short");
  expect_failure(vi({"run", "tiny.yaml", "--store", "s", "--set", "calibration.files=[short.txt]"}), 3, "short.txt");
  write(folder() / "bad.txt", "caf\xe9 is not UTF-8");
  expect_failure(vi({"tokenize", "--model", "model", "--text-file", "bad.txt"}), 3, "bad.txt");
  const auto size = fs::file_size(folder() / "model" / "model.safetensors");
  fs::resize_file(folder() / "model" / "model.safetensors", size / 2);
  expect_failure(vi({"run", "tiny.yaml", "--store", "s"}), 3, "model.safetensors");
  write(folder() / "cut.gguf", std::string("GGUF\3\0\0\0\xff\xff", 10));
  expect_failure(vi({"logits", "--model", "cut.gguf", "--ids", "1"}), 3, "cut.gguf");
}

TEST_F(Cli, NoGpuIsExitCode4) { expect_failure(vi({"run", "tiny.yaml", "--device", "cuda"}), 4, "cuda"); }

TEST_F(Cli, DamageIsFoundByVerifyAndNeverRead) {
  ASSERT_EQ(vi({"run", "tiny.yaml", "--store", "store"}).code, 0);
  for (const auto& entry : fs::recursive_directory_iterator(folder() / "store" / "codebook"))
    if (entry.path().filename() == "codebook.h5") {
      std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
      file.seekp(-1, std::ios::end);
      file.put('\x5a');
    }
  const Finished verify = vi({"verify", "--store", "store"});
  EXPECT_EQ(verify.code, 3);
  EXPECT_NE(verify.out.find("codebook/"), std::string::npos) << verify.out;
  // A run that needs the damaged file says so instead of using it.
  expect_failure(vi({"run", "tiny.yaml", "--store", "store", "--set", "evaluate.0.window=100"}), 3, "codebook.h5");
}

TEST_F(Cli, InterruptIsExitCode130AndResumes) {
  int interrupted = 0;
  for (const int ms : {60, 120, 240, 480, 900}) {
    const Finished got = run_vecinfer({"run", "tiny.yaml", "--store", "store"}, folder(), std::chrono::milliseconds(ms), SIGINT);
    EXPECT_TRUE(got.code == 130 || got.code == 0) << got.code << got.err;
    interrupted += got.code == 130;
  }
  const Finished last = vi({"run", "tiny.yaml", "--store", "store"});
  EXPECT_EQ(last.code, 0) << last.err;
}

TEST_F(Cli, KilledAtRandomMomentsEndsInTheSameBytes) {
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_EQ(vi({"run", "tiny.yaml", "--store", "whole"}).code, 0);
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begun);
  const auto late_stages_again = [&] { fs::remove_all(folder() / "killed" / "evaluate"); };
  const int killed = kill_at_random(
      25, took / 2, 2026,
      [&](int i, std::chrono::microseconds after) {
        if (i % 2 == 1) late_stages_again();
        return run_vecinfer({"run", "tiny.yaml", "--store", "killed"}, folder(), after, SIGKILL);
      },
      late_stages_again);
  EXPECT_GT(killed, 0);
  const Finished last = vi({"run", "tiny.yaml", "--store", "killed"});
  ASSERT_EQ(last.code, 0) << last.err;
  auto expected = snapshot(folder() / "whole"), got = snapshot(folder() / "killed");
  const auto unfinished = [](const auto& file) { return file.first.find(".tmp.") != std::string::npos; };
  std::erase_if(got, unfinished);
  EXPECT_TRUE(got == expected) << got.size() << " files, expected " << expected.size();
}

// Stages that take long on a large model keep what they have by sequence or by step: gradients, statistics, tune.
TEST_F(Cli, LongStagesGoOnWhereTheyWereKilled) {
  std::string yaml = kExperiment;
  const std::string method = "  - {method: kivi-2, codec: {window: {recent: 32}}}\n";
  yaml.replace(yaml.find(method), method.size(),
               "  - {method: cq-4c8b-fisher}\n"
               "  - {method: vecinfer+2, codec: {window: {recent: 32}}, codebook: {tune_steps: 40, tune_window: 64, tune_rate: 0.05}}\n");
  write(folder() / "tiny.yaml", yaml);
  const std::vector<std::string> words{"run", "tiny.yaml", "--set", "calibration.sequences=6", "--store"};
  const auto in = [&](const char* store) {
    std::vector<std::string> all = words;
    all.push_back(store);
    return all;
  };
  const Finished whole = vi(in("whole"));
  ASSERT_EQ(whole.code, 0) << whole.err;
  for (const char* stage : {"statistics", "gradients", "tune"}) {
    const fs::path place = folder() / "killed" / stage;
    const auto kept_some = [&] {
      std::error_code gone;  // the folder is renamed when the stage is done
      for (fs::recursive_directory_iterator file(place, gone), end; !gone && file != end; file.increment(gone))
        if (file->path().parent_path().filename() == "checkpoints" && file->path().extension() != ".tmp") return true;
      return false;
    };
    int code = 0;
    for (int i = 0; i < 20 && code != 128 + SIGKILL; ++i) {
      fs::remove_all(place);
      code = run_vecinfer_until(in("killed"), folder(), kept_some, SIGKILL).code;
    }
    EXPECT_EQ(code, 128 + SIGKILL) << stage;
  }
  const Finished last = vi(in("killed"));
  ASSERT_EQ(last.code, 0) << last.err;
  for (const char* stage : {"gradients", "statistics", "tune", "codebook"})
    EXPECT_TRUE(snapshot(folder() / "killed" / stage) == snapshot(folder() / "whole" / stage)) << stage;
}

TEST_F(Cli, TheModelWritesItsCalibrationText) {
  std::string yaml = kExperiment;
  yaml.replace(yaml.find("files: [calibration.txt], "), 26, "source: model, ");
  write(folder() / "tiny.yaml", yaml);
  const Finished run = vi({"run", "tiny.yaml", "--store", "one", "--batch", "1"});
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_NE(run.err.find("calibration text by tiny"), std::string::npos) << run.err;
  int texts = 0;
  std::set<std::string> different;
  for (const auto& entry : fs::directory_iterator(folder() / "one" / "text"))
    if (fs::exists(entry.path() / "text.jsonl"))
      for_each_json_line(entry.path() / "text.jsonl", [&](std::int64_t, const Json& line) {
        EXPECT_EQ(line.at("ids").size(), 128u);
        EXPECT_TRUE(line.at("text").is_string());
        different.insert(line.at("ids").dump());
        ++texts;
      });
  EXPECT_EQ(texts, 3);
  EXPECT_EQ(different.size(), 3u);
  // Neither the batch nor a kill changes a byte.
  const fs::path place = folder() / "killed" / "text";
  const Finished killed = run_vecinfer_until({"run", "tiny.yaml", "--store", "killed", "--batch", "1"}, folder(), [&] {
    std::error_code gone;
    for (fs::recursive_directory_iterator file(place, gone), end; !gone && file != end; file.increment(gone))
      if (file->path().parent_path().filename() == "checkpoints") return true;
    return false;
  });
  EXPECT_EQ(killed.code, 128 + SIGKILL);
  ASSERT_EQ(vi({"run", "tiny.yaml", "--store", "killed", "--batch", "3"}).code, 0);
  for (const char* stage : {"text", "dump", "codebook", "evaluate"})
    EXPECT_TRUE(snapshot(folder() / "killed" / stage) == snapshot(folder() / "one" / stage)) << stage;
  const Finished other = vi({"run", "tiny.yaml", "--store", "one", "--set", "calibration.seed=1"});
  ASSERT_EQ(other.code, 0) << other.err;
  EXPECT_NE(other.err.find("calibration text by tiny"), std::string::npos) << other.err;
  expect_failure(vi({"run", "tiny.yaml", "--store", "one", "--set", "calibration.files=[calibration.txt]"}), 2, "one text at a time");
  expect_failure(vi({"run", "tiny.yaml", "--store", "one", "--set", "calibration.temperature=0"}), 2, "temperature 0 is not positive");
  expect_failure(vi({"run", "tiny.yaml", "--store", "one", "--set", "calibration.seq_len=100000"}), 2, "seq_len 100000");
}

TEST_F(Cli, TheNumberOfThreadsChangesNoByte) {
  ASSERT_EQ(::setenv("OMP_NUM_THREADS", "1", 1), 0);
  EXPECT_EQ(vi({"run", "tiny.yaml", "--store", "one"}).code, 0);
  ASSERT_EQ(::setenv("OMP_NUM_THREADS", "3", 1), 0);
  EXPECT_EQ(vi({"run", "tiny.yaml", "--store", "three"}).code, 0);
  ::unsetenv("OMP_NUM_THREADS");
  EXPECT_TRUE(snapshot(folder() / "one") == snapshot(folder() / "three"));
}

TEST_F(Cli, ExportsAndImportsACodec) {
  ASSERT_EQ(vi({"run", "tiny.yaml", "--store", "store"}).code, 0);
  const Finished out = vi({"export", "tiny.yaml", "codec.h5", "--store", "store"});
  ASSERT_EQ(out.code, 0) << out.err;
  ASSERT_EQ(vi({"stage", "dump", "tiny.yaml", "--store", "new"}).code, 0);
  const Finished in = vi({"import", "tiny.yaml", "codec.h5", "--store", "new"});
  ASSERT_EQ(in.code, 0) << in.err;
  const Finished run = vi({"run", "tiny.yaml", "--store", "new"});
  ASSERT_EQ(run.code, 0) << run.err;
  fs::resize_file(folder() / "codec.h5", 1000);
  expect_failure(vi({"import", "tiny.yaml", "codec.h5", "--store", "new"}), 3, "codec.h5");
}

TEST_F(Cli, TunedCodebooksHaveAStageOfTheirOwnAndTravel) {
  std::string yaml = kExperiment;
  const std::string method = "  - {method: vecinfer-2, codec: {window: {recent: 32}}}\n";
  const std::size_t at = yaml.find(method);
  ASSERT_NE(at, std::string::npos);
  yaml.insert(at + method.size(),
              "  - {method: vecinfer-2, as: tuned, codec: {window: {recent: 32}}, codebook: {tune_steps: 6, tune_window: 64, tune_rate: 0.05}}\n");
  write(folder() / "tiny.yaml", yaml);
  const Finished run = vi({"run", "tiny.yaml", "--store", "store"});
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_NE(run.err.find("tune tuned"), std::string::npos) << run.err;
  Json told;
  for (const auto& entry : fs::directory_iterator(folder() / "store" / "tune"))
    if (fs::exists(entry.path() / "tune.json")) told = parse_json(read_file(entry.path() / "tune.json"), "tune.json");
  EXPECT_EQ(told.at("windows"), 5);  // three sequences of 128, the last window held out
  EXPECT_EQ(told.at("held_out"), 1);
  EXPECT_EQ(told.at("kept").get<bool>(), told.at("divergence_after") < told.at("divergence_before"));
  const Finished again = vi({"status", "tiny.yaml", "--store", "store"});
  EXPECT_EQ(again.out.find("miss"), std::string::npos) << again.out;
  ASSERT_EQ(vi({"export", "tiny.yaml", "codec.h5", "--store", "store", "--method", "tuned"}).code, 0);
  ASSERT_EQ(vi({"stage", "dump", "tiny.yaml", "--store", "new"}).code, 0);
  const Finished in = vi({"import", "tiny.yaml", "codec.h5", "--store", "new"});
  ASSERT_EQ(in.code, 0) << in.err;
  const Finished imported = vi({"run", "tiny.yaml", "--store", "new", "--method", "tuned"});
  ASSERT_EQ(imported.code, 0) << imported.err;
  EXPECT_EQ(imported.err.find("tune tuned"), std::string::npos) << imported.err;
  expect_failure(vi({"run", "tiny.yaml", "--store", "store", "--set", "codebook.tune_rate=3"}), 2, "tune_rate 3 is not in (0, 1]");
}

TEST_F(Cli, AMethodPutTogetherByLayersTrainsNothingTwice) {
  std::string yaml = kExperiment;
  const std::string method = "  - {method: vecinfer-2, codec: {window: {recent: 32}}}\n";
  const std::size_t at = yaml.find(method);
  const auto with = [&](const std::string& entries) {
    std::string text = yaml;
    text.insert(at + method.size(), entries);
    write(folder() / "tiny.yaml", text);
  };
  with("  - {method: vecinfer-subspace-2, as: sub, codec: {window: {recent: 32}}}\n");
  ASSERT_EQ(vi({"run", "tiny.yaml", "--store", "store"}).code, 0);
  const std::string part = "{method: vecinfer-subspace-2, codec: {window: {recent: 32}}, layers: [1]}";
  with("  - {method: vecinfer-subspace-2, as: sub, codec: {window: {recent: 32}}}\n"
       "  - {method: vecinfer-2, as: mixed, codec: {window: {recent: 32}}, layers: [" + part + "]}\n"
       "  - {method: fp16, as: half, layers: [" + part + "]}\n"
       "  - {method: vecinfer-2, as: all, codec: {window: {recent: 32}}, layers: [{method: vecinfer-subspace-2, codec: {window: {recent: 32}}, layers: [0, 1]}]}\n");
  const Finished run = vi({"run", "tiny.yaml", "--store", "store"});
  ASSERT_EQ(run.code, 0) << run.err;
  for (const char* stage : {"codebook ", "calibrate ", "transform ", "dump "}) EXPECT_EQ(run.err.find(stage), std::string::npos) << run.err;
  std::map<std::string, Json> rows;
  for_each_json_line(folder() / "store" / "results.jsonl", [&](std::int64_t, const Json& line) {
    if (line.at("task") == "perplexity-window") rows[line.at("method")] = line;
  });
  const auto bits = [&](const char* name) { return rows.at(name).at("bits_total").get<double>(); };
  EXPECT_DOUBLE_EQ(bits("half"), (16 + bits("sub")) / 2);
  EXPECT_DOUBLE_EQ(bits("mixed"), (bits("vecinfer-2") + bits("sub")) / 2);
  EXPECT_EQ(rows.at("all").at("score"), rows.at("sub").at("score"));
  EXPECT_NE(rows.at("mixed").at("score"), rows.at("sub").at("score"));
  EXPECT_NE(rows.at("mixed").at("score"), rows.at("vecinfer-2").at("score"));
  // Rows whose names hold spaces can be chosen too.
  const Finished one = vi({"run", "tiny.yaml", "--store", "store", "--set", "methods.3.as=one of two", "--method", "one of two,fp16"});
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_NE(one.out.find("one of two"), std::string::npos) << one.out;
  expect_failure(vi({"export", "tiny.yaml", "codec.h5", "--store", "store", "--method", "mixed"}), 2, "put together from other methods");
  const auto fails = [&](const std::string& layers, const std::string& what) {
    with("  - {method: vecinfer-2, as: mixed, codec: {window: {recent: 32}}, layers: [" + layers + "]}\n");
    expect_failure(vi({"run", "tiny.yaml", "--store", "store"}), 2, what);
  };
  fails("{method: vecinfer-subspace-2, codec: {window: {recent: 32}}, layers: [2]}", "layer 2 of a model with 2");
  fails(part + ", " + part, "layer 1 is named twice");
  fails("{method: vecinfer-subspace-2, layers: [1]}", "differ in 'codec: window'");
  fails("{method: vecinfer-subspace-2}", "'layers: [0, ...]' is missing");
  fails("{method: vecinfer-sub, layers: [1]}", "unknown name 'vecinfer-sub'");
  const std::string shared = "{method: vecinfer-subspace-2, codec: {window: {recent: 32}}, share: ";
  fails(shared + "1.5}", "share 1.5 is not above 0 and at most 1");
  fails(shared + "0.5, layers: [1]}", "has 'layers' and 'share'");
  fails(shared + "0.5}, " + part, "'share' stands alone");
  with("  - {method: vecinfer-2, layers: [" + part + "]}\n");
  expect_failure(vi({"run", "tiny.yaml", "--store", "store"}), 2, "needs a name of its own: 'as'");
}

// `share`: the layers that mind most, measured once, whatever the methods that take them.
TEST_F(Cli, LayersAreDealtBySensitivity) {
  std::string yaml = kExperiment;
  const std::string method = "  - {method: vecinfer-2, codec: {window: {recent: 32}}}\n";
  const std::string shared = "layers: [{method: vecinfer-subspace-2, codec: {window: {recent: 32}}, share: ";
  yaml.insert(yaml.find(method) + method.size(),
              "  - {method: vecinfer-2, as: half, codec: {window: {recent: 32}}, " + shared + "0.5}]}\n" +
              "  - {method: vecinfer-2, as: none, codec: {window: {recent: 32}}, " + shared + "0.49}]}\n" +
              "  - {method: vecinfer-2, as: all, codec: {window: {recent: 32}}, " + shared + "1}]}\n" +
              "  - {method: vecinfer-2, as: tuned, codec: {window: {recent: 32}}, codebook: {tune_steps: 4, tune_window: 64}, " + shared + "0.5}]}\n");
  write(folder() / "tiny.yaml", yaml);
  const Finished run = vi({"run", "tiny.yaml", "--store", "store"});
  ASSERT_EQ(run.code, 0) << run.err;
  std::map<std::string, Json> rows;
  for_each_json_line(folder() / "store" / "results.jsonl", [&](std::int64_t, const Json& line) {
    if (line.at("task") == "perplexity-window") rows[line.at("method")] = line;
  });
  std::vector<fs::path> made;
  for (const auto& entry : fs::directory_iterator(folder() / "store" / "sensitivity")) made.push_back(entry.path());
  ASSERT_EQ(made.size(), 1u);
  const auto divergence = parse_json(read_file(made[0] / "sensitivity.json"), "sensitivity.json").at("divergence").get<std::vector<double>>();
  ASSERT_EQ(divergence.size(), 2u);
  const int most = divergence[1] > divergence[0];
  EXPECT_EQ(rows.at("half").at("layers").at(0).at("layers"), Json::array({most}));
  EXPECT_EQ(rows.at("none").at("layers").at(0).at("layers"), Json::array());
  EXPECT_EQ(rows.at("all").at("layers").at(0).at("layers"), Json::array({0, 1}));
  EXPECT_EQ(rows.at("none").at("score"), rows.at("vecinfer-2").at("score"));
  EXPECT_EQ(rows.at("none").at("bits_total"), rows.at("vecinfer-2").at("bits_total"));
  EXPECT_NE(rows.at("half").at("score"), rows.at("all").at("score"));
  // Tuned: both members together, after the layers were dealt.
  std::vector<fs::path> tuned;
  for (const auto& entry : fs::directory_iterator(folder() / "store" / "tune")) tuned.push_back(entry.path());
  ASSERT_EQ(tuned.size(), 1u);
  EXPECT_TRUE(fs::exists(tuned[0] / "codebook.h5"));
  EXPECT_TRUE(fs::exists(tuned[0] / "codebook_0.h5"));
  EXPECT_EQ(rows.at("tuned").at("layers"), rows.at("half").at("layers"));
  EXPECT_EQ(rows.at("tuned").at("bits_total"), rows.at("half").at("bits_total"));
  if (parse_json(read_file(tuned[0] / "tune.json"), "tune.json").at("kept").get<bool>()) {
    EXPECT_NE(rows.at("tuned").at("score"), rows.at("half").at("score"));
  }
  // The same as with these layers named.
  const std::size_t at = yaml.find("share: 0.49");
  yaml.replace(at, 11, "layers: [" + std::to_string(most) + "]");
  write(folder() / "tiny.yaml", yaml);
  ASSERT_EQ(vi({"run", "tiny.yaml", "--store", "store"}).code, 0);
  for_each_json_line(folder() / "store" / "results.jsonl", [&](std::int64_t, const Json& line) {
    if (line.at("task") == "perplexity-window" && line.at("method") == "none") {
      EXPECT_EQ(line.at("score"), rows.at("half").at("score"));
    }
  });
}

TEST_F(Cli, TokenizeAndLogitsSpeakJson) {
  write(folder() / "text.txt", "The cache\n");
  const Finished ids = vi({"tokenize", "--model", "model", "--text-file", "text.txt"});
  ASSERT_EQ(ids.code, 0) << ids.err;
  EXPECT_EQ(parse_json(ids.out, "out").at("ids").size(), 10u);
  write(folder() / "ids.json", ids.out);
  const Finished text = vi({"tokenize", "--model", "model", "--decode", "--text-file", "ids.json"});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_EQ(parse_json(text.out, "out").at("text"), "The cache\n");
  const Finished logits = vi({"logits", "--model", "model", "--ids", "1,2,3", "--top", "4"});
  ASSERT_EQ(logits.code, 0) << logits.err;
  EXPECT_EQ(parse_json(logits.out, "out").at("top").size(), 4u);
}

TEST_F(Cli, ListsEveryRegistry) {
  const Finished list = vi({"list"});
  EXPECT_EQ(list.code, 0) << list.err;
  for (const char* word : {"dump", "vecinfer-2", "smollm2-135m-instruct", "longbench/qasper"})
    EXPECT_NE(list.out.find(word), std::string::npos) << word;
  EXPECT_EQ(vi({"list", "keys"}).code, 0);
  expect_failure(vi({"list", "nonsense"}), 2, "nonsense");
}

}  // namespace
}  // namespace vi::test
