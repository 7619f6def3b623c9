// Evaluation as users meet it, on a tiny model: bad records, groups, protocols, overrides, scores made again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>

#include "core/common/file.h"
#include "core/common/json.h"
#include "core/common/rng.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"

namespace vi::test {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string record(const std::string& context, const std::string& answer, int length, const std::string& classes = "null") {
  return Json{{"input", "q"}, {"context", context}, {"answers", {answer}}, {"length", length},
              {"all_classes", parse_json(classes, "classes")}, {"_id", "x"}}.dump() + "\n";
}

class Evaluate : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(folder() / "model");
    write_text(folder() / "test.txt", 400, 12);
  }
  const fs::path& folder() const { return scratch_.path(); }
  void experiment(const std::string& tasks) const {
    write(folder() / "e.yaml", "experiment: e\nmodel: {name: tiny, path: model}\nmethods: [fp16]\nevaluate:\n" + tasks);
  }
  Finished run(std::vector<std::string> more = {}) const {
    std::vector<std::string> words{"run", "e.yaml", "--store", "store"};
    words.insert(words.end(), more.begin(), more.end());
    return run_vecinfer(words, folder());
  }
  // metrics.json of the evaluate artifact of `task`, and its folder.
  Json metrics(const std::string& task, fs::path* where = nullptr) const {
    for (const auto& entry : fs::directory_iterator(folder() / "store" / "evaluate")) {
      if (!fs::exists(entry.path() / "metrics.json")) continue;
      const Json json = parse_json(read_file(entry.path() / "metrics.json"), "metrics.json");
      if (json.at("task") == task) {
        if (where) *where = entry.path();
        return json;
      }
    }
    return nullptr;
  }
  std::vector<Json> rows() const {
    std::vector<Json> all;
    for_each_json_line(folder() / "store" / "results.jsonl", [&](std::int64_t, const Json& line) { all.push_back(line); });
    return all;
  }
  Scratch scratch_;
};

TEST_F(Evaluate, BadRecordsAreNamedCountedAndPassedOver) {
  write(folder() / "data/qasper.jsonl", record("some text", "some", 10) + "{\"input\":\"q\",\"context\":\"c\",\"answers\":\"a\",\"length\":1,\"all_classes\":null}\n" +
                                            record("", "a", 1) + "{\"context\":\"c\",\"answers\":[\"a\"],\"length\":1,\"all_classes\":null}\n" +
                                            "{\"input\":\"\xff\"}\n" + record("more text", "more", 5000));
  write(folder() / "data/math/amc23.jsonl", "{\"problem\":\"1+1\",\"answer\":2}\n{\"problem\":\"" + std::string(3000, 'x') + "\",\"answer\":2}\n");
  write(folder() / "lines.jsonl", Json{{"text", std::string(300, 'a')}}.dump() + "\n{\"txt\":1}\n" + Json{{"text", "short"}}.dump() + "\n");
  experiment(
      "  - {task: longbench/qasper, dir: data, max_new_tokens: 4}\n"
      "  - {task: math/amc23, dir: data, max_new_tokens: 4}\n"
      "  - {task: perplexity, files: [lines.jsonl], window: 64}\n");
  const Finished got = run();
  ASSERT_EQ(got.code, 0) << got.err;
  for (const char* line : {"qasper.jsonl:2:answers: expected a list of texts, found string", "qasper.jsonl:3:context: expected a text, it is empty",
                           "qasper.jsonl:4:input: the field is missing", "qasper.jsonl:5: not valid UTF-8 at byte 11",
                           "amc23.jsonl:2:prompt: has 3", "tokens, the limit is 1980 and this task does not cut",
                           "lines.jsonl:2:text: the field is missing", "lines.jsonl:3:text: has 5 tokens, expected at least one window of 64"})
    EXPECT_THAT(got.err, HasSubstr(line));
  EXPECT_EQ(metrics("longbench/qasper").at("skipped"), 4);
  EXPECT_EQ(metrics("longbench/qasper").at("n"), 2);
  EXPECT_EQ(metrics("longbench/qasper").at("by_length").size(), 2u);
  EXPECT_EQ(metrics("math/amc23").at("skipped"), 1);
  EXPECT_EQ(metrics("perplexity").at("skipped"), 2);
  EXPECT_EQ(metrics("perplexity").at("protocol").at("stride"), 64);
  for (const char* key : {"n", "score", "stderr", "task_version", "metric", "skipped"})
    for (const char* task : {"longbench/qasper", "math/amc23", "perplexity"}) EXPECT_TRUE(metrics(task).contains(key)) << task << " " << key;
  EXPECT_EQ(rows().at(0).at("skipped"), 4);
}

