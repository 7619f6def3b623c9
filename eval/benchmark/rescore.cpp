#include "eval/benchmark/rescore.h"

#include <cmath>

#include "core/common/error.h"
#include "eval/retrieval/needle.h"
#include "eval/benchmark/predictions.h"

namespace vi::eval {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kNeedle = "needle/";
constexpr int kNeedleVersion = 1;

NeedleKind needle_kind(const std::string& task, const std::string& place) {
  for (const auto& [name, kind] : enum_names(NeedleKind{}))
    if (task.substr(kNeedle.size()) == name) return kind;
  fail<ContractError>("{}:task: unknown needle task '{}'", place, task);
}

Json rescore_perplexity(const std::vector<Json>& lines, const fs::path& file) {
  double nll = 0.0;
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto loss = lines[i].find("nll"), n = lines[i].find("tokens");
    if (loss == lines[i].end() || !loss->is_number() || n == lines[i].end() || !n->is_number_integer())
      fail<ContractError>("{}:{}: expected numbers in nll and tokens", file.string(), i + 1);
    nll += loss->get<double>();
    tokens += n->get<std::int64_t>();
  }
  return Json{{"task", "perplexity"}, {"task_version", 1}, {"metric", "perplexity"},
              {"score", tokens > 0 ? Json(std::exp(nll / static_cast<double>(tokens))) : Json(nullptr)},
              {"n", tokens}, {"predictions", lines.size()}};
}

}  // namespace

Json buckets_json(const std::vector<Prediction>& predictions) {
  Json buckets = Json::array();
  for (const auto& [name, summary] : summarise_by_length(predictions))
    buckets.push_back({{"bucket", name}, {"n", summary.n}, {"mean", summary.mean}, {"stderr", summary.stderr_of_mean}});
  return buckets;
}

Json rescore(const TaskLibrary& library, const fs::path& path) {
  const fs::path file = fs::is_directory(path) ? path / "predictions.jsonl" : path;
  std::vector<Json> lines;
  for_each_json_line(file, [&](std::int64_t, const Json& line) { lines.push_back(line); });
  if (lines.empty()) fail<ContractError>("{}: holds no prediction", file.string());
  if (lines.front().contains("nll")) return rescore_perplexity(lines, file);
  const auto first = lines.front().find("task");
  if (first == lines.front().end() || !first->is_string())
    fail<ContractError>("{}:1:task: expected a text; is this a predictions.jsonl?", file.string());
  Task task;
  const bool needle = first->get_ref<const std::string&>().starts_with(kNeedle);
  if (needle) {
    task.name = first->get<std::string>();
    task.version = kNeedleVersion;
    task.metric = "needle";
  } else {
    task = library.task(first->get<std::string>());
  }
  std::vector<Prediction> predictions = read_predictions(file, &task);
  std::int64_t changed = 0;
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    Prediction& p = predictions[i];
    const double score =
        needle ? score_needle(needle_kind(p.task, fmt::format("{}:{}", file.string(), i + 1)), p.prediction, p.answers)
               : score_prediction(task, p.prediction, p.answers, Json{{"all_classes", p.all_classes}});
    changed += score != p.score;
    p.score = score;
  }
  const ScoreSummary summary = summarise(predictions);
  Json result{{"task", task.name}, {"task_version", task.version}, {"metric", task.metric}, {"score", summary.mean},
              {"n", summary.n}, {"stderr", summary.n < 2 ? Json(nullptr) : Json(summary.stderr_of_mean)},
              {"predictions", predictions.size()}, {"changed", changed}};
  if (Json buckets = buckets_json(predictions); !buckets.empty()) result["by_length"] = std::move(buckets);
  return result;
}

}  // namespace vi::eval
