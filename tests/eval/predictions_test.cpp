// predictions.jsonl there and back, its summaries, and the case files of `vecinfer score`.
#include "eval/benchmark/predictions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/common/error.h"
#include "eval/benchmark/rescore.h"

namespace vi::eval {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

fs::path file_of(std::string_view text) {
  const fs::path path = fs::temp_directory_path() / "vi_predictions_test.jsonl";
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

Prediction example() {
  Prediction p;
  p.task = "longbench/trec";
  p.task_version = 1;
  p.doc = 3;
  p.sample = 1;
  p.id = "abc";
  p.prompt_sha256 = std::string(64, '0');
  p.prompt_tokens_full = 5000;
  p.prompt_tokens = 4096;
  p.chat_template = "llama-3";
  p.stop_reason = "end_token";
  p.seed = ~std::uint64_t{0};
  p.new_tokens = 2;
  p.tokens = {1, 2};
  p.prediction = "Größe \"x\"\n";
  p.answers = {"a", "b"};
  p.all_classes = {"a", "b", "c"};
  p.length = 4100;
  p.score = 0.1 + 0.2;
  return p;
}

TEST(Predictions, RoundTripIsExact) {
  const Prediction p = example();
  const Json json = to_json(p);
  const Prediction back = prediction_from_json(parse_json(json.dump(), "x"), "x");
  EXPECT_EQ(to_json(back).dump(), json.dump());
  EXPECT_EQ(back.score, p.score);
  EXPECT_EQ(back.seed, p.seed);
}

TEST(Predictions, HalfACharacterBecomesTheReplacementSign) {
  Prediction p = example();
  p.prediction = "a\xe4\xb8";
  EXPECT_THAT(to_json(p).dump(), HasSubstr("a\xef\xbf\xbd"));
}

TEST(Predictions, ReadNamesFileLineAndField) {
  const std::string good = to_json(example()).dump();
  EXPECT_EQ(read_predictions(file_of(good + "\n" + good + "\n" + good.substr(0, 40))).size(),
            2u);  // torn end
  const auto message = [](std::string_view text, const Task* task = nullptr) -> std::string {
    try {
      read_predictions(file_of(text), task);
    } catch (const ContractError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message(good + "\n{}\n"), HasSubstr("jsonl:2:task: the field is missing"));
  Json wrong = parse_json(good, "x");
  wrong["doc"] = "3";
  EXPECT_THAT(message(wrong.dump() + "\n"), HasSubstr(":1:doc: has the wrong type"));
  EXPECT_THAT(message("{\n"), HasSubstr(":1: byte"));
  Task task;
  task.name = "longbench/trec";
  task.version = 2;
  EXPECT_THAT(message(good + "\n", &task), HasSubstr(":1:task_version: is of version 1"));
  task.name = "longbench/lcc";
  EXPECT_THAT(message(good + "\n", &task), HasSubstr("expected 'longbench/lcc'"));
}

TEST(Predictions, Summaries) {
  std::vector<Prediction> all;
  EXPECT_EQ(summarise(all).n, 0);
  const double scores[3][2] = {{1, 0}, {1, 1}, {0, 0}};
  for (int doc = 0; doc < 3; ++doc)
    for (int sample = 0; sample < 2; ++sample) {
      Prediction p = example();
      p.doc = doc, p.sample = sample, p.score = scores[doc][sample];
      p.length = doc * 4000;
      all.push_back(p);
    }
  const ScoreSummary summary = summarise(all);
  EXPECT_EQ(summary.n, 3);
  EXPECT_DOUBLE_EQ(summary.mean, 0.5);
  EXPECT_DOUBLE_EQ(summary.stderr_of_mean, std::sqrt(0.25 / 3));
  const auto buckets = summarise_by_length(all);
  ASSERT_EQ(buckets.size(), 3u);
  EXPECT_EQ(buckets[1].first, "4-8k");
  EXPECT_EQ(buckets[1].second.mean, 1.0);
  all.resize(2);
  EXPECT_EQ(summarise(all).stderr_of_mean, 0.0);
  EXPECT_EQ(summarise_by_length(all).size(), 1u);
}

TEST(Rescore, EveryKindOfFile) {
  const TaskLibrary library(VI_SOURCE_DIR "/eval/tasks");
  std::string lines;
  for (int doc = 0; doc < 4; ++doc) {
    Prediction p = example();
    p.doc = doc, p.sample = 0, p.length = 3000 * doc;
    p.prediction = doc < 3 ? "b" : "a and c";
    p.answers = {"b"};
    p.score = 1.0;
    lines += to_json(p).dump() + "\n";
  }
  const Json trec = rescore(library, file_of(lines));
  EXPECT_EQ(trec.at("task"), "longbench/trec");
  EXPECT_EQ(trec.at("metric"), "classification");
  EXPECT_EQ(trec.at("n"), 4);
  EXPECT_EQ(trec.at("score"), 0.75);
  EXPECT_EQ(trec.at("changed"), 1);  // the last was recorded as right
  EXPECT_EQ(trec.at("by_length").dump(), R"([{"bucket":"0-4k","n":2,"mean":1.0,"stderr":0.0},)"
                                         R"({"bucket":"4-8k","n":1,"mean":1.0,"stderr":0.0},)"
                                         R"({"bucket":"8k+","n":1,"mean":0.0,"stderr":0.0}])");
  Prediction needle = example();
  needle.task = "needle/multi_query";
  needle.prediction = "A";
  needle.answers = {"a", "b"};
  needle.length = -1;
  const Json shares = rescore(library, file_of(to_json(needle).dump() + "\n"));
  EXPECT_EQ(shares.at("score"), 0.5);
  EXPECT_FALSE(shares.contains("by_length"));
  const Json windows = rescore(library, file_of("{\"window\":0,\"text\":0,\"nll\":2.0,\"tokens\":2}\n{\"window\":1,\"text\":0,\"nll\":1.0,\"tokens\":1}\n"));
  EXPECT_DOUBLE_EQ(windows.at("score").get<double>(), std::exp(1.0));

  const auto message = [&](const std::string& text) -> std::string {
    try {
      rescore(library, file_of(text));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  Json old = to_json(example());
  old["task_version"] = 7;
  EXPECT_THAT(message(old.dump() + "\n"), HasSubstr(":1:task_version: is of version 7 of longbench/trec, this build has version 1"));
  EXPECT_THAT(message(lines + to_json(needle).dump() + "\n"), HasSubstr(":5:task: is of task 'needle/multi_query'"));
  EXPECT_THAT(message("{\"a\":1}\n"), HasSubstr(":1:task: expected a text"));
  EXPECT_THAT(message(""), HasSubstr("holds no prediction"));
  // `score --cases` on the same file says so too, instead of scoring it.
  std::ostringstream out;
  try {
    score_cases(library.task("longbench/trec"), file_of(old.dump() + "\n"), out);
    ADD_FAILURE();
  } catch (const ContractError& error) {
    EXPECT_THAT(error.what(), HasSubstr("this build has version 1"));
  }
}

TEST(ScoreCases, AddsScoresAndKeepsGoing) {
  const TaskLibrary library(VI_SOURCE_DIR "/eval/tasks");
  const fs::path cases = file_of(
      R"({"prediction":"the cat sat","answers":["cat sat","dog"],"all_classes":null,"extra":1})"
      "\n\n"
      R"({"prediction":"x","answers":"x"})"
      "\n"
      R"({"answers":["x"]})"
      "\n"
      "\xff\n"
      "[]\n"
      R"({"prediction":"a b","answers":["b"]})"
      "\n");
  std::ostringstream out;
  EXPECT_EQ(score_cases(library.task("longbench/qasper"), cases, out), 4);
  std::istringstream lines(out.str());
  std::vector<Json> results;
  for (std::string line; std::getline(lines, line);) results.push_back(parse_json(line, "out"));
  ASSERT_EQ(results.size(), 6u);
  EXPECT_EQ(results[0].at("score"), 1.0);
  EXPECT_EQ(results[0].at("extra"), 1);
  EXPECT_THAT(results[1].at("error").get<std::string>(),
              HasSubstr(":3:answers: expected a list of texts"));
  EXPECT_THAT(results[2].at("error").get<std::string>(),
              HasSubstr(":4:prediction: the field is missing"));
  EXPECT_THAT(results[3].at("error").get<std::string>(), HasSubstr(":5: not valid UTF-8"));
  EXPECT_THAT(results[4].at("error").get<std::string>(), HasSubstr(":6: expected a JSON object"));
  EXPECT_EQ(results[5].at("score"), 1.0);  // "a" is an article
  std::ostringstream trec;
  EXPECT_EQ(score_cases(library.task("longbench/trec"),
                        file_of(R"({"prediction":"x","answers":["x"]})"
                                "\n"),
                        trec),
            1);
  EXPECT_THAT(trec.str(), HasSubstr(":1:all_classes"));
  EXPECT_THROW(score_cases(library.task("longbench/trec"), "/nonexistent", trec), ContractError);
}

TEST(ScoreCases, Mathematics) {
  const TaskLibrary library(VI_SOURCE_DIR "/eval/tasks");
  const fs::path cases = file_of(R"({"prediction":"so \\boxed{\\frac{1}{2}}","answer":"0.5"})"
                                 "\n"
                                 R"({"prediction":"7","answer":8})"
                                 "\n"
                                 R"({"prediction":"7"})"
                                 "\n");
  for (const bool by_task : {false, true}) {
    std::ostringstream out;
    EXPECT_EQ(by_task ? score_cases(library.task("math/gsm8k"), cases, out)
                      : score_math_cases(cases, out),
              1);
    EXPECT_THAT(out.str(), HasSubstr(R"("equal":true,"extracted":"\\frac{1}{2}"})"));
    EXPECT_THAT(out.str(), HasSubstr(R"("answer":8,"equal":false)"));
    EXPECT_THAT(out.str(), HasSubstr(":3:answer: the field is missing"));
  }
}

}  // namespace
}  // namespace vi::eval