TEST_F(Evaluate, PredictionsAreScoredAgainWithoutTheModel) {
  write(folder() / "data/qasper.jsonl", record("some text", "some", 10) + record("more", "b", 4500) + record("last", "c", 9000));
  experiment("  - {task: longbench/qasper, dir: data, max_new_tokens: 6}\n  - {task: needle, kind: single, lengths: [800], depths: [0.5], samples: 2, max_new_tokens: 4}\n");
  ASSERT_EQ(run().code, 0);
  fs::remove_all(folder() / "model");
  for (const std::string task : {"longbench/qasper", "needle"}) {
    fs::path where;
    const Json made = metrics(task, &where);
    const Finished again = run_vecinfer({"score", "--predictions", where.string()}, folder());
    ASSERT_EQ(again.code, 0) << again.err;
    const Json json = parse_json(again.out, "out");
    for (const char* key : {"score", "n", "stderr", "task_version"}) EXPECT_EQ(json.at(key), made.at(key)) << task << " " << key;
    EXPECT_EQ(json.at("changed"), 0);
    for_each_json_line(where / "predictions.jsonl", [&](std::int64_t, const Json& line) {
      for (const char* field : {"prompt_sha256", "prompt_tokens_full", "prompt_tokens", "chat_template", "stop_reason", "seed", "tokens", "task_version"})
        EXPECT_TRUE(line.contains(field)) << field;
      EXPECT_EQ(line.at("tokens").size(), line.at("new_tokens").get<std::size_t>());
    });
  }
  fs::path where;
  metrics("longbench/qasper", &where);
  std::string text = read_file(where / "predictions.jsonl");
  text.replace(text.find("\"task_version\":1"), 16, "\"task_version\":9");
  write(folder() / "old.jsonl", text);
  const Finished old = run_vecinfer({"score", "--predictions", "old.jsonl"}, folder());
  EXPECT_EQ(old.code, 3);
  EXPECT_EQ(old.err, "vecinfer: old.jsonl:1:task_version: is of version 9 of longbench/qasper, this build has version 1\n");
  EXPECT_EQ(run_vecinfer({"score", "--task", "longbench/qasper", "--cases", "old.jsonl"}, folder()).code, 3);
  EXPECT_EQ(run_vecinfer({"score"}, folder()).code, 2);
}

