// predictions.jsonl: one line a generation, enough to score it again without the model, and the
// scoring of case files for `vecinfer score`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "core/common/json.h"
#include "eval/benchmark/task.h"

namespace vi::eval {

struct Prediction {
  std::string task;
  int task_version = 0;
  std::int64_t doc = 0;  // Document::index
  int sample = 0;        // which of Sampling::samples
  std::string id;        // the record's _id
  std::string prompt_sha256;
  std::int64_t prompt_tokens_full = 0;  // before truncation
  std::int64_t prompt_tokens = 0;       // as fed to the model, chat template included
  std::string chat_template;            // name of the template, "" if none
  std::string stop_reason;              // end_token | task_stop | max_new_tokens | context_full
  std::uint64_t seed = 0;
  std::int64_t new_tokens = 0;
  std::vector<std::int32_t> tokens;  // generated ids
  std::string prediction;            // as decoded, before post-processing
  std::vector<std::string> answers;
  std::vector<std::string> all_classes;
  std::int64_t length = -1;  // LongBench's word count: LongBench-E's buckets
  double score = 0.0;
};

Json to_json(const Prediction& prediction);
// `place` begins the message ("predictions.jsonl:12"). ContractError names place and field.
Prediction prediction_from_json(const Json& json, std::string_view place);

// Every whole line; a torn last line is left out. If `task` is given, a line of another task or
// version is a ContractError.
std::vector<Prediction> read_predictions(const std::filesystem::path& path,
                                         const Task* task = nullptr);

// n, mean and standard error of one task's scores, in the order of the lines.
struct ScoreSummary {
  std::int64_t n = 0;
  double mean = 0.0, stderr_of_mean = 0.0;
};
// Samples of one document are averaged first (Pass@1), then documents.
ScoreSummary summarise(const std::vector<Prediction>& predictions);
// LongBench-E: mean by length bucket "0-4k", "4-8k", "8k+"; empty buckets are left out.
std::vector<std::pair<std::string, ScoreSummary>> summarise_by_length(
    const std::vector<Prediction>& predictions);

// `vecinfer score`: each line {"prediction", "answers", "all_classes"} of `cases` is written to
// `out` with "score" added; of a task with metric "math" {"prediction", "answer"} with "equal"
// (bool) and "extracted" added. A bad line is written with "error" instead and counted. Returns the
// number of bad lines.
std::int64_t score_cases(const Task& task, const std::filesystem::path& cases, std::ostream& out);
// The same for the bare task name "math", which needs no YAML.
std::int64_t score_math_cases(const std::filesystem::path& cases, std::ostream& out);

}  // namespace vi::eval
