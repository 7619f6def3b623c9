// predictions.jsonl scored again without the model: every kind of evaluate's files.
#pragma once

#include <filesystem>

#include "core/common/json.h"
#include "eval/benchmark/task.h"

namespace vi::eval {

// {"task", "task_version", "metric", "score", "n", "stderr", "predictions", "changed"} of one file
// of one task; `changed`: predictions whose score is not the recorded one. LongBench adds
// "by_length". A perplexity file (windows with their log-loss) gives metric "perplexity".
// ContractError with file:line: a damaged line, two tasks in one file, or a task version that is
// not the library's.
Json rescore(const TaskLibrary& library, const std::filesystem::path& predictions);

// [{"bucket", "n", "mean", "stderr"}] of LongBench-E's buckets; empty where records carry no length.
struct Prediction;
Json buckets_json(const std::vector<Prediction>& predictions);

}  // namespace vi::eval