// Records are written as they are done, in another order for each batch; at the end the bytes are the same, also
// where a run was killed with some of a batch done and went on with another batch.
TEST_F(Evaluate, BatchesAndKillsChangeNoByte) {
  std::string records;
  for (int i = 0; i < 9; ++i) records += record("text " + std::string(static_cast<std::size_t>(40 * (i * 4 % 9)), 'y'), "some", i);
  write(folder() / "data/qasper.jsonl", records);
  experiment(
      "  - {task: longbench/qasper, dir: data, max_new_tokens: 12}\n"
      "  - {task: needle, kind: single, lengths: [512, 700], depths: [0.5], samples: 3, max_new_tokens: 6}\n");
  const auto evaluated = [&](const std::string& store) { return snapshot(folder() / store / "evaluate"); };
  const auto begun = std::chrono::steady_clock::now();
  const Finished first = run_vecinfer({"run", "e.yaml", "--store", "one", "--batch", "1"}, folder());
  ASSERT_EQ(first.code, 0) << first.err;
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begun);
  for_each_json_line(folder() / "one" / "results.jsonl", [](std::int64_t, const Json& line) { EXPECT_EQ(line.at("batch"), 1); });
  ASSERT_EQ(run_vecinfer({"run", "e.yaml", "--store", "eight", "--set", "generation.batch=8"}, folder()).code, 0);
  const auto want = evaluated("one");
  ASSERT_FALSE(want.empty());
  EXPECT_TRUE(evaluated("eight") == want);
  // Cut the records of a whole run to some lines in an order of their own, and a torn one: what a kill leaves.
  ASSERT_EQ(run_vecinfer({"run", "e.yaml", "--store", "cut"}, folder()).code, 0);
  for (const auto& entry : fs::directory_iterator(folder() / "cut" / "evaluate")) {
    if (!fs::is_directory(entry) || !fs::exists(entry.path() / "predictions.jsonl")) continue;
    const std::string all = read_file(entry.path() / "predictions.jsonl");
    std::vector<std::string> lines;
    for (std::size_t at = 0, end = 0; (end = all.find('\n', at)) != std::string::npos; at = end + 1) lines.push_back(all.substr(at, end + 1 - at));
    ASSERT_GT(lines.size(), 5u);
    const fs::path partial = fs::path(entry.path().string() + ".partial") / "out";
    write(partial / "predictions.jsonl", lines[4] + lines[1] + lines[5] + lines[0].substr(0, 30));
    fs::remove_all(entry.path());
  }
  ASSERT_EQ(run_vecinfer({"run", "e.yaml", "--store", "cut", "--batch", "3"}, folder()).code, 0);
  auto got = evaluated("cut");
  EXPECT_TRUE(got == want) << got.size() << " files, expected " << want.size();
  const int killed = kill_at_random(
      8, took, 7,
      [&](int i, std::chrono::microseconds after) {
        return run_vecinfer({"run", "e.yaml", "--store", "killed", "--batch", i % 2 ? "8" : "2"}, folder(), after, SIGKILL);
      },
      [&] { fs::remove_all(folder() / "killed" / "evaluate"); });
  EXPECT_GT(killed, 0);
  ASSERT_EQ(run_vecinfer({"run", "e.yaml", "--store", "killed", "--batch", "8"}, folder()).code, 0);
  got = evaluated("killed");
  std::erase_if(got, [](const auto& file) { return file.first.find(".tmp.") != std::string::npos; });
  EXPECT_TRUE(got == want) << got.size() << " files, expected " << want.size();
  for (const std::string bad : {"0", "2000"}) {
    const Finished wrong = run_vecinfer({"run", "e.yaml", "--store", "killed", "--batch", bad}, folder());
    EXPECT_NE(wrong.code, 0);
    EXPECT_THAT(wrong.err, HasSubstr("batch"));
  }
  EXPECT_EQ(run_vecinfer({"run", "e.yaml", "--set", "generation.batch=0"}, folder()).code, 2);
}

TEST_F(Evaluate, MillionsProtocolHasNoTemplateAndCutsAt4096) {
  // A model of 2048 tokens: the smaller of 4096 and what leaves room for the answer.
  write(folder() / "data/qasper.jsonl", record(std::string(6000, 'y'), "some", 10));
  experiment("  - {task: longbench/qasper, dir: data, max_new_tokens: 4, protocol: million}\n");
  ASSERT_EQ(run().code, 0);
  fs::path where;
  const Json made = metrics("longbench/qasper", &where);
  EXPECT_EQ(made.at("protocol").at("name"), "million");
  EXPECT_EQ(made.at("protocol").at("chat_template"), false);
  EXPECT_EQ(made.at("protocol").at("prompt_limit"), 2044);
  const Json line = parse_json(read_file(where / "predictions.jsonl"), "line");
  EXPECT_EQ(line.at("prompt_tokens"), 2044);
  EXPECT_EQ(line.at("chat_template"), "");
  EXPECT_GT(line.at("prompt_tokens_full"), 6000);
  experiment("  - {task: needle, kind: single, lengths: [800], protocol: million}\n");
  const Finished wrong = run();
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("has no use for 'protocol'"));
}

TEST_F(Evaluate, TheModelsYamlGivesItsChatTemplateVariables) {
  write(folder() / "data/qasper.jsonl", record("some text", "some", 10));
  const fs::path settings = folder() / "model/tokenizer_config.json";
  Json json = fs::exists(settings) ? parse_json(read_file(settings), "settings") : Json::object();
  json["chat_template"] = "{{ messages[0].content }}{% if enable_thinking is defined and not enable_thinking %}{{ 'x' * 7 }}{% endif %}";
  write(settings, json.dump());
  std::vector<std::int64_t> tokens;
  for (const char* chat : {"{}", "{enable_thinking: true}", "{enable_thinking: false}"}) {
    write(folder() / "e.yaml", "experiment: e\nmodel: {name: tiny, path: model, chat: " + std::string(chat) +
                                   "}\nmethods: [fp16]\nevaluate:\n  - {task: longbench/qasper, dir: data, max_new_tokens: 4}\n");
    const Finished got = run_vecinfer({"run", "e.yaml", "--store", "store" + std::to_string(tokens.size())}, folder());
    ASSERT_EQ(got.code, 0) << got.err;
    for (const auto& entry : fs::directory_iterator(folder() / ("store" + std::to_string(tokens.size())) / "evaluate"))
      if (fs::exists(entry.path() / "predictions.jsonl"))
        tokens.push_back(parse_json(read_file(entry.path() / "predictions.jsonl"), "line").at("prompt_tokens").get<std::int64_t>());
  }
  ASSERT_EQ(tokens.size(), 3u);
  EXPECT_EQ(tokens[1], tokens[0]);
  EXPECT_EQ(tokens[2], tokens[0] + 7);  // one token a byte
  // A model named on the command line takes single keys as well.
  const Finished over = run_vecinfer({"status", "e.yaml", "--store", "store2", "--model", "./model", "--set", "model.chat.enable_thinking=false"}, folder());
  EXPECT_EQ(over.code, 0) << over.err;
  EXPECT_THAT(over.out, HasSubstr("hit"));
  write(folder() / "e.yaml", "experiment: e\nmodel: {name: tiny, path: model, chat: 3}\nmethods: [fp16]\nevaluate: []\n");
  const Finished wrong = run();
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("model: chat: expected a map of template variables"));
}

TEST_F(Evaluate, GroupsSpreadIntoTasksAndGetTheirMean) {
  write(folder() / "data/trec.jsonl", record("t", "A", 10, "[\"A\",\"B\"]"));
  write(folder() / "data/samsum.jsonl", record("t", "A", 10));
  write(folder() / "data/triviaqa.jsonl", record("t", "A", 10));
  experiment("  - {task: longbench/paper_fs_l, dir: nowhere, max_new_tokens: 3}\n");
  EXPECT_EQ(run().code, 3);  // that folder is not there; --data gives another
  const Finished got = run({"--data", "data"});
  ASSERT_EQ(got.code, 0) << got.err;
  ASSERT_EQ(rows().size(), 4u);
  EXPECT_EQ(rows()[3].at("task"), "longbench/paper_fs_l");
  EXPECT_EQ(rows()[3].at("metric"), "mean");
  EXPECT_EQ(rows()[3].at("n"), 3);
  double sum = 0;
  for (int i = 0; i < 3; ++i) sum += rows()[static_cast<std::size_t>(i)].at("score").get<double>();
  EXPECT_DOUBLE_EQ(rows()[3].at("score").get<double>(), sum / 3);
  EXPECT_THAT(got.out, HasSubstr("Paper's Table 2: no row of model tiny"));
  // Only some tasks, other methods.
  const Finished chosen = run({"--data", "data", "--task", "trec,longbench/samsum", "--method", "fp16 kivi-2"});
  ASSERT_EQ(chosen.code, 0) << chosen.err;
  ASSERT_EQ(rows().size(), 4u);
  EXPECT_EQ(rows()[2].at("method"), "kivi-2");
  EXPECT_EQ(rows()[3].at("task"), "longbench/samsum");
  EXPECT_EQ(run({"--task", "longbench/trek", "--data", "data"}).code, 2);
  EXPECT_EQ(run({"--method", "kivy-2", "--data", "data"}).code, 2);
}

TEST_F(Evaluate, RulersKindsRunAndLengthsBeyondTheModelAreSaid) {
  experiment(
      "  - {task: needle, kind: multi_key, lengths: [1024, 4096], depths: [0, 1], samples: 2, max_new_tokens: 2, needle: {haystack: needles, key: uuid, value: uuid}}\n"
      "  - {task: needle, kind: variable_tracking, lengths: [2048], samples: 1, needle: {chains: 2}}\n");
  const Finished got = run();
  ASSERT_EQ(got.code, 0) << got.err;
  EXPECT_THAT(got.err, HasSubstr("lengths: 4096 tokens are more than the model's 2048"));
  fs::path where;
  const Json made = metrics("needle", &where);
  for (const Json& row : rows())
    if (row.at("task") == "multi_key") {
      EXPECT_EQ(row.at("skipped"), 4);
      EXPECT_EQ(row.at("n"), 4);
    }
  ASSERT_TRUE(made.contains("cells"));
  experiment("  - {task: needle, kind: single, lengths: [4096]}\n");
  EXPECT_THAT(run().err, HasSubstr("no length fits the model's 2048 tokens"));
  experiment("  - {task: needle, kind: single, lengths: [800], needle: {haystak: noise}}\n");
  EXPECT_THAT(run().err, HasSubstr("unknown key 'haystak' (did you mean 'haystack'?)"));
}

}  // namespace
}  // namespace vi::test
